// The tree of subsystems, namespaces and bdev stacks, with rates in columns: an ARIA treegrid whose rows have the focus (arrows, Home, End, Enter).
// Left out: what the nodes are (tree.js).

import { emptyState, h, keyed, setAttribute, setShown, setText } from "./dom.js";
import { count, duration, latency, plural, throughput } from "./format.js";
import { buildTree, busiestFirst, countNodes, filterTree } from "./tree.js";

// Rows drawn at once; more than anybody reads. The rest is a filter away.
const ROWS_SHOWN = 250;
// Trees up to this size begin unfolded.
const UNFOLDED_UP_TO = 40;

export class VolumesView {
  constructor({ table, body, filter, busiest, note, empty }) {
    Object.assign(this, { body, filter, busiest, note, table });
    this.empty = empty;
    empty.append(emptyState("No subsystem yet. To serve a RAM disk of 64 MiB to any host:", [
      "scripts/rpc.py nvmf_create_transport -t tcp", "scripts/rpc.py bdev_malloc_create -b Disk0 64 4096",
      "scripts/rpc.py nvmf_create_subsystem nqn.2026-11.io.example:disks -a", "scripts/rpc.py nvmf_subsystem_add_ns nqn.2026-11.io.example:disks Disk0",
      "scripts/rpc.py nvmf_subsystem_add_listener nqn.2026-11.io.example:disks -t tcp -a ADDRESS -s 4420"].join("\n")));
    this.folded = new Map();  // key → whether the reader folded it; what is not in here follows the size of the tree
    this.rows = [];
    this.focusKey = null;
    filter.addEventListener("input", () => this.draw());
    busiest.addEventListener("change", () => this.draw());
    body.addEventListener("keydown", (event) => this.#key(event));
    body.addEventListener("click", (event) => this.#click(event));
    body.addEventListener("focusin", (event) => this.#focused(event.target.closest("tr")));
  }

  update(target) {
    this.target = target;
    this.tree = buildTree(target);
    const known = target.answer("nvmf_get_subsystems") !== undefined;
    const refused = target.refusals.get("nvmf_get_subsystems");
    setShown(this.empty, known && this.tree.length === 0 && !refused);
    setShown(this.table, this.tree.length > 0);
    this.refused = refused;
    this.draw();
  }

  draw() {
    if (!this.tree) return;
    const nodes = filterTree(this.busiest.checked ? busiestFirst(this.tree) : this.tree, this.filter.value);
    this.unfolded = countNodes(nodes) <= UNFOLDED_UP_TO || this.filter.value.trim() !== "";
    this.rows = [];
    this.#flatten(nodes);
    const left = this.rows.length - ROWS_SHOWN;
    this.rows.length = Math.min(this.rows.length, ROWS_SHOWN);
    if (!this.rows.some((row) => row.node.key === this.focusKey)) this.focusKey = this.rows[0]?.node.key ?? null;
    keyed(this.body, this.rows, (row) => row.node.key, (row) => this.#make(row), (element, row) => this.#show(element, row));
    this.#notes(left, nodes.length);
  }

  #notes(left, found) {
    let note = "";
    if (this.refused) note = `The target does not tell: ${this.refused}`;
    else if (left > 0) note = `${plural(left, "more row")} not shown: filter by a part of the name.`;
    else if (found === 0 && this.tree.length > 0) note = `Nothing is named like “${this.filter.value.trim()}”.`;
    else if (this.target.ratesEvery > 2) note = `So many disks are looked at every ${duration(this.target.ratesEvery)}.`;
    setText(this.note, note);
    setShown(this.note, note !== "");
  }

  #isFolded(node) {
    return this.folded.get(node.key) ?? !(this.unfolded || node.level === 1);
  }

  #flatten(nodes, parent = null) {
    nodes.forEach((node, at) => {
      this.rows.push({ node, parent, position: at + 1, of: nodes.length });
      if (node.children.length > 0 && !this.#isFolded(node)) this.#flatten(node.children, node);
    });
  }

  #make({ node }) {
    const parts = { twist: h("span", { class: "twist", "aria-hidden": "true" }), title: h("span", { class: "name" }), about: h("span", { class: "sub" }),
      badge: h("span", { class: "badge" }) };
    const cells = ["iops", "read wide", "write wide", "total narrow", "latency", "latency wide"].map((kind) => h("td", { role: "gridcell", class: `number ${kind}` }));
    const row = h("tr", { role: "row", "aria-level": node.level, "data-level": Math.min(node.level, 6), "data-key": node.key },
      h("th", { role: "rowheader", scope: "row" }, h("span", { class: "branch" }, parts.twist, h("span", { class: "words" }, parts.title, parts.badge, parts.about))), cells);
    Object.assign(row, { parts, figures: cells });
    return row;
  }

  #show(row, { node, position, of }) {
    const { parts, figures } = row;
    const folds = node.children.length > 0;
    setAttribute(row, "aria-expanded", folds ? String(!this.#isFolded(node)) : null);
    setAttribute(row, "aria-posinset", position);
    setAttribute(row, "aria-setsize", of);
    setAttribute(row, "tabindex", node.key === this.focusKey ? 0 : -1);
    setAttribute(row, "data-missing", node.missing || null);
    setText(parts.twist, !folds ? "" : this.#isFolded(node) ? "▸" : "▾");
    setText(parts.title, node.title);
    setText(parts.about, node.about);
    setText(parts.badge, node.errors > 0 ? plural(node.errors, "error") : "");
    setShown(parts.badge, node.errors > 0);
    const { rates } = node;
    setAttribute(row, "data-quiet", !rates || rates.iops === 0);
    // What hosts see, of subsystems and namespaces; of what stands below, the time that the devices took.
    const texts = [count(rates?.iops), throughput(rates?.readBytes), throughput(rates?.writeBytes), throughput(rates?.bytes),
      latency(node.seen ? node.seen.mean : rates?.mean), latency(node.seen?.p99)];
    texts.forEach((text, at) => setText(figures[at], text));
  }

  #rowOf(key) {
    return this.body.keyedChildren?.get(key);
  }

  #focus(row) {
    if (!row) return;
    this.#focused(row);
    row.focus();
  }

  #focused(row) {
    if (!row || row.dataset.key === this.focusKey) return;
    const old = this.#rowOf(this.focusKey);
    if (old) setAttribute(old, "tabindex", -1);
    this.focusKey = row.dataset.key;
    setAttribute(row, "tabindex", 0);
  }

