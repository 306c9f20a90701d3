// Making elements, and keeping lists of them in step with data.

// h("button", { class: "plain", click: act }, "Send"): functions become listeners, other values attributes.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child !== undefined));
  return element;
}

// Sets a text only when it differs, so that selections and screen readers are left alone.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Keeps a container's children in step with items. `make(item)` returns { element, update(item) }; rows stay the same
// elements as long as their key does, so focus and what is typed in them stay, too.
export function rows(container, keyOf, make) {
  let known = new Map();
  return items => {
    const next = new Map();
    items.forEach((item, index) => {
      const key = keyOf(item);
      const row = known.get(key) ?? make(item);
      if (row.item !== item) row.update(item);
      row.item = item;
      next.set(key, row);
      const there = container.children[index] ?? null;
      if (there !== row.element) container.insertBefore(row.element, there);
    });
    for (const [key, row] of known) if (next.get(key) !== row) row.element.remove();
    known = next;
  };
}

let fieldCount = 0;

// A label and its control, which gets the name.
export function field(label, control, name) {
  control.id = `field-${++fieldCount}`;
  if (name) control.name = name;
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control);
}

export function select(options, value) {
  const control = h("select", {}, ...options.map(([key, text]) => h("option", { value: key }, text)));
  if (value !== undefined) control.value = value;
  return control;
}

// A form that calls act with its values by name, and says what went wrong.
export function form(attributes, act, ...children) {
  return h("form", {
    ...attributes,
    submit: event => {
      event.preventDefault();
      const target = event.currentTarget;
      attempt(() => act(Object.fromEntries(new FormData(target)), target));
    },
  }, ...children);
}

export function button(text, act, attributes = {}) {
  return h("button", { type: "button", ...attributes, click: event => attempt(() => act(event)) }, text);
}

// What an action returns, or why it failed, is told at the page's foot.
export async function attempt(act) {
  const outcome = document.getElementById("outcome");
  try {
    const said = await act();
    if (typeof said !== "string") return;
    outcome.className = "";
    outcome.textContent = said;
  } catch (error) {
    outcome.className = "bad";
    outcome.textContent = error.message;
  }
  clearTimeout(outcome.timer);
  outcome.timer = setTimeout(() => { outcome.textContent = ""; }, 6000);
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    return `${what} copied.`;
  } catch {
    throw new Error(`The browser does not let the page copy: select the text and copy it by hand.`);
  }
}

export function table(caption, ...heads) {
  const body = h("tbody");
  const element = h("div", { class: "scroll" }, h("table", {}, h("caption", {}, caption),
    h("thead", {}, h("tr", {}, ...heads.map(head => h("th", { scope: "col" }, head)))), body));
  return { element, body };
}
