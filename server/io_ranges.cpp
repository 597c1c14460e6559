// Commands on a range of blocks that move no data: Write Zeroes (NVM Command Set 1.0 section 3.2.8). See io_queue.h.
// Owner: the queue's poll group thread. Left out: nothing.
#include "server/io_context.h"
#include "server/io_queue.h"

namespace catnap::server {

using transport::PlanAction;
using transport::Request;

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

}  // namespace catnap::server
