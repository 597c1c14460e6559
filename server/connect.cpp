// Checks of Connect (Base 2.0 section 6.3). See connect.h.
// Owner: none (pure functions). Left out: what needs the controller table.
#include "server/connect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "server/names.h"

namespace catnap::server {

namespace {

// Discovery needs no listener of its own: it is reached wherever any subsystem listens (Linux and SPDK serve it so).
const SubsystemSnapshot::ListenerEntry* any_listener(const TargetSnapshot& target, const transport::CommandQueue::Address& local) {
  for (const auto& [nqn, subsystem] : target.subsystems) {
    const auto* listener = subsystem->listener_for(local.traddr, local.trsvcid);
    if (listener != nullptr) return listener;
  }
  return nullptr;
}

// An NQN field: NUL-terminated within its 256 bytes, 1 to 223 bytes of UTF-8 (Base 2.0 section 4.5). Hosts need not keep to the form of the rest, but
// what is no text would spoil logs and answers.
bool read_nqn(const std::array<char, nvme::nqn_field_bytes>& field, std::string& nqn) {
  const void* end = std::memchr(field.data(), 0, field.size());
  if (end == nullptr) return false;
  nqn.assign(field.data(), static_cast<const char*>(end));
  return !nqn.empty() && nqn.size() <= nvme::max_nqn_bytes && is_plain_text(nqn);
}

}  // namespace

ConnectFailure bad_connect_command(std::size_t offset_bytes, std::string reason) {
  const nvme::ConnectInvalidParameters where{static_cast<std::uint16_t>(offset_bytes), false};
  return {nvme::Status(nvme::FabricsStatus::connect_invalid_parameters).with_dnr(), where.dw0(), std::move(reason)};
}

ConnectFailure bad_connect_data(std::size_t offset_bytes, std::string reason) {
  const nvme::ConnectInvalidParameters where{static_cast<std::uint16_t>(offset_bytes), true};
  return {nvme::Status(nvme::FabricsStatus::connect_invalid_parameters).with_dnr(), where.dw0(), std::move(reason)};
}

std::expected<ConnectRequest, ConnectFailure> parse_connect(const nvme::ConnectCommand& command, const nvme::ConnectData& data,
                                                            const transport::TransportLimits& limits) {
  if (command.recfmt != 0) {
    return std::unexpected(ConnectFailure(nvme::Status(nvme::FabricsStatus::incompatible_format).with_dnr(), 0,
                                          fmt::format("record format {} is not supported", std::uint16_t{command.recfmt})));
  }
  ConnectRequest request;
  request.qid = command.qid;
  request.kato_ms = command.kato;
  request.cntlid = data.cntlid;
  request.disable_sq_flow_control = (command.cattr & nvme::cattr_disable_sq_flow_control) != 0;
  request.host.hostid = data.hostid;
  if (!read_nqn(data.subnqn, request.host.subnqn)) {
    return std::unexpected(bad_connect_data(offsetof(nvme::ConnectData, subnqn), "SUBNQN is empty, too long, not terminated or not UTF-8 text"));
  }
  if (!read_nqn(data.hostnqn, request.host.hostnqn)) {
    return std::unexpected(bad_connect_data(offsetof(nvme::ConnectData, hostnqn), "HOSTNQN is empty, too long, not terminated or not UTF-8 text"));
  }
  // SQSIZE is 0's based; a queue of one entry could hold no command.
  const std::uint32_t sqsize = command.sqsize;
  const std::uint32_t most = request.qid == 0 ? limits.max_aq_depth : limits.max_queue_depth;
  if (sqsize == 0 || sqsize >= most) {
    return std::unexpected(
        bad_connect_command(offsetof(nvme::ConnectCommand, sqsize), fmt::format("SQSIZE {} is not within 1..{}", sqsize, most - 1)));
  }
  request.entries = static_cast<std::uint16_t>(sqsize + 1);
  // Dynamic controller model: the target chooses.
  if (request.qid == 0 && request.cntlid != nvme::cntlid_dynamic) {
    return std::unexpected(
        bad_connect_data(offsetof(nvme::ConnectData, cntlid), fmt::format("CNTLID {:#x} on an admin queue, FFFFh is required", request.cntlid)));
  }
  return request;
}

std::expected<const SubsystemSnapshot*, ConnectFailure> admit(const TargetSnapshot* target, const HostIdentity& host,
                                                              const transport::CommandQueue::Address& local) {
  const SubsystemSnapshot* subsystem = target == nullptr ? nullptr : target->find(host.subnqn);
  if (subsystem == nullptr) {
    return std::unexpected(bad_connect_data(offsetof(nvme::ConnectData, subnqn), fmt::format("there is no subsystem {}", host.subnqn)));
  }
  if (!subsystem->allows_host(host.hostnqn)) {
    return std::unexpected(ConnectFailure(nvme::Status(nvme::FabricsStatus::connect_invalid_host).with_dnr(), 0,
                                          fmt::format("host {} is not allowed in subsystem {}", host.hostnqn, host.subnqn)));
  }
  const bool listens =
      subsystem->discovery ? any_listener(*target, local) != nullptr : subsystem->listener_for(local.traddr, local.trsvcid) != nullptr;
  if (!listens) {
    return std::unexpected(bad_connect_data(offsetof(nvme::ConnectData, subnqn),
                                            fmt::format("subsystem {} does not listen on {} port {}", host.subnqn, local.traddr, local.trsvcid)));
  }
  return subsystem;
}

std::expected<void, ConnectFailure> check_channel(const TargetSnapshot& target, const SubsystemSnapshot& subsystem, const HostIdentity& host,
                                                  const transport::CommandQueue::Address& local, const transport::SecureChannel* channel,
                                                  std::uint16_t qid) {
  const auto refused = [](std::string reason) {
    return std::unexpected(ConnectFailure(nvme::Status(nvme::FabricsStatus::connect_invalid_host).with_dnr(), 0, std::move(reason)));
  };
  const auto* listener = subsystem.discovery ? any_listener(target, local) : subsystem.listener_for(local.traddr, local.trsvcid);
  const ChannelSecurity security = listener == nullptr ? ChannelSecurity::cleartext : listener->security();
  const bool wanted = security == ChannelSecurity::tls;
  if (security != ChannelSecurity::either && wanted != (channel != nullptr)) {
    return refused(fmt::format("the connection of host {} is {} by TLS, and the listener was added with secure_channel {}", host.hostnqn,
                               wanted ? "not secured" : "secured", wanted));
  }
  if (channel == nullptr) {
    if (concatenation_at(target, subsystem, local) != Concatenation::required) return {};
    if (qid != 0) return refused(fmt::format("an I/O queue of host {} is not secured, and the listener requires secure concatenation", host.hostnqn));
    const HostKeys* keys = subsystem.keys_of(host.hostnqn);
    if (keys == nullptr || keys->dhchap_key == nullptr)
      return refused(fmt::format("host {} has no dhchap_key, and the listener requires secure concatenation", host.hostnqn));
    return {};
  }
  if (channel->hostnqn != host.hostnqn) {
    return refused(fmt::format("the TLS key is that of host {}, which may not connect as {}", channel->hostnqn, host.hostnqn));
  }
  if (target.find(channel->subnqn) != &subsystem) {
    return refused(fmt::format("the TLS key of host {} is for subsystem {}, not for {}", host.hostnqn, channel->subnqn, host.subnqn));
  }
  return {};
}

Concatenation concatenation_at(const TargetSnapshot& target, const SubsystemSnapshot& subsystem, const transport::CommandQueue::Address& local) {
  const auto* listener = subsystem.discovery ? any_listener(target, local) : subsystem.listener_for(local.traddr, local.trsvcid);
  if (listener == nullptr || listener->concatenation == Concatenation::none) return Concatenation::none;
  return subsystem.discovery ? Concatenation::allowed : listener->concatenation;
}

}  // namespace catnap::server
