// How numbers look: three significant digits, one unit beside each, the same everywhere on the page. Pure functions.
// Left out: languages (the page is English; times follow the browser's clock and zone).

/** What stands where there is no value. */
export const NOTHING = "–";
// A number and its unit stay on one line.
const GAP = "\u00a0";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** At most three significant digits, no exponent: 0, 0.42, 3.1, 12.3, 812. */
export function digits(value) {
  const size = Math.abs(value);
  if (size >= 99.95) return value.toFixed(0);
  if (size >= 9.995) return value.toFixed(1);
  if (size === 0) return "0";
  return value.toFixed(size < 0.0995 ? 3 : 2);
}

function scaled(value, step, units) {
  let at = 0;
  while (Math.abs(value) >= step * 0.9995 && at < units.length - 1) {
    value /= step;
    at += 1;
  }
  return [value, units[at]];
}

/** Rates and counts: 0, 7, 812, 12.3 k, 1.04 M. A rate below one is no zero. */
export function count(value) {
  if (!isNumber(value)) return NOTHING;
  if (value > 0 && value < 0.5) return "<1";
  if (Math.abs(value) < 999.5) return value.toFixed(0);
  const [size, unit] = scaled(value, 1000, ["", "k", "M", "G", "T"]);
  return digits(size) + GAP + unit;
}

/** Bytes per second in decimal units, as networks and disks are sold. */
export function throughput(value) {
  if (!isNumber(value)) return NOTHING;
  const [size, unit] = scaled(value, 1000, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]);
  return (unit === "B/s" ? value.toFixed(0) : digits(size)) + GAP + unit;
}

/** Sizes of devices in binary units, as they are configured: 64 MiB, 1 GiB. */
export function size(value) {
  if (!isNumber(value)) return NOTHING;
  const [scaledValue, unit] = scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]);
  return (Number.isInteger(scaledValue) ? scaledValue.toFixed(0) : digits(scaledValue)) + GAP + unit;
}

// The target looks at its clock once per turn of a loop: what is shorter than a turn has no length.
const CLOCK_NS = 1000;

/** Nanoseconds as µs, ms or s. */
export function latency(nanoseconds) {
  if (nanoseconds === Infinity) return ">34 s";
  if (!isNumber(nanoseconds)) return NOTHING;
  if (nanoseconds < CLOCK_NS) return `<1${GAP}µs`;
  const [value, unit] = scaled(nanoseconds, 1000, ["ns", "µs", "ms", "s"]);
  return (unit === "ns" ? value.toFixed(0) : digits(value)) + GAP + unit;
}

/** A share of one, in percent. What is not quite nothing does not look like nothing. */
export function percent(share) {
  if (!isNumber(share)) return NOTHING;
  const value = share * 100;
  if (value > 0 && value < 0.05) return `<0.1${GAP}%`;
  return (value === 0 || value >= 9.95 ? value.toFixed(0) : value.toFixed(1)) + GAP + "%";
}

/** A length of time for people: 8 s, 3 min, 2 h 5 min. */
export function duration(seconds) {
  if (!isNumber(seconds)) return NOTHING;
  if (seconds < 99.5) return Math.max(0, seconds).toFixed(0) + GAP + "s";
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return minutes + GAP + "min";
  return Math.floor(minutes / 60) + GAP + "h" + GAP + (minutes % 60) + GAP + "min";
}

/** The browser's local time of day. */
export function clock(date) {
  const two = (value) => String(value).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** "1 queue", "3 queues". */
export function plural(number, one, many = one + "s") {
  return `${number}${GAP}${number === 1 ? one : many}`;
}

/** The clock's time, with the day when that is not today. */
export function moment(date) {
  const today = new Date().toDateString() === date.toDateString();
  return today ? clock(date) : `${date.toLocaleDateString("en", { month: "short", day: "numeric" })} ${clock(date)}`;
}
