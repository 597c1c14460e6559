// Read, Write and Compare (NVM Command Set 1.0 sections 3.2.4, 3.2.6 and 3.2.1). See io_queue.h.
// Owner: the queue's poll group thread. Left out: fused pairs.
#include "server/io_context.h"
#include "server/io_queue.h"

namespace catnap::server {

using transport::DataDirection;
using transport::PlanAction;
using transport::Request;

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

void IoQueue::expect(const nvme::SubmissionEntry& sqe) {
  const auto opcode = static_cast<nvme::IoOpcode>(sqe.opcode);
  if (opcode != nvme::IoOpcode::read && opcode != nvme::IoOpcode::write) return;
  const std::uint32_t nsid = sqe.nsid;
  const NamespaceSlot* const slot = nsid < views_.size() ? views_[nsid].slot : nullptr;
  if (slot == nullptr || !slot->channel) return;
  slot->channel->expect(opcode == nvme::IoOpcode::read ? bdev::Op::read : bdev::Op::write, sqe.slba(), sqe.block_count());
}

PlanAction IoQueue::plan_write(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = resolve(request.sqe, slot);
  if (!error.ok()) return refuse(request, error);
  request.consumes_inline = slot->config->bdev->consumes_inline();
  return transfer(request, DataDirection::host_to_controller, std::uint64_t{request.sqe.block_count()} << slot->block_shift);
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
    io.borrowed = request.consumes_inline && io.op != bdev::Op::read;
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

}  // namespace catnap::server
