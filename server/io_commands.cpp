// The I/O commands (NVM Command Set 1.0 section 3.2): one table of small functions, checked in plan(), carried out in execute(). See io_queue.h; the
// functions stand by family in io_transfers.cpp, io_ranges.cpp, io_copy.cpp, io_fused.cpp, io_flush.cpp, io_dataset.cpp and io_fabrics.cpp.
// Owner: the queue's poll group thread. Left out: protection information.
#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <memory>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/reactor.h"
#include "server/command_tables.h"
#include "server/controller.h"
#include "server/io_context.h"
#include "server/io_queue.h"
#include "transport/nvme/identify.h"

namespace catnap::server {

using transport::PlanAction;
using transport::Request;

// A table of pointers to private members, hence a friend.
struct IoCommands {
  struct Entry {
    nvme::IoOpcode opcode;
    std::uint32_t effects;
    std::uint16_t oncs;  // bit of Identify Controller that tells it; 0: mandatory
    bool on_device;      // execute() works with a Context
    PlanAction (IoQueue::*plan)(Request& request);
    void (IoQueue::*execute)(Request& request);
  };
  static constexpr Entry table[] = {
      {nvme::IoOpcode::flush, 0, 0, true, &IoQueue::plan_flush, &IoQueue::execute_flush},
      {nvme::IoOpcode::write, nvme::effect_content_change, 0, true, &IoQueue::plan_write, &IoQueue::execute_transfer},
      {nvme::IoOpcode::read, 0, 0, true, &IoQueue::plan_read, &IoQueue::execute_transfer},
      {nvme::IoOpcode::write_uncorrectable, nvme::effect_content_change, nvme::oncs_write_uncorrectable, true, &IoQueue::plan_write_uncorrectable,
       &IoQueue::execute_write_uncorrectable},
      {nvme::IoOpcode::compare, 0, nvme::oncs_compare, true, &IoQueue::plan_write, &IoQueue::execute_transfer},
      {nvme::IoOpcode::write_zeroes, nvme::effect_content_change, nvme::oncs_write_zeroes, true, &IoQueue::plan_write_zeroes,
       &IoQueue::execute_write_zeroes},
      {nvme::IoOpcode::dataset_management, nvme::effect_content_change, nvme::oncs_dataset_management, true, &IoQueue::plan_dataset,
       &IoQueue::execute_dataset},
      {nvme::IoOpcode::verify, 0, nvme::oncs_verify, true, &IoQueue::plan_verify, &IoQueue::execute_verify},
      {nvme::IoOpcode::reservation_register, 0, nvme::oncs_reservations, false, &IoQueue::plan_reservation, &IoQueue::execute_reservation},
      {nvme::IoOpcode::reservation_report, 0, nvme::oncs_reservations, false, &IoQueue::plan_reservation_report,
       &IoQueue::execute_reservation_report},
      {nvme::IoOpcode::reservation_acquire, 0, nvme::oncs_reservations, false, &IoQueue::plan_reservation, &IoQueue::execute_reservation},
      {nvme::IoOpcode::reservation_release, 0, nvme::oncs_reservations, false, &IoQueue::plan_reservation, &IoQueue::execute_reservation},
      {nvme::IoOpcode::copy, nvme::effect_content_change, nvme::oncs_copy, true, &IoQueue::plan_copy, &IoQueue::execute_copy},
      {nvme::IoOpcode::fabrics, 0, 0, false, &IoQueue::plan_fabrics, &IoQueue::execute_fabrics},
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

void fill_io_effects(nvme::EffectsLog& log, std::uint16_t masked_oncs) {
  for (const IoCommands::Entry& entry : IoCommands::table) {
    if ((entry.oncs & masked_oncs) != 0) continue;
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
    case bdev::Status::media_error:
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

PlanAction IoQueue::plan(Request& request) {
  request.cqe = {};
  request.planned_ns = group_.thread().now_ns();
  if (keep_alive_is_over()) [[unlikely]]
    return refuse(request, nvme::Status(nvme::GenericStatus::aborted_sq_deletion));
  shared_.keep_alive.note_traffic();
  if (request.sqe.fuse() != nvme::Fuse::normal || before_ != Before::nothing) [[unlikely]]
    return plan_in_pair(request);
  return plan_command(request);
}

PlanAction IoQueue::plan_command(Request& request) {
  const IoCommands::Entry* command = IoCommands::find(request.sqe.opcode);
  if (command == nullptr || (command->oncs & group_.limits().masked_oncs) != 0)
    return refuse(request, refusal(nvme::GenericStatus::invalid_opcode, 0));
  const CommandError error = check_common(request.sqe);
  if (!error.ok()) return refuse(request, error);
  return (this->*command->plan)(request);
}

// The host has given this association up, or will any moment: nothing of it is carried out any more (keep_alive.h).
bool IoQueue::keep_alive_is_over() { return shared_.keep_alive.over(group_.thread().now_ns()); }

// By the clock of this moment and not of the turn: a process that is stopped within a turn reads, when it goes on, all that has come since.
bool IoQueue::keep_alive_is_over_now() { return shared_.keep_alive.over(group_.thread().reactor()->clock().now_ns()); }

void IoQueue::execute(Request& request) {
  if (request.sqe.fuse() != nvme::Fuse::normal) [[unlikely]]
    return execute_half(request);
  // Its data, or memory for it, came late. Reading late harms nobody.
  const bool reads = request.sqe.opcode == static_cast<std::uint8_t>(nvme::IoOpcode::read);
  if (reads ? keep_alive_is_over() : keep_alive_is_over_now()) [[unlikely]]
    return finish(request, nvme::Status(nvme::GenericStatus::aborted_sq_deletion));
  const IoCommands::Entry* command = IoCommands::find(request.sqe.opcode);
  CATNAP_DCHECK(command != nullptr);
  (this->*command->execute)(request);
}

void IoQueue::abandon(Request& request) {
  if (request.sqe.fuse() != nvme::Fuse::normal) abandon_half(request);  // other commands hold nothing between plan() and execute()
}

// --- Abort ---

// Base 2.0 section 5.1. What has not begun the transport takes back; what a block device has is asked back from it; what neither can give runs to its
// end, and the answer says so.
void IoQueue::abort_command(std::uint16_t cid, std::move_only_function<void(bool aborted)> done) {
  const std::shared_ptr<ServedQueue> self = shared_from_this();  // the end of the command may be the end of the queue
  if (queue_ == nullptr) return done(false);
  const auto aborted = queue_->abort(cid);
  if (aborted.outcome != transport::CommandQueue::AbortOutcome::executing) {
    return done(aborted.outcome == transport::CommandQueue::AbortOutcome::taken_back);
  }
  Request& request = *aborted.request;
  abort_watches_.push_back({&request, std::move(done)});
  if (abort_executing(request)) return;
  // The newest: an earlier Abort of the same command may have been granted, and waits for its end.
  const auto watch = std::find_if(abort_watches_.rbegin(), abort_watches_.rend(), [&](const AbortWatch& each) { return each.request == &request; });
  if (watch == abort_watches_.rend()) return;
  auto refused = std::move(watch->done);
  abort_watches_.erase(std::next(watch).base());
  refused(false);
}

// False: nothing can be done about it any more.
bool IoQueue::abort_executing(Request& request) {
  const IoCommands::Entry* command = IoCommands::find(request.sqe.opcode);
  if (command == nullptr || !command->on_device) return false;
  Request& carrier = request.sqe.fuse() == nvme::Fuse::first ? second_of(request) : request;
  Context& context = Context::of(carrier);
  const auto opcode = static_cast<nvme::IoOpcode>(request.sqe.opcode);
  const bool steps = opcode == nvme::IoOpcode::copy || opcode == nvme::IoOpcode::dataset_management ||
                     (opcode == nvme::IoOpcode::flush && request.sqe.nsid == nvme::broadcast_nsid);
  if (steps) context.steps.abort = true;
  const bool given_back = context.slot().channel->abort(context.io);
  return given_back || steps;
}

}  // namespace catnap::server
