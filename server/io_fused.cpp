// Fused Compare and Write (Base 2.0 section 3.4.2, NVM Command Set 1.0 section 2.1.3): two commands next to each other in the queue, carried out as
// one. See io_queue.h, and transport/command_sink.h for how a half waits with its data.
// Owner: the queue's poll group thread. Left out: other fused operations (there are none).
//
// A half lives from plan() on: its data may come before or after the other half's. Whoever is executed first is held; the second one to come
// submits both. When one half ends early (refused, taken back, its connection dying), the other one ends with Command Aborted due to Failed Fused
// Command.
#include <algorithm>
#include <new>

#include "reactor/base/check.h"
#include "server/io_context.h"
#include "server/io_limits.h"
#include "server/io_queue.h"
#include "transport/nvme/identify.h"

namespace catnap::server {

using nvme::Fuse;
using nvme::GenericStatus;
using nvme::IoOpcode;
using transport::PlanAction;
using transport::Request;

// In the request's own bytes from plan() until the pair is submitted; a first half's stay until the pair is done.
struct IoQueue::FusedHalf {
  Request* other = nullptr;  // null: not there yet, or over
  nvme::Status verdict;      // not a success: how it ends as soon as it is executed
  bool held = false;
  iovec data[2] = {};  // first half: what to compare with, what to write

