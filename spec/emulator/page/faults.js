// Break it: a switch for each thing that goes wrong between a device and its server.
import { attempt, field, h, select, setText } from "./dom.js";
import { model } from "./model.js";
import { command } from "./server.js";

const PORTAL = "<!doctype html><html><head><title>Welcome</title></head><body><h1>Welcome to the hotel's network</h1>"
  + "<form action=\"http://portal.example/login\"><input name=\"room\"><button>Log in</button></form></body></html>";
const FIREWALL = "<!doctype html><html><head><title>Web Page Blocked</title></head><body><h1>Web Page Blocked</h1>"
  + "<p>Access to the page was blocked by your organisation's policy. Category: not rated.</p></body></html>";
const HTML = { "Content-Type": "text/html" };

const statuses = [400, 401, 403, 404, 408, 413, 415, 429, 500, 502, 503, 504].map(code => [String(code), String(code)]);

const number = (value, attributes = {}) => h("input", { type: "number", value, ...attributes });

// What is a fault of the emulator has `fault`; the others say how they are switched on and off.
const switches = [
  {
    name: "status", title: "A status code", text: "Every request gets this status, and is not handled.",
    fields: { code: ["Status", () => select(statuses, "503")] },
    fault: ({ code }) => ({
      how: "status", status: Number(code), headers: code === "429" ? { "Retry-After": "5" } : {},
    }),
  },
  {
    name: "portal", title: "A portal's page", text: "A hotel's network wants a log-in first.",
    fields: { kind: ["It answers by", () => select([["page", "its page, status 200"], ["redirect", "a redirect"]])] },
    fault: ({ kind }) => (kind === "page" ? { how: "status", status: 200, headers: HTML, body: PORTAL }
      : { how: "redirect", status: 302, headers: { Location: "http://portal.example/login" } }),
  },
  {
    name: "firewall", title: "A firewall's page", text: "A box in between blocks the request: 403, and its page.",
    fault: () => ({ how: "status", status: 403, headers: HTML, body: FIREWALL }),
  },
  {
    name: "silence", title: "No answer", text: "The request arrives, and nothing comes back.",
    fault: () => ({ how: "stall" }),
  },
  {
    name: "half", title: "Half an answer", text: "The request is handled; the connection ends before its answer does.",
    fault: () => ({ how: "close_after", bytes: -20 }),
  },
  {
    name: "reset", title: "A reset", text: "The connection is reset in place of an answer.",
    fault: () => ({ how: "reset" }),
  },
  {
    name: "slow", title: "A slow link", text: "The answer trickles.",
    fields: { rate: ["Bytes a second", () => select([["800", "800"], ["160", "160"], ["40", "40"]])] },
    fault: ({ rate }) => ({ how: "slow", bytes: Number(rate) / 10, seconds: 0.1 }),
  },
  {
    name: "late", title: "A late answer", text: "The server takes its time for every request.",
    fields: { seconds: ["Seconds", () => number(3, { min: 0.1, step: 0.1 })] },
    fault: ({ seconds }) => ({ how: "delay", seconds: Number(seconds) }),
  },
  {
    name: "limits", title: "Rate limits", 
    text: "A device that sends more gets a bare 500, as the server's limits answer.",
    fields: { limit: ["Messages : seconds", () => h("input", { value: "5:10", pattern: "\\d+:\\d+(,\\d+:\\d+)*" })] },
    on: ({ limit }) => command("set", { settings: { rate_limits: { messages: limit, telemetry_messages: limit } } }),
    off: () => command("set", { settings: { rate_limits: {} } }),
    isOn: () => Object.keys(model.settings.rate_limits ?? {}).length > 0,
  },
  {
    name: "queue", title: "A lagging queue",
    text: "What is answered 200 is stored only later; a restart loses what waits.",
    fields: { seconds: ["Seconds", () => number(30, { min: 1 })] },
    on: ({ seconds }) => command("set", { settings: { queue_delay: Number(seconds) * 1000 } }),
    off: () => command("set", { settings: { queue_delay: 0 } }),
    isOn: () => (model.settings.queue_delay ?? 0) > 0,
  },
  {
    name: "restart", title: "A restart",
    text: "Polls and requests under way end, what is queued is lost; nothing answers until it is over.",
    fields: { seconds: ["Seconds", () => number(10, { min: 1 })] },
    on: ({ seconds }) => command("restart", { seconds: Number(seconds) }),
  },
  {
    name: "clock", title: "A wrong clock", text: "The header Date tells another time.",
    fields: { hours: ["Hours ahead, negative: behind", () => number(24, { step: "any" })] },
    on: ({ hours }) => command("set", { settings: { date_offset: Math.round(Number(hours) * 3600000) } }),
    off: () => command("set", { settings: { date_offset: 0 } }),
    isOn: () => (model.settings.date_offset ?? 0) !== 0,
  },
];

