// What hosts can see of a configuration in the discovery log: the records a host is shown, and whether a change is one for it.
// Owner: none (pure functions). Left out: the log page's bytes (discovery_log.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/snapshot.h"
#include "transport/command_sink.h"
#include "transport/nvme/log_page.h"

namespace catnap::server {

// One entry of the discovery log, before it becomes bytes.
struct DiscoveryRecord {
  nvme::DiscoverySubtype subtype = nvme::DiscoverySubtype::nvm;
  ListenAddress address;  // as the host may use it: no wildcard, no interface of this machine
  std::string subnqn;
  std::string admin_label;
  std::uint16_t port_id = 0;
  std::uint16_t eflags = 0;
  ChannelSecurity security = ChannelSecurity::cleartext;
  bool operator==(const DiscoveryRecord&) const = default;
};

// What the host reads that came through `local`: this discovery subsystem first, its other listeners, the subsystems that allow the host, referrals
// (Base 2.0, section 5.16.1.23). `port_local`: only the NVM subsystems at that very address (Base 2.1, section 5.1.12.3.1, PLEO).
std::vector<DiscoveryRecord> discovery_records(const TargetSnapshot& target, const std::string& host_nqn,
                                               const transport::CommandQueue::Address& local, bool port_local = false);

// True when at least one host, connected through some listener, would read other entries from `next` than from `old`
// (NVMe-oF 1.1a, section 5.3: GENCTR changes with the log page's contents).
bool discovery_view_differs(const TargetSnapshot& old, const TargetSnapshot& next);
// True when this host would: it is told by event (Base 2.0, section 5.2.1, Discovery Log Page Change).
bool discovery_view_differs(const TargetSnapshot& old, const TargetSnapshot& next, const std::string& host_nqn,
                            const transport::CommandQueue::Address& local);

// Whether a host may learn in the host discovery log who uses that subsystem: when it may use it itself.
bool knows_hosts_of(const TargetSnapshot& target, const std::string& subnqn, const std::string& host_nqn);

}  // namespace catnap::server
