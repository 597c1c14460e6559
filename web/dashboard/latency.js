// What hosts see: I/O and latencies from a command's arrival to its answer (nvmf_get_io_stats), as differences of two answers. Percentiles come out of
// histograms, and are off by the width of a step (3.1 %). Left out: what devices see (rates.js).

const CLASSES = ["read", "write", "other"];
// Namespaces whose histograms are asked for each time; with more, their latencies are means, and only the total has percentiles.
const HISTOGRAMS_UP_TO = 64;

/** Steps of the classes together, [end in ns (Infinity: none), how many], that came between two answers; shortest first. */
function newSteps(before, now) {
  const steps = new Map();
  for (const kind of CLASSES) {
    for (const [end, count] of now[kind].histogram ?? []) steps.set(end, (steps.get(end) ?? 0) + count);
    for (const [end, count] of before[kind].histogram ?? []) steps.set(end, (steps.get(end) ?? 0) - count);
  }
  return [...steps].filter(([, count]) => count > 0).map(([end, count]) => [end === 0 ? Infinity : end, count]).sort(([one], [other]) => one - other);
}

/** The latency in ns that this part (0 to 1) of the steps' I/Os was not above; null without any. */
export function percentile(steps, part) {
  const total = steps.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  for (const [end, count] of steps) {
    seen += count;
    if (seen > total * part || seen === total) return end;
  }
  return null;
}

/** Rates of one entry between two answers; null when its counters began anew. */
function entryRates(before, now, seconds) {
  const rates = { operations: 0, bytes: 0, errors: 0 };
  let latencySum = 0;
  for (const kind of CLASSES) {
    const done = now[kind].ios - before[kind].ios;
    const moved = (now[kind].bytes - before[kind].bytes) / seconds;
    if (done < 0) return null;
    rates.operations += done;
    rates.bytes += moved;
    rates.errors += now[kind].errors - before[kind].errors;
    rates[`${kind}Iops`] = done / seconds;
    rates[`${kind}Bytes`] = moved;
    latencySum += now[kind].latency_ns - before[kind].latency_ns;
  }
  rates.iops = rates.operations / seconds;
  rates.mean = rates.operations > 0 ? latencySum / rates.operations : null;
  const steps = newSteps(before, now);
  return { ...rates, p50: percentile(steps, 0.5), p99: percentile(steps, 0.99), p999: percentile(steps, 0.999) };
}

const hostKey = (entry) => `${entry.hostnqn}\n${entry.nqn}`;
const spaceKey = (entry) => `${entry.nqn}\n${entry.nsid}`;

export class LatencySource {
  constructor() {
    this.clear();
  }

  clear() {
    this.before = new Map();
    this.now = new Map();
    this.breakOff();
  }

  /** The next rates need two new answers. */
  breakOff() {
    this.before.clear();
    this.now.clear();
    this.total = null;  // rates of all hosts' I/O, or null
    this.spaces = new Map();
    this.hosts = new Map();
  }

  questions(target) {
    if (!target.has("nvmf_get_io_stats")) return [];
    return [["nvmf_get_io_stats", { kinds: ["total", "hosts"] }]];
  }

  /** Of each namespace. */
  spaceQuestions(target) {
    return [["nvmf_get_io_stats", { kinds: ["namespaces"], histograms: target.namespaceDevices().size <= HISTOGRAMS_UP_TO }]];
  }

  /** Takes an answer if it is one of these; true then. */
  take(method, params, result) {
    if (method !== "nvmf_get_io_stats") return false;
    const kind = params.kinds[0];
    this.before.set(kind, this.now.get(kind));
    this.now.set(kind, result);
    return true;
  }

  /** After all answers of a question. */
  conclude() {
    const [before, now] = [this.before.get("total"), this.now.get("total")];
    const seconds = before && now ? (now.ticks - before.ticks) / now.tick_rate : 0;
    this.total = seconds > 0 ? entryRates(before.total, now.total, seconds) : null;
    this.hosts = this.#each(before?.hosts, now?.hosts, hostKey, seconds);
    const [spacesBefore, spacesNow] = [this.before.get("namespaces"), this.now.get("namespaces")];
    this.spaces = this.#each(spacesBefore?.namespaces, spacesNow?.namespaces, spaceKey, seconds);
  }

  #each(before, now, key, seconds) {
    if (!before || !now || !(seconds > 0)) return new Map();
    const old = new Map(before.map((entry) => [key(entry), entry]));
    return new Map(now.filter((entry) => old.has(key(entry))).map((entry) => [key(entry), entryRates(old.get(key(entry)), entry, seconds)]));
  }

  /** Rates of a namespace; undefined or null when they are not known. */
  space(nqn, nsid) {
    return this.spaces.get(`${nqn}\n${nsid}`);
  }

  /** Rates of a host at a subsystem. */
  host(hostnqn, nqn) {
    return this.hosts.get(`${hostnqn}\n${nqn}`);
  }
}
