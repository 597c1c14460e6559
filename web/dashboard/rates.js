// What happened between two answers: differences of counters over the target's own time, never the browser's. Pure functions.
// Left out: latencies' distribution (latency.js).

const NS = 1e9;

/** Counters of one kind of operation, as bdev_get_iostat spells them. */
const OPERATIONS = ["read", "write", "unmap", "copy", "flush", "write_zeroes", "compare", "compare_and_write", "verify"];

function difference(before, now, name) {
  return (now[name] ?? 0) - (before[name] ?? 0);
}

/** One device between two looks: per second, mean latency in ns. Null when it was made anew or its counters were reset in between. */
function deviceRates(before, now, seconds, tickRate) {
  const rates = { readIops: 0, writeIops: 0, otherIops: 0, readBytes: 0, writeBytes: 0, operations: 0, latencySum: 0, mean: null };
  for (const operation of OPERATIONS) {
    const done = difference(before, now, `num_${operation}_ops`);
    const took = difference(before, now, `${operation}_latency_ticks`);
    if (done < 0 || took < 0) return null;
    const kind = operation === "read" || operation === "write" ? operation : "other";
    rates[`${kind}Iops`] += done / seconds;
    rates.operations += done;
    rates.latencySum += (took / tickRate) * NS;
  }
  rates.readBytes = difference(before, now, "bytes_read") / seconds;
  rates.writeBytes = difference(before, now, "bytes_written") / seconds;
  if (rates.readBytes < 0 || rates.writeBytes < 0) return null;
  rates.iops = rates.readIops + rates.writeIops + rates.otherIops;
  rates.bytes = rates.readBytes + rates.writeBytes;
  rates.mean = rates.operations > 0 ? rates.latencySum / rates.operations : null;
  return rates;
}

/** {seconds, devices: Map(name → rates)} of two answers of bdev_get_iostat; null when the target's clock did not move on. */
export function ioRates(before, now) {
  const seconds = (now.ticks - before.ticks) / now.tick_rate;
  if (!(seconds > 0)) return null;
  const old = new Map(before.bdevs.map((entry) => [entry.name, entry]));
  const devices = new Map();
  for (const entry of now.bdevs) {
    const earlier = old.get(entry.name);
    const rates = earlier && deviceRates(earlier, entry, seconds, now.tick_rate);
    if (rates) devices.set(entry.name, rates);
  }
  return { seconds, devices };
}

/** The sum over the devices named: what hosts see. Layers below a namespace are its own work, and are not counted twice. */
export function totals(devices, names) {
  const sum = { readIops: 0, writeIops: 0, otherIops: 0, iops: 0, readBytes: 0, writeBytes: 0, bytes: 0, operations: 0, latencySum: 0, mean: null };
  for (const name of names) {
    const one = devices.get(name);
    if (!one) continue;
    for (const key of Object.keys(sum)) if (key !== "mean") sum[key] += one[key];
  }
  sum.mean = sum.operations > 0 ? sum.latencySum / sum.operations : null;
  return sum;
}

/** Errors that devices had between two looks: Map(name → number). */
export function newErrors(before, now) {
  const old = new Map(before.bdevs.map((entry) => [entry.name, entry.errors ?? {}]));
  const found = new Map();
  for (const entry of now.bdevs) {
    const earlier = old.get(entry.name);
    if (!earlier) continue;
    let sum = 0;
    for (const [kind, total] of Object.entries(entry.errors ?? {})) sum += Math.max(0, total - (earlier[kind] ?? 0));
    if (sum > 0) found.set(entry.name, sum);
  }
  return found;
}

/** Why a reactor does not sleep at this moment, in words; the target's own ones where it has any. */
export function whyAwake(reactor) {
  if (reactor.unknown) return "not known";
  if (reactor.asleep) return reactor.mode === "poll" ? "asleep although in poll mode, while others need its CPU" : "asleep until something happens";
  switch (reactor.awake_because) {
    case "": case "work": case undefined: return reactor.control ? "answering this page, then asleep again" : "at work, and asleep again when it is done";
    case "spinning": return `looking for more work for up to ${reactor.spin_budget_us} µs`;
    case "mode poll": return "in poll mode it does not sleep";
    default: return reactor.awake_because;
  }
}

/** A reactor between two looks: shares of its time, and wake-ups per second by cause. Busy, spinning and asleep add up to all of its time. */
export function reactorRates(before, now) {
  const busy = now.busy - before.busy;
  const spin = (now.spin_us - before.spin_us) * 1000;
  const sleep = now.sleep_ns - before.sleep_ns;
  const all = busy + spin + sleep;
  if (!(all > 0) || busy < 0 || spin < 0 || sleep < 0) return null;
  const wakeups = {};
  for (const cause of ["fd", "message", "timer", "spurious"]) wakeups[cause] = ((now.wakeups[cause] - before.wakeups[cause]) * NS) / all;
  return { busy: busy / all, spin: spin / all, awake: (busy + spin) / all, sleep: sleep / all, wakeups, seconds: all / NS };
}

/** What woke a reactor between two answers of reactor_get_wakeups, most first: [{name, kind, thread, rate}]. */
export function wakerRates(before, now, seconds) {
  const key = (waker) => `${waker.kind}\n${waker.thread}\n${waker.name}`;
  const old = new Map((before?.wakers ?? []).map((waker) => [key(waker), waker.count]));
  return now.wakers
    .filter((waker) => old.has(key(waker)))
    .map((waker) => ({ ...waker, key: key(waker), rate: Math.max(0, waker.count - old.get(key(waker))) / seconds }))
    .filter((waker) => waker.rate > 0)
    .sort((one, other) => other.rate - one.rate);
}

/** Another process, or one whose counters began anew. */
export function restarted(before, now) {
  return before.pid !== now.pid;
}
