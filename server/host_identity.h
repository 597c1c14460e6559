// Who is at the other end of a controller's queues, and where they arrive: what Connect told, kept for access checks and RPCs.
// Owner: none (values, immutable once made). Left out: keys (snapshot.h).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "transport/command_sink.h"

namespace catnap::server {

struct AuthShown;

struct HostIdentity {
  std::string subnqn;
  std::string hostnqn;
  std::array<std::uint8_t, 16> hostid{};
};

// A queue pair as the RPCs show it.
struct QueueInfo {
  std::uint16_t cntlid = 0;
  std::uint16_t qid = 0;
  std::string thread_name;
  std::string hostnqn;
  transport::CommandQueue::Address local;
  transport::CommandQueue::Address peer;
  std::optional<transport::SecureChannel> channel;  // none: cleartext
  std::shared_ptr<const AuthShown> authentication;  // server/authentication.h; null only in tests
  bool ending = false;                              // told to end, commands in execution are waited for
};

struct ControllerInfo {
  std::uint16_t cntlid = 0;
  bool discovery = false;
  std::string hostnqn;
  std::array<std::uint8_t, 16> hostid{};
  std::uint32_t io_queues = 0;
};

}  // namespace catnap::server
