// Subsystems, their namespaces, and below each the bdevs that it stands on, as a tree of plain nodes. Pure.
// Left out: drawing and keys (view_volumes.js).

import { plural, size } from "./format.js";
import { totals } from "./rates.js";

// Deeper stacks than the target makes (16 levels); a ring in wrong answers ends here.
const DEEPEST = 20;

/** Names of the bdevs right below one, in order. */
export function basesOf(device) {
  const found = [];
  for (const kind of Object.values(device?.driver_specific ?? {})) {
    if (kind === null || typeof kind !== "object" || Array.isArray(kind)) continue;
    for (const key of ["base_bdev_name", "base_bdev"]) if (typeof kind[key] === "string") found.push(kind[key]);
    for (const member of kind.base_bdevs_list ?? []) if (member.name) found.push(member.name);
  }
  return found;
}

const isRaid = (device) => device?.driver_specific?.raid;

function aboutDevice(device) {
  if (!device) return "not there";
  const raid = isRaid(device);
  const file = Object.values(device.driver_specific ?? {}).map((kind) => kind?.filename).find(Boolean);
  const limits = Object.entries(device.assigned_rate_limits ?? {}).filter(([, value]) => value > 0).map(([name]) => name.replaceAll("_", " "));
  return [raid ? raid.raid_level : device.product_name, size(device.num_blocks * device.block_size), `${device.block_size} B blocks`, file,
    raid && raid.num_base_bdevs_operational < raid.num_base_bdevs ? "degraded" : "", limits.length ? `limited: ${limits.join(", ")}` : ""].filter(Boolean).join(" · ");
}

/** Mean latency of several namespaces together, each as often as it was used; percentiles cannot be put together so. */
function meanOf(all) {
  const known = all.filter((seen) => seen && seen.mean !== null);
  const iops = known.reduce((sum, seen) => sum + seen.iops, 0);
  return iops > 0 ? { mean: known.reduce((sum, seen) => sum + seen.mean * seen.iops, 0) / iops, p99: null } : null;
}

class Builder {
  constructor(target) {
    this.target = target;
    this.devices = target.devices();
    this.rates = target.rates?.devices ?? new Map();
    this.placed = new Set();
  }

  device(name, path, level, title = name, seen = null) {
    const device = this.devices.get(name);
    this.placed.add(name);
    const key = `${path}\n${name}`;
    const below = level < DEEPEST ? basesOf(device) : [];
    return { key, level, title, about: aboutDevice(device), errors: this.target.errorCounts.get(name) ?? 0, device: name, rates: this.rates.get(name) ?? null, seen,
      missing: !device, children: below.map((base, at) => this.device(base, `${key}\n${at}`, level + 1)) };
  }

  subsystem(subsystem) {
    const key = `subsystem ${subsystem.nqn}`;
    const children = subsystem.namespaces.map((space) => this.device(space.bdev_name, `${key}\n${space.nsid}`, 2, `${space.nsid}: ${space.bdev_name}`,
      this.target.latency.space(subsystem.nqn, space.nsid)));
    const addresses = subsystem.listen_addresses.map((address) => `${address.traddr}:${address.trsvcid}`);
    const ana = (subsystem.ana_states ?? []).flatMap((entry) => (entry.ana_states ?? []).map((state) => state.ana_state));
    const about = [plural(subsystem.namespaces.length, "namespace"), addresses.length ? `listens on ${addresses.join(", ")}` : "no listener",
      subsystem.allow_any_host ? "any host" : plural(subsystem.hosts.length, "host") + " allowed", ana.length ? `ANA ${[...new Set(ana)].join(", ")}` : ""];
    const rates = this.target.rates && totals(this.rates, subsystem.namespaces.map((space) => space.bdev_name));
    const seen = meanOf(children.map((child) => child.seen));
    return { key, level: 1, title: subsystem.nqn, about: about.filter(Boolean).join(" · "), errors: 0, rates, seen, children };
  }

  build() {
    const roots = (this.target.answer("nvmf_get_subsystems") ?? []).filter((subsystem) => subsystem.subtype === "NVMe").map((subsystem) => this.subsystem(subsystem));
    const below = new Set([...this.devices.values()].flatMap(basesOf));
    const loose = [...this.devices.keys()].filter((name) => !this.placed.has(name) && !below.has(name)).map((name) => this.device(name, "loose", 2));
    if (loose.length > 0) {
      roots.push({ key: "loose", level: 1, title: "In no subsystem", about: plural(loose.length, "block device"), errors: 0, rates: null, children: loose });
    }
    return roots;
  }
}

export function buildTree(target) {
  return new Builder(target).build();
}

/** The part of the tree that mentions `words` (in a name or beside it), with all that is above and below a hit. */
export function filterTree(nodes, words) {
  const wanted = words.trim().toLowerCase();
  if (!wanted) return nodes;
  const kept = [];
  for (const node of nodes) {
    if (`${node.title} ${node.about}`.toLowerCase().includes(wanted)) {
      kept.push(node);
      continue;
    }
    const children = filterTree(node.children, wanted);
    if (children.length > 0) kept.push({ ...node, children });
  }
  return kept;
}

/** The tree with the busiest of each level first; what stands below a namespace keeps its order. */
export function busiestFirst(nodes) {
  const load = (node) => node.rates?.iops ?? -1;
  return nodes.map((node) => (node.level === 1 ? { ...node, children: busiestFirst(node.children) } : node)).sort((one, other) => load(other) - load(one));
}

export function countNodes(nodes) {
  return nodes.reduce((sum, node) => sum + 1 + countNodes(node.children), 0);
}
