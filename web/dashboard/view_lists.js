// The lists beside the tree: what needs attention, arrays, paths, hosts, events. Each says so when it is empty, and what to do then.
// Left out: changing anything; the page only looks.

import { emptyState, h, keyed, setAttribute, setShown, setText } from "./dom.js";
import { NOTHING, clock, count, duration, latency, moment, percent, plural, size, throughput } from "./format.js";
import { findings } from "./attention.js";

/** A list that shows `nothing` (an element) instead of itself while it has no items, and the target's refusal where it has one. */
class ListView {
  constructor(list, nothing, method) {
    this.list = list;
    this.method = method;
    this.nothing = h("div", {}, nothing);
    this.refused = h("p", { class: "refused", hidden: true });
    list.after(this.nothing, this.refused);
  }

  show(target, items, key, create, update) {
    const refusal = target.refusals.get(this.method) ?? (target.has(this.method) ? undefined : `the method ${this.method} may not be called with these rights`);
    setShown(this.refused, Boolean(refusal));
    if (refusal) setText(this.refused, `The target does not tell: ${refusal}`);
    setShown(this.list, items.length > 0);
    setShown(this.nothing, items.length === 0 && !refusal);
    keyed(this.list, items, key, create, update);
  }
}

export class AttentionView {
  constructor({ section, list, calm }) {
    Object.assign(this, { section, list, calm });
  }

  update(target) {
    const found = findings(target);
    setAttribute(this.section, "data-calm", found.length === 0);
    setShown(this.list, found.length > 0);
    setShown(this.calm, found.length === 0);
    setText(this.calm, target.reactors.some((reactor) => !reactor.unknown) ? "Nothing does." : "Not known.");
    keyed(this.list, found, (one) => one.key, () => h("li", {}, h("strong"), " ", h("span")), (item, one) => {
      setAttribute(item, "data-weight", one.weight);
      setText(item.firstElementChild, one.what);
      setText(item.lastElementChild, one.why);
    });
  }
}

/** What an array has under way: {type, target, done, of} in blocks, or null. */
function underWay(array, device) {
  if (array.process) {
    const { progress } = array.process;
    return { type: array.process.type, target: array.process.target, done: progress.blocks, of: progress.total_blocks ?? device?.num_blocks };
  }
  if (array.scrub?.running) return { type: "scrub", done: array.scrub.blocks_compared + array.scrub.blocks_passed_over, of: device?.num_blocks };
  return null;
}

export class ArraysView {
  constructor(list) {
    this.view = new ListView(list, emptyState("No array. Two bdevs make a mirror:",
      "scripts/rpc.py bdev_raid_create -n Mirror0 -r raid1 -b \"Disk0 Disk1\""), "bdev_raid_get_bdevs");
    this.paces = new Map();
  }

  update(target) {
    const devices = target.devices();
    this.view.show(target, target.arrays(), (array) => array.uuid ?? array.name, () => {
      const parts = { name: h("h3"), state: h("span", { class: "state" }), about: h("p", { class: "sub" }), members: h("ul", { class: "members" }),
        bar: h("progress", { max: 1, value: 0 }), doing: h("p", { class: "doing" }) };
      const item = h("li", {}, h("div", { class: "headline" }, parts.name, parts.state), parts.about, parts.doing, parts.bar, parts.members);
      item.parts = parts;
      return item;
    }, (item, array) => this.#array(item.parts, array, devices.get(array.name)));
  }

  #array(parts, array, device) {
    setText(parts.name, array.name);
    setText(parts.state, array.state);
    setAttribute(parts.state, "data-good", array.state === "online");
    const whole = device ? ` · ${size(device.num_blocks * device.block_size)}` : "";
    setText(parts.about, `${array.raid_level} of ${plural(array.num_base_bdevs, "member")}${whole}${array.bitmap ? ` · write intents: ${array.bitmap}` : ""}`);
    const doing = underWay(array, device);
    setShown(parts.bar, Boolean(doing));
    setShown(parts.doing, Boolean(doing));
    if (doing) this.#progress(parts, array, doing, device);
    else this.paces.delete(array.name);
    keyed(parts.members, array.base_bdevs_list.map((member, slot) => ({ ...member, slot })), (member) => member.slot,
      () => h("li", {}, h("span", { class: "name" }), " ", h("span", { class: "state" }), " ", h("span", { class: "sub" })), (item, member) => {
        const [name, state, reason] = item.children;
        setText(name, member.name ?? "empty slot");
        setText(state, (member.state ?? (member.is_configured ? "in use" : "missing")).replace("_", " "));
        setAttribute(state, "data-good", member.state === "in_sync");
        setAttribute(state, "data-under-way", member.state === "rebuilding" || member.state === "waiting");
        setText(reason, member.reason ?? "");
      });
  }

