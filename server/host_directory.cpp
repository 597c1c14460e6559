// Hosts that have controllers now. See host_directory.h.
// Owner: any thread, under the mutex.
#include "server/host_directory.h"

#include <set>

#include "server/names.h"

namespace catnap::server {
namespace {

HostDirectory::Host host_at(const std::string& hostnqn, const transport::CommandQueue::Address& peer) {
  return HostDirectory::Host{hostnqn, peer.adrfam, traddr_without_interface(peer.traddr)};
}

}  // namespace

bool HostDirectory::add(const std::string& subnqn, const std::string& hostnqn, const transport::CommandQueue::Address& peer) {
  const std::lock_guard lock(mutex_);
  if (++by_subsystem_[subnqn][host_at(hostnqn, peer)] > 1) return false;
  ++generation_;
  return true;
}

bool HostDirectory::remove(const std::string& subnqn, const std::string& hostnqn, const transport::CommandQueue::Address& peer) {
  const std::lock_guard lock(mutex_);
  const auto subsystem = by_subsystem_.find(subnqn);
  if (subsystem == by_subsystem_.end()) return false;
  const auto host = subsystem->second.find(host_at(hostnqn, peer));
  if (host == subsystem->second.end() || --host->second > 0) return false;
  ++generation_;
  subsystem->second.erase(host);
  if (subsystem->second.empty()) by_subsystem_.erase(subsystem);
  return true;
}

std::vector<std::string> HostDirectory::subsystems() const {
  std::vector<std::string> names;
  const std::lock_guard lock(mutex_);
  for (const auto& [subnqn, hosts] : by_subsystem_) names.push_back(subnqn);
  return names;
}

HostDirectory::View HostDirectory::seen_by(const std::string& hostnqn, const std::function<bool(const std::string& subnqn)>& may_enter) const {
  std::set<Host> seen;
  View view;
  const std::lock_guard lock(mutex_);
  for (const auto& [subnqn, hosts] : by_subsystem_) {
    const bool all = may_enter(subnqn);
    for (const auto& [host, controllers] : hosts) {
      if (all || host.hostnqn == hostnqn) seen.insert(host);
    }
  }
  view.generation = generation_;
  view.hosts.assign(seen.begin(), seen.end());
  return view;
}

}  // namespace catnap::server
