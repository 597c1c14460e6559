// Small charts of the last minutes: lines (or stacked areas) in one SVG that stretches with its box. Nothing moves but the data.
// Left out: axes with many ticks; a chart says its highest value and, under the pointer, the one at that time.

import { s, setAttribute, h, setText } from "./dom.js";

const WIDTH = 300;
// Lines end a little below the upper edge, so that their full width shows.
const HEADROOM = 0.94;

const x = (age, span) => WIDTH * (1 - age / span);

/** The runs of a series without gaps. */
function runs(points) {
  const found = [];
  let run = null;
  for (const point of points) {
    if (point.value === null) {
      run = null;
    } else {
      if (run === null) found.push((run = []));
      run.push(point);
    }
  }
  return found;
}

const place = (point, height, highest, span) => `${x(point.age, span).toFixed(1)} ${(height - (height * HEADROOM * point.value) / highest).toFixed(1)}`;

function linePath(points, height, highest, span) {
  return runs(points).map((run) => "M" + run.map((point) => place(point, height, highest, span)).join("L")).join("");
}

function areaPath(points, height, highest, span) {
  return runs(points).filter((run) => run.length > 1)
    .map((run) => {
      const [from, to] = [run[0], run.at(-1)].map((point) => `${x(point.age, span).toFixed(1)} ${height}`);
      return `M${from}L${run.map((point) => place(point, height, highest, span)).join("L")}L${to}Z`;
    })
    .join("");
}

function nearest(points, age) {
  let best = null;
  for (const point of points) {
    if (point.value === null) continue;
    if (best === null || Math.abs(point.age - age) < Math.abs(best.age - age)) best = point;
  }
  return best && Math.abs(best.age - age) < 10 ? best : null;
}

/**
 * `series`: [{name, label, look}], drawn in this order. `stacked`: each upon the one before, against a fixed `ceiling` (1 for shares).
 * `format` makes texts of values. The element is `.element`.
 */
export class Chart {
  constructor({ series, label, format, height = 48, stacked = false, ceiling = null }) {
    Object.assign(this, { series, label, format, height, stacked, ceiling });
    const drawn = stacked ? [...series].reverse() : series;  // the highest sum first, the others over it
    this.shapes = drawn.map(({ look }) => ({ area: s("path", { class: `area ${look}` }), line: stacked ? null : s("path", { class: `line ${look}` }) }));
    this.cursor = s("line", { class: "cursor", y1: 0, y2: height, x1: -1, x2: -1 });
    this.svg = s("svg", { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", role: "img", focusable: "false" },
      this.shapes.flatMap(({ area, line }) => [area, line]), this.cursor);
    this.reading = h("span", { class: "reading", "aria-hidden": "true" });
    this.peak = "";  // what stands there while nobody points
    this.element = h("div", { class: `chart${stacked ? " stacked" : ""}`, onpointermove: (event) => this.#point(event), onpointerleave: () => this.#leave() },
      this.svg, this.reading);
    this.points = [];
    this.span = 60;
  }

  update(history) {
    const now = history.latest;
    this.span = history.window;
    this.points = this.series.map(({ name }) => history.series(name, now));
    const seen = history.highest(...this.series.map(({ name }) => name));
    const highest = this.ceiling ?? (seen || 1);
    const drawn = this.stacked ? this.#stack() : this.points;
    this.shapes.forEach(({ area, line }, index) => {
      setAttribute(area, "d", areaPath(drawn[index], this.height, highest, this.span));
      if (line) setAttribute(line, "d", linePath(drawn[index], this.height, highest, this.span));
    });
    setAttribute(this.svg, "aria-label", this.#inWords());
    this.peak = this.stacked || seen === 0 ? "" : `up to ${this.format(highest)}`;
    if (!this.pointed) setText(this.reading, this.peak);
  }

  #stack() {
    const sums = [];
    return this.points.map((points) => points.map((point, at) => {
      if (point.value === null) return point;
      sums[at] = (sums[at] ?? 0) + point.value;
      return { age: point.age, value: sums[at] };
    })).reverse();
  }

  #inWords() {
    const parts = this.series.map(({ label }, index) => {
      const values = this.points[index].map((point) => point.value).filter((value) => value !== null);
      if (values.length === 0) return `${label}: nothing yet`;
      return `${label}: now ${this.format(values.at(-1))}, highest ${this.format(Math.max(...values))}`;
    });
    return `${this.label}, last ${this.span / 60} min. ${parts.join("; ")}`;
  }

  #point(event) {
    this.pointed = true;
    const box = this.svg.getBoundingClientRect();
    const age = this.span * (1 - (event.clientX - box.left) / box.width);
    const found = this.points.map((points) => nearest(points, age));
    if (found.every((point) => point === null)) return this.#leave();
    const at = x(found.find((point) => point !== null).age, this.span);
    setAttribute(this.cursor, "x1", at);
    setAttribute(this.cursor, "x2", at);
    const values = this.series.map(({ label }, index) => found[index] && `${label} ${this.format(found[index].value)}`).filter(Boolean).join(" · ");
    setText(this.reading, `${Math.max(0, Math.round(age))} s ago: ${values}`);
  }

  #leave() {
    setAttribute(this.cursor, "x1", -1);
    setAttribute(this.cursor, "x2", -1);
    this.pointed = false;
    setText(this.reading, this.peak);
  }
}
