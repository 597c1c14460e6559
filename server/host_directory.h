// Hosts that have controllers now, and where they come from: what the host discovery log page shows.
// Owner: written on app_thread (ControllerTable), read on any thread; a mutex off every I/O path. Left out: hosts that registered by command
// (Discovery Information Management, which only central discovery controllers have to take).
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "transport/command_sink.h"

namespace catnap::server {

class HostDirectory {
 public:
  struct Host {
    std::string hostnqn;
    std::string adrfam;
    std::string traddr;  // without port: each queue has another
    auto operator<=>(const Host&) const = default;
  };
  struct View {
    std::uint64_t generation = 0;  // goes up with every change of what any host may see
    std::vector<Host> hosts;       // sorted, each once
  };

  // A controller of `subnqn` came, or went. Paired. True: for the first, or last, one of that host the log changed.
  bool add(const std::string& subnqn, const std::string& hostnqn, const transport::CommandQueue::Address& peer);
  bool remove(const std::string& subnqn, const std::string& hostnqn, const transport::CommandQueue::Address& peer);

  // Subsystems that have controllers.
  std::vector<std::string> subsystems() const;

  // A host sees itself, and those with a controller of a subsystem that `may_enter` says it may use itself: nobody learns of strangers.
  View seen_by(const std::string& hostnqn, const std::function<bool(const std::string& subnqn)>& may_enter) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::map<Host, std::uint32_t>> by_subsystem_;  // controllers of each host
  std::uint64_t generation_ = 0;
};

}  // namespace catnap::server
