// I/O commands (NVM Command Set 1.0 section 3.2): one table of small functions, checked in plan(), carried out in execute(). See io_queue.h.
// Owner: the queue's poll group thread. Left out: fused commands, protection information, reservations, Copy, Verify.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>

#include "reactor/base/check.h"
#include "server/command_tables.h"
#include "server/controller.h"
#include "server/identify.h"
#include "server/io_queue.h"
#include "transport/nvme/dsm.h"
#include "transport/nvme/fabrics.h"

namespace catnap::server {

using transport::DataDirection;
using transport::PlanAction;
using transport::Request;

// What an I/O needs besides its request, in the request's own bytes. `io.context` is the slot.
struct IoQueue::Context {
  bdev::BdevIo io;
  union {
    iovec data;  // Read, Write, Compare
    // Commands of several steps, run one after another without recursion: a step that ends within submit() is taken up by the loop that submitted it.
    struct {
      std::uint32_t next;  // NSID (Flush of all), or index of a range
      bdev::Status failure;
      bool submitting;
      bool done_inline;
    } steps;
  };

  static Context& make(Request& request) { return *new (request.sink_context) Context; }
  static Context& of(Request& request) { return *std::launder(reinterpret_cast<Context*>(request.sink_context)); }
  static Context& of(bdev::BdevIo& io) { return *reinterpret_cast<Context*>(&io); }
  Request& request() { return *reinterpret_cast<Request*>(reinterpret_cast<std::byte*>(this) - offsetof(Request, sink_context)); }
  NamespaceSlot& slot() { return *static_cast<NamespaceSlot*>(io.context); }

  Context() : io(), data() {}
};

// A table of pointers to private members, hence a friend.
struct IoCommands {
  struct Entry {
    nvme::IoOpcode opcode;
    std::uint32_t effects;
    PlanAction (IoQueue::*plan)(Request& request);
    void (IoQueue::*execute)(Request& request);
  };
  static constexpr Entry table[] = {
      {nvme::IoOpcode::flush, 0, &IoQueue::plan_flush, &IoQueue::execute_flush},
      {nvme::IoOpcode::write, nvme::effect_content_change, &IoQueue::plan_write, &IoQueue::execute_transfer},
      {nvme::IoOpcode::read, 0, &IoQueue::plan_read, &IoQueue::execute_transfer},
      {nvme::IoOpcode::compare, 0, &IoQueue::plan_write, &IoQueue::execute_transfer},
      {nvme::IoOpcode::write_zeroes, nvme::effect_content_change, &IoQueue::plan_write_zeroes, &IoQueue::execute_write_zeroes},
      {nvme::IoOpcode::dataset_management, nvme::effect_content_change, &IoQueue::plan_dataset, &IoQueue::execute_dataset},
      {nvme::IoOpcode::fabrics, 0, &IoQueue::plan_fabrics, &IoQueue::execute_fabrics},
  };
  static constexpr std::size_t opcodes = 0x80;
  // Index in `table` plus one, by opcode.
  static constexpr std::array<std::uint8_t, opcodes> index = [] {
    std::array<std::uint8_t, opcodes> by_opcode{};
    for (std::size_t i = 0; i < std::size(table); ++i) by_opcode[static_cast<std::size_t>(table[i].opcode)] = static_cast<std::uint8_t>(i + 1);
    return by_opcode;
  }();
  static const Entry* find(std::uint8_t opcode) { return opcode < opcodes && index[opcode] != 0 ? &table[index[opcode] - 1] : nullptr; }

