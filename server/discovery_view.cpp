// What hosts can see in the discovery log. See discovery_view.h.
// Owner: none (pure function).
#include "server/discovery_view.h"

#include <algorithm>
#include <tuple>

namespace catnap::server {
namespace {

// One log entry, and who may read it; hosts empty and allow_any_host: everybody.
struct VisibleEntry {
  std::string nqn;
  std::string traddr, trsvcid;
  std::uint16_t port_id = 0;
  bool any_host = false;
  std::vector<std::string> hosts;
  bool operator==(const VisibleEntry&) const = default;
};

std::vector<VisibleEntry> visible_entries(const TargetSnapshot& snapshot) {
  std::vector<VisibleEntry> entries;
  for (const auto& [nqn, subsystem] : snapshot.subsystems) {
    if (!subsystem->allow_any_host && subsystem->hosts.empty()) continue;
    for (const auto& listener : subsystem->listeners) {
      VisibleEntry entry;
      entry.nqn = nqn;
      entry.traddr = listener.address.traddr;
      entry.trsvcid = listener.address.trsvcid;
      entry.port_id = listener.port_id;
      entry.any_host = subsystem->allow_any_host;
      if (!entry.any_host) entry.hosts = subsystem->hosts;
      entries.push_back(std::move(entry));
    }
  }
  // The order of listeners is not a change of contents.
  std::sort(entries.begin(), entries.end(),
            [](const VisibleEntry& a, const VisibleEntry& b) { return std::tie(a.nqn, a.traddr, a.trsvcid) < std::tie(b.nqn, b.traddr, b.trsvcid); });
  return entries;
}

}  // namespace

bool discovery_view_differs(const TargetSnapshot& old, const TargetSnapshot& next) { return visible_entries(old) != visible_entries(next); }

}  // namespace catnap::server
