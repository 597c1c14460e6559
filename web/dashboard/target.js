// What the page knows of the target: which questions are due, the newest answer to each, and what follows from two answers in a row.
// Left out: when to ask (poller.js), how it looks (view_*.js).

import { History } from "./history.js";
import { ioRates, newErrors, reactorRates, restarted, totals, wakerRates } from "./rates.js";
import { LatencySource } from "./latency.js";

// What changes only by somebody's deed is asked less often, and soon after an event says that something happened.
const CONFIGURATION_EVERY_MS = 5000;
// Bdevs and namespaces whose rates, or whose configuration, may be asked for in a second: a thousand disks are a megabyte of text, which the target is not
// made to write every second only because somebody looks. Up to this many there is no delay.
const RATES_PER_SECOND = 300;
const CONFIGURATIONS_PER_SECOND = 100;
// Events kept for the list; the target keeps 1,024.
const EVENTS_KEPT = 200;
// Subsystems whose queue pairs are asked for in one batch; with more of them they take turns.
const QUEUES_PER_BATCH = 64;

/** A list of objects by one of their keys. */
const by = (key, list) => new Map((list ?? []).map((entry) => [entry[key], entry]));

export class Target {
  constructor(client) {
    this.client = client;
    this.history = new History();
    this.reactorHistory = new Map();
    this.latency = new LatencySource();
    this.wantWakers = false;
    this.#forget();
  }

