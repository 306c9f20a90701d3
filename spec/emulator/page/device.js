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
  return form({ class: "new-device" }, async values => {
    const token = await command("create_device", values.name === "" ? {} : { name: values.name });
    name.value = "";
    const seen = () => [...model.devices.values()].find(device => device.token === token);
    for (let tries = 0; tries < 50 && !seen(); tries++) await new Promise(done => setTimeout(done, 100));
    if (seen()) opened(seen().name);
    return "The device is made.";
  }, field("New device", name, "name"), h("button", {}, "Make"));
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
    h("p", { class: "row" }, h("span", {}, "Token ", h("code", { id: "token" }, token)),
      button("Copy token", () => copy(token, "The token")),
      button("Copy script", () => copy(text, "The script"), { class: "main" }), remove),
    h("details", {}, h("summary", {}, "A script to begin with"),
      h("p", {}, "Save it as mine.lua, and run it by ", h("code", {}, "lua5.4 mine.lua"), ", or in a clone without "
        + "installing anything by ", h("code", {}, "make run SCRIPT=mine.lua"), "."),
      h("pre", { id: "script" }, text)),
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
  return {
    element: h("div", {}, h("div", { class: "title" }, h("h2", {}, name), waits), ...head(device()),
      h("nav", { class: "parts", "aria-label": "Parts of the device" }, ...links), view.element),
    update() {
      if (!device()) return;
      waits.className = device().listens ? "pill good" : "pill";
      setText(waits, device().listens ? "listening" : "not listening");
      view.update();
    },
    end() { view.end?.(); },
  };
}
