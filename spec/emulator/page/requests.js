// Every request and its answer, filtered, with all that is known of the one that is chosen.
import { button, field, h, rows, select, setText, table } from "./dom.js";
import { model } from "./model.js";
import { command, request } from "./server.js";
import { faultTitle } from "./faults.js";
import { bytes, clockTime, duration, pretty } from "./text.js";
import { update } from "./redraw.js";

const MOST_SHOWN = 200;

const classes = [["", "any"], ["2", "2xx"], ["4", "4xx"], ["5", "5xx"], ["none", "none yet, or none at all"]];

// A path without what all have, the device's name in place of its token, or neither where all are of one device. It
// breaks at its slashes where it is too long for its place.
function shortTarget(target, oneDevice) {
  const path = (target ?? "").replace(/^\/api\/v1\//, "");
  const [token] = path.split("/", 1);
  const device = [...model.devices.values()].find(other => other.token === token);
  const rest = path.slice(token.length + 1);
  const text = !device ? path : oneDevice ? rest : `${device.name}/${rest}`;
  return text.split(/(?<=[/?&])/).flatMap((part, index) => (index ? [h("wbr"), part] : [part]));
}

// Whether a device asked for what may come, and nothing did.
const isIdle = entry => entry.status === 408 && entry.method === "GET" && !entry.fault;

function remark(entry) {
  if (entry.fault) return entry.status ? `${faultTitle(entry.fault)}: ${entry.status}` : faultTitle(entry.fault);
  if (isIdle(entry)) return `no ${entry.target.includes("/attributes/updates") ? "update" : "request"} came in time`;
  if (entry.why) return entry.why;
  return entry.given_up ? "the device went away" : "";
}

function statusOf(entry) {
  if (entry.status) return String(entry.status);
  return entry.ended_at ? "no answer" : "waits";
}

function goodness(entry) {
  if (isIdle(entry)) return "";
  if (entry.status >= 400 || (entry.ended_at && !entry.status)) return "bad";
  return entry.status ? "good" : "";
}

function row(choose, isChosen, isOneDevice) {
  return first => {
    const [status, took, said] = [h("td", {}), h("td", { class: "number" }), h("td", { class: "value preview" })];
    const open = h("button", { type: "button", class: "link", click: () => choose(first.id) },
      `${first.method} `, ...shortTarget(first.target, isOneDevice()));
    const current = isChosen(first.id) ? "true" : undefined;
    const element = h("tr", { id: `request-${first.id}`, "aria-current": current }, h("td", { class: "time" }, clockTime(first.at * 1000)), h("th", { scope: "row" }, open),
      status, took, said);
    return {
      element,
      update(entry) {
        setText(status, statusOf(entry));
        status.className = `status ${goodness(entry)}`;
        setText(took, entry.ended_at ? duration(entry.ended_at - entry.at) : "");
        setText(said, remark(entry) || entry.preview || "");
        said.classList.toggle("bad", remark(entry) !== "" && !isIdle(entry));
      },
    };
  };
}

function body(text, size) {
  if (!size) return h("p", { class: "faint" }, "no body");
  if (text === undefined) return h("p", { class: "faint" }, `${bytes(size)} that are no text`);
  const shown = h("pre", { tabindex: 0 }, pretty(text));
  const kept = new TextEncoder().encode(text).length;
  if (kept >= size) return shown;
  return h("div", {}, shown, h("p", { class: "faint" }, `the first ${bytes(kept)} of ${bytes(size)}`));
}

const headers = list => h("pre", { tabindex: 0 }, list.map(([name, value]) => `${name}: ${value}`).join("\n"));

function details(entry) {
  const why = remark(entry);
  return [
    h("h3", {}, `${entry.method} ${entry.target}`),
    h("p", {}, h("span", { class: `status ${goodness(entry)}` }, statusOf(entry)), " ",
      entry.ended_at ? `after ${duration(entry.ended_at - entry.at)}` : ""),
    ...(why ? [h("p", { class: "note", id: "why" }, why)] : []),
    h("h4", {}, "Request"), body(entry.body, entry.size),
    h("details", {}, h("summary", {}, "Headers"), headers(Object.entries(entry.headers).sort())),
    h("h4", {}, "Answer"), body(entry.answer, entry.answer_size),
    h("details", {}, h("summary", {}, "Headers"), headers(Object.values(entry.answer_headers ?? {}))),
  ];
}

export function requestsView(only = "") {
  const device = select([["", "all"]]);
  const path = h("input", { type: "search", autocomplete: "off", placeholder: "telemetry" });
  const status = select(classes);
  const hold = h("input", { type: "checkbox", role: "switch" });
  const count = h("p", { class: "faint" });
  const { element, body: tableBody } = table("Requests, the newest first", "Time", "Request", "Status", "Took",
    "Why, or body");
  const aside = h("aside", { class: "card", "aria-label": "The chosen request", tabindex: -1, hidden: true });
  element.querySelector("thead th:nth-child(4)").className = "number";
  let chosen;
  const choose = async id => {
    chosen = id;
    const entry = await request(id);
    if (chosen !== id) return;
    tableBody.querySelector("[aria-current]")?.removeAttribute("aria-current");
    document.getElementById(`request-${id}`)?.setAttribute("aria-current", "true");
    aside.hidden = false;
    aside.replaceChildren(button("Close", close, { class: "small close" }), ...details(entry));
    aside.focus();
  };
  const close = () => {
    const line = tableBody.querySelector("[aria-current]");
    chosen = undefined;
    aside.hidden = true;
    line?.removeAttribute("aria-current");
    line?.querySelector(".link").focus();
  };
  aside.addEventListener("keydown", event => { if (event.key === "Escape") close(); });
  const isOneDevice = () => device.value !== "";
  // Rows are written anew when the device's name in them comes or goes.
  const show = rows(tableBody, entry => `${entry.id} ${isOneDevice()}`, row(choose, id => id === chosen, isOneDevice));
  const fits = entry => {
    const token = model.devices.get(device.value)?.token;
    if (device.value !== "" && !(entry.target ?? "").startsWith(`/api/v1/${token}/`)) return false;
    if (!(entry.target ?? "").includes(path.value)) return false;
    if (status.value === "none") return !entry.status;
    return status.value === "" || String(entry.status).startsWith(status.value);
  };
  let names = "";
  const updateDevices = () => {
    const now = [...model.devices.keys()].sort();
    if (now.join("\n") === names) return;
    names = now.join("\n");
    const value = device.value || only;
    device.replaceChildren(...[["", "all"], ...now.map(name => [name, name])]
      .map(([key, text]) => h("option", { value: key }, text)));
    device.value = now.includes(value) ? value : "";
  };
  const filters = h("div", { class: "row", id: "filters", input: update, change: update },
    field("Device", device), field("Path contains", path), field("Status", status), field("Pause", hold),
    button("Clear", async () => {
      await command("clear");
      model.requests = [];
      update();
      return "The list is cleared.";
    }));
  return {
    element: h("div", {}, h("h2", {}, "Requests"), filters, count, h("div", { class: "split" }, element, aside)),
    update() {
      updateDevices();
      if (hold.checked) return;
      const found = model.requests.filter(fits);
      show(found.slice(-MOST_SHOWN).reverse());
      const text = found.length > MOST_SHOWN ? `the last ${MOST_SHOWN} of ${found.length}` : `${found.length}`;
      setText(count, `Requests: ${text}`);
    },
  };
}
