// Commands on a range of blocks that move no data: Write Zeroes, Verify, Write Uncorrectable (NVM Command Set 1.0 sections 3.2.8, 3.2.5, 3.2.7).
// See io_queue.h.
// Owner: the queue's poll group thread. Left out: nothing.
#include "server/io_context.h"
#include "server/io_limits.h"
#include "server/io_queue.h"

namespace catnap::server {

using transport::PlanAction;
using transport::Request;

// --- Write Zeroes ---

PlanAction IoQueue::plan_write_zeroes(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = resolve(request.sqe, slot);
  if (!error.ok()) return refuse(request, error);
  if (exceeds_size_limit(std::uint64_t{request.sqe.block_count()} << slot->block_shift, wzsl_)) return refuse(request, invalid_field(sqe_cdw12_byte));
  return PlanAction::execute;
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

void IoQueue::execute_range(Request& request, bdev::Op op) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = resolve(request.sqe, slot);
  if (!error.ok()) return finish(request, error);
  Context& context = Context::make(request);
  context.io.op = op;
  context.io.offset_blocks = request.sqe.slba();
  context.io.num_blocks = request.sqe.block_count();
  submit(context, *slot, &IoQueue::io_done);
}

// --- Verify ---

PlanAction IoQueue::plan_verify(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = resolve(request.sqe, slot);
  if (!error.ok()) return refuse(request, error);
  const std::uint64_t length_bytes = std::uint64_t{request.sqe.block_count()} << slot->block_shift;
  if (exceeds_size_limit(length_bytes, verify_size_limit)) return refuse(request, invalid_field(sqe_cdw12_byte));
  return PlanAction::execute;
}

void IoQueue::execute_verify(Request& request) { execute_range(request, bdev::Op::verify); }

// --- Write Uncorrectable ---

// Where the block device cannot keep such marks, the command is none of this namespace's.
PlanAction IoQueue::plan_write_uncorrectable(Request& request) {
  NamespaceSlot* slot = nullptr;
  const CommandError error = resolve(request.sqe, slot);
  if (!error.ok()) return refuse(request, error);
  if (!slot->config->bdev->supports(bdev::Op::write_uncorrectable)) return refuse(request, refusal(nvme::GenericStatus::invalid_opcode, 0));
  const std::uint64_t length_bytes = std::uint64_t{request.sqe.block_count()} << slot->block_shift;
  if (exceeds_size_limit(length_bytes, write_uncorrectable_size_limit)) return refuse(request, invalid_field(sqe_cdw12_byte));
  return PlanAction::execute;
}

void IoQueue::execute_write_uncorrectable(Request& request) { execute_range(request, bdev::Op::write_uncorrectable); }

}  // namespace catnap::server
