// The latest telemetry of a device with its types, and charts over time.
import { h, rows, select, setText, table, field } from "./dom.js";
import { isNumber, seriesOf } from "./model.js";
import { chart, missing } from "./charts.js";
import { dateTime } from "./text.js";
import { update } from "./redraw.js";

const FIRST_CHARTS = 4;
const windows = [["0", "everything"], ["60", "the last minute"], ["600", "the last 10 minutes"],
  ["3600", "the last hour"], ["86400", "the last day"]];

const shorten = number => Number(number.toPrecision(6));

const isText = ({ y }) => typeof y === "string";

function describe(key, points) {
  let least = Infinity;
  let greatest = -Infinity;
  for (const { y } of points) {
    if (y < least) least = y;
    if (y > greatest) greatest = y;
  }
  return `${key}: ${points.length} ${points.length === 1 ? "value" : "values"}`
    + (points.length > 0 ? `, from ${shorten(least)} to ${shorten(greatest)}` : "");
}

function chartRow(key, device, seconds) {
  const canvas = h("canvas", { role: "img" });
  const about = h("p", { class: "faint" });
  const element = h("figure", { class: "card" }, h("figcaption", {}, key), h("div", { class: "canvas" }, canvas),
    about);
  let drawn;
  let shown; // what the last drawing was of
  return {
    element,
    update() {
      const points = seriesOf(device(), key, update);
      if (!points) return;
      const last = points.at(-1)?.x ?? Date.now();
      const width = Number(seconds.value) * 1000;
      const to = width === 0 ? last : Date.now();
      const from = width === 0 ? points[0]?.x ?? last - 1000 : to - width;
      const now = `${points.length} ${last} ${points.at(-1)?.y} ${from} ${to}`;
      if (now === shown) return;
      shown = now;
      const numbers = points.some(isText) ? points.filter(point => !isText(point)) : points;
      drawn ??= chart(canvas);
      drawn.show(numbers, from, to, device().latest.get(key)?.type === "BOOL");
      const text = describe(key, numbers);
      setText(about, text);
      canvas.setAttribute("aria-label", text);
    },
    end() { drawn?.end(); },
  };
}

export function telemetryView(device) {
  const latest = table("Latest telemetry", "Chart", "Key", "Type", "Value", "Time");
  const seconds = select(windows);
  const charts = h("div", { class: "charts" });
  const without = missing();
  const nothing = h("p", { class: "empty" }, "Nothing has arrived yet. Run a script with this device's token.");
  const chosen = new Map(); // key: whether it is drawn
  const drawn = new Map();

  const showLatest = rows(latest.body, entry => entry.key, first => {
    const box = h("input", { type: "checkbox", "aria-label": `Chart of ${first.key}`, change() {
      chosen.set(first.key, box.checked);
      update();
    } });
    const [kind, value, time] = [h("span", { class: "type" }), h("td", { class: "value" }), h("td", { class: "time" })];
    return {
      element: h("tr", {}, h("td", {}, box), h("th", { scope: "row" }, first.key), h("td", {}, kind), value, time),
      update(entry) {
        box.hidden = !isNumber(entry) || Boolean(without);
        box.checked = chosen.get(entry.key) === true;
        setText(kind, entry.type);
        setText(value, entry.value);
        setText(time, dateTime(entry.ts));
      },
    };
  });

  function showCharts(entries) {
    if (without) return;
    for (const entry of entries) {
      if (!chosen.has(entry.key) && isNumber(entry) && drawn.size < FIRST_CHARTS) chosen.set(entry.key, true);
      if (chosen.get(entry.key) && !drawn.has(entry.key)) {
        const row = chartRow(entry.key, device, seconds);
        drawn.set(entry.key, row);
        charts.append(row.element);
      }
    }
    for (const [key, row] of drawn) {
      if (chosen.get(key)) {
        row.update();
      } else {
        row.end();
        row.element.remove();
        drawn.delete(key);
      }
    }
  }

  const timer = setInterval(update, 1000);
  seconds.addEventListener("change", update);
  return {
    element: h("div", {}, without ? h("p", { class: "note", id: "no-charts" }, without) 
      : h("div", { class: "row" }, field("Charts show", seconds)), charts, nothing, latest.element),
    update() {
      const entries = [...device().latest.values()].sort((left, right) => left.key.localeCompare(right.key));
      nothing.hidden = entries.length > 0;
      latest.element.hidden = entries.length === 0;
      showCharts(entries);
      showLatest(entries.map(entry => entry));
    },
    end() {
      clearInterval(timer);
      for (const row of drawn.values()) row.end();
    },
  };
}
