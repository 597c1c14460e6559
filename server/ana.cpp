// Asymmetric namespace access. See ana.h.
// Owner: none (pure functions). Left out: publishing.
#include "server/ana.h"

#include <array>
#include <cstring>
#include <map>
#include <type_traits>
#include <utility>

#include "transport/nvme/log_page.h"
#include "transport/nvme/status.h"

namespace catnap::server {

namespace {

using Listener = SubsystemSnapshot::ListenerEntry;

constexpr std::array<std::pair<AnaState, const char*>, 5> state_names = {{{AnaState::optimized, "optimized"},
                                                                          {AnaState::non_optimized, "non_optimized"},
                                                                          {AnaState::inaccessible, "inaccessible"},
                                                                          {AnaState::persistent_loss, "persistent_loss"},
                                                                          {AnaState::change, "change"}}};

// Namespaces by group, ascending: what the descriptors of the log page are made of.
using Groups = std::map<std::uint32_t, std::vector<std::uint32_t>>;

Groups all_groups(const SubsystemSnapshot& subsystem) {
  Groups groups;
  for (const auto& [nsid, config] : subsystem.namespaces) groups[ana_group_of(*config)].push_back(nsid);
  return groups;
}

Groups visible_groups(const SubsystemSnapshot& subsystem, const std::string& hostnqn) {
  Groups groups;
  for (const auto& [nsid, config] : subsystem.namespaces) {
    if (subsystem.visible_namespace(nsid, hostnqn) != nullptr) groups[ana_group_of(*config)].push_back(nsid);
  }
  return groups;
}

const Listener* find_listener(const SubsystemSnapshot& subsystem, const ListenAddress& address) {
  for (const Listener& each : subsystem.listeners) {
    if (each.address == address) return &each;
  }
  return nullptr;
}

// Which hosts see which namespace of a group is part of what their pages say.
bool same_visibility(const SubsystemSnapshot& old, const SubsystemSnapshot& next, std::uint32_t nsid) {
  const auto& before = old.namespaces.at(nsid);
  const auto& after = next.namespaces.at(nsid);
  return before == after || (before->no_auto_visible == after->no_auto_visible && before->visible_hosts == after->visible_hosts);
}

// Groups whose namespaces differ, wherever they are read.
std::vector<std::uint32_t> regrouped(const SubsystemSnapshot& old, const SubsystemSnapshot& next, const Groups& before, const Groups& after) {
  std::vector<std::uint32_t> changed;
  for (const auto& [group, nsids] : after) {
    const auto found = before.find(group);
    bool same = found != before.end() && found->second == nsids;
    for (std::size_t i = 0; same && i < nsids.size(); ++i) same = same_visibility(old, next, nsids[i]);
    if (!same) changed.push_back(group);
  }
  for (const auto& [group, nsids] : before) {
    if (!after.contains(group)) changed.push_back(group);
  }
  return changed;
}

template <typename Page>
void append(std::vector<std::byte>& bytes, const Page& page) {
  static_assert(std::is_trivially_copyable_v<Page>);
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof(Page));
  std::memcpy(bytes.data() + at, &page, sizeof(Page));
}

}  // namespace

const char* ana_state_name(AnaState state) {
  for (const auto& [each, name] : state_names) {
    if (each == state) return name;
  }
  return "unknown";
}

std::optional<AnaState> ana_state_named(std::string_view name) {
  for (const auto& [state, each] : state_names) {
    if (name == each) return state;
  }
  return std::nullopt;
}

std::uint32_t ana_group_of(const NamespaceConfig& config) { return config.anagrpid != 0 ? config.anagrpid : config.nsid; }

AnaState ana_state_of(const Listener* listener, std::uint32_t group) {
  if (listener == nullptr) return AnaState::inaccessible;
  const auto found = listener->ana_states.find(group);
  return found == listener->ana_states.end() ? listener->ana_default : found->second;
}

void count_ana_changes(const SubsystemSnapshot* old, SubsystemSnapshot& next) {
  if (old == nullptr) return;
  const Groups before = all_groups(*old);
  const Groups after = all_groups(next);
  const std::vector<std::uint32_t> moved = regrouped(*old, next, before, after);
  for (Listener& listener : next.listeners) {
    const Listener* was = find_listener(*old, listener.address);
    if (was == nullptr) continue;
    std::vector<std::uint32_t> changed = moved;
    for (const auto& [group, nsids] : after) {
      if (ana_state_of(was, group) != ana_state_of(&listener, group)) changed.push_back(group);
    }
    if (changed.empty()) continue;
    ++listener.ana_change_count;
    for (const std::uint32_t group : changed) listener.ana_group_changes[group] = listener.ana_change_count;
  }
}

bool ana_differs_for_host(const SubsystemSnapshot& old, const SubsystemSnapshot& next, const transport::CommandQueue::Address& local,
                          const std::string& hostnqn) {
  const Listener* before = old.listener_for(local.traddr, local.trsvcid);
  const Listener* after = next.listener_for(local.traddr, local.trsvcid);
  if (before == nullptr || after == nullptr) return false;  // its connection ends, or just began
  for (const auto& [nsid, config] : next.namespaces) {
    const NamespaceConfig* was = old.visible_namespace(nsid, hostnqn);
    if (was == nullptr || next.visible_namespace(nsid, hostnqn) == nullptr) continue;
    const std::uint32_t group = ana_group_of(*config);
    if (ana_group_of(*was) != group || ana_state_of(before, group) != ana_state_of(after, group)) return true;
  }
  return false;
}

std::vector<std::byte> build_ana_log(const SubsystemSnapshot& subsystem, const Listener* listener, const std::string& hostnqn, bool groups_only) {
  const Groups groups = visible_groups(subsystem, hostnqn);
  nvme::AnaHeader header;
  header.chgcnt = listener == nullptr ? first_ana_change_count : listener->ana_change_count;
  header.ngrps = static_cast<std::uint16_t>(groups.size());
  std::vector<std::byte> bytes;
  append(bytes, header);
  for (const auto& [group, nsids] : groups) {
    nvme::AnaGroup descriptor;
    descriptor.grpid = group;
    descriptor.nnsids = groups_only ? 0 : static_cast<std::uint32_t>(nsids.size());
    descriptor.chgcnt = first_ana_change_count;
    if (listener != nullptr) {
      const auto counted = listener->ana_group_changes.find(group);
      if (counted != listener->ana_group_changes.end()) descriptor.chgcnt = counted->second;
    }
    descriptor.state = static_cast<std::uint8_t>(ana_state_of(listener, group));
    append(bytes, descriptor);
    if (groups_only) continue;
    for (const std::uint32_t nsid : nsids) append(bytes, le32(nsid));
  }
  return bytes;
}

CommandError ana_refusal(AnaState state) {
  switch (state) {
    case AnaState::optimized:
    case AnaState::non_optimized:
      return {};
    case AnaState::inaccessible:
      return nvme::Status(nvme::PathStatus::ana_inaccessible);
    case AnaState::persistent_loss:
      return nvme::Status(nvme::PathStatus::ana_persistent_loss);
    case AnaState::change:
      return nvme::Status(nvme::PathStatus::ana_transition);
  }
  return {};
}

}  // namespace catnap::server
