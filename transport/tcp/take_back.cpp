// Commands that the sink holds back with their data, and commands that are aborted before they began. See queue_pair.h, transport/command_sink.h.
// Owner: the queue pair's thread. Left out: aborting what is in execution (the sink's business).
//
// An aborted write may have R2Ts that the host has seen. It is answered at once all the same; its transfer tag stays reserved (SlotState::draining)
// until their data has come or TcpOptions::r2t_timeout_us is over, and that data is thrown away. A host that drops the data when it sees the
// answer, and one that sends it first, are both served.
#include "reactor/base/check.h"
#include "transport/tcp/queue_pair.h"

namespace catnap::tcp {

using nvme::Status;

namespace {

// Transfer tags kept for data that may still come: a host aborts a few commands, not a queue's worth again and again. Beyond it an asked-for command
// is not taken back, and Abort says so. What others take from a host (Preempt and Abort), which it cannot repeat alone, has room for a queue's worth
// more.
constexpr std::uint32_t max_draining = 64;

}  // namespace

void QueuePair::hold(transport::Request& request) {
  auto& slot = static_cast<Slot&>(request);
  CATNAP_CHECK(slot.state == SlotState::executing && slot.queue == this && !slot.consumes_inline);
  --executing_;
  slot.state = SlotState::kept;
  if (state_ == State::closed || state_ == State::terminating || state_ == State::disconnecting) {
    sink_->abandon(slot);
    slot.state = SlotState::sending;
    free_slot(slot);
    if (state_ == State::disconnecting) want_flush();  // which closes when nothing is left
    return finish_if_idle();
  }
  slot.buffer_since_ns = group_.thread.now_ns();
  if (kept_++ == 0 && waiting_data_ == 0) begin_data_window();
  expect_by(data_progress_ns_ + group_.options.send_stall_us * ns_per_us);
}

void QueuePair::resume(transport::Request& request) {
  auto& slot = static_cast<Slot&>(request);
  CATNAP_CHECK(slot.state == SlotState::kept && slot.queue == this);
  --kept_;
  ++executing_;
  slot.state = SlotState::executing;
}

transport::CommandQueue::Aborted QueuePair::abort_as(std::uint16_t cid, Status status) {
  for (const auto& slot : slots_) {
    if (slot->state == SlotState::free || slot->state == SlotState::draining || slot->sqe.cid != cid || !slot->owns_cid) continue;
    if (slot->state == SlotState::executing) return {AbortOutcome::executing, slot.get()};
    if (state_ != State::ready) return {};  // it is ending, and answers nobody any more
    if (!take_back(*slot, status)) return {};
    return {AbortOutcome::taken_back, nullptr};
  }
  return {};
}

std::vector<std::uint16_t> QueuePair::outstanding(const std::function<bool(const nvme::SubmissionEntry&)>& chosen) const {
  std::vector<std::uint16_t> cids;
  for (const auto& slot : slots_) {
    if (slot->state == SlotState::free || slot->state == SlotState::draining || !slot->owns_cid) continue;
    if (chosen(slot->sqe)) cids.push_back(slot->sqe.cid);
  }
  return cids;
}

// False: it is answered already, or would leave more transfer tags to keep than max_draining.
bool QueuePair::take_back(Slot& slot, Status status) {
  switch (slot.state) {
    case SlotState::receiving:
    case SlotState::held:
    case SlotState::waiting_buffer:
      slot.waiter.reset();
      break;
    case SlotState::kept:
      --kept_;
      break;
    case SlotState::waiting_data:
      if (draining_ >= max_draining + (status.same_code(nvme::GenericStatus::abort_requested) ? 0U : entries_)) return false;
      --waiting_data_;
      break;
    default:
      return false;
  }
  const bool asked = slot.state == SlotState::waiting_data;
  sink_->abandon(slot);
  nvme::set_status(slot.cqe, status);
  if (asked && !stop_asking(slot)) {
    slot.state = SlotState::taking_back;
  } else {
    answer_aborted(slot);
  }
  return true;
}

// The R2T that was not begun is not sent; what arrives for the others is no one's. False: an R2T is half out, the answer has to wait for it.
bool QueuePair::stop_asking(Slot& slot) {
  slot.aborted = true;
  if (payload_slot_ == &slot) {  // in the middle of an H2CData: the rest of it is thrown away
    payload_slot_ = nullptr;
    slot.received_bytes += payload_bytes_;
  }
  if (send_queue_.remove_unstarted(slot.tx)) {
    const std::uint32_t whole = (slot.asked_bytes - 1) / slot.r2t_bytes * slot.r2t_bytes;
    slot.asked_bytes = whole;
  }
  return !slot.tx.queued;
}

void QueuePair::answer_aborted(Slot& slot) {
  if (payload_slot_ == &slot) payload_slot_ = nullptr;
  slot.state = SlotState::receiving;
  slot.tx.clear();
  queue_response(slot);
}

// The answer is out and the CID free again, the transfer tag is not yet.
void QueuePair::drain(Slot& slot) {
  cids_in_use_->reset(slot.sqe.cid);
  slot.owns_cid = false;
  slot.tx.clear();
  slot.state = SlotState::draining;
  slot.data_since_ns = group_.thread.now_ns();
  --in_use_;
  ++draining_;
  watch_deadlines();
}

void QueuePair::discard_h2c_data(Slot& slot, std::uint32_t payload_bytes) {
  slot.received_bytes += payload_bytes;
  if (slot.state == SlotState::draining && !owes_data(slot)) free_slot(slot);
}

}  // namespace catnap::tcp