  #fold(node, folded) {
    if (node.children.length === 0) return;
    this.folded.set(node.key, folded);
    this.draw();
  }

  #click(event) {
    const element = event.target.closest("tr");
    const row = this.rows.find(({ node }) => node.key === element?.dataset.key);
    if (!row) return;
    this.#focus(element);
    if (event.target.closest(".branch")) this.#fold(row.node, !this.#isFolded(row.node));
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const at = this.rows.findIndex(({ node }) => node.key === this.focusKey);
    if (at < 0) return;
    const { node, parent } = this.rows[at];
    const folds = node.children.length > 0;
    const to = (row) => row && this.#focus(this.#rowOf(row.node.key));
    const deeds = {
      ArrowDown: () => to(this.rows[at + 1]),
      ArrowUp: () => to(this.rows[at - 1]),
      Home: () => to(this.rows[0]),
      End: () => to(this.rows.at(-1)),
      ArrowRight: () => (folds && this.#isFolded(node) ? this.#fold(node, false) : folds && to(this.rows[at + 1])),
      ArrowLeft: () => (folds && !this.#isFolded(node) ? this.#fold(node, true) : parent && this.#focus(this.#rowOf(parent.key))),
      Enter: () => this.#fold(node, !this.#isFolded(node)),
      " ": () => this.#fold(node, !this.#isFolded(node)),
    };
    if (!deeds[event.key]) return;
    event.preventDefault();
    deeds[event.key]();
  }
}
