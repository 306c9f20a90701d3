// Charts over time by Chart.js, which is a package of the system's.
import { clockTime, dateTime } from "./text.js";

export const missing = () => (window.Chart ? undefined
  : "Charts need Chart.js, which is not installed here. On Debian: apt-get install libjs-chart.js; elsewhere: "
    + "npm install -g chart.js. Then reload this page. Everything else works without it.");

const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 604800, 2592000, 31536000]
  .map(seconds => seconds * 1000);

function timeTicks(scale) {
  const most = Math.max(2, Math.floor(scale.width / 90));
  const step = STEPS.find(candidate => (scale.max - scale.min) / candidate <= most) ?? STEPS.at(-1);
  const zone = new Date(scale.min).getTimezoneOffset() * 60000;
  scale.ticks = [];
  for (let at = Math.ceil((scale.min - zone) / step) * step + zone; at <= scale.max; at += step) {
    scale.ticks.push({ value: at });
  }
}

const answerTicks = scale => { scale.ticks = [{ value: 0 }, { value: 1 }]; };

function colours() {
  const style = getComputedStyle(document.documentElement);
  return { line: style.getPropertyValue("--accent"), fill: style.getPropertyValue("--accent-faint"),
    text: style.getPropertyValue("--faint"), grid: style.getPropertyValue("--line") };
}

// Draws into a canvas; `show(points, from, to, yesNo)` shows other points, which are numbers sorted by time; with yesNo 0
// and 1 are false and true.
export function chart(canvas) {
  const scale = () => ({ ticks: { maxRotation: 0 }, grid: { drawTicks: false, drawBorder: false } });
  const drawn = new window.Chart(canvas, {
    type: "line",
    data: { datasets: [{ data: [], borderWidth: 1.5, pointHitRadius: 8, fill: "start", clip: 4 }] },
    options: {
      animation: false, parsing: false, normalized: true, maintainAspectRatio: false,
      elements: { point: { radius: 0 } },
      interaction: { mode: "nearest", axis: "x", intersect: false },
      plugins: {
        legend: { display: false }, decimation: { enabled: true, algorithm: "min-max" },
        tooltip: { displayColors: false, callbacks: { title: items => dateTime(items[0].parsed.x) } },
      },
      scales: {
        x: { ...scale(), type: "linear", afterBuildTicks: timeTicks },
        y: { ...scale(), grace: "8%" },
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
    show(points, from, to, yesNo) {
      const dataset = drawn.data.datasets[0];
      const { x, y } = drawn.options.scales; // each update makes new ones
      // Chart.js 3 leaves `data` read-only where it no longer decimates; while it does, `data` has a setter.
      if (!Object.getOwnPropertyDescriptor(dataset, "data").set) delete dataset.data;
      dataset.data = points;
      dataset.stepped = yesNo;
      y.grace = yesNo ? 0 : "8%";
      [y.min, y.max] = yesNo ? [0, 1] : [];
      y.afterBuildTicks = yesNo ? answerTicks : undefined;
      y.ticks.callback = yesNo ? value => String(value === 1) : window.Chart.Ticks.formatters.numeric;
      dataset.pointRadius = points.length < 60 ? 2 : 0;
      const days = to - from > 86400000;
      x.ticks.callback = value => (days ? dateTime(value).slice(5, 16) : clockTime(value));
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
