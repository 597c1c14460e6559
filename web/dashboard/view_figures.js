// The four figures at the top, each with the line of its last minutes: I/O, throughput, latency, and how much CPU is awake.
// Left out: who it comes from (view_volumes.js, view_reactors.js).

import { Chart } from "./chart.js";
import { h, keyed, setText } from "./dom.js";
import { NOTHING, count, latency, plural, throughput } from "./format.js";

const cpus = (value) => (typeof value === "number" ? `${value.toFixed(value < 0.095 ? 3 : 2)}\u00a0CPU` : NOTHING);

class Figure {
  constructor(parent, id, title, chart) {
    this.chart = new Chart({ label: title, ...chart });
    this.value = h("p", { class: "value", id: `value-${id}` }, NOTHING);
    this.parts = h("p", { class: "parts", id: `parts-${id}` });
    parent.append(h("article", { class: "figure", "aria-labelledby": `figure-${id}` },
      h("h3", { id: `figure-${id}` }, title), this.value, this.parts, this.chart.element));
  }

  /** `parts`: a sentence, or [[look of the line that it belongs to, text]]. */
  show(value, parts, history) {
    setText(this.value, value);
    keyed(this.parts, typeof parts === "string" ? [["", parts]] : parts, ([look]) => look, ([look]) => h("span", { class: `part ${look}` }),
      (element, [, text]) => setText(element, `${text} `));
    this.chart.update(history);
  }
}

export class FiguresView {
  constructor(parent) {
    this.iops = new Figure(parent, "iops", "I/O per second", {
      format: count, series: [{ name: "readIops", label: "read", look: "read" }, { name: "writeIops", label: "write", look: "write" }] });
    this.bytes = new Figure(parent, "bytes", "Throughput", {
      format: throughput, series: [{ name: "readBytes", label: "read", look: "read" }, { name: "writeBytes", label: "write", look: "write" }] });
    this.latency = new Figure(parent, "latency", "Latency", {
      format: latency, series: [{ name: "p99", label: "p99", look: "tail" }, { name: "p50", label: "p50", look: "middle" }, { name: "mean", label: "mean", look: "mean" }] });
    this.awake = new Figure(parent, "awake", "Awake", { format: cpus, series: [{ name: "awake", label: "awake", look: "awake" }] });
  }

  update(target) {
    const total = target.totals;
    this.iops.show(count(total?.iops), [["read", `read ${count(total?.readIops)}`], ["write", `write ${count(total?.writeIops)}`]], target.history);
    this.bytes.show(throughput(total?.bytes), [["read", `read ${throughput(total?.readBytes)}`], ["write", `write ${throughput(total?.writeBytes)}`]], target.history);
    this.#latency(target, total);
    const awake = target.awake();
    const loops = target.reactors.filter((reactor) => !reactor.control);
    const asleep = loops.filter((reactor) => reactor.asleep).length;
    this.awake.show(cpus(awake), loops.length && awake !== null ? `${asleep} of ${plural(loops.length, "reactor")} asleep now` : "", target.history);
  }

  #latency(target, total) {
    const percentiles = target.latency.total;
    if (percentiles && percentiles.p50 !== null) {
      this.latency.show(latency(percentiles.p50), [["middle", "median"], ["tail", `p99 ${latency(percentiles.p99)}`], ["", `p99.9 ${latency(percentiles.p999)}`]],
        target.history);
    } else {
      const why = total?.operations === 0 ? "no I/O to measure" : !percentiles && total ? "mean of the devices" : "";
      this.latency.show(latency(percentiles ? null : total?.mean), why, target.history);
    }
  }
}
