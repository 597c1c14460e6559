// The reactors: how each spent its last minutes (busy, looking for work, asleep), why it is awake now, and what wakes it.
// Left out: its lightweight threads one by one (scripts/top shows them).

import { Chart } from "./chart.js";
import { h, keyed, setAttribute, setShown, setText } from "./dom.js";
import { NOTHING, count, percent } from "./format.js";
import { whyAwake } from "./rates.js";
import { History } from "./history.js";

const NO_HISTORY = new History();
const CAUSES = [["fd", "by I/O and sockets"], ["message", "by messages"], ["timer", "by timers"], ["spurious", "for nothing"]];

function makeRow(reactor) {
  const chart = new Chart({
    label: `Time of ${reactor.name}`, format: percent, height: 36, stacked: true, ceiling: 1,
    series: [{ name: "busy", label: "busy", look: "busy" }, { name: "spin", label: "looking", look: "spin" }],
  });
  const parts = {
    chart, awake: h("span", { class: "share" }), split: h("span", { class: "split" }), why: h("p", { class: "why" }), wakeups: h("p", { class: "wakeups" }),
    mode: h("span", { class: "mode" }), wakers: h("ol", { class: "wakers" }), threads: h("span", { class: "threads" }),
  };
  const row = h("li", { class: "reactor" },
    h("div", { class: "who" }, h("h3", {}, reactor.control ? "control thread" : `CPU ${reactor.lcore}`), parts.mode, parts.threads),
    h("div", { class: "strip" }, chart.element),
    h("div", { class: "now" }, parts.awake, parts.split),
    h("div", { class: "because" }, parts.why, parts.wakeups, parts.wakers));
  row.parts = parts;
  return row;
}

function wakeupText(rates) {
  if (!rates) return "";
  const sum = CAUSES.reduce((total, [cause]) => total + rates.wakeups[cause], 0);
  if (sum === 0) return "no wake-up";
  const parts = CAUSES.filter(([cause]) => rates.wakeups[cause] > 0).map(([cause, words]) => `${count(rates.wakeups[cause])} ${words}`);
  return `${count(sum)} wake-ups a second: ${parts.join(", ")}`;
}

export class ReactorsView {
  constructor({ list, note, button }, wantWakers) {
    Object.assign(this, { list, note, button });
    button.addEventListener("click", () => {
      const wanted = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", wanted);
      wantWakers(wanted);
    });
  }

  update(target) {
    const refused = target.refusals.get("framework_get_reactors");
    setShown(this.note, Boolean(refused));
    if (refused) setText(this.note, `The target does not tell: ${refused}`);
    keyed(this.list, target.reactors, (reactor) => reactor.name, makeRow, (row, reactor) => this.#row(row.parts, reactor, target, row));
  }

  #row(parts, reactor, target, row) {
    const { rates } = reactor;
    setAttribute(row, "data-asleep", reactor.asleep && !reactor.unknown);
    setText(parts.mode, reactor.mode);
    const others = reactor.lw_threads.map((thread) => thread.name).join(", ");
    setText(parts.threads, others);
    setText(parts.awake, rates ? `${percent(rates.awake)} awake` : NOTHING);
    setText(parts.split, rates ? `${percent(rates.busy)} busy, ${percent(rates.spin)} looking, ${percent(rates.sleep)} asleep` : "");
    setText(parts.why, `Now: ${whyAwake(reactor)}.`);
    setText(parts.wakeups, wakeupText(rates));
    parts.chart.update(target.reactorHistory.get(reactor.name) ?? NO_HISTORY);
    const wakers = (target.wakers?.get(reactor.name) ?? []).slice(0, 5);
    setShown(parts.wakers, wakers.length > 0);
    keyed(parts.wakers, wakers, (waker) => waker.key, () => h("li"), (item, waker) =>
      setText(item, `${count(waker.rate)}/s ${waker.kind === "message" || waker.kind === "timer" ? waker.kind + "s" : waker.name}${waker.thread ? ` of ${waker.thread}` : ""}`));
  }
}