  #progress(parts, array, { type, target, done, of }, device) {
    const share = of > 0 ? Math.min(1, done / of) : 0;
    parts.bar.value = share;
    parts.bar.setAttribute("aria-label", `${type} of ${array.name}`);
    const now = performance.now() / 1000;
    const pace = this.paces.get(array.name);
    if (!pace || pace.type !== type || done < pace.done) this.paces.set(array.name, { type, done, since: now });
    const seconds = pace ? now - pace.since : 0;
    const perSecond = pace && seconds >= 3 ? (done - pace.done) / seconds : 0;
    const bytes = perSecond > 0 && device ? `, ${throughput(perSecond * device.block_size)}, ${duration((of - done) / perSecond)} left` : "";
    setText(parts.doing, `${type}${target ? ` of ${target}` : ""}: ${percent(share)}${bytes}`);
  }
}

export class PathsView {
  constructor(list) {
    this.view = new ListView(list, emptyState("No remote disk. To attach the disks of another target:",
      "scripts/rpc.py bdev_nvme_attach_controller -b Remote0 -t tcp -a ADDRESS -s 4420 -n NQN"), "bdev_nvme_get_controllers");
  }

  update(target) {
    const paths = [];
    for (const { name, ctrlrs } of target.answer("bdev_nvme_get_controllers") ?? []) {
      for (const path of ctrlrs) paths.push({ name, path, key: `${name}\n${path.trid.traddr}\n${path.trid.trsvcid}\n${path.host?.addr ?? ""}` });
    }
    const uses = this.#uses(target);
    this.view.show(target, paths, ({ key }) => key,
      () => h("li", {}, h("div", { class: "headline" }, h("h3"), h("span", { class: "state" })), h("p", { class: "sub" })), (item, { name, path }) => {
        const address = `${path.trid.traddr}:${path.trid.trsvcid}`;
        const [title, state] = item.firstElementChild.children;
        setText(title, name);
        setText(state, path.state);
        setAttribute(state, "data-good", path.state === "enabled");
        const use = uses.get(`${path.cntlid} ${path.trid.traddr} ${path.trid.trsvcid}`);
        const words = [address, plural(path.num_io_queues ?? 0, "I/O queue"), use, path.state === "enabled" ? "" : path.last_error, path.trid.subnqn];
        setText(item.lastElementChild, words.filter(Boolean).join(" · "));
      });
  }

  #uses(target) {
    const uses = new Map();
    for (const group of target.answer("bdev_nvme_get_io_paths")?.poll_groups ?? []) {
      for (const path of group.io_paths) {
        const key = `${path.cntlid} ${path.transport.traddr} ${path.transport.trsvcid}`;
        const said = !path.accessible ? "inaccessible (ANA)" : path.current ? "in use" : "in reserve";
        if (uses.get(key) !== "in use") uses.set(key, said);
      }
    }
    return uses;
  }
}

/** [{nqn, subsystems: [{nqn, queues, peers}]}] of the queue pairs of all subsystems. */
function hostsOf(target) {
  const hosts = new Map();
  for (const [nqn, queues] of target.queues) {
    for (const queue of queues) {
      if (!hosts.has(queue.hostnqn)) hosts.set(queue.hostnqn, new Map());
      const subsystems = hosts.get(queue.hostnqn);
      if (!subsystems.has(nqn)) subsystems.set(nqn, { nqn, controllers: new Set(), io: 0, peers: new Set(), threads: new Set() });
      const one = subsystems.get(nqn);
      one.controllers.add(queue.cntlid);
      if (queue.qid > 0) one.io += 1;
      one.peers.add(`${queue.peer_address.traddr} to ${queue.listen_address.traddr}:${queue.listen_address.trsvcid}`);
      one.threads.add(queue.thread);
    }
  }
  return [...hosts].map(([nqn, subsystems]) => ({ nqn, subsystems: [...subsystems.values()] })).sort((one, other) => (one.nqn < other.nqn ? -1 : 1));
}