  #forget() {
    this.methods = null;
    this.version = "";
    this.answers = new Map();  // method → result
    this.refusals = new Map();  // method → message: may not be called, or failed
    this.previous = new Map();
    this.queues = new Map();  // nqn → queue pairs
    this.events = [];  // newest first: {id, type, ctx, details, time: Date}
    this.nextEvent = 0;
    this.errorCounts = new Map();  // bdev → errors since the page looks
    this.wakers = null;
    this.rates = null;
    this.reactors = [];
    this.configurationAsked = -Infinity;
    this.changed = true;  // ask for the configuration soon
    this.ratesAsked = -Infinity;
    this.queuesAt = 0;
    this.history.clear();
    this.reactorHistory.clear();
    this.latency.clear();
  }

  /** May the method be called, as far as known? */
  has(method) {
    return this.methods === null || this.methods.has(method);
  }

  answer(method) {
    return this.answers.get(method);
  }

  /** One question to the target. Throws a Failure if it has no answer as a whole. `interval` in seconds: how often it is asked. */
  async ask(interval) {
    if (this.methods === null) await this.#introduce();
    const calls = [["framework_get_reactors"], ["nvmf_get_stats"], ["notify_get_notifications", { id: this.nextEvent }], ...this.latency.questions(this)];
    if (this.#arraysWork()) calls.push(["bdev_raid_get_bdevs", { category: "all" }]);
    if (this.wantWakers) calls.push(["reactor_get_wakeups", { limit: 16 }]);
    const now = performance.now();
    const [rates, configuration] = [this.#ratesDue(now, interval), this.#configurationDue(now)];
    if (rates) calls.push(["bdev_get_iostat"], ...this.latency.spaceQuestions(this));
    if (configuration) calls.push(...this.#configurationQuestions());
    const asked = calls.filter(([method]) => this.has(method));
    const replies = await this.client.batch(asked);
    asked.forEach((call, index) => this.#take(call, replies[index]));
    if (rates) this.ratesAsked = now;
    if (configuration) [this.configurationAsked, this.changed] = [now, false];
    this.#conclude(interval, rates);
  }

  /** Does somebody wait to see a copy or a scrub go on? */
  #arraysWork() {
    return this.arrays().some((array) => array.process || array.scrub?.running);
  }

  /** How many entries an answer about all disks has. */
  get #entries() {
    return (this.answer("bdev_get_bdevs")?.length ?? 0) + this.namespaceDevices().size;
  }

  /** Seconds between two looks at the rates of each disk, beside the pace of the page. */
  get ratesEvery() {
    return this.#entries / RATES_PER_SECOND;
  }

  #ratesDue(now, interval) {
    return this.ratesEvery <= interval || now - this.ratesAsked >= this.ratesEvery * 1000;
  }

  #configurationDue(now) {
    const past = now - this.configurationAsked;
    return past >= Math.max(CONFIGURATION_EVERY_MS, (this.#entries / CONFIGURATIONS_PER_SECOND) * 1000) || (this.changed && past >= this.ratesEvery * 1000);
  }

  async #introduce() {
    const [version, methods] = await this.client.batch([["spdk_get_version"], ["rpc_get_methods", { current: true }]]);
    this.version = version.result?.version ?? "";
    if (methods.result) this.methods = new Set(methods.result);
  }

  #configurationQuestions() {
    const calls = [["nvmf_get_subsystems"], ["bdev_get_bdevs"], ["bdev_nvme_get_controllers"],
      ["framework_get_pending"], ["framework_get_state"], ["iobuf_get_stats"]];
    if (!this.#arraysWork()) calls.push(["bdev_raid_get_bdevs", { category: "all" }]);
    // These ask every thread that uses a path, so only where there are paths.
    if (this.answer("bdev_nvme_get_controllers")?.length > 0) calls.push(["bdev_nvme_get_io_paths"]);
    const known = (this.answer("nvmf_get_subsystems") ?? []).map((subsystem) => subsystem.nqn);
    for (const nqn of this.queues.keys()) if (!known.includes(nqn)) this.queues.delete(nqn);
    for (let count = 0; count < Math.min(QUEUES_PER_BATCH, known.length); count += 1) {
      this.queuesAt = (this.queuesAt + 1) % known.length;
      calls.push(["nvmf_subsystem_get_qpairs", { nqn: known[this.queuesAt] }]);
    }
    return calls;
  }

  #take([method, params], reply) {
    if (reply.error) {
      // A subsystem that went meanwhile is no refusal.
      if (method !== "nvmf_subsystem_get_qpairs") this.refusals.set(method, reply.error.message);
      return;
    }
    this.refusals.delete(method);
    if (method === "nvmf_subsystem_get_qpairs") {
      this.queues.set(params.nqn, reply.result);
    } else if (this.latency.take(method, params, reply.result)) {
      return;
    } else {
      this.previous.set(method, this.answers.get(method));
      this.answers.set(method, reply.result);
    }
  }

  #conclude(interval, ratesAreNew) {
    const before = this.previous.get("framework_get_reactors");
    const now = this.answer("framework_get_reactors");
    if (before && now && restarted(before, now)) {
      this.#forget();
      this.restartSeen = new Date();
      return;
    }
    this.#newEvents();
    this.#connections();
    this.latency.conclude();
    if (ratesAreNew) this.#io();
    this.#reactors();
    this.#wakers();
    this.#record(interval);
    // The first answer about the configuration says whose queues and paths to ask for.
    if (this.queues.size === 0 && (this.answer("nvmf_get_subsystems")?.length ?? 0) > 0) this.changed = true;
  }

  #newEvents() {
    const list = this.answer("notify_get_notifications") ?? [];
    this.answers.delete("notify_get_notifications");
    this.fresh = this.nextEvent === 0 ? [] : list;
    for (const { id, type, ctx, details, time } of list) this.events.unshift({ id, type, ctx, details, time: new Date(time) });
    if (list.length > 0) {
      this.nextEvent = list.at(-1).id + 1;
      this.changed = true;
    }
    this.events.length = Math.min(this.events.length, EVENTS_KEPT);
  }

  /** Queues came or went: events only tell of hosts, but the number of connections says so. */
  #connections() {
    const [before, now] = [this.previous.get("nvmf_get_stats"), this.answer("nvmf_get_stats")];
    if (before && now && before.connections?.current !== now.connections?.current) this.changed = true;
  }

  #io() {
    const before = this.previous.get("bdev_get_iostat");
    const now = this.answer("bdev_get_iostat");
    this.rates = before && now ? ioRates(before, now) : null;
    if (!this.rates) return;
    for (const [name, errors] of newErrors(before, now)) this.errorCounts.set(name, (this.errorCounts.get(name) ?? 0) + errors);
    this.rates.totals = totals(this.rates.devices, this.namespaceDevices());
  }

  #reactors() {
    const before = this.previous.get("framework_get_reactors");
    const now = this.answer("framework_get_reactors");
    if (!now) return;
    const old = by("name", before ? [...before.reactors, before.control] : []);
    this.reactors = [...now.reactors, { ...now.control, control: true }].map((reactor) => {
      const earlier = old.get(reactor.name);
      return { ...reactor, rates: earlier ? reactorRates(earlier, reactor) : null };
    });
  }

  #wakers() {
    if (!this.wantWakers) {
      this.previous.delete("reactor_get_wakeups");
      this.answers.delete("reactor_get_wakeups");
      this.wakers = null;
      return;
    }
    const before = this.previous.get("reactor_get_wakeups");
    const now = this.answer("reactor_get_wakeups");
    if (!before || !now) return;
    const old = by("name", [...before.reactors, before.control]);
    this.wakers = new Map([...now.reactors, now.control].map((reactor) => {
      const seconds = this.reactors.find((one) => one.name === reactor.name)?.rates?.seconds;
      return [reactor.name, seconds ? wakerRates(old.get(reactor.name), reactor, seconds) : []];
    }));
  }

  #record(interval) {
    const time = performance.now() / 1000;
    const total = this.totals;
    const percentiles = this.latency.total;
    this.history.add(time, {
      readIops: total?.readIops ?? null, writeIops: total?.writeIops ?? null, readBytes: total?.readBytes ?? null, writeBytes: total?.writeBytes ?? null,
      mean: percentiles ? null : total?.mean ?? null, p50: percentiles?.p50 ?? null, p99: percentiles?.p99 ?? null, awake: this.awake(),
    }, interval);
    for (const reactor of this.reactors) {
      if (!this.reactorHistory.has(reactor.name)) this.reactorHistory.set(reactor.name, new History());
      this.reactorHistory.get(reactor.name).add(time, { busy: reactor.rates?.busy ?? null, spin: reactor.rates?.spin ?? null }, interval);
    }
  }

  /** Numbers of before a pause or a loss say nothing about the time in between: the next rates need two new answers. */
  breakOff() {
    this.previous.clear();
    for (const method of ["framework_get_reactors", "bdev_get_iostat", "reactor_get_wakeups"]) {
      if (method !== "framework_get_reactors") this.answers.delete(method);
    }
    this.latency.breakOff();
    this.ratesAsked = -Infinity;
    this.rates = null;
    this.wakers = null;
    this.reactors = this.reactors.map((reactor) => ({ ...reactor, rates: null, unknown: true }));
  }

  /** What all hosts do together, as they see it; of a target that does not tell, what the devices behind namespaces do. Null if not known. */
  get totals() {
    return this.latency.total ?? this.rates?.totals ?? null;
  }

  /** Names of the bdevs that are namespaces. */
  namespaceDevices() {
    const names = new Set();
    for (const subsystem of this.answer("nvmf_get_subsystems") ?? []) for (const space of subsystem.namespaces ?? []) names.add(space.bdev_name);
    return names;
  }

  /** CPUs' worth of time that the reactors were awake, the control thread's included; null without two answers. */
  awake() {
    const known = this.reactors.filter((reactor) => reactor.rates);
    return known.length > 0 ? known.reduce((sum, reactor) => sum + reactor.rates.awake, 0) : null;
  }

  /** {name: bdev}. */
  devices() {
    return by("name", this.answer("bdev_get_bdevs"));
  }

  arrays() {
    return this.answer("bdev_raid_get_bdevs") ?? [];
  }
}