  static_assert(sizeof(IoQueue::Context) <= transport::sink_context_bytes);
  static_assert(alignof(IoQueue::Context) <= 16);
};

void fill_io_effects(nvme::EffectsLog& log) {
  for (const IoCommands::Entry& entry : IoCommands::table) {
    const bool is_fabrics = entry.opcode == nvme::IoOpcode::fabrics;
    log.io[static_cast<std::size_t>(entry.opcode)] =
        nvme::effect_supported | entry.effects | (is_fabrics ? effect_scope_controller : effect_scope_namespace);
  }
}

// The one place where a block device's answer becomes an NVMe status.
nvme::Status nvme_status_of(bdev::Status status) {
  switch (status) {
    case bdev::Status::ok:
      return {};
    case bdev::Status::out_of_range:
      return nvme::Status(nvme::GenericStatus::lba_out_of_range).with_dnr();
    case bdev::Status::not_supported:
      return nvme::Status(nvme::GenericStatus::invalid_opcode).with_dnr();
    case bdev::Status::compare_failed:
      return nvme::Status(nvme::MediaStatus::compare_failure).with_dnr();
    case bdev::Status::write_error:
      return nvme::MediaStatus::write_fault;
    case bdev::Status::read_error:
      return nvme::MediaStatus::unrecovered_read_error;
    case bdev::Status::no_space:
      return nvme::Status(nvme::GenericStatus::capacity_exceeded).with_dnr();
    // The namespace is about to go: a host with another path tries that one, others find out when they try again.
    case bdev::Status::removed:
      return nvme::PathStatus::internal_path_error;
    case bdev::Status::aborted:
      return nvme::GenericStatus::abort_requested;
    case bdev::Status::invalid:
      return nvme::Status(nvme::GenericStatus::invalid_field).with_dnr();
    case bdev::Status::no_memory:
      return nvme::GenericStatus::internal_error;
  }
  return nvme::GenericStatus::internal_error;
}

// --- the queue ---

IoQueue::IoQueue(ServerGroup& group, std::uint64_t queue_id, HostIdentity host, std::shared_ptr<Controller> controller, std::uint16_t qid)
    : ServedQueue(group, queue_id, std::move(host)),
      controller_(std::move(controller)),
      shared_(controller_->shared()),
      counters_(shared_.add_queue()),
      qid_(qid) {}

IoQueue::~IoQueue() { shared_.remove_queue(counters_); }

void IoQueue::configuration_installed() {
  views_.clear();
  const auto subsystem = group_.subsystem(host().subnqn);
  if (subsystem == nullptr || subsystem->namespaces.empty()) return;
  views_.resize(std::size_t{subsystem->namespaces.rbegin()->first} + 1);
  const SubsystemSnapshot::ListenerEntry* listener = Controller::listener(*subsystem, *queue_);
  for (const auto& [nsid, config] : subsystem->namespaces) {
    if (subsystem->visible_namespace(nsid, host().hostnqn) == nullptr) continue;
    views_[nsid].slot = group_.slot(host().subnqn, nsid);
    if (subsystem->ana_reporting) views_[nsid].ana_state = ana_state_of(listener, ana_group_of(*config));
  }
}

void IoQueue::queue_closed(transport::CommandQueue&) {
  queue_ = nullptr;
  group_.detach_io_queue(*this);
  ControllerTable& table = group_.table();
  table.app_thread().send(
      [&table, nqn = host().subnqn, cntlid = controller_->cntlid(), qid = qid_, queue_id = id()] { table.io_closed(nqn, cntlid, qid, queue_id); });
  group_.forget(*this);  // frees this
}

PlanAction IoQueue::plan(Request& request) {
  request.cqe = {};
  shared_.note_traffic();
  const IoCommands::Entry* command = IoCommands::find(request.sqe.opcode);
  if (command == nullptr) return refuse(request, refusal(nvme::GenericStatus::invalid_opcode, 0));
  const CommandError error = check_common(request.sqe);
  if (!error.ok()) return refuse(request, error);
  return (this->*command->plan)(request);
}

void IoQueue::execute(Request& request) {
  const IoCommands::Entry* command = IoCommands::find(request.sqe.opcode);
  CATNAP_DCHECK(command != nullptr);
  (this->*command->execute)(request);
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
}

PlanAction IoQueue::refuse(Request& request, CommandError error) {
  // What a path cannot do now is no error of the controller's (Base 2.0 section 5.16.1.2).
  if (error.status.sct != nvme::StatusCodeType::path) {
    error.status.more = true;
    record_error(request, error);
  }
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
  if (!error.ok()) refuse(request, error);
  group_.count_completed();
  request.queue->complete(request);
}

// --- checks ---

// What holds for every I/O command.
CommandError IoQueue::check_common(const nvme::SubmissionEntry& sqe) const {
  if (sqe.fuse() != nvme::Fuse::normal) return invalid_field(sqe_flags_byte);
  if (sqe.psdt() != nvme::Psdt::sgl) return invalid_field(sqe_flags_byte, 6);
  // A reset or shutdown is ending this queue.
  if (!shared_.accepting_io.load(std::memory_order_relaxed)) return nvme::Status(nvme::GenericStatus::aborted_sq_deletion);
  return {};
}

CommandError IoQueue::find_slot(std::uint32_t nsid, NamespaceSlot*& slot) {
  const View view = nsid < views_.size() ? views_[nsid] : View();
  if (view.slot == nullptr) return refusal(nvme::GenericStatus::invalid_namespace_or_format, sqe_nsid_byte);
  switch (view.ana_state) {
    case AnaState::optimized:
    case AnaState::non_optimized:
      break;
    case AnaState::inaccessible:
      return nvme::Status(nvme::PathStatus::ana_inaccessible);
    case AnaState::persistent_loss:
      return nvme::Status(nvme::PathStatus::ana_persistent_loss);
    case AnaState::change:
      return nvme::Status(nvme::PathStatus::ana_transition);
  }
  if (!view.slot->channel) return nvme::Status(nvme::GenericStatus::namespace_not_ready);
  slot = view.slot;
  return {};
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
  CommandError error = find_slot(sqe.nsid, slot);
  if (!error.ok()) return error;
  constexpr std::uint32_t directive_mask = 0xF0'0000;  // DTYPE: directives are not supported
  if ((sqe.cdw12 & nvme::cdw12_prinfo_mask) != 0) return refusal(nvme::CommandStatus::invalid_protection_information, sqe_cdw12_byte + 3, 2);
  if ((sqe.cdw12 & nvme::cdw12_stc) != 0) return invalid_field(sqe_cdw12_byte + 3);
  if ((sqe.cdw12 & directive_mask) != 0 && sqe.opcode == static_cast<std::uint8_t>(nvme::IoOpcode::write)) {
    return invalid_field(sqe_cdw12_byte + 2, 4);
  }
  return check_range(sqe, *slot);
}

// --- Read, Write, Compare ---

PlanAction IoQueue::plan_read(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = resolve(request.sqe, slot);
  if (!error.ok()) return refuse(request, error);
  const std::uint64_t length_bytes = std::uint64_t{request.sqe.block_count()} << slot->block_shift;
  const PlanAction action = transfer(request, DataDirection::controller_to_host, length_bytes);
  if (action != PlanAction::transfer || !request.may_lend || !slot->config->bdev->info().lends_reads) return action;
  request.data = nullptr;
  return PlanAction::execute;  // the block device brings the bytes
}

PlanAction IoQueue::plan_write(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = resolve(request.sqe, slot);
  if (!error.ok()) return refuse(request, error);
  request.consumes_inline = slot->config->bdev->info().consumes_inline;
  return transfer(request, DataDirection::host_to_controller, std::uint64_t{request.sqe.block_count()} << slot->block_shift);
}

void IoQueue::submit(Context& context, NamespaceSlot& slot, bdev::BdevIo::Done done) {
  context.io.context = &slot;
  context.io.done = done;
  ++slot.in_flight;
  group_.io_started();
  slot.channel->submit(context.io);
}

// Time has passed since plan(), while data came in or a buffer was waited for: the namespace may have gone or shrunk.
void IoQueue::execute_transfer(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = resolve(request.sqe, slot);
  if (!error.ok()) return finish(request, error);
  Context& context = Context::make(request);
  bdev::BdevIo& io = context.io;
  const auto opcode = static_cast<nvme::IoOpcode>(request.sqe.opcode);
  const bool fua = (request.sqe.cdw12 & nvme::cdw12_fua) != 0;
  io.op = opcode == nvme::IoOpcode::read ? bdev::Op::read : opcode == nvme::IoOpcode::write ? bdev::Op::write : bdev::Op::compare;
  io.fua = fua && io.op == bdev::Op::write;
  io.offset_blocks = request.sqe.slba();
  io.num_blocks = request.sqe.block_count();
  const bool lent = io.op == bdev::Op::read && request.data == nullptr;
  if (lent) {
    io.accepts_lease = true;
  } else {
    context.data = {request.data, request.data_length};
    io.iov = &context.data;
    io.iov_count = 1;
  }
  // A FUA read must not show what a power cut could take back (NVM Command Set 1.0 section 3.2.4): first out of the cache.
  if (fua && io.op == bdev::Op::read && slot->config->bdev->info().write_cache) {
    io.op = bdev::Op::flush;
    io.num_blocks = 0;
    return submit(context, *slot, &IoQueue::read_after_flush);
  }
  submit(context, *slot, &IoQueue::io_done);
}

void IoQueue::read_after_flush(bdev::BdevIo& io) {
  Context& context = Context::of(io);
  if (io.status != bdev::Status::ok) return io_done(io);
  const Request& request = context.request();
  bdev::BdevIo read;
  read.op = bdev::Op::read;
  read.offset_blocks = request.sqe.slba();
  read.num_blocks = request.sqe.block_count();
  read.iov = io.iov;
  read.iov_count = io.iov_count;
  read.accepts_lease = io.accepts_lease;
  read.done = &IoQueue::io_done;
  read.context = io.context;
  io = read;
  context.slot().channel->submit(io);
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

// --- Write Zeroes ---

PlanAction IoQueue::plan_write_zeroes(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = resolve(request.sqe, slot);
  return error.ok() ? PlanAction::execute : refuse(request, error);
}

// With DEAC blocks are given back where they read as zeros afterwards (DLFEAT says so); FUA needs the write that unmap cannot promise.
void IoQueue::execute_write_zeroes(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = resolve(request.sqe, slot);
  if (!error.ok()) return finish(request, error);
  Context& context = Context::make(request);
  const bdev::Bdev& bdev = *slot->config->bdev;
  const bool fua = (request.sqe.cdw12 & nvme::cdw12_fua) != 0;
  const bool deallocate = (request.sqe.cdw12 & nvme::cdw12_deac) != 0 && !fua && bdev.info().unmap_reads_zeroes && bdev.supports(bdev::Op::unmap);
  context.io.op = deallocate ? bdev::Op::unmap : bdev::Op::write_zeroes;
  context.io.fua = fua;
  context.io.offset_blocks = request.sqe.slba();
  context.io.num_blocks = request.sqe.block_count();
  submit(context, *slot, &IoQueue::io_done);
}

// --- Flush ---

PlanAction IoQueue::plan_flush(Request& request) {
  if (request.sqe.nsid == nvme::broadcast_nsid) return PlanAction::execute;
  NamespaceSlot* slot = nullptr;
  const CommandError error = find_slot(request.sqe.nsid, slot);
  return error.ok() ? PlanAction::execute : refuse(request, error);
}

void IoQueue::execute_flush(Request& request) {
  Context& context = Context::make(request);
  context.io.op = bdev::Op::flush;
  if (request.sqe.nsid == nvme::broadcast_nsid) {
    context.steps = {1, bdev::Status::ok, false, false};
    return next_flush(request);
  }
  NamespaceSlot* slot = nullptr;
  const CommandError error = find_slot(request.sqe.nsid, slot);
  if (!error.ok()) return finish(request, error);
  submit(context, *slot, &IoQueue::io_done);
}

// Flush of all namespaces (VWC bits 2:1 = 11b), one after another; the first failure is told at the end.
void IoQueue::next_flush(Request& request) {
  Context& context = Context::of(request);
  while (context.steps.next < views_.size()) {
    NamespaceSlot* slot = views_[context.steps.next++].slot;
    if (slot == nullptr) continue;
    if (!slot->channel) {
      context.steps.failure = bdev::Status::removed;
      continue;
    }
    context.io = bdev::BdevIo();
    context.io.op = bdev::Op::flush;
    context.steps.submitting = true;
    context.steps.done_inline = false;
    submit(context, *slot, &IoQueue::step_done);
    context.steps.submitting = false;
    if (!context.steps.done_inline) return;
  }
  finish(request, CommandError(nvme_status_of(context.steps.failure)));
}

// --- Dataset Management ---

PlanAction IoQueue::plan_dataset(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = find_slot(request.sqe.nsid, slot);
  if (!error.ok()) return refuse(request, error);
  const std::uint64_t ranges = (request.sqe.cdw10 & 0xFF) + 1;  // NR is 0's based
  return transfer(request, DataDirection::host_to_controller, ranges * sizeof(nvme::DsmRange));
}

namespace {

nvme::DsmRange range_at(const Request& request, std::uint32_t index) {
  nvme::DsmRange range;
  std::memcpy(&range, request.data + std::size_t{index} * sizeof(range), sizeof(range));
  return range;
}

}  // namespace

// All ranges are checked before the first is touched.
void IoQueue::execute_dataset(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = find_slot(request.sqe.nsid, slot);
  if (!error.ok()) return finish(request, error);
  const bdev::Bdev& bdev = *slot->config->bdev;
  const std::uint64_t blocks = bdev.num_blocks();
  const std::uint32_t ranges = (request.sqe.cdw10 & 0xFF) + 1;
  for (std::uint32_t i = 0; i < ranges; ++i) {
    const nvme::DsmRange range = range_at(request, i);
    if (range.blocks > blocks || range.slba > blocks - range.blocks) {
      return finish(request, CommandError(nvme::Status(nvme::GenericStatus::lba_out_of_range).with_dnr()));
    }
  }
  // The other attributes are hints; so is deallocation on a device that cannot (NVM Command Set 1.0 section 3.2.3).
  const bool deallocate = (request.sqe.cdw11 & nvme::dsm_deallocate) != 0 && bdev.supports(bdev::Op::unmap);
  if (!deallocate) return finish(request, {});
  Context& context = Context::make(request);
  context.steps = {0, bdev::Status::ok, false, false};
  next_range(request);
}

void IoQueue::next_range(Request& request) {
  Context& context = Context::of(request);
  const std::uint32_t ranges = (request.sqe.cdw10 & 0xFF) + 1;
  while (context.steps.next < ranges && context.steps.failure == bdev::Status::ok) {
    const nvme::DsmRange range = range_at(request, context.steps.next++);
    if (range.blocks == 0) continue;
    NamespaceSlot* slot = nullptr;
    const CommandError error = find_slot(request.sqe.nsid, slot);  // it may have gone since the last range
    if (!error.ok()) return finish(request, error);
    context.io = bdev::BdevIo();
    context.io.op = bdev::Op::unmap;
    context.io.offset_blocks = range.slba;
    context.io.num_blocks = range.blocks;
    context.steps.submitting = true;
    context.steps.done_inline = false;
    submit(context, *slot, &IoQueue::step_done);
    context.steps.submitting = false;
    if (!context.steps.done_inline) return;
  }
  finish(request, CommandError(nvme_status_of(context.steps.failure)));
}

void IoQueue::step_done(bdev::BdevIo& io) {
  Context& context = Context::of(io);
  Request& request = context.request();
  NamespaceSlot& slot = context.slot();
  auto& self = *static_cast<IoQueue*>(request.queue->sink_data);
  if (io.status != bdev::Status::ok && context.steps.failure == bdev::Status::ok) context.steps.failure = io.status;
  self.group_.io_done(slot);
  if (context.steps.submitting) {
    context.steps.done_inline = true;
    return;
  }
  if (io.op == bdev::Op::flush) {
    self.next_flush(request);
  } else {
    self.next_range(request);
  }
}

// --- Fabrics commands on an I/O queue ---

PlanAction IoQueue::plan_fabrics(Request& request) {
  constexpr unsigned fctype_byte = 4;
  switch (static_cast<nvme::FabricsType>(request.sqe.fctype())) {
    case nvme::FabricsType::disconnect: {
      const auto command = nvme::view_as<nvme::DisconnectCommand>(request.sqe);
      if (command.recfmt != 0) return refuse(request, refusal(nvme::FabricsStatus::incompatible_format, offsetof(nvme::DisconnectCommand, recfmt)));
      return PlanAction::execute;
    }
    case nvme::FabricsType::connect:
      return refuse(request, nvme::Status(nvme::GenericStatus::command_sequence_error).with_dnr());
    default:
      return refuse(request, invalid_field(fctype_byte));
  }
}

// Base 2.0 section 6.4: the answer goes out, then the connection ends.
void IoQueue::execute_fabrics(Request& request) {
  // By message, as complete() may be this queue's last moment.
  group_.end_queue(id(), "host sent Disconnect");
  finish(request, {});
}

}  // namespace catnap::server
