// What a person should look at, worst first. Pure: from what the target says to sentences.
// Left out: history (a fault that healed stands among the events).

import { duration, plural } from "./format.js";

/** One finding. `weight`: "bad" (data or access is at stake) or "warn". */
const finding = (weight, what, why, key = what) => ({ weight, what, why, key });

function ofArrays(target) {
  const found = [];
  for (const array of target.arrays()) {
    if (array.state !== "online") {
      found.push(finding("bad", `Array ${array.name} is ${array.state}`, array.waits_for ?? "its members are not all there"));
    }
    for (const member of array.base_bdevs_list) {
      if (member.state !== "failed" && !(member.state === "missing" && array.state === "online")) continue;
      found.push(finding("bad", `Array ${array.name}: member ${member.name ?? "of an empty slot"} is ${member.state}`,
        member.reason ?? "the array goes on without it, and its data are in fewer places"));
    }
    if (array.process) found.push(finding("warn", `Array ${array.name}: ${array.process.type} under way`, "until it is over the data are in fewer places"));
    if (array.scrub?.blocks_different > 0 && !array.scrub.repair) {
      found.push(finding("bad", `Array ${array.name}: members differ`, `the scrub found ${plural(array.scrub.blocks_different, "block")} that differ`));
    }
  }
  return found;
}

function ofPaths(target) {
  const found = [];
  for (const { name, ctrlrs } of target.answer("bdev_nvme_get_controllers") ?? []) {
    for (const path of ctrlrs) {
      if (path.state === "enabled") continue;
      found.push(finding("bad", `Path ${name} by ${path.trid.traddr}:${path.trid.trsvcid} is ${path.state}`, path.last_error || "no connection"));
    }
  }
  return found;
}

function ofState(target) {
  const found = [];
  const state = target.answer("framework_get_state");
  if (state?.enabled && state.fault) found.push(finding("bad", "Configuration changes cannot be kept", String(state.fault)));
  for (const entry of target.answer("framework_get_pending") ?? []) {
    found.push(finding("warn", `Waiting: ${entry.method} ${entry.params?.name ?? entry.params?.nqn ?? ""}`.trim(), entry.message));
  }
  return found;
}

function ofReactors(target) {
  const found = [];
  for (const reactor of target.reactors) {
    const before = target.previous.get("framework_get_reactors");
    const earlier = before && [...before.reactors, before.control].find((one) => one.name === reactor.name);
    if (earlier && reactor.stalls > earlier.stalls) found.push(finding("warn", `${reactor.name} was held up`, reactor.last_stall));
  }
  for (const pool of target.answer("iobuf_get_stats") ?? []) {
    if (pool.waiting > 0) found.push(finding("warn", `${pool.module}: ${plural(pool.waiting, "command")} wait for a data buffer`, "more is asked of it than fits its buffers"));
  }
  return found;
}

function ofDevices(target) {
  return [...target.errorCounts].map(([name, errors]) =>
    finding("warn", `${name}: ${plural(errors, "I/O error")}`, "since this page looks; the log names each", `errors ${name}`));
}

function ofRestart(target) {
  if (!target.restartSeen) return [];
  const age = (Date.now() - target.restartSeen) / 1000;
  return age < 120 ? [finding("warn", "The target has restarted", `${duration(age)} ago; all counters began anew`, "restart")] : [];
}

/** [{weight, what, why, key}], bad ones first. */
export function findings(target) {
  const all = [ofArrays, ofPaths, ofState, ofReactors, ofDevices, ofRestart].flatMap((part) => part(target));
  return all.sort((one, other) => (one.weight === other.weight ? 0 : one.weight === "bad" ? -1 : 1));
}
