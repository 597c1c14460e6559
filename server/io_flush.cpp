// Flush, of one namespace or of all (Base 2.0 section 7.1). See io_queue.h.
// Owner: the queue's poll group thread. Left out: nothing.
#include "server/io_context.h"
#include "server/io_queue.h"

namespace catnap::server {

using transport::PlanAction;
using transport::Request;

PlanAction IoQueue::plan_flush(Request& request) {
  if (request.sqe.nsid == nvme::broadcast_nsid) {
    return any_denied(deny_write) ? refuse(request, nvme::Status(nvme::GenericStatus::reservation_conflict).with_dnr()) : PlanAction::execute;
  }
  NamespaceSlot* slot = nullptr;
  const CommandError error = find_slot(request.sqe.nsid, slot);
  return error.ok() ? PlanAction::execute : refuse(request, error);
}

void IoQueue::execute_flush(Request& request) {
  Context& context = Context::make(request);
  context.io.op = bdev::Op::flush;
  if (request.sqe.nsid == nvme::broadcast_nsid) {
    context.steps = {};
    context.steps.next = 1;
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
  while (context.steps.next < views_.size() && !context.steps.abort) {
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
  if (context.steps.abort && context.steps.next < views_.size() && context.steps.failure == bdev::Status::ok) {
    context.steps.failure = bdev::Status::aborted;
  }
  finish(request, CommandError(nvme_status_of(context.steps.failure)));
}

}  // namespace catnap::server
