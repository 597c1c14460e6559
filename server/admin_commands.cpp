// The admin commands of a controller: one table of small functions, checked in plan(), carried out in execute(). See controller.h.
// Owner: the admin queue's thread. Left out: Connect (fabrics_commands.cpp), Abort (admin_async.cpp), namespace management, firmware, security,
// sanitize, format.
#include <algorithm>
#include <cstring>
#include <span>

#include "reactor/base/check.h"
#include "server/command_tables.h"
#include "server/controller.h"
#include "server/features.h"
#include "server/identify.h"
#include "server/log_pages.h"
#include "server/reservations/reservation_features.h"

namespace catnap::server {

using transport::DataDirection;
using transport::PlanAction;
using transport::Request;

// A table of pointers to private members, hence a friend.
struct AdminCommands {
  struct Entry {
    nvme::AdminOpcode opcode;
    bool on_discovery;
    bool before_ready;  // also while CSTS.RDY is 0
    PlanAction (Controller::*plan)(Request& request);
    void (Controller::*execute)(Request& request);  // null: plan() always ends the command
  };

  static constexpr Entry table[] = {
      {nvme::AdminOpcode::fabrics, true, true, &Controller::plan_fabrics, &Controller::execute_fabrics},
      {nvme::AdminOpcode::identify, true, false, &Controller::plan_identify, &Controller::execute_identify},
      {nvme::AdminOpcode::get_log_page, true, false, &Controller::plan_get_log_page, &Controller::execute_get_log_page},
      {nvme::AdminOpcode::get_features, true, false, &Controller::plan_get_features, &Controller::execute_get_features},
      {nvme::AdminOpcode::set_features, true, false, &Controller::plan_set_features, &Controller::execute_set_features},
      {nvme::AdminOpcode::abort, false, false, &Controller::plan_abort, &Controller::execute_abort},
      {nvme::AdminOpcode::async_event_request, true, false, &Controller::plan_async_event, nullptr},
      {nvme::AdminOpcode::keep_alive, true, false, &Controller::plan_keep_alive, nullptr},
  };

  static const Entry* find(std::uint8_t opcode) {
    for (const Entry& entry : table) {
      if (static_cast<std::uint8_t>(entry.opcode) == opcode) return &entry;
    }
    return nullptr;
  }
};

void fill_admin_effects(nvme::EffectsLog& log, bool discovery) {
  for (const AdminCommands::Entry& entry : AdminCommands::table) {
    if (discovery && !entry.on_discovery) continue;
    log.admin[static_cast<std::size_t>(entry.opcode)] = nvme::effect_supported | effect_scope_controller;
  }
}

// --- the three steps of a sink ---

PlanAction Controller::plan(Request& request) {
  if (!answered_events_.empty() && std::erase(answered_events_, &request) != 0) return PlanAction::complete;  // replanned, cqe is set
  request.cqe = {};
  // A Keep Alive that was read too late does not wake the dead (keep_alive.h); the connection is about to end.
  if (!shared_.keep_alive.heard(group_.thread().now_ns())) return refuse(request, nvme::Status(nvme::GenericStatus::aborted_sq_deletion));
  if (request.sqe.fuse() != nvme::Fuse::normal) return refuse(request, invalid_field(sqe_flags_byte));
  if (request.sqe.psdt() != nvme::Psdt::sgl) return refuse(request, invalid_field(sqe_flags_byte, 6));
  const AdminCommands::Entry* command = AdminCommands::find(request.sqe.opcode);
  if (command == nullptr || (discovery_ && !command->on_discovery)) return refuse(request, refusal(nvme::GenericStatus::invalid_opcode, 0));
  const bool ready = csts_.rdy && cc_.en && csts_.shst == nvme::ShutdownStatus::normal;
  if (!ready && !command->before_ready) return refuse(request, nvme::Status(nvme::GenericStatus::command_sequence_error).with_dnr());
  return (this->*command->plan)(request);
}

void Controller::execute(Request& request) {
  const AdminCommands::Entry* command = AdminCommands::find(request.sqe.opcode);
  CATNAP_CHECK(command != nullptr && command->execute != nullptr);
  (this->*command->execute)(request);
}

void Controller::abandon(Request& request) {
  std::erase(waiting_events_, &request);
  std::erase(answered_events_, &request);
}

// --- answers ---

void Controller::record_error(const Request& request, CommandError error) {
  nvme::ErrorEntry entry;
  entry.sqid = std::uint16_t{0};
  entry.cid = request.sqe.cid;
  entry.status = static_cast<std::uint16_t>(error.status.field() << 1);
  entry.parameter_location = error.location;
  entry.nsid = request.sqe.opcode == static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics) ? 0U : std::uint32_t{request.sqe.nsid};
  entry.trtype = static_cast<std::uint8_t>(nvme::TransportType::tcp);
  shared_.errors.record(entry);
}

