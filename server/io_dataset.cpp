// Dataset Management (NVM Command Set 1.0 section 3.2.3). See io_queue.h.
// Owner: the queue's poll group thread. Left out: hints, which are accepted and have no effect.
#include <algorithm>
#include <cstring>

#include "server/io_context.h"
#include "server/io_limits.h"
#include "server/io_queue.h"
#include "transport/nvme/dsm.h"

namespace catnap::server {

using transport::DataDirection;
using transport::PlanAction;
using transport::Request;

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

// Where ranges are limited, what is beyond is not processed, which is no error (NVM Command Set 1.0 section 3.2.3.1; deallocating is a hint).
std::uint32_t processed_ranges(const Request& request, std::uint32_t dmrsl_blocks) {
  const std::uint32_t ranges = (request.sqe.cdw10 & 0xFF) + 1;
  return dmrsl_blocks == 0 ? ranges : std::min<std::uint32_t>(ranges, limited_dataset_ranges);
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
  context.steps = {};
  next_range(request);
}

void IoQueue::next_range(Request& request) {
  Context& context = Context::of(request);
  const std::uint32_t ranges = processed_ranges(request, dmrsl_blocks_);
  while (context.steps.next < ranges && context.steps.failure == bdev::Status::ok && !context.steps.abort) {
    const nvme::DsmRange range = range_at(request, context.steps.next++);
    if (range.blocks == 0) continue;
    NamespaceSlot* slot = nullptr;
    const CommandError error = find_slot(request.sqe.nsid, slot);  // it may have gone since the last range
    if (!error.ok()) return finish(request, error);
    context.io = bdev::BdevIo();
    context.io.op = bdev::Op::unmap;
    context.io.offset_blocks = range.slba;
    context.io.num_blocks = std::min<std::uint32_t>(range.blocks, dmrsl_blocks_ == 0 ? 0xFFFFFFFF : dmrsl_blocks_);
    context.steps.submitting = true;
    context.steps.done_inline = false;
    submit(context, *slot, &IoQueue::step_done);
    context.steps.submitting = false;
    if (!context.steps.done_inline) return;
  }
  if (context.steps.abort && context.steps.next < ranges && context.steps.failure == bdev::Status::ok) {
    context.steps.failure = bdev::Status::aborted;
  }
  finish(request, CommandError(nvme_status_of(context.steps.failure)));
}

}  // namespace catnap::server
