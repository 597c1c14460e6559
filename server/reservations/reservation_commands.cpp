// Reservation Register, Acquire, Release and Report on an I/O queue (NVMe Base 2.0, sections 7.2 to 7.5), and what reservations do to queues: access
// that is taken away, commands that are aborted. Members of IoQueue and ServerGroup (server/io_queue.h, server/server_group.h).
// Owner: the queue's poll group thread. Left out: the rules (rules.h); the state (namespace_reservations.h, on app_thread).
#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "reactor/base/check.h"
#include "server/controller.h"
#include "server/io_queue.h"
#include "server/reservations/namespace_reservations.h"

namespace catnap::server {

using transport::DataDirection;
using transport::PlanAction;
using transport::Request;

namespace {

nvme::IoOpcode opcode_of(const nvme::SubmissionEntry& sqe) { return static_cast<nvme::IoOpcode>(sqe.opcode); }

std::uint64_t data_bytes_of(nvme::IoOpcode opcode) {
  return opcode == nvme::IoOpcode::reservation_release ? sizeof(nvme::ReleaseData) : sizeof(nvme::RegisterData);
}

// Values of RREGA, RACQA and RRELA there are.
std::uint32_t last_action_of(nvme::IoOpcode opcode) { return opcode == nvme::IoOpcode::reservation_release ? 1 : 2; }

// What can be refused before the keys are there.
CommandError check_fields(const nvme::SubmissionEntry& sqe, const HostId& host) {
  // Without an identity of its own a host cannot be told from others (Base 2.0 section 5.27.1.25).
  if (host == HostId{}) return CommandError(nvme::Status(nvme::GenericStatus::operation_denied).with_dnr());
  if ((sqe.cdw10 & nvme::reservation_action_mask) > last_action_of(opcode_of(sqe))) return invalid_field(sqe_cdw10_byte);
  const bool ignores_key = (sqe.cdw10 & nvme::reservation_iekey) != 0;
  if (ignores_key && opcode_of(sqe) != nvme::IoOpcode::reservation_register) return invalid_field(sqe_cdw10_byte, 3);
  return {};
}

template <typename Data>
Data data_of_request(const Request& request) {
  Data data;
  std::memcpy(&data, request.data, sizeof(data));
  return data;
}

std::uint32_t action_of(const Request& request) { return request.sqe.cdw10 & nvme::reservation_action_mask; }
nvme::ReservationType type_of(const Request& request) {
  return static_cast<nvme::ReservationType>(request.sqe.cdw10 >> nvme::reservation_type_shift & 0xFF);
}

NamespaceReservations::Apply decode_register(const Request& request, const HostId& host, bool can_persist) {
  const auto data = data_of_request<nvme::RegisterData>(request);
  RegisterRequest decoded;
  decoded.action = static_cast<nvme::RegisterAction>(action_of(request));
  decoded.ignore_key = (request.sqe.cdw10 & nvme::reservation_iekey) != 0;
  decoded.persist = static_cast<nvme::ChangePersist>(request.sqe.cdw10 >> nvme::reservation_cptpl_shift);
  decoded.current_key = data.crkey;
  decoded.new_key = data.nrkey;
  return [host, decoded, can_persist](ReservationState& state) { return apply(state, host, decoded, can_persist); };
}

NamespaceReservations::Apply decode_acquire(const Request& request, const HostId& host) {
  const auto data = data_of_request<nvme::AcquireData>(request);
  AcquireRequest decoded;
  decoded.action = static_cast<nvme::AcquireAction>(action_of(request));
  decoded.type = type_of(request);
  decoded.current_key = data.crkey;
  decoded.preempted_key = data.prkey;
  return [host, decoded](ReservationState& state) { return apply(state, host, decoded); };
}

NamespaceReservations::Apply decode_release(const Request& request, const HostId& host) {
  const auto data = data_of_request<nvme::ReleaseData>(request);
  ReleaseRequest decoded;
  decoded.action = static_cast<nvme::ReleaseAction>(action_of(request));
  decoded.type = type_of(request);
  decoded.current_key = data.crkey;
  return [host, decoded](ReservationState& state) { return apply(state, host, decoded); };
}

NamespaceReservations::Apply decode(const Request& request, const HostId& host, bool can_persist) {
  switch (opcode_of(request.sqe)) {
    case nvme::IoOpcode::reservation_register:
      return decode_register(request, host, can_persist);
    case nvme::IoOpcode::reservation_acquire:
      return decode_acquire(request, host);
    default:
      return decode_release(request, host);
  }
}

// The page of Reservation Report, as far as `size_bytes` go. REGCTL counts all registrants.
void fill_report(const ReservationState& state, std::byte* to, std::size_t size_bytes) {
  std::memset(to, 0, size_bytes);
  nvme::ReservationStatus head;
  head.gen = state.generation;
  head.rtype = static_cast<std::uint8_t>(state.type);
  head.regctl = {static_cast<std::uint8_t>(state.registrants.size() & 0xFF), static_cast<std::uint8_t>(state.registrants.size() >> 8)};
  head.ptpls = state.persist ? 1 : 0;
  std::memcpy(to, &head, std::min(sizeof(head), size_bytes));
  std::size_t at = sizeof(head);
  for (const Registrant& each : state.registrants) {
    if (at >= size_bytes) break;
    nvme::RegisteredController entry;
    entry.cntlid = nvme::reservation_dynamic_cntlid;
    entry.rcsts = state.holds(each.host) ? nvme::rcsts_holder : std::uint8_t{0};
    entry.rkey = each.key;
    entry.hostid = each.host;
    std::memcpy(to + at, &entry, std::min(sizeof(entry), size_bytes - at));
    at += sizeof(entry);
  }
}

}  // namespace

// --- the commands that change something ---

PlanAction IoQueue::plan_reservation(Request& request) {
  NamespaceSlot* slot = nullptr;
  CommandError error = find_slot(request.sqe.nsid, slot, 0);
  if (error.ok()) error = check_fields(request.sqe, host().hostid);
  if (!error.ok()) return refuse(request, error);
  return transfer(request, DataDirection::host_to_controller, data_bytes_of(opcode_of(request.sqe)));
}

void IoQueue::execute_reservation(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = find_slot(request.sqe.nsid, slot, 0);
  if (!error.ok()) return finish(request, error);
  const std::shared_ptr<NamespaceReservations> reservations = slot->config->reservations;
  if (reservations == nullptr) return finish(request, nvme::Status(nvme::GenericStatus::invalid_opcode).with_dnr());
  const bool aborts = opcode_of(request.sqe) == nvme::IoOpcode::reservation_acquire &&
                      action_of(request) == static_cast<std::uint32_t>(nvme::AcquireAction::preempt_and_abort);
  // The request stays in execution until finish(): its queue cannot go away meanwhile.
  reservations->hub().home().send([this, &request, reservations, aborts,
                                   change = decode(request, host().hostid, reservations->can_persist())]() mutable {
    Thread& thread = group_.thread();
    reservations->submit(std::move(change), aborts,
                         [this, &request, &thread](CommandError outcome) { thread.send([this, &request, outcome] { finish(request, outcome); }); });
  });
}

// --- Reservation Report ---

PlanAction IoQueue::plan_reservation_report(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = find_slot(request.sqe.nsid, slot, 0);
  if (!error.ok()) return refuse(request, error);
  // Entries of 24 bytes have room for 64-bit host identifiers, which no host has over Fabrics (section 7.4, EDS).
  if ((request.sqe.cdw11 & nvme::report_eds) == 0) return refuse(request, refusal(nvme::GenericStatus::host_id_inconsistent_format, sqe_cdw11_byte));
  const std::uint64_t length_bytes = (std::uint64_t{request.sqe.cdw10} + 1) * 4;
  if (length_bytes > group_.limits().max_io_size_bytes) return refuse(request, invalid_field(sqe_cdw10_byte));
  return transfer(request, DataDirection::controller_to_host, length_bytes);
}

void IoQueue::execute_reservation_report(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = find_slot(request.sqe.nsid, slot, 0);
  if (!error.ok()) return finish(request, error);
  static const ReservationState nothing;
  const auto& reservations = slot->config->reservations;
  const std::shared_ptr<const ReservationState> state = reservations == nullptr ? nullptr : reservations->published();
  fill_report(state == nullptr ? nothing : *state, request.data, request.data_length);
  finish(request, {});
}

// --- what changes do to queues ---

void IoQueue::reservation_changed(std::uint32_t nsid) {
  if (nsid >= views_.size() || views_[nsid].slot == nullptr) return;
  const auto& reservations = views_[nsid].slot->config->reservations;
  views_[nsid].denied = reservations == nullptr ? std::uint8_t{0} : reservations->denied_to(host().hostid);
}

// Section 8.19.7. What waits for data, a buffer or its other half is taken back; what a block device has is asked back, and waited for. Reservation
// commands touch no medium, and waiting for them could go round in circles.
void IoQueue::abort_preempted(std::uint32_t nsid, const std::shared_ptr<void>& holds) {
  if (queue_ == nullptr) return;
  const std::shared_ptr<ServedQueue> self = shared_from_this();  // the end of a command may be the end of the queue
  const auto on_medium = [nsid](const nvme::SubmissionEntry& sqe) {
    switch (opcode_of(sqe)) {
      case nvme::IoOpcode::reservation_register:
      case nvme::IoOpcode::reservation_report:
      case nvme::IoOpcode::reservation_acquire:
      case nvme::IoOpcode::reservation_release:
      case nvme::IoOpcode::fabrics:
        return false;
      case nvme::IoOpcode::flush:
        return sqe.nsid == nsid || sqe.nsid == nvme::broadcast_nsid;
      default:
        return sqe.nsid == nsid;
    }
  };
  const nvme::Status status = nvme::GenericStatus::aborted_preempt;
  for (const std::uint16_t cid : queue_->outstanding(on_medium)) {
    const auto aborted = queue_->abort_as(cid, status);
    if (aborted.outcome == transport::CommandQueue::AbortOutcome::executing) {
      abort_watches_.push_back({aborted.request, [holds](bool) {}, status});
      abort_executing(*aborted.request);
    }
    if (queue_ == nullptr) return;
  }
}

void ServerGroup::reservation_changed(const std::string& nqn, std::uint32_t nsid) {
  const auto served = served_.find(nqn);
  if (served == served_.end()) return;
  for (IoQueue* queue : served->second.queues) queue->reservation_changed(nsid);
}

void ServerGroup::abort_preempted(const std::string& nqn, std::uint32_t nsid, const std::vector<HostId>& hosts, const std::shared_ptr<void>& holds) {
  const auto served = served_.find(nqn);
  if (served == served_.end()) return;
  // Copied and held: an aborted command may end its queue.
  std::vector<std::shared_ptr<ServedQueue>> victims;
  for (IoQueue* queue : served->second.queues) {
    if (std::find(hosts.begin(), hosts.end(), queue->host().hostid) != hosts.end()) victims.push_back(queue->shared_from_this());
  }
  for (const auto& victim : victims) static_cast<IoQueue&>(*victim).abort_preempted(nsid, holds);
}

}  // namespace catnap::server
