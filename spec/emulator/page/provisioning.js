// Profiles by which devices without a token get one.
import { button, copy, field, form, h, rows, select, setText, table } from "./dom.js";
import { model } from "./model.js";
import { command } from "./server.js";

const strategies = ["ALLOW_CREATE", "CHECK_PRE_PROVISIONED", "DISABLED", "X509_CERTIFICATE_CHAIN"];

const script = (key, secret) => `local tb = require "thingsboard"
local credentials = assert(tb.provision {
  url = "${location.origin}", key = "${key}", secret = "${secret}", device_name = "hall-1",
})
local dev = tb.device { url = "${location.origin}", token = credentials.token }
assert(dev:send_telemetry { temperature = 21.5 })
`;

export function provisioningView() {
  const { element, body } = table("Profiles", "Key", "Secret", "Strategy", "");
  const none = h("p", { class: "empty" },
    "There is no profile yet: make one, and a device can ask for credentials by it.");
  const show = rows(body, profile => profile.key, ({ key }) => {
    const [secret, strategy] = [h("td", {}), h("td", {})];
    let known;
    return {
      element: h("tr", {}, h("th", { scope: "row" }, key), secret, strategy, h("td", {},
        button("Copy script", () => copy(script(key, known), "The script"), { class: "small" }))),
      update(profile) {
        known = profile.secret;
        setText(secret, profile.secret);
        setText(strategy, profile.strategy);
      },
    };
  });
  const make = form({ class: "card stack", id: "profile" }, async values => {
    await command("provision_profile", values);
    return `The profile ${values.key} stands.`;
  },
  h("h3", {}, "Make or change a profile"),
  field("Key", h("input", { required: true, value: "profile-key", autocomplete: "off" }), "key"),
  field("Secret", h("input", { required: true, value: "profile-secret", autocomplete: "off" }), "secret"),
  field("Strategy", select(strategies.map(name => [name, name])), "strategy"),
  h("button", { class: "main" }, "Make"));
  return {
    element: h("div", {}, h("h2", {}, "Provisioning"),
      h("p", {}, "A device without a token asks for one by a profile's key and secret. ALLOW_CREATE makes the device; "
        + "CHECK_PRE_PROVISIONED gives out the credentials of one that is there, once; with X509_CERTIFICATE_CHAIN "
        + "the server gives a bare 500."),
      make, element, none),
    update() {
      const profiles = Object.entries(model.profiles).map(([key, profile]) => ({ key, ...profile }));
      show(profiles);
      none.hidden = profiles.length > 0;
      element.hidden = profiles.length === 0;
    },
  };
}
