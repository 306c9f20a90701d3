// Firmware and software: upload, assign, and the states that the device tells.
import { button, field, form, h, rows, select, setText, table } from "./dom.js";
import { seriesOf } from "./model.js";
import { assign, command } from "./server.js";
import { bytes, dateTime } from "./text.js";
import { update } from "./redraw.js";

const checksums = ["SHA256", "SHA384", "SHA512", "MD5", "CRC32", "MURMUR3_32", "MURMUR3_128"];
const kinds = [["firmware", "fw"], ["software", "sw"]];

function uploadForm(device) {
  return form({ class: "card stack", id: "upload" }, async (values, target) => {
    const { file, ...about } = values;
    await assign(file, { device: device().name, file_name: file.name, ...about });
    target.reset();
    return `${about.title} ${about.version} is assigned; the device hears of it at once if it waits for attributes.`;
  },
  h("h3", {}, "Upload and assign a package"),
  field("Kind", select(kinds.map(([kind]) => [kind, kind])), "kind"),
  field("File", h("input", { type: "file", required: true }), "file"),
  field("Title", h("input", { required: true, value: "thermostat", autocomplete: "off" }), "title"),
  field("Version", h("input", { required: true, value: "1.1", autocomplete: "off" }), "version"),
  field("Checksum", select(checksums.map(name => [name, name])), "checksum_algorithm"),
  h("button", { class: "main" }, "Assign"));
}

function packagePart(device, kind, prefix) {
  const about = h("p");
  const remove = button("Take away", async () => {
    await command("unassign", { name: device().name, kind });
    return `The ${kind} is taken away.`;
  }, { class: "danger small" });
  const { element, body } = table(`States of the ${kind}`, "Time", "State", "Error");
  const show = rows(body, state => `${state.x}`, state => {
    const [said, error] = [h("th", { scope: "row" }), h("td", { class: "value bad" })];
    return {
      element: h("tr", {}, h("td", { class: "time" }, dateTime(state.x)), said, error),
      update(now) {
        setText(said, String(now.y));
        setText(error, String(now.error ?? ""));
      },
    };
  });
  return {
    element: h("section", { class: "card" }, h("h3", {}, kind[0].toUpperCase() + kind.slice(1)), about, remove,
      element),
    update() {
      const assigned = device().packages[kind];
      setText(about, assigned ? `${assigned.title} ${assigned.version} is assigned, ${bytes(assigned.size ?? 0)}, `
        + `${assigned.checksum_algorithm} ${assigned.checksum ?? "none"}` : "None is assigned.");
      remove.hidden = !assigned;
      const states = device().latest.has(`${prefix}_state`) ? seriesOf(device(), `${prefix}_state`, update) ?? [] : [];
      const errors = device().latest.has(`${prefix}_error`) ? seriesOf(device(), `${prefix}_error`, update) ?? [] : [];
      const errorAt = new Map(errors.map(({ x, y }) => [x, y]));
      element.hidden = states.length === 0;
      show(states.slice(-50).reverse().map(({ x, y }) => ({ x, y, error: errorAt.get(x) })));
    },
  };
}

export function packagesView(device) {
  const parts = kinds.map(([kind, prefix]) => packagePart(device, kind, prefix));
  return {
    element: h("div", {}, uploadForm(device), ...parts.map(part => part.element)),
    update() { for (const part of parts) part.update(); },
  };
}
