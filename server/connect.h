// The checks of Connect that need no other thread: the command's fields, its data, and whether the configuration lets this host in here.
// Owner: none (pure functions). Left out: controller ids and queue ids in use (controller_table.h), authentication.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

#include "server/controller_table.h"
#include "server/host_identity.h"
#include "server/snapshot.h"
#include "transport/command_sink.h"
#include "transport/nvme/fabrics.h"

namespace catnap::server {

// DW0 of Connect Invalid Parameters that points to a field of the command, or of the data.
ConnectFailure bad_connect_command(std::size_t offset_bytes, std::string reason);
ConnectFailure bad_connect_data(std::size_t offset_bytes, std::string reason);

// A Connect with well-formed fields.
struct ConnectRequest {
  HostIdentity host;
  std::uint16_t qid = 0;
  std::uint16_t entries = 0;  // SQSIZE + 1
  std::uint16_t cntlid = 0;
  std::uint32_t kato_ms = 0;
  bool disable_sq_flow_control = false;
};
std::expected<ConnectRequest, ConnectFailure> parse_connect(const nvme::ConnectCommand& command, const nvme::ConnectData& data,
                                                            const transport::TransportLimits& limits);

// Does the configuration let this host connect to this subsystem at this local address? Asked again whenever the configuration changes.
std::expected<const SubsystemSnapshot*, ConnectFailure> admit(const TargetSnapshot* target, const HostIdentity& host,
                                                              const transport::CommandQueue::Address& local);

// A queue that `admit` lets in at `local`: is it secured as its listener wants it, by a key of this very host for this subsystem?
std::expected<void, ConnectFailure> check_channel(const TargetSnapshot& target, const SubsystemSnapshot& subsystem, const HostIdentity& host,
                                                  const transport::CommandQueue::Address& local, const transport::SecureChannel* channel,
                                                  std::uint16_t qid = 0);
// What its listener there says. Discovery is never required to be secure where it may be cleartext: hosts learn from it what to do.
Concatenation concatenation_at(const TargetSnapshot& target, const SubsystemSnapshot& subsystem, const transport::CommandQueue::Address& local);

}  // namespace catnap::server
