// The page: which view is shown, and when it is brought up to date.
import { button, copy, h, rows, setText } from "./dom.js";
import { apply, model } from "./model.js";
import { drawWith, update } from "./redraw.js";
import { listen } from "./server.js";
import { deviceView, newDevice } from "./device.js";
import { faultsView, isOn } from "./faults.js";
import { provisioningView } from "./provisioning.js";
import { requestsView } from "./requests.js";

const place = document.getElementById("view");
const address = location.origin;

const views = [["requests", "Requests", requestsView], ["faults", "Break it", faultsView],
  ["provisioning", "Provisioning", provisioningView]];

// A view is { element, update(), end()? }; it is made when its address is opened and again when what it shows is new.
let current = { path: undefined };

// The parts of the address's hash, or none where it was never a link of this page.
function addressed() {
  try {
    return location.hash.slice(1).split("/").map(decodeURIComponent);
  } catch {
    return [];
  }
}

function wanted() {
  const parts = addressed();
  if (parts[0] === "device" && model.devices.has(parts[1])) return parts;
  if (views.some(([name]) => name === parts[0])) return parts;
  const first = model.devices.keys().next().value;
  return first === undefined ? ["requests"] : ["device", first];
}

function open() {
  const parts = wanted();
  const path = parts.map(encodeURIComponent).join("/");
  if (path === current.path) return;
  current.view?.end?.();
  const make = parts[0] === "device" ? deviceView : views.find(view => view[0] === parts[0])[2];
  const focused = current.path !== undefined && document.activeElement?.closest("nav, header, #view");
  current = { path, view: make(...parts.slice(1)) };
  place.replaceChildren(current.view.element);
  const title = place.querySelector("h2")?.textContent;
  document.title = title ? `${title} – ThingsBoard emulator` : "ThingsBoard emulator";
  if (focused && !document.activeElement.closest("nav")) place.focus();
}

const deviceLink = name => `#device/${encodeURIComponent(name)}`;

function navigation() {
  const links = h("ul");
  for (const [name, text] of views) links.append(h("li", {}, h("a", { href: `#${name}` }, text)));
  const find = h("input", { type: "search", placeholder: "Find a device", "aria-label": "Find a device" });
  const devices = h("ul", { class: "devices" });
  const show = rows(devices, device => device.name, device => {
    const state = h("span", { class: "dot" });
    const element = h("li", {}, h("a", { href: deviceLink(device.name) }, state, device.name));
    return {
      element,
      update({ listens }) {
        state.classList.toggle("on", listens);
        state.title = listens ? "listening for requests" : "";
      },
    };
  });
  document.getElementById("navigation").append(
    h("div", {}, h("h2", {}, "Server"), links), h("div", { class: "grow" }, h("h2", {}, "Devices"), find, devices),
    newDevice(name => { location.hash = deviceLink(name); }));
  return () => {
    find.hidden = model.devices.size < 10;
    const text = find.value.toLowerCase();
    show([...model.devices.values()].filter(({ name }) => name.toLowerCase().includes(text))
      .sort((left, right) => left.name.localeCompare(right.name, undefined, { numeric: true })));
    const here = `#${current.path.split("/").slice(0, 2).join("/")}`;
    for (const link of document.querySelectorAll("#navigation a")) {
      const isHere = link.getAttribute("href") === here;
      if (isHere !== link.hasAttribute("aria-current")) {
        link.toggleAttribute("aria-current", isHere);
        if (isHere) link.setAttribute("aria-current", "page");
      }
    }
  };
}

const updateNavigation = navigation();

function updateHeader() {
  const count = model.faults.length + ["limits", "queue", "clock"].filter(isOn).length;
  const pill = document.getElementById("faults-on");
  pill.hidden = count === 0;
  setText(pill, count === 1 ? "1 fault is on" : `${count} faults are on`);
}

drawWith(() => {
  open();
  updateHeader();
  updateNavigation();
  current.view.update();
});

const words = {
  live: "live", reconnecting: "reconnecting", ended: "The emulator has ended: start it and open the address it prints",
};

addEventListener("hashchange", update);
document.getElementById("navigation").addEventListener("input", update);
document.getElementById("address").append(address, " ",
  button("Copy", () => copy(address, "The address"), { class: "small", "aria-label": "Copy the server's address" }));
listen(changes => {
  apply(changes);
  update();
}, state => {
  const pill = document.getElementById("connection");
  pill.className = state === "live" ? "pill good" : "pill bad";
  setText(pill, words[state]);
});
