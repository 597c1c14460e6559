// An I/O queue: its namespaces, the checks all commands share, submission to block devices, and answers. See io_queue.h.
// Owner: the queue's poll group thread. Left out: the commands (io_commands.cpp).
#include "server/io_queue.h"

#include <algorithm>
#include <array>
#include <utility>

#include "reactor/base/check.h"
#include "server/ana.h"
#include "server/controller.h"
#include "server/identify.h"
#include "server/io_context.h"
#include "server/reservations/namespace_reservations.h"

namespace catnap::server {

using transport::DataDirection;
using transport::PlanAction;
using transport::Request;

namespace {

constexpr auto io_classes_of_opcodes = [] {
  std::array<IoClass, 256> classes{};
  classes.fill(IoClass::other);
  classes[static_cast<std::size_t>(nvme::IoOpcode::read)] = IoClass::read;
  classes[static_cast<std::size_t>(nvme::IoOpcode::write)] = IoClass::write;
  classes[static_cast<std::size_t>(nvme::IoOpcode::write_zeroes)] = IoClass::write;
  return classes;
}();

IoClass io_class_of(std::uint8_t opcode) { return io_classes_of_opcodes[opcode]; }

}  // namespace

IoQueue::IoQueue(ServerGroup& group, std::uint64_t queue_id, HostIdentity host, std::shared_ptr<Controller> controller, std::uint16_t qid)
    : ServedQueue(group, queue_id, std::move(host)),
      controller_(std::move(controller)),
      shared_(controller_->shared()),
      counters_(shared_.add_queue()),
      qid_(qid),
      counts_(group_.table().io_statistics().add_connection(statistics_key())) {}

IoQueue::~IoQueue() {
  shared_.remove_queue(counters_);
  group_.count_finished();
  group_.table().io_statistics().remove_connection(statistics_key(), counts_);
}

IoStatistics::ConnectionKey IoQueue::statistics_key() const { return {{host().subnqn, host().hostnqn}, controller_->cntlid(), qid_}; }

void IoQueue::configuration_installed() {
  views_.clear();
  const auto subsystem = group_.subsystem(host().subnqn);
  dmrsl_blocks_ = subsystem == nullptr ? 0 : subsystem->dmrsl_blocks;
  wzsl_ = subsystem == nullptr ? std::uint8_t{0} : subsystem->wzsl;
  if (subsystem == nullptr || subsystem->namespaces.empty()) return;
  views_.resize(std::size_t{subsystem->namespaces.rbegin()->first} + 1);
  const SubsystemSnapshot::ListenerEntry* listener = Controller::listener(*subsystem, *queue_);
  for (const auto& [nsid, config] : subsystem->namespaces) {
    if (subsystem->visible_namespace(nsid, host().hostnqn) == nullptr) continue;
    views_[nsid].slot = group_.slot(host().subnqn, nsid);
    if (subsystem->ana_reporting) views_[nsid].ana_state = ana_state_of(listener, ana_group_of(*config));
    if (config->reservations != nullptr) views_[nsid].denied = config->reservations->denied_to(host().hostid);
  }
}

void IoQueue::queue_closed(transport::CommandQueue&) {
  end_authentication();
  queue_ = nullptr;
  group_.detach_io_queue(*this);
  ControllerTable& table = group_.table();
  table.app_thread().send(
      [&table, nqn = host().subnqn, cntlid = controller_->cntlid(), qid = qid_, queue_id = id()] { table.io_closed(nqn, cntlid, qid, queue_id); });
  group_.forget(*this);  // frees this
}

// --- answers ---

void IoQueue::record_error(const Request& request, CommandError error) {
  nvme::ErrorEntry entry;
  entry.sqid = qid_;
  entry.cid = request.sqe.cid;
  entry.status = static_cast<std::uint16_t>(error.status.field() << 1);
  entry.parameter_location = error.location;
  entry.lba = request.sqe.slba();
  entry.nsid = request.sqe.nsid;
  entry.trtype = static_cast<std::uint8_t>(nvme::TransportType::tcp);
  shared_.errors.record(entry);
  controller_->note_error(error.status);
}

// Null: no namespace that this queue sees.
IoCounts* IoQueue::counts_of(std::uint32_t nsid) const {
  const NamespaceSlot* slot = nsid < views_.size() ? views_[nsid].slot : nullptr;
  return slot == nullptr ? nullptr : slot->counts.get();
}

void IoQueue::count_finished(const Request& request) {
  const IoClass io_class = io_class_of(request.sqe.opcode);
  group_.count_later(*counts_, counts_of(request.sqe.nsid), request.planned_ns, io_class == IoClass::other ? 0 : request.data_length, io_class);
}

PlanAction IoQueue::refuse(Request& request, CommandError error) {
  const IoClass io_class = io_class_of(request.sqe.opcode);
  counts_->count_error(io_class);
  if (IoCounts* const name_space = counts_of(request.sqe.nsid); name_space != nullptr) name_space->count_error(io_class);
  group_.count_error(error.status);
  // What a path cannot do now is no error of the controller's (Base 2.0 section 5.16.1.2).
  if (error.status.sct != nvme::StatusCodeType::path) {
    error.status.more = true;
    record_error(request, error);
  }
  // CRD (Base 2.0 section 3.3.3.2.1): after which delay to try again, for hosts that asked for it.
  const bool aborted = error.status.same_code(nvme::GenericStatus::abort_requested) || error.status.same_code(nvme::GenericStatus::failed_fused);
  if (!error.status.dnr && !aborted) error.status.crd = shared_.retry_delay_index.load(std::memory_order_relaxed);
  nvme::set_status(request.cqe, error.status);
  return PlanAction::complete;
}

PlanAction IoQueue::transfer(Request& request, DataDirection direction, std::uint64_t length_bytes) {
  if (length_bytes > group_.limits().max_io_size_bytes) return refuse(request, invalid_field(sqe_cdw12_byte));
  // SGLS bit 18 is set: the SGL may describe more than the data (Base 2.0 section 5.17.2.1, SGLS). Linux describes 4096 bytes for every
  // Dataset Management, however few its ranges.
  if (request.sqe.sgl.length < length_bytes) return refuse(request, refusal(nvme::GenericStatus::data_sgl_length_invalid, sqe_sgl_length_byte));
  request.direction = direction;
  request.data_length = static_cast<std::uint32_t>(length_bytes);
  return PlanAction::transfer;
}

void IoQueue::finish(Request& request, CommandError error) {
  if (!abort_watches_.empty()) [[unlikely]]
    return finish_watched(request, error);
  if (error.ok()) [[likely]] {
    count_finished(request);
  } else {
    refuse(request, error);
  }
  ServerGroup& group = group_;  // the answer may be this queue's last moment
  group.count_completed();
  request.queue->complete(request);
  group.count_at_turn_end();
}

// The answer of the command goes out before the Abort's (Base 2.0 section 5.1), and may be this queue's last moment.
void IoQueue::finish_watched(Request& request, CommandError error) {
  std::vector<AbortWatch> told;
  for (AbortWatch& watch : abort_watches_) {
    if (watch.request == &request) told.push_back(std::move(watch));
  }
  std::erase_if(abort_watches_, [&](const AbortWatch& watch) { return watch.request == &request; });
  const bool aborted = error.status.same_code(nvme::GenericStatus::abort_requested);
  if (aborted && !told.empty()) error.status = told.front().as;
  if (error.ok()) {
    count_finished(request);
  } else {
    refuse(request, error);
  }
  ServerGroup& group = group_;
  group.count_completed();
  request.queue->complete(request);
  group.count_at_turn_end();
  for (AbortWatch& watch : told) watch.done(aborted);
}

// --- checks ---

// What holds for every I/O command.
CommandError IoQueue::check_common(const nvme::SubmissionEntry& sqe) const {
  if (sqe.psdt() != nvme::Psdt::sgl) return invalid_field(sqe_flags_byte, 6);
  // A reset or shutdown is ending this queue.
  if (!shared_.accepting_io.load(std::memory_order_relaxed)) return nvme::Status(nvme::GenericStatus::aborted_sq_deletion);
  return {};
}

CommandError IoQueue::find_slot(std::uint32_t nsid, NamespaceSlot*& slot, std::uint8_t access) {
  const View view = nsid < views_.size() ? views_[nsid] : View();
  if (view.slot == nullptr) return refusal(nvme::GenericStatus::invalid_namespace_or_format, sqe_nsid_byte);
  const CommandError refused = ana_refusal(view.ana_state);
  if (!refused.ok()) return refused;
  if ((view.denied & access) != 0) [[unlikely]]
    return nvme::Status(nvme::GenericStatus::reservation_conflict).with_dnr();
  if (!view.slot->channel) return nvme::Status(nvme::GenericStatus::namespace_not_ready);
  slot = view.slot;
  return {};
}

bool IoQueue::any_denied(std::uint8_t access) const {
  return std::any_of(views_.begin(), views_.end(), [access](const View& view) { return (view.denied & access) != 0; });
}

// SLBA and NLB within the namespace as it is now.
CommandError IoQueue::check_range(const nvme::SubmissionEntry& sqe, const NamespaceSlot& slot) const {
  const std::uint64_t blocks = slot.config->bdev->num_blocks();
  const std::uint64_t count = sqe.block_count();
  if (count > blocks || sqe.slba() > blocks - count) return refusal(nvme::GenericStatus::lba_out_of_range, sqe_cdw10_byte);
  return {};
}

// Read, Write, Compare, Write Zeroes: the namespace, the range, and fields of features that no namespace has.
CommandError IoQueue::resolve(const nvme::SubmissionEntry& sqe, NamespaceSlot*& slot) {
  CommandError error = find_slot(sqe.nsid, slot, access_of(sqe.opcode));
  if (!error.ok()) return error;
  constexpr std::uint32_t directive_mask = 0xF0'0000;  // DTYPE: directives are not supported
  if ((sqe.cdw12 & nvme::cdw12_prinfo_mask) != 0) return refusal(nvme::CommandStatus::invalid_protection_information, sqe_cdw12_byte + 3, 2);
  if ((sqe.cdw12 & nvme::cdw12_stc) != 0) return invalid_field(sqe_cdw12_byte + 3);
  if ((sqe.cdw12 & directive_mask) != 0 && sqe.opcode == static_cast<std::uint8_t>(nvme::IoOpcode::write)) {
    return invalid_field(sqe_cdw12_byte + 2, 4);
  }
  return check_range(sqe, *slot);
}

// --- block devices ---

void IoQueue::submit(Context& context, NamespaceSlot& slot, bdev::BdevIo::Done done) {
  context.io.context = &slot;
  context.io.done = done;
  if (device_ios_++ == 0) busy_since_ns_ = group_.thread().now_ns();
  ++slot.in_flight;
  group_.io_started();
  slot.channel->submit(context.io);
}

void IoQueue::device_io_ended() {
  if (--device_ios_ == 0) IoCounters::add(counters_->busy_ns, group_.thread().now_ns() - busy_since_ns_);
}

void IoQueue::step_done(bdev::BdevIo& io) {
  Context& context = Context::of(io);
  Request& request = context.request();
  NamespaceSlot& slot = context.slot();
  auto& self = *static_cast<IoQueue*>(request.queue->sink_data);
  self.device_io_ended();
  if (io.status != bdev::Status::ok && context.steps.failure == bdev::Status::ok) context.steps.failure = io.status;
  self.group_.io_done(slot);
  if (context.steps.submitting) {
    context.steps.done_inline = true;
    return;
  }
  switch (io.op) {
    case bdev::Op::flush:
      return self.next_flush(request);
    case bdev::Op::copy:
      return self.next_copy(request);
    default:
      return self.next_range(request);
  }
}

void IoQueue::count(const Request& request) {
  switch (static_cast<nvme::IoOpcode>(request.sqe.opcode)) {
    case nvme::IoOpcode::read:
    case nvme::IoOpcode::compare:
      IoCounters::add(counters_->read_commands, 1);
      IoCounters::add(counters_->bytes_read, request.data_length);
      break;
    case nvme::IoOpcode::write:
      IoCounters::add(counters_->write_commands, 1);
      IoCounters::add(counters_->bytes_written, request.data_length);
      break;
    default:
      break;
  }
}

void IoQueue::io_done(bdev::BdevIo& io) {
  Context& context = Context::of(io);
  Request& request = context.request();
  NamespaceSlot& slot = context.slot();
  auto& self = *static_cast<IoQueue*>(request.queue->sink_data);
  self.device_io_ended();
  ServerGroup& group = self.group_;  // finish() may end the queue, when its connection waited for this command alone
  if (io.status == bdev::Status::ok) {
    request.lease = io.lease;
    self.count(request);
    self.finish(request, {});
  } else {
    self.finish(request, CommandError(nvme_status_of(io.status),
                                      io.status == bdev::Status::out_of_range ? parameter_at(sqe_cdw10_byte) : nvme::no_parameter_location));
  }
  group.io_done(slot);
}

}  // namespace catnap::server
