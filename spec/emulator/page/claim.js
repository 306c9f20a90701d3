// Claiming: what the device offers, and a user who takes it.
import { button, field, form, h, setText } from "./dom.js";
import { model } from "./model.js";
import { command } from "./server.js";
import { dateTime } from "./text.js";

export function claimView(device) {
  const about = h("p", { id: "claim-state" });
  const back = button("Take back from the user", async () => {
    await command("reclaim", { token: device().token });
    return "The device belongs to nobody again.";
  });
  const take = h("button", { class: "main" }, "Claim as a user");
  const claim = form({ class: "row", id: "claim" }, async ({ secret }) => {
    const said = await command("claim_by_user", { token: device().token, secret });
    if (said === "FAILURE") throw new Error("FAILURE: the device cannot be claimed with this secret. A wrong secret ends a claim: call dev:claim again.");
    return said;
  }, field("Secret", h("input", { autocomplete: "off" }), "secret"), take);
  const allowed = h("input", { type: "checkbox", role: "switch", change() {
    command("set", { settings: { claiming_allowed: allowed.checked } });
  } });
  return {
    element: h("div", { class: "card" }, about, claim, back, field("Devices may be claimed", allowed)),
    update() {
      const { claimed, offer } = device();
      const isOffered = Boolean(offer) && offer.ends_at > Date.now();
      take.disabled = !isOffered;
      setText(about, claimed ? "The device is claimed." : isOffered
        ? `The device can be claimed until ${dateTime(offer.ends_at)} with the secret "${offer.secret}".`
        : "The device cannot be claimed yet: first its script calls dev:claim { secret_key = ... }.");
      back.hidden = !claimed;
      claim.hidden = Boolean(claimed);
      allowed.checked = model.settings.claiming_allowed;
    },
  };
}