/** What to type on a host, with the address of a listener that is there. */
function howToConnect(target) {
  for (const subsystem of target.answer("nvmf_get_subsystems") ?? []) {
    const address = subsystem.subtype === "NVMe" ? subsystem.listen_addresses[0] : undefined;
    if (address) return `nvme connect -t tcp -a ${address.traddr} -s ${address.trsvcid} -n ${subsystem.nqn}`;
  }
  return "scripts/rpc.py nvmf_subsystem_add_listener NQN -t tcp -a ADDRESS -s 4420";
}

export class HostsView {
  constructor(list) {
    this.empty = emptyState("No host is connected. On a host, as root:", " ");
    this.view = new ListView(list, this.empty, "nvmf_subsystem_get_qpairs");
  }

  update(target) {
    setText(this.empty.querySelector("code"), howToConnect(target));
    const refused = target.refusals.get("nvmf_get_io_stats");
    this.view.show(target, hostsOf(target), (host) => host.nqn, () => h("li", {}, h("h3"), h("ul", { class: "members" })), (item, host) => {
      setText(item.firstElementChild, host.nqn);
      keyed(item.lastElementChild, host.subsystems, (one) => one.nqn, () => h("li", {}, h("span", { class: "name" }), h("p", { class: "load" }), h("p", { class: "sub" })), (part, one) => {
        setText(part.firstElementChild, one.nqn);
        const rates = target.latency.host(host.nqn, one.nqn);
        setText(part.children[1], rates ? `${count(rates.iops)}\u00a0IOPS · ${throughput(rates.bytes)} · mean ${latency(rates.mean)}` : NOTHING);
        setText(part.lastElementChild, [plural(one.controllers.size, "controller"), plural(one.io, "I/O queue"), [...one.peers].join(", "),
          `on ${[...one.threads].sort().join(", ")}`].join(" · "));
      });
    });
  }
}

const WORDS = {
  bdev_register: "bdev appeared", bdev_unregister: "bdev went", bdev_resize: "bdev has another size", bdev_raid_state: "array changed its state",
  bdev_raid_member_state: "array member changed its state", bdev_raid_process_start: "began", bdev_raid_process_end: "ended",
  nvmf_host_connected: "host connected", nvmf_host_disconnected: "host disconnected", nvmf_host_authentication_failed: "host failed to authenticate",
  nvmf_host_tls_failed: "TLS handshake failed",
  nvmf_ana_state: "ANA state changed", bdev_nvme_path_up: "path is up", bdev_nvme_path_down: "path is down", state_file_fault: "state file cannot be written",
  state_file_written: "state file is written again", configuration_pending: "configuration waits", configuration_made: "configuration is there again",
};
// More at once would keep a screen reader talking.
const SPOKEN_AT_ONCE = 3;

export class EventsView {
  constructor(list, spoken) {
    this.spoken = spoken;
    this.view = new ListView(list, emptyState("Nothing has happened since the target started."), "notify_get_notifications");
  }

  update(target) {
    const fresh = target.fresh ?? [];
    target.fresh = [];
    if (fresh.length > 0) setText(this.spoken, fresh.length <= SPOKEN_AT_ONCE ? fresh.map((event) => this.#words(event)).join(". ") : `${fresh.length} new events`);
    this.view.show(target, target.events, (event) => event.id, (event) =>
      h("li", {}, h("time", { datetime: event.time.toISOString() }, moment(event.time)), " ", h("span", {}, this.#words(event))), () => {});
  }

  #words({ type, ctx, details = {} }) {
    const more = Object.entries(details).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(", ");
    return `${ctx}: ${WORDS[type] ?? type.replaceAll("_", " ")}${more ? ` (${more})` : ""}`;
  }
}