PlanAction Controller::refuse(Request& request, CommandError error) {
  if (!error.ok()) {
    error.status.more = true;
    record_error(request, error);
  }
  nvme::set_status(request.cqe, error.status);
  return PlanAction::complete;
}

PlanAction Controller::succeed(Request& request, std::uint32_t dw0) {
  request.cqe.dw0 = dw0;
  nvme::set_status(request.cqe, {});
  return PlanAction::complete;
}

PlanAction Controller::transfer(Request& request, DataDirection direction, std::uint64_t length_bytes) {
  if (length_bytes > group_.limits().max_io_size_bytes) return refuse(request, invalid_field(sqe_cdw10_byte + 2));
  // SGLS bit 18 is set: the SGL may describe more than the data (Base 2.0 section 5.17.2.1, SGLS).
  if (request.sqe.sgl.length < length_bytes) return refuse(request, refusal(nvme::GenericStatus::data_sgl_length_invalid, sqe_sgl_length_byte));
  request.direction = direction;
  request.data_length = static_cast<std::uint32_t>(length_bytes);
  return PlanAction::transfer;
}

void Controller::finish(Request& request, CommandError error) {
  refuse(request, error);
  request.queue->complete(request);
}

// --- Identify ---

PlanAction Controller::plan_identify(Request& request) {
  const auto cns = static_cast<std::uint8_t>(request.sqe.cdw10);
  if (find_identify_page(cns, discovery_) == nullptr) return refuse(request, invalid_field(sqe_cdw10_byte));
  return transfer(request, DataDirection::controller_to_host, nvme::identify_bytes);
}

void Controller::execute_identify(Request& request) {
  const IdentifyPage* page = find_identify_page(static_cast<std::uint8_t>(request.sqe.cdw10), discovery_);
  if (page->build == nullptr) return list_controllers(request);
  const auto snapshot = subsystem();
  const std::span<std::byte> data(request.data, nvme::identify_bytes);
  std::fill(data.begin(), data.end(), std::byte{0});
  finish(request, snapshot == nullptr ? CommandError(nvme::GenericStatus::internal_error) : page->build(*this, *snapshot, request.sqe, data));
}

// --- Get Log Page ---

PlanAction Controller::plan_get_log_page(Request& request) {
  const LogPageRequest wanted = decode_log_page_request(request.sqe);
  CommandError error = check_log_page_request(*this, request.sqe, wanted);
  if (!error.ok()) return refuse(request, error);
  return transfer(request, DataDirection::controller_to_host, wanted.length_bytes);
}

void Controller::execute_get_log_page(Request& request) {
  const LogPageRequest wanted = decode_log_page_request(request.sqe);
  const LogPageEntry* page = find_log_page(wanted.lid, discovery_);
  const auto snapshot = subsystem();
  if (snapshot == nullptr) return finish(request, CommandError(nvme::GenericStatus::internal_error));
  const std::vector<std::byte> bytes = page->build(*this, *snapshot, request.sqe);
  if (wanted.offset_bytes > bytes.size()) return finish(request, invalid_field(sqe_cdw12_byte));
  const std::size_t there = std::min<std::size_t>(bytes.size() - wanted.offset_bytes, request.data_length);
  std::memcpy(request.data, bytes.data() + wanted.offset_bytes, there);
  std::memset(request.data + there, 0, request.data_length - there);
  if (page->clears && !wanted.retain_event) {
    events_.log_page_read(*page->clears);
    if (*page->clears == AsyncEvents::Kind::namespace_attribute) changed_namespaces_.clear();
  }
  finish(request, {});
}

