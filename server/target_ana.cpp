// ANA of the target's configuration: states of listeners, groups of namespaces, change counts, and the end of transitions that take too long.
// See target.h, ana.h.
// Owner: app_thread. Left out: what hosts are told (controller_table.cpp).
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "server/ana.h"
#include "server/draft.h"
#include "server/happenings.h"
#include "server/names.h"
#include "server/target.h"

namespace catnap::server {

namespace {

// A transition of the listener's default state; groups begin at 1.
constexpr std::uint32_t all_groups = 0;

using Listener = SubsystemSnapshot::ListenerEntry;

// Sets the state of one group, or of all; false: it was so.
bool set_state(Listener& listener, std::uint32_t group, AnaState state) {
  if (group != all_groups) {
    if (ana_state_of(&listener, group) == state) return false;
    if (state == listener.ana_default) {
      listener.ana_states.erase(group);
    } else {
      listener.ana_states[group] = state;
    }
    return true;
  }
  if (listener.ana_default == state && listener.ana_states.empty()) return false;
  listener.ana_default = state;
  listener.ana_states.clear();
  return true;
}

void tell_of_state(const std::string& nqn, const ListenAddress& address, std::uint32_t group, AnaState state) {
  Happening happening(ana_state_changed, nqn);
  happening.details.emplace_back("listener", address_text(address));
  if (group != all_groups) happening.details.emplace_back("group", fmt::to_string(group));
  happening.details.emplace_back("state", ana_state_name(state));
  Happenings::instance().tell(std::move(happening));
}

}  // namespace

Target::Change Target::set_ana_state(const std::string& nqn, const ListenAddress& given, AnaState state, std::optional<std::uint32_t> group) {
  const auto found = find_editable(nqn);
  if (!found) return std::unexpected(found.error());
  const SubsystemSnapshot& subsystem = **found;
  if (!subsystem.ana_reporting) {
    return fail(EINVAL, fmt::format("Invalid parameters: subsystem '{}' was made without ana_reporting, so it has no ANA states", nqn));
  }
  const auto address = normalise_listen_address(given);
  if (!address) return std::unexpected(address.error());
  if (group && (*group == 0 || *group > subsystem.max_namespaces)) {
    return fail(EINVAL,
                fmt::format("anagrpid {} is not within 1 and the max_namespaces {} of subsystem '{}'", *group, subsystem.max_namespaces, nqn));
  }
  Draft draft(*this);
  auto& listeners = draft.edit(nqn).listeners;
  const auto listener = std::find_if(listeners.begin(), listeners.end(), [&](const Listener& each) { return each.address == *address; });
  if (listener == listeners.end()) return fail(ENODEV, fmt::format("subsystem '{}' has no listener on {}", nqn, address_text(*address)));
  if (!set_state(*listener, group.value_or(all_groups), state)) return current().generation;
  tell_of_state(nqn, listener->address, group.value_or(all_groups), state);
  return publish(std::move(draft));
}

Target::Change Target::set_namespace_ana_group(const std::string& nqn, std::uint32_t nsid, std::uint32_t group) {
  const auto found = find_editable(nqn);
  if (!found) return std::unexpected(found.error());
  const SubsystemSnapshot& subsystem = **found;
  if (!subsystem.ana_reporting) {
    return fail(EINVAL, fmt::format("Invalid parameters: subsystem '{}' was made without ana_reporting, so it has no ANA groups", nqn));
  }
  const auto present = subsystem.namespaces.find(nsid);
  if (present == subsystem.namespaces.end()) {
    return fail(ENODEV, fmt::format("No such device: subsystem '{}' has no namespace with nsid {}", nqn, nsid));
  }
  if (group == 0 || group > subsystem.max_namespaces) {
    return fail(EINVAL, fmt::format("anagrpid {} is not within 1 and the max_namespaces {} of subsystem '{}'", group, subsystem.max_namespaces, nqn));
  }
  if (ana_group_of(*present->second) == group) return current().generation;
  // Its other attributes stay as they are: hosts hear of the ANA change alone (Base 2.0 section 5.2).
  auto moved = std::make_shared<NamespaceConfig>(*present->second);
  moved->anagrpid = group;
  Draft draft(*this);
  draft.edit(nqn).namespaces[nsid] = std::move(moved);
  return publish(std::move(draft));
}

void Target::count_ana_changes_in(TargetSnapshot& next) const {
  for (auto& [nqn, subsystem] : next.subsystems) {
    const SubsystemSnapshot* old = current().find(nqn);
    if (old == nullptr || old == subsystem.get() || !subsystem->ana_reporting) continue;
    auto counted = std::make_shared<SubsystemSnapshot>(*subsystem);
    count_ana_changes(old, *counted);
    subsystem = std::move(counted);
  }
}

// --- transitions ---

// After each publication: what is in the state `change` now, and since when.
void Target::watch_ana_transitions() {
  std::map<AnaTransition, std::uint64_t> now;
  const std::uint64_t deadline_ns = app_thread_.now_ns() + std::uint64_t{ana_transition_limit_s} * ns_per_s;
  for (const auto& [nqn, subsystem] : current().subsystems) {
    if (!subsystem->ana_reporting) continue;
    for (const Listener& listener : subsystem->listeners) {
      const auto note = [&](std::uint32_t group) {
        AnaTransition transition{nqn, listener.address.traddr, listener.address.trsvcid, group};
        const auto known = ana_transitions_.find(transition);
        now.emplace(std::move(transition), known == ana_transitions_.end() ? deadline_ns : known->second);
      };
      if (listener.ana_default == AnaState::change) note(all_groups);
      for (const auto& [group, state] : listener.ana_states) {
        if (state == AnaState::change) note(group);
      }
    }
  }
  ana_transitions_ = std::move(now);
  ana_timer_.disarm();
  if (ana_transitions_.empty()) return;
  std::uint64_t first_ns = UINT64_MAX;
  for (const auto& [transition, when_ns] : ana_transitions_) first_ns = std::min(first_ns, when_ns);
  const std::uint64_t now_ns = app_thread_.now_ns();
  app_thread_.arm_in_us(ana_timer_, first_ns <= now_ns ? 1 : (first_ns - now_ns + 999) / 1000);
}

// Hosts were promised (ANATT) that `change` does not last longer. Inaccessible is what neither loses data nor opens a path that nobody meant to open.
void Target::end_ana_transitions() {
  std::vector<AnaTransition> over;
  for (const auto& [transition, when_ns] : ana_transitions_) {
    if (when_ns <= app_thread_.now_ns()) over.push_back(transition);
  }
  if (over.empty()) return watch_ana_transitions();
  Draft draft(*this);
  for (const AnaTransition& each : over) {
    for (Listener& listener : draft.edit(each.nqn).listeners) {
      if (listener.address.traddr != each.traddr || listener.address.trsvcid != each.trsvcid) continue;
      log_warning("ANA: {} of subsystem '{}' on {} was in the state change for {} s: it is inaccessible now",
                  each.group == all_groups ? std::string("every group") : fmt::format("group {}", each.group), each.nqn,
                  address_text(listener.address), ana_transition_limit_s);
      tell_of_state(each.nqn, listener.address, each.group, AnaState::inaccessible);
      if (each.group == all_groups) {
        listener.ana_default = AnaState::inaccessible;
      } else {
        static_cast<void>(set_state(listener, each.group, AnaState::inaccessible));
      }
    }
  }
  publish(std::move(draft));
}

}  // namespace catnap::server
