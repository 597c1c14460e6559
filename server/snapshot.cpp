// Questions that a published configuration answers. See snapshot.h.
// Owner: none (const functions of immutable values, any OS thread). Left out: building snapshots (target.cpp).
#include "server/snapshot.h"

#include <algorithm>

namespace catnap::server {

bool Referral::shown_to(const std::string& host_nqn) const { return allow_any_host || std::binary_search(hosts.begin(), hosts.end(), host_nqn); }

bool SubsystemSnapshot::allows_host(const std::string& host_nqn) const {
  return allow_any_host || std::binary_search(hosts.begin(), hosts.end(), host_nqn);
}

const SubsystemSnapshot::ListenerEntry* SubsystemSnapshot::listener_for(const std::string& traddr, const std::string& trsvcid) const {
  const bool is_ipv6 = traddr.find(':') != std::string::npos;
  const ListenerEntry* wildcard = nullptr;
  for (const auto& entry : listeners) {
    if (entry.address.trsvcid != trsvcid) continue;
    if (entry.address.traddr == traddr) return &entry;
    if (entry.address.traddr == (is_ipv6 ? "::" : "0.0.0.0")) wildcard = &entry;
  }
  return wildcard;
}

const NamespaceConfig* SubsystemSnapshot::visible_namespace(std::uint32_t nsid, const std::string& host_nqn) const {
  const auto found = namespaces.find(nsid);
  if (found == namespaces.end()) return nullptr;
  const NamespaceConfig& config = *found->second;
  const bool visible = !config.no_auto_visible || std::binary_search(config.visible_hosts.begin(), config.visible_hosts.end(), host_nqn);
  return visible ? &config : nullptr;
}

const SubsystemSnapshot* TargetSnapshot::find(std::string_view nqn) const {
  auto found = subsystems.find(nqn);
  if (found != subsystems.end()) return found->second.get();
  found = subsystems.find(discovery_nqn);
  return found != subsystems.end() && !nqn.empty() && found->second->unique_nqn == nqn ? found->second.get() : nullptr;
}

}  // namespace catnap::server
