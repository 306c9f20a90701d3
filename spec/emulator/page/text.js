// How values and times are written.

const twoDigits = number => String(number).padStart(2, "0");

export function clockTime(milliseconds) {
  const date = new Date(milliseconds);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(":");
}

export function dateTime(milliseconds) {
  const date = new Date(milliseconds);
  if (Number.isNaN(date.getTime())) return String(milliseconds);
  const day = [date.getFullYear(), twoDigits(date.getMonth() + 1), twoDigits(date.getDate())].join("-");
  return `${day} ${clockTime(milliseconds)}`;
}

// The time alone if it was today.
export function recentTime(milliseconds) {
  const isToday = new Date(milliseconds).toDateString() === new Date().toDateString();
  return isToday ? clockTime(milliseconds) : dateTime(milliseconds);
}

// Makes a function that writes numbers between least and greatest, with as many decimals as tell them apart.
export function numberWriter(least, greatest) {
  const decimals = Math.max(1, 1 - Math.floor(Math.log10(greatest - least)));
  return number => (Number.isInteger(least) && Number.isInteger(greatest) && Number.isInteger(number)
    || decimals > 10 || Math.abs(number) >= 1e15 ? String(number) : number.toFixed(decimals));
}

export function duration(seconds) {
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 0)} s`;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1048576) return `${(count / 1024).toFixed(1)} KiB`;
  return `${(count / 1048576).toFixed(1)} MiB`;
}

// JSON with line breaks and every number and string as it was sent: 42.0 stays 42.0. What is no JSON stays as it is.
export function pretty(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g) ?? [];
  let out = "";
  tokens.forEach((token, index) => {
    const closed = /^[}\]]$/.test(tokens[index + 1]);
    if (/^[{[]$/.test(token)) {
      out += token;
      depth++;
      if (!closed) out += line();
    } else if (/^[}\]]$/.test(token)) {
      depth--;
      out += (/^[{[]$/.test(tokens[index - 1]) ? "" : line()) + token;
    } else if (token === ",") {
      out += token + line();
    } else {
      out += token === ":" ? ": " : token;
    }
  });
  return out;
}
