// A device: its head, and a view for each part of what can be seen and done.
import { button, copy, field, form, h, setText } from "./dom.js";
import { model } from "./model.js";
import { command } from "./server.js";
import { attributesView } from "./attributes.js";
import { claimView } from "./claim.js";
import { packagesView } from "./packages.js";
import { rpcView } from "./rpc.js";
import { telemetryView } from "./telemetry.js";

const parts = [["telemetry", "Telemetry", telemetryView], ["attributes", "Attributes", attributesView],
  ["rpc", "RPC", rpcView], ["packages", "Firmware and software", packagesView], ["claim", "Claim", claimView]];

export const script = token => `local tb = require "thingsboard"
local dev = tb.device { url = "${location.origin}", token = "${token}" }

tb.spawn(function()
  dev:serve_rpc { setTarget = function(params) return { target = params } end }
end)
while true do
  local ok, err = dev:send_telemetry { temperature = 20 + 5 * math.random(), heating = math.random() > 0.5 }
  print(ok or err)
  tb.sleep(1)
end
`;

export function newDevice(opened) {
  const name = h("input", { autocomplete: "off", placeholder: "any name" });
  const isWide = matchMedia("(min-width: 52rem)").matches;
  const make = form({ class: "new-device" }, async values => {
    const token = await command("create_device", values.name === "" ? {} : { name: values.name });
    name.value = "";
    const seen = () => [...model.devices.values()].find(device => device.token === token);
    for (let tries = 0; tries < 50 && !seen(); tries++) await new Promise(done => setTimeout(done, 100));
    if (seen()) opened(seen().name);
    return "The device is made.";
  }, field("Name", name, "name"), h("button", {}, "Make"));
  return h("details", { open: isWide }, h("summary", {}, "New device"), make);
}

function head(device) {
  const { name, token, credentials } = device;
  const remove = button("Delete", async () => {
    if (!confirm(`Delete the device ${name} with all that is stored of it?`)) return;
    await command("delete_device", { token, name });
    return `${name} is deleted.`;
  }, { class: "danger" });
  if (!token) return [h("p", {}, `It identifies itself by ${credentials}, not by a token.`), h("p", {}, remove)];
  const text = script(token);
  return [
    h("div", { class: "row" }, h("span", {}, "Token ", h("code", { id: "token" }, token)),
      button("Copy token", () => copy(token, "The token")),
      button("Copy script", () => copy(text, "The script"), { class: "main" }),
      h("details", { id: "beginning" }, h("summary", {}, "A first script"),
        h("p", {}, "Save it as mine.lua, and run it by ", h("code", {}, "lua5.4 mine.lua"), ", or in a clone without "
          + "installing anything by ", h("code", {}, "make run SCRIPT=mine.lua"), "."),
        h("pre", { id: "script" }, text)),
      remove),
  ];
}

export function deviceView(name, part = "telemetry") {
  const device = () => model.devices.get(name);
  const [, , make] = parts.find(([key]) => key === part) ?? parts[0];
  const view = make(device);
  const waits = h("span", { class: "pill" });
  const links = parts.map(([key, text]) => h("a", {
    href: `#device/${encodeURIComponent(name)}/${key}`, "aria-current": key === part ? "page" : undefined,
  }, text));
  links.push(h("a", { href: `#requests/${encodeURIComponent(name)}` }, "Requests"));
  const element = h("div", {}, h("div", { class: "title" }, h("h2", {}, name), waits), ...head(device()),
    h("nav", { class: "parts", "aria-label": "Parts of the device" }, ...links), view.element);
  // The script is shown until it has sent something.
  const beginning = element.querySelector("#beginning");
  let isNew = device().latest.size === 0;
  if (beginning) beginning.open = isNew && part === "telemetry";
  return {
    element,
    update() {
      if (!device()) return;
      if (isNew && device().latest.size > 0) {
        isNew = false;
        if (beginning) beginning.open = false;
      }
      waits.className = device().listens ? "pill good" : "pill";
      setText(waits, device().listens ? "listening" : "not listening");
      view.update();
    },
    end() { view.end?.(); },
  };
}