export const faultTitle = name => switches.find(other => other.name === name)?.title ?? name;

export function isOn(name) {
  const found = switches.find(other => other.name === name);
  return found.isOn ? found.isOn() : model.faults.some(fault => fault.name === name);
}

// A Lua pattern for the targets of one device, or of all.
function pathOf(device) {
  const token = model.devices.get(device)?.token;
  return token ? `^/api/v1/${token.replace(/\W/g, "%$&")}/` : "^/api/v1/";
}

function switchCard(one, device) {
  const controls = Object.entries(one.fields ?? {}).map(([name, [label, make]]) => [name, field(label, make(), name)]);
  const values = () => Object.fromEntries(
    controls.map(([name, element]) => [name, element.querySelector("[name]").value]));
  const act = async on => {
    if (!on) return one.off ? one.off() : command("remove_fault", { name: one.name });
    if (one.on) return one.on(values());
    return command("fault", { fault: { name: one.name, path: pathOf(device.value), ...one.fault(values()) } });
  };
  const change = async () => {
    await act(box.checked);
    return `${one.title}: ${box.checked ? "on" : "off"}.`;
  };
  const box = h("input", {
    type: "checkbox", role: "switch", id: `switch-${one.name}`, change: () => attempt(change),
  });
  // What is on takes a new value at once.
  const again = () => { if (isOn(one.name)) attempt(() => act(true)); };
  const where = h("p", { class: "faint" });
  const element = h("section", { class: "card switch", change: event => { if (event.target !== box) again(); } },
    h("div", { class: "title" }, h("h3", {}, h("label", { for: box.id }, one.title)), box),
    h("p", {}, one.text), ...controls.map(([, control]) => control), where);
  return {
    element,
    update() {
      const on = isOn(one.name);
      if (box.checked !== on) box.checked = on;
      element.classList.toggle("on", on);
      const fault = model.faults.find(({ name }) => name === one.name);
      const token = fault?.path && [...model.devices.values()].find(({ name }) => pathOf(name) === fault.path);
      setText(where, on ? `on for ${token ? token.name : "all devices"}` : "");
    },
  };
}

export function faultsView() {
  const device = select([["", "all devices"]]);
  const cards = switches.map(one => switchCard(one, device));
  let names = "";
  return {
    element: h("div", {}, h("h2", {}, "Break it"),
      h("p", {}, "Switch a fault on to see what your script does then. Of several that are on, the one that was "
        + "switched on first is used. Rate limits, the queue, a restart and the clock are the same for all devices."),
      h("div", { class: "row" }, field("Breaks the answers to", device)), h("div", { class: "cards" }, ...cards.map(card => card.element))),
    update() {
      const now = [...model.devices.keys()].sort();
      if (now.join("\n") !== names) {
        names = now.join("\n");
        const value = device.value;
        device.replaceChildren(...[["", "all devices"], ...now.map(name => [name, name])]
          .map(([key, text]) => h("option", { value: key }, text)));
        device.value = now.includes(value) ? value : "";
      }
      for (const card of cards) card.update();
    },
  };
}
