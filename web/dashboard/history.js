// The last minutes, for the charts: a bounded list of samples with their times. A pause (hidden page, lost contact) is a gap and no line.
// Left out: drawing (chart.js).

// What a chart shows at most, and at first: a young page is not drawn as five empty minutes.
export const WINDOW_S = 300;
const FIRST_WINDOW_S = 60;
// Longer between two samples: nobody knows what was in between.
const GAP_FACTOR = 3.5;

export class History {
  #samples = [];

  clear() {
    this.#samples.length = 0;
  }

  /** `time` in seconds of any rising clock; `values`: {series: number or null}. */
  add(time, values, interval) {
    const last = this.#samples.at(-1);
    if (last && time - last.time > interval * GAP_FACTOR) this.#samples.push({ time: last.time + interval / 2, values: null });
    this.#samples.push({ time, values });
    while (this.#samples.length > 0 && this.#samples[0].time < time - WINDOW_S - interval) this.#samples.shift();
  }

  get latest() {
    return this.#samples.at(-1)?.time ?? 0;
  }

  /** What the charts show now, in seconds: as much as there is, in steps that do not make the lines crawl. */
  get window() {
    const first = this.#samples[0]?.time ?? this.latest;
    return Math.min(WINDOW_S, Math.max(FIRST_WINDOW_S, Math.ceil((this.latest - first) / 60) * 60));
  }

  /** [{age: seconds before `now`, value: number or null}], oldest first. */
  series(name, now = this.latest) {
    return this.#samples.map((sample) => ({ age: now - sample.time, value: sample.values?.[name] ?? null }));
  }

  highest(...names) {
    let highest = 0;
    for (const sample of this.#samples) for (const name of names) highest = Math.max(highest, sample.values?.[name] ?? 0);
    return highest;
  }
}
