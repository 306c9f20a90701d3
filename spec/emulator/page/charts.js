// Charts over time by Chart.js, which is a package of the system's.
import { clockTime, dateTime } from "./text.js";

export const missing = () => (window.Chart ? undefined
  : "Charts need Chart.js, which is not installed here. On Debian: apt-get install libjs-chart.js; elsewhere: "
    + "npm install -g chart.js. Then reload this page. Everything else works without it.");

const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 604800, 2592000, 31536000]
  .map(seconds => seconds * 1000);

const DAY = 86400000;
const Y_WIDTH = 64; // of the labels, so that charts side by side have their times at the same place

function timeTicks(scale) {
  const label = scale.max - scale.min > DAY ? 100 : 70;
  const most = Math.max(2, Math.floor(scale.width / label));
  const step = STEPS.find(candidate => (scale.max - scale.min) / candidate <= most) ?? STEPS.at(-1);
  const zone = new Date(scale.min).getTimezoneOffset() * 60000;
  scale.ticks = [];
  for (let at = Math.ceil((scale.min - zone) / step) * step + zone; at <= scale.max; at += step) {
    scale.ticks.push({ value: at });
  }
}

// Times at ticks, by the minute where all are whole minutes.
function timeLabel(value, index, ticks) {
  if (ticks.at(-1).value - ticks[0].value > DAY) return dateTime(value).slice(5, 16);
  return clockTime(value).slice(0, ticks.every(tick => tick.value % 60000 === 0) ? 5 : 8);
}

const answerTicks = scale => { scale.ticks = [{ value: 0 }, { value: 1 }]; };

function colours() {
  const style = getComputedStyle(document.documentElement);
  return { line: style.getPropertyValue("--accent"), fill: style.getPropertyValue("--accent-faint"),
    text: style.getPropertyValue("--faint"), grid: style.getPropertyValue("--line") };
}

const answer = value => String(value === 1);

// Draws a key's values into a canvas; `show(points, from, to, count, yesNo)` shows other points, which are numbers sorted
// by time, count of them within from and to; with yesNo 0 and 1 are false and true.
export function chart(canvas, key) {
  let yesNo;
  const scale = () => ({ ticks: { maxRotation: 0 }, grid: { drawTicks: false, drawBorder: false } });
  const drawn = new window.Chart(canvas, {
    type: "line",
    data: { datasets: [{ data: [], borderWidth: 1.5, pointHitRadius: 8, fill: "start" }] },
    options: {
      animation: false, parsing: false, normalized: true, maintainAspectRatio: false,
      elements: { point: { radius: 0 } },
      interaction: { mode: "nearest", axis: "x", intersect: false },
      plugins: {
        legend: { display: false }, decimation: { enabled: true, algorithm: "min-max" },
        tooltip: { displayColors: false, callbacks: {
          title: items => dateTime(items[0].parsed.x),
          label: ({ parsed: { y }, formattedValue }) => `${key}: ${yesNo ? answer(y) : formattedValue}`,
        } },
      },
      scales: {
        x: { ...scale(), type: "linear", afterBuildTicks: timeTicks, ticks: { maxRotation: 0, callback: timeLabel } },
        y: { ...scale(), grace: "8%", afterFit: axis => { axis.width = Math.max(axis.width, Y_WIDTH); } },
      },
    },
  });
  const paint = () => {
    const { line, fill, text, grid } = colours();
    Object.assign(drawn.data.datasets[0], { borderColor: line, backgroundColor: fill });
    for (const axis of Object.values(drawn.options.scales)) {
      axis.ticks.color = text;
      axis.grid.color = grid;
    }
  };
  paint();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const repaint = () => { paint(); drawn.update(); };
  dark.addEventListener("change", repaint);
  return {
    show(points, from, to, count, isYesNo) {
      yesNo = isYesNo;
      const dataset = drawn.data.datasets[0];
      const { x, y } = drawn.options.scales; // each update makes new ones
      // Chart.js 3 leaves `data` read-only where it no longer decimates; while it does, `data` has a setter.
      if (!Object.getOwnPropertyDescriptor(dataset, "data").set) delete dataset.data;
      dataset.data = points;
      dataset.stepped = yesNo;
      y.grace = yesNo ? 0 : "8%";
      [y.min, y.max] = yesNo || count === 0 ? [0, 1] : [];
      y.ticks.display = y.grid.display = count > 0;
      y.afterBuildTicks = yesNo ? answerTicks : undefined;
      y.ticks.callback = yesNo ? answer : window.Chart.Ticks.formatters.numeric;
      dataset.pointRadius = count < 60 ? 2 : 0;
      // A point at an edge is drawn whole; a line that comes from before the first time does not run into the labels.
      dataset.clip = { left: points[0]?.x < from ? 0 : 4, right: 4, top: 4, bottom: 4 };
      x.min = from;
      x.max = Math.max(to, from + 1000);
      drawn.update();
    },
    end() {
      dark.removeEventListener("change", repaint);
      drawn.destroy();
    },
  };
}