// --- features ---

PlanAction Controller::plan_get_features(Request& request) {
  const auto snapshot = subsystem();
  if (snapshot == nullptr) return refuse(request, CommandError(nvme::GenericStatus::internal_error));
  FeatureAnswer answer;
  std::uint32_t data_bytes = 0;
  CommandError error = get_feature(*this, *snapshot, request.sqe, answer, data_bytes);
  if (!error.ok()) return refuse(request, error);
  return data_bytes == 0 ? succeed(request, answer.dw0) : transfer(request, DataDirection::controller_to_host, data_bytes);
}

void Controller::execute_get_features(Request& request) {
  const std::span<std::byte> data(request.data, request.data_length);
  std::fill(data.begin(), data.end(), std::byte{0});
  feature_data(*this, request.sqe, data);
  finish(request, {});
}

PlanAction Controller::plan_set_features(Request& request) {
  const auto snapshot = subsystem();
  if (snapshot == nullptr) return refuse(request, CommandError(nvme::GenericStatus::internal_error));
  FeatureAnswer answer;
  CommandError error = set_feature(*this, *snapshot, request.sqe, answer);
  if (!error.ok()) return refuse(request, error);
  if (answer.deferred) return PlanAction::execute;
  if (answer.data_bytes != 0) return transfer(request, DataDirection::host_to_controller, answer.data_bytes);
  return succeed(request, answer.dw0);
}

void Controller::execute_set_features(Request& request) {
  if (request.data_length != 0) return finish(request, set_feature_data(*this, request.sqe, std::span(request.data, request.data_length)));
  carry_out_persistence(*this, request.sqe, [this, &request](CommandError error) { finish(request, error); });
}

// --- Asynchronous Event Request, Keep Alive ---

PlanAction Controller::plan_async_event(Request& request) {
  if (waiting_events_.size() >= max_async_event_requests) {
    return refuse(request, CommandError(nvme::Status(nvme::CommandStatus::async_event_limit_exceeded)));
  }
  if (const auto kind = events_.take()) return succeed(request, AsyncEvents::dw0(*kind));
  waiting_events_.push_back(&request);
  return PlanAction::wait;
}

PlanAction Controller::plan_keep_alive(Request& request) {
  return succeed(request);  // plan() has noted the time
}

// --- Fabrics commands on a connected admin queue ---

PlanAction Controller::plan_fabrics(Request& request) {
  constexpr unsigned fctype_byte = 4;
  const auto command = nvme::view_as<nvme::PropertyCommand>(request.sqe);
  const auto property = static_cast<nvme::Property>(std::uint32_t{command.offset});
  switch (static_cast<nvme::FabricsType>(request.sqe.fctype())) {
    case nvme::FabricsType::property_get: {
      const auto value = read_property(property, command.size());
      if (!value) return refuse(request, value.error());
      request.cqe.set_dw0_dw1(*value);
      return PlanAction::complete;
    }
    case nvme::FabricsType::property_set: {
      return refuse(request, write_property(property, command.size(), command.value));
    }
    case nvme::FabricsType::authentication_send:
    case nvme::FabricsType::authentication_receive:
      return authentication() == nullptr ? refuse(request, invalid_field(fctype_byte)) : authentication()->plan_command(request);
    case nvme::FabricsType::connect:
      return refuse(request, nvme::Status(nvme::GenericStatus::command_sequence_error).with_dnr());
    case nvme::FabricsType::disconnect:  // deletes I/O queues only (Base 2.0 section 6.4)
      return refuse(request, nvme::Status(nvme::FabricsStatus::invalid_queue_type).with_dnr());
    default:
      return refuse(request, invalid_field(fctype_byte));
  }
}

// Of all Fabrics commands only these do not end in plan().
void Controller::execute_fabrics(Request& request) { authentication()->execute(request); }

}  // namespace catnap::server
