// The latest telemetry of a device with its types, and charts over time.
import { h, rows, select, setText, table, field } from "./dom.js";
import { isNumber, seriesOf } from "./model.js";
import { chart, missing } from "./charts.js";
import { dateTime, numberWriter, recentTime } from "./text.js";
import { update } from "./redraw.js";

const FIRST_CHARTS = 4;
const windows = [["0", "everything"], ["60", "the last minute"], ["600", "the last 10 minutes"],
  ["3600", "the last hour"], ["86400", "the last day"]];

const isText = ({ y }) => typeof y === "string";

// What a chart from one time to another shows, in words.
function describe(points, from, to, yesNo) {
  let count = 0;
  let last;
  let least = Infinity;
  let greatest = -Infinity;
  for (const { x, y } of points) {
    if (x < from || x > to) continue;
    count++;
    last = y;
    if (y < least) least = y;
    if (y > greatest) greatest = y;
  }
  if (count === 0) return { count, text: "no values" };
  const write = yesNo ? value => String(value === 1) : numberWriter(least, greatest);
  const range = yesNo || least === greatest ? "" : ` · ${write(least)}–${write(greatest)}`;
  return { count, text: `${count} ${count === 1 ? "value" : "values"}${range} · now ${write(last)}` };
}

function chartRow(key, device, seconds) {
  const canvas = h("canvas", { role: "img" });
  const about = h("p", { class: "faint" });
  const nothing = h("div", { class: "nothing", hidden: true });
  const element = h("figure", { class: "card" }, h("figcaption", {}, key),
    h("div", { class: "canvas" }, canvas, nothing), about);
  let drawn;
  let shown; // what the last drawing was of
  return {
    element,
    points: () => seriesOf(device(), key, update),
    update(from, to) {
      const points = this.points();
      if (!points) return;
      const now = `${points.length} ${points.at(-1)?.x} ${points.at(-1)?.y} ${from} ${to}`;
      if (now === shown) return;
      shown = now;
      const numbers = points.some(isText) ? points.filter(point => !isText(point)) : points;
      const yesNo = device().latest.get(key)?.type === "BOOL";
      const { count, text } = describe(numbers, from, to, yesNo);
      drawn ??= chart(canvas, key);
      drawn.show(numbers, from, to, count, yesNo);
      nothing.hidden = count > 0;
      const window = seconds.value === "0" ? "" : ` in ${seconds.selectedOptions[0].text}`;
      const last = numbers.at(-1);
      setText(nothing, count > 0 ? ""
        : `no values${window}${last ? `; the last at ${recentTime(last.x)}` : ""}`);
      setText(about, text);
      canvas.setAttribute("aria-label", `${key}: ${count > 0 ? text : nothing.textContent}`);
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
  const first = new Set(); // the keys that were chosen without being asked for
  const drawn = new Map();

  const showLatest = rows(latest.body, entry => entry.key, ({ key }) => {
    const box = h("input", { type: "checkbox", "aria-label": `Chart of ${key}`, change() {
      chosen.set(key, box.checked);
      first.delete(key);
      update();
    } });
    const [kind, value, time] = [h("span", { class: "type" }), h("div", { class: "clamp" }), h("td", { class: "time" })];
    return {
      element: h("tr", {}, h("td", {}, box), h("th", { scope: "row" }, key), h("td", {}, kind),
        h("td", { class: "value" }, value), time),
      update(entry) {
        box.hidden = !isNumber(entry) || Boolean(without);
        box.checked = chosen.get(entry.key) === true;
        setText(kind, entry.type);
        setText(value, entry.value);
        setText(time, recentTime(entry.ts));
        time.title = dateTime(entry.ts);
      },
    };
  });

  // The first charts are of the keys with the newest values; one of a single value gives way to a key that gets more.
  function chooseFirst(entries) {
    const others = entries.filter(entry => isNumber(entry) && !chosen.has(entry.key))
      .sort((left, right) => right.count - left.count || right.ts - left.ts);
    for (const { key, count } of others) {
      const single = [...first].find(other => chosen.get(other) && device().series.get(other)?.points?.length === 1);
      if (first.size >= FIRST_CHARTS) {
        if (count < 2 || single === undefined) return;
        first.delete(single);
        chosen.delete(single);
      }
      first.add(key);
      chosen.set(key, true);
    }
  }

  // From when to when all charts are.
  function range() {
    const now = Date.now();
    if (seconds.value !== "0") return [now - Number(seconds.value) * 1000, now];
    let [from, to] = [Infinity, -Infinity];
    for (const row of drawn.values()) {
      const points = row.points();
      if (!points?.length) continue;
      from = Math.min(from, points[0].x);
      to = Math.max(to, points.at(-1).x);
    }
    return from <= to ? [from, to] : [now - 1000, now];
  }

  function showCharts(entries) {
    if (without) return;
    chooseFirst(entries);
    for (const entry of entries) {
      if (chosen.get(entry.key) && !drawn.has(entry.key)) {
        const row = chartRow(entry.key, device, seconds);
        drawn.set(entry.key, row);
        charts.append(row.element);
      }
    }
    const [from, to] = range();
    for (const [key, row] of drawn) {
      if (chosen.get(key)) {
        row.update(from, to);
      } else {
        row.end();
        row.element.remove();
        drawn.delete(key);
      }
    }
  }

  const timer = setInterval(update, 1000);
  seconds.addEventListener("change", update);
  const span = without ? h("p", { class: "note", id: "no-charts" }, without)
    : h("div", { class: "row" }, field("Charts show", seconds));
  return {
    element: h("div", {}, span, charts, nothing, latest.element),
    update() {
      const entries = [...device().latest.values()].sort((left, right) => left.key.localeCompare(right.key));
      nothing.hidden = entries.length > 0;
      span.hidden = !without && entries.length === 0;
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
