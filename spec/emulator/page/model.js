// All that the page knows, kept up by events. An empty list arrives as {}, so lists are read by Object.values.
import * as server from "./server.js";

const MOST_REQUESTS = 2000;

export const model = {
  devices: new Map(),  // by name: as the emulator tells it, with `latest` and `series` by key
  requests: [],        // the newest last
  rpcs: [], faults: [], settings: {}, profiles: {},
};

// Puts a value into a series that is sorted by time, most often at its end.
function insert(points, x, y) {
  let at = points.length;
  while (at > 0 && points[at - 1].x > x) at--;
  if (at > 0 && points[at - 1].x === x) points[at - 1] = { x, y };
  else points.splice(at, 0, { x, y });
}

function takeDevice(told) {
  const device = model.devices.get(told.name) ?? { latest: new Map(), series: new Map() };
  for (const scope of ["client", "shared", "server"]) told[scope] = Object.values(told[scope]);
  told.asked = Object.values(told.asked);
  // A new object: whoever compares sees that it has changed.
  model.devices.set(told.name, { ...told, latest: device.latest, series: device.series });
}

function takeTelemetry({ device: name, points, reload }) {
  const device = model.devices.get(name);
  if (!device) return;
  if (reload) device.series.clear();
  for (const [key, ts, type, value] of points) {
    const entry = { key, type, value, ts: Number(ts) };
    const known = device.latest.get(key);
    entry.count = (known?.count ?? 0) + 1; // of those that came since the page was opened
    if (!known || known.ts <= entry.ts) device.latest.set(key, entry);
    else known.count++;
    const series = device.series.get(key);
    if (series) insert(series.points ?? series.early, entry.ts, parsed(entry));
  }
}

function parsed({ type, value }) {
  if (type === "LONG" || type === "DOUBLE") return Number(value);
  return type === "BOOL" ? Number(value === "true") : value;
}

function takeRequest(entry) {
  const at = model.requests.findLastIndex(other => other.id <= entry.id);
  if (model.requests[at]?.id === entry.id) model.requests[at] = entry;
  else model.requests.splice(at + 1, 0, entry);
}

export function apply(changes) {
  if (changes.start) {
    model.devices.clear();
    model.requests = [];
  }
  for (const name of changes.gone ?? []) model.devices.delete(name);
  for (const device of changes.devices ?? []) takeDevice(device);
  for (const told of changes.telemetry ?? []) takeTelemetry(told);
  for (const entry of changes.requests ?? []) takeRequest(entry);
  if (model.requests.length > MOST_REQUESTS) model.requests = model.requests.slice(-MOST_REQUESTS);
  if (changes.rpcs) model.rpcs = Object.values(changes.rpcs);
  if (changes.faults) model.faults = Object.values(changes.faults);
  model.settings = changes.settings ?? model.settings;
  model.profiles = changes.profiles ?? model.profiles;
}

// A key's values by time, [{ x, y }], y a number or a text, true being 1. They are loaded when first asked for, and
// undefined until then.
export function seriesOf(device, key, loaded) {
  const known = device.series.get(key);
  if (known) return known.points;
  const series = { early: [] }; // what comes before the answer does
  device.series.set(key, series);
  server.series(device.name, key).then(points => {
    series.points = points.map(([x, y]) => ({ x, y: typeof y === "boolean" ? Number(y) : y }));
    for (const { x, y } of series.early) insert(series.points, x, y);
    loaded();
  }, () => device.series.delete(key));
  return undefined;
}

export const isNumber = entry => typeof parsed(entry) === "number";