  static FusedHalf& make(Request& request) { return *new (request.sink_context) FusedHalf; }
  static FusedHalf& of(Request& request) { return *std::launder(reinterpret_cast<FusedHalf*>(request.sink_context)); }
};

namespace {

constexpr std::uint8_t opcode_of(IoOpcode opcode) { return static_cast<std::uint8_t>(opcode); }

}  // namespace

// --- planning ---

// A command that says it is part of a pair, or follows a first half.
PlanAction IoQueue::plan_in_pair(Request& request) {
  static_assert(sizeof(FusedHalf) <= transport::sink_context_bytes);
  const Before before = std::exchange(before_, Before::nothing);
  Request* first = std::exchange(unpaired_first_, nullptr);
  const Fuse fuse = request.sqe.fuse();
  if (first != nullptr && fuse != Fuse::second) end_half(*first, GenericStatus::missing_fused);
  switch (fuse) {
    case Fuse::normal:
      return plan_command(request);
    case Fuse::first:
      return plan_first(request);
    case Fuse::second:
      if (before == Before::failed_first_half) return refuse(request, nvme::Status(GenericStatus::failed_fused));
      if (first == nullptr) return refuse(request, nvme::Status(GenericStatus::missing_fused));
      return plan_second(request, *first);
    case Fuse::reserved:
      break;
  }
  return refuse(request, invalid_field(sqe_flags_byte));
}

// NACWU (Identify Namespace) bounds a pair: NVM Command Set 1.0 section 2.1.4.1, "Atomic Compare and Write".
CommandError IoQueue::check_fused_length(const nvme::SubmissionEntry& sqe) {
  NamespaceSlot* slot = nullptr;
  CommandError error = find_slot(sqe.nsid, slot, access_of(sqe.opcode));
  if (!error.ok()) return error;
  if (sqe.block_count() > fused_blocks(1U << slot->block_shift)) return refusal(GenericStatus::atomic_write_unit_exceeded, sqe_cdw12_byte);
  return {};
}

PlanAction IoQueue::plan_first(Request& request) {
  before_ = Before::failed_first_half;  // until it is known better
  if (request.sqe.opcode != opcode_of(IoOpcode::compare) || (group_.limits().masked_fuses & nvme::fuses_compare_and_write) != 0) {
    return refuse(request, invalid_field(sqe_flags_byte));
  }
  if (CommandError error = check_common(request.sqe); !error.ok()) return refuse(request, error);
  if (CommandError error = check_fused_length(request.sqe); !error.ok()) return refuse(request, error);
  const PlanAction action = plan_write(request);
  if (action != PlanAction::transfer) return action;
  request.consumes_inline = false;  // it may have to wait
  FusedHalf::make(request);
  unpaired_first_ = &request;
  before_ = Before::first_half;
  return action;
}

// Both halves name the same blocks (NVM Command Set 1.0 section 2.1.3).
CommandError IoQueue::check_pair(const nvme::SubmissionEntry& first, const nvme::SubmissionEntry& second) const {
  if (second.opcode != opcode_of(IoOpcode::write)) return invalid_field(sqe_flags_byte);
  if (first.nsid != second.nsid) return invalid_field(sqe_nsid_byte);
  if (first.slba() != second.slba()) return invalid_field(sqe_cdw10_byte);
  if (first.block_count() != second.block_count()) return invalid_field(sqe_cdw12_byte);
  return check_common(second);
}

PlanAction IoQueue::plan_second(Request& request, Request& first) {
  PlanAction action = PlanAction::complete;
  const CommandError error = check_pair(first.sqe, request.sqe);
  if (error.ok()) {
    action = plan_write(request);
  } else {
    refuse(request, error);
  }
  if (action != PlanAction::transfer) {
    end_half(first, GenericStatus::failed_fused);
    return action;
  }
  request.consumes_inline = false;
  // The first half may hold a buffer: if this one waited for another, pairs could wait for each other.
  request.never_waits = true;
  CATNAP_DCHECK(request.data_length <= transport::max_unwaited_bytes);
  FusedHalf::make(request).other = &first;
  FusedHalf::of(first).other = &request;
  return action;
}

// --- carrying out ---

void IoQueue::execute_half(Request& request) {
  FusedHalf& half = FusedHalf::of(request);
  if (!half.verdict.is_success()) return finish(request, half.verdict);
  if (half.other == nullptr || !FusedHalf::of(*half.other).held) {
    half.held = true;
    return request.queue->hold(request);  // may abandon() it at once
  }
  Request& other = *half.other;
  FusedHalf::of(other).held = false;
  request.queue->resume(other);
  const bool is_first = request.sqe.fuse() == Fuse::first;
  submit_pair(is_first ? request : other, is_first ? other : request);
}

// Time has passed since plan(): the namespace may have gone or shrunk.
void IoQueue::submit_pair(Request& first, Request& second) {
  const CommandError too_late = nvme::Status(GenericStatus::aborted_sq_deletion);
  if (keep_alive_is_over_now()) return finish_pair(first, second, too_late, too_late);
  NamespaceSlot* slot = nullptr;
  CommandError error = resolve(first.sqe, slot);
  if (!error.ok()) return finish_pair(first, second, error, nvme::Status(GenericStatus::failed_fused));
  error = resolve(second.sqe, slot);
  if (!error.ok()) return finish_pair(first, second, nvme::Status(GenericStatus::failed_fused), error);
  FusedHalf& half = FusedHalf::of(first);
  half.data[0] = {first.data, first.data_length};
  half.data[1] = {second.data, second.data_length};
  Context& context = Context::make(second);
  context.first = &first;
  context.io.op = bdev::Op::compare_and_write;
  context.io.fua = (second.sqe.cdw12 & nvme::cdw12_fua) != 0;
  context.io.offset_blocks = first.sqe.slba();
  context.io.num_blocks = first.sqe.block_count();
  context.io.iov = half.data;
  context.io.iov_count = 2;
  submit(context, *slot, &IoQueue::pair_done);
}

void IoQueue::pair_done(bdev::BdevIo& io) {
  Context& context = Context::of(io);
  Request& second = context.request();
  Request& first = *context.first;
  NamespaceSlot& slot = context.slot();
  auto& self = *static_cast<IoQueue*>(second.queue->sink_data);
  self.device_io_ended();
  ServerGroup& group = self.group_;  // the last finish() may end the queue
  const CommandError failed_fused = nvme::Status(GenericStatus::failed_fused);
  const CommandError error(nvme_status_of(io.status));
  switch (io.status) {
    case bdev::Status::ok:
      self.count(first);
      self.count(second);
      self.finish_pair(first, second, {}, {});
      break;
    // The comparison was well, the write was not.
    case bdev::Status::write_error:
    case bdev::Status::no_space:
      self.finish_pair(first, second, {}, error);
      break;
    case bdev::Status::aborted:
      self.finish_pair(first, second, error, error);
      break;
    default:
      self.finish_pair(first, second, error, failed_fused);
      break;
  }
  group.io_done(slot);
}

void IoQueue::finish_pair(Request& first, Request& second, CommandError of_first, CommandError of_second) {
  finish(first, of_first);
  finish(second, of_second);
}

Request& IoQueue::second_of(Request& first) { return *FusedHalf::of(first).other; }

// --- ending early ---

// Ends a half that is not submitted: now when it is held, else as soon as its data is there.
void IoQueue::end_half(Request& request, nvme::Status status) {
  FusedHalf& half = FusedHalf::of(request);
  half.other = nullptr;
  half.verdict = status;
  if (!half.held) return;
  half.held = false;
  request.queue->resume(request);
  finish(request, status);
}

// The transport takes a half back: aborted, wrong digest, or the connection dies.
void IoQueue::abandon_half(Request& request) {
  if (unpaired_first_ == &request) {
    unpaired_first_ = nullptr;
    before_ = Before::failed_first_half;
    return;
  }
  Request* other = FusedHalf::of(request).other;
  if (other != nullptr) end_half(*other, GenericStatus::failed_fused);
}

}  // namespace catnap::server
