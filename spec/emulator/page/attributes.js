// Attributes of the three scopes; those shared by the server and its own can be set.
import { button, field, form, h, rows, select, setText, table } from "./dom.js";
import { command } from "./server.js";

const scopes = [
  ["shared", "Shared attributes", "set by the server, told to the device"],
  ["client", "Client attributes", "set by the device"],
  ["server", "Server attributes", "not seen by the device"],
];

// A text that is JSON is sent as what it says, any other as a string.
function valueOf(text) {
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text);
  }
}

function scopeTable(device, scope, caption) {
  const shared = scope === "shared";
  const { element, body } = table(caption, "Key", "Type", "Value", "");
  const show = rows(body, entry => entry.key, ({ key }) => {
    const [kind, value] = [h("span", { class: "type" }), h("td", { class: "value" })];
    const remove = shared ? button("Delete", async () => {
      await command("delete_shared", { name: device().name, keys: [key] });
      return `${key} is deleted, and the device told so.`;
    }, { class: "small danger", "aria-label": `Delete ${key}` }) : "";
    return {
      element: h("tr", {}, h("th", { scope: "row" }, key), h("td", {}, kind), value, h("td", {}, remove)),
      update(entry) {
        setText(kind, entry.type);
        setText(value, entry.value);
      },
    };
  });
  const none = h("tbody", {}, h("tr", {}, h("td", { class: "empty", colspan: 4 }, "none")));
  body.after(none);
  return { element, none, show };
}

function setForm(device) {
  return form({ class: "row", id: "set-attribute" }, async ({ scope, key, value }, target) => {
    const json = `{${JSON.stringify(key)}:${valueOf(value)}}`;
    await command(scope === "shared" ? "set_shared" : "set_server", { name: device().name, json });
    target.reset();
    return `${key} is set.`;
  },
  field("Scope", select([["shared", "shared"], ["server", "server"]]), "scope"),
  field("Key", h("input", { required: true, autocomplete: "off" }), "key"),
  field("Value (JSON, or a text)", h("input", { required: true, autocomplete: "off" }), "value"),
  h("button", { class: "main" }, "Set"));
}

export function attributesView(device) {
  const tables = scopes.map(([scope, caption, about]) => {
    return { scope, ...scopeTable(device, scope, `${caption}: ${about}`) };
  });
  return {
    element: h("div", { class: "attributes" }, setForm(device), ...tables.map(({ element }) => element)),
    update() {
      for (const { scope, show, none } of tables) {
        const entries = device()[scope];
        show(entries);
        none.hidden = entries.length > 0;
      }
    },
  };
}
