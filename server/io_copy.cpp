// Copy (NVM Command Set 1.0c section 3.2.2): source ranges of a namespace, one after another, to one place in it. See io_queue.h.
// Owner: the queue's poll group thread. Left out: formats 1 (larger protection information, which no namespace has), 2 and 3 (other namespaces).
//
// All ranges are checked before the first block is copied. DW0 of a failed Copy is the first range that was not copied.
#include <cstring>

#include "server/io_context.h"
#include "server/io_limits.h"
#include "server/io_queue.h"
#include "transport/nvme/copy.h"

namespace catnap::server {

using nvme::CommandStatus;
using nvme::GenericStatus;
using transport::PlanAction;
using transport::Request;

namespace {

std::uint32_t range_count(const Request& request) { return (request.sqe.cdw12 & nvme::copy_ranges_mask) + 1; }

nvme::CopyRange range_at(const Request& request, std::uint32_t index) {
  nvme::CopyRange range;
  std::memcpy(&range, request.data + std::size_t{index} * sizeof(range), sizeof(range));
  return range;
}

std::uint64_t blocks_of(const nvme::CopyRange& range) { return std::uint64_t{range.nlb} + 1; }

// What CDW12 may not say.
CommandError check_cdw12(std::uint32_t cdw12) {
  if ((cdw12 >> nvme::copy_format_shift & 0xF) != 0) return invalid_field(sqe_cdw12_byte + 1);
  if ((cdw12 & nvme::copy_prinfor_mask) != 0) return refusal(CommandStatus::invalid_protection_information, sqe_cdw12_byte + 1, 4);
  if ((cdw12 & nvme::copy_directive_mask) != 0) return invalid_field(sqe_cdw12_byte + 2, 4);
  if ((cdw12 & (nvme::copy_stcr | nvme::copy_stcw)) != 0) return invalid_field(sqe_cdw12_byte + 3);
  if ((cdw12 & nvme::copy_prinfow_mask) != 0) return refusal(CommandStatus::invalid_protection_information, sqe_cdw12_byte + 3, 2);
  if ((cdw12 & nvme::copy_ranges_mask) + 1 > max_copy_ranges) return refusal(CommandStatus::command_size_limit_exceeded, sqe_cdw12_byte);
  return {};
}

bool overlap(std::uint64_t a, std::uint64_t b, std::uint64_t a_blocks, std::uint64_t b_blocks) { return a < b + b_blocks && b < a + a_blocks; }

// The ranges against the limits, the namespace and the destination.
CommandError check_ranges(const Request& request, const NamespaceSlot& slot) {
  const std::uint32_t block_size = 1U << slot.block_shift;
  const std::uint64_t size = slot.config->bdev->num_blocks();
  const std::uint32_t ranges = range_count(request);
  std::uint64_t total = 0;
  for (std::uint32_t i = 0; i < ranges; ++i) {
    const nvme::CopyRange range = range_at(request, i);
    const std::uint64_t blocks = blocks_of(range);
    if (blocks > copy_range_blocks(block_size)) return nvme::Status(CommandStatus::command_size_limit_exceeded).with_dnr();
    if (blocks > size || range.slba > size - blocks) return nvme::Status(GenericStatus::lba_out_of_range).with_dnr();
    total += blocks;
  }
  if (total > copy_blocks(block_size)) return nvme::Status(CommandStatus::command_size_limit_exceeded).with_dnr();
  const std::uint64_t destination = request.sqe.slba();
  if (total > size || destination > size - total) return refusal(GenericStatus::lba_out_of_range, sqe_cdw10_byte);
  for (std::uint32_t i = 0; i < ranges; ++i) {
    const nvme::CopyRange range = range_at(request, i);
    if (overlap(range.slba, destination, blocks_of(range), total)) return nvme::Status(CommandStatus::overlapping_io_range).with_dnr();
  }
  return {};
}

}  // namespace

PlanAction IoQueue::plan_copy(Request& request) {
  NamespaceSlot* slot = nullptr;
  CommandError error = find_slot(request.sqe.nsid, slot);
  if (error.ok()) error = check_cdw12(request.sqe.cdw12);
  if (!error.ok()) return refuse(request, error);
  return transfer(request, transport::DataDirection::host_to_controller, std::uint64_t{range_count(request)} * sizeof(nvme::CopyRange));
}

void IoQueue::execute_copy(Request& request) {
  NamespaceSlot* slot = nullptr;
  CommandError error = find_slot(request.sqe.nsid, slot);
  if (error.ok()) error = check_ranges(request, *slot);
  if (!error.ok()) return finish(request, error);
  Context::make(request).steps = {};
  next_copy(request);
}

void IoQueue::next_copy(Request& request) {
  Context& context = Context::of(request);
  const std::uint32_t ranges = range_count(request);
  while (context.steps.next < ranges && context.steps.failure == bdev::Status::ok && !context.steps.abort) {
    NamespaceSlot* slot = nullptr;
    CommandError error = find_slot(request.sqe.nsid, slot);  // it may have gone since the last range
    if (!error.ok()) {
      request.cqe.dw0 = context.steps.next;
      return finish(request, error);
    }
    const nvme::CopyRange range = range_at(request, context.steps.next);
    context.io = bdev::BdevIo();
    context.io.op = bdev::Op::copy;
    context.io.fua = (request.sqe.cdw12 & nvme::cdw12_fua) != 0;
    context.io.source_offset_blocks = range.slba;
    context.io.offset_blocks = request.sqe.slba() + context.steps.copied_blocks;
    context.io.num_blocks = blocks_of(range);
    ++context.steps.next;
    context.steps.copied_blocks += context.io.num_blocks;
    context.steps.submitting = true;
    context.steps.done_inline = false;
    submit(context, *slot, &IoQueue::step_done);
    context.steps.submitting = false;
    if (!context.steps.done_inline) return;
  }
  const bool failed = context.steps.failure != bdev::Status::ok;
  if (failed) request.cqe.dw0 = context.steps.next - 1;
  if (!failed && context.steps.next < ranges) {  // aborted between two ranges
    request.cqe.dw0 = context.steps.next;
    return finish(request, nvme::Status(GenericStatus::abort_requested));
  }
  if (!failed) {
    IoCounters::add(counters_->write_commands, 1);
    IoCounters::add(counters_->read_commands, 1);
    const std::uint64_t bytes = context.steps.copied_blocks << context.slot().block_shift;
    IoCounters::add(counters_->bytes_read, bytes);
    IoCounters::add(counters_->bytes_written, bytes);
  }
  finish(request, CommandError(nvme_status_of(context.steps.failure)));
}

}  // namespace catnap::server
