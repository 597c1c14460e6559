// When the target is asked: at the chosen pace while somebody can see the page, never while nobody can, and at a lengthening pace while it does not answer.
// Left out: what is asked and shown.

import { Failure } from "./rpc.js";

// While there is no answer: a server that is back shows within two seconds, a dead one is not hammered.
const RETRY_MS = [1000, 2000, 2000, 5000];

/**
 * `ask()` asks once and resolves, or rejects with a Failure. `told(state)` hears of each change: {phase: "live", "paused", "hidden", "failed", failure,
 * since, retryInMs}.
 */
export class Poller {
  #timer = null;
  #asking = false;
  #failures = 0;
  #since = null;

  constructor(ask, told) {
    this.ask = ask;
    this.told = told;
    this.intervalMs = 1000;
    this.paused = false;
    document.addEventListener("visibilitychange", () => this.#visibility());
  }

  start() {
    this.now();
  }

  /** Asks at once, if nothing is under way. */
  now() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#mayAsk()) return;
    this.#turn();
  }

  setInterval(milliseconds) {
    this.paused = milliseconds === 0;
    if (milliseconds > 0) this.intervalMs = milliseconds;
    if (this.paused) {
      clearTimeout(this.#timer);
      this.told({ phase: "paused" });
    } else {
      this.now();
    }
  }

  #mayAsk() {
    return !document.hidden && !this.paused && !this.#asking;
  }

  #visibility() {
    if (document.hidden) {
      clearTimeout(this.#timer);
      this.told({ phase: "hidden" });
    } else {
      this.now();
    }
  }

  async #turn() {
    this.#asking = true;
    const began = performance.now();
    let wait = this.intervalMs;
    try {
      await this.ask();
      this.#failures = 0;
      this.#since = null;
      this.told({ phase: this.paused ? "paused" : "live" });
    } catch (error) {
      // Whatever went wrong, numbers that are no longer brought up to date must not look live.
      const failure = error instanceof Failure ? error : new Failure("page", `This page failed on what the target said: ${error.message}`);
      if (failure !== error) console.error(error);
      wait = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)];
      this.#failures += 1;
      this.#since ??= new Date();
      const waitsForPerson = failure.kind === "credentials" || failure.kind === "forbidden";
      this.told({ phase: "failed", failure, since: this.#since, retryInMs: waitsForPerson ? null : wait });
      if (waitsForPerson) return;
    } finally {
      this.#asking = false;
    }
    if (this.#mayAsk()) this.#timer = setTimeout(() => this.now(), Math.max(0, wait - (performance.now() - began)));
  }
}
