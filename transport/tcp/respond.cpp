// Bytes out: answers, R2Ts, ICResp, C2HTermReq. See queue_pair.h.
#include <fmt/core.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "reactor/base/check.h"
#include "reactor/base/crc32c.h"
#include "reactor/base/log_limit.h"
#include "transport/tcp/pdu_writer.h"
#include "transport/tcp/queue_pair.h"

namespace catnap::tcp {
namespace {

// What hosts do wrong: each address may say so a few times.
LogLimit termination_log;

}  // namespace

void QueuePair::queue_response(Slot& slot) {
  slot.state = SlotState::sending;
  // The head moves with completions, so that the host's credit is what we can hold.
  sq_head_ = static_cast<std::uint16_t>(sq_head_ + 1 == entries_ ? 0 : sq_head_ + 1);
  const bool success = slot.cqe.status_field() == 0;
  const bool with_data = success && slot.direction == transport::DataDirection::controller_to_host && slot.data_length > 0;
  if (!with_data && slot.heap != nullptr) release_heap(slot);
  const bool says_success = with_data && c2h_success_ && slot.cqe.dw0_dw1() == 0;
  if (with_data) put_data(slot, says_success);
  if (!says_success) put_response(slot);
  send_queue_.push(slot.tx);
  want_flush();
  if (!with_data) slot.buffer.reset();  // nothing of it is needed any more: let others have it at once
}

// C2HData with all of a read's data; `says_success`: no CapsuleResp follows.
void QueuePair::put_data(Slot& slot, bool says_success) {
  SendItem& item = slot.tx;
  auto& pdu = begin_header<C2HData>(item.head.data(), PduType::c2h_data);
  const std::uint32_t bare = sizeof pdu + (negotiated_.header_digest ? digest_bytes : 0);
  const std::uint32_t data_offset = round_up(bare, pda_alignment_bytes(hpda_));
  pdu.ch.flags = static_cast<std::uint8_t>(flag_last_pdu | (says_success ? flag_success : 0) | (negotiated_.data_digest ? flag_ddgst : 0));
  pdu.ch.pdo = static_cast<std::uint8_t>(data_offset);
  pdu.ch.plen = data_offset + slot.data_length + (negotiated_.data_digest ? digest_bytes : 0);
  pdu.cccid = slot.sqe.cid;
  pdu.datal = slot.data_length;
  item.head_bytes = end_header(pdu, negotiated_.header_digest);
  item.pad_bytes = static_cast<std::uint8_t>(data_offset - bare);
  item.data_bytes = slot.data_length;
  item.lease = slot.lease;
  item.data = slot.lease.base != nullptr ? slot.lease.base : slot.data;
  CATNAP_CHECK(item.data != nullptr);
  if (negotiated_.data_digest) {
    item.tail_bytes = digest_bytes;
    item.owes_digest = slot.lease.base != nullptr;
    if (!item.owes_digest) {
      const le32 digest = crc32c(item.data, item.data_bytes);
      std::memcpy(item.tail.data(), &digest, sizeof digest);
    }
  }
  ++group_.stats.pdus_sent;
}

// CapsuleResp, behind the data if there are any. slot.cqe has the status and what the command says; the rest is the queue's.
void QueuePair::put_response(Slot& slot) {
  SendItem& item = slot.tx;
  auto& pdu = begin_header<CapsuleResp>(item.tail.data() + item.tail_bytes, PduType::capsule_resp);
  pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu) + (negotiated_.header_digest ? digest_bytes : 0);
  pdu.cqe.set_dw0_dw1(slot.cqe.dw0_dw1());
  pdu.cqe.sqhd = sq_flow_control_disabled_ ? std::uint16_t{0xFFFF} : sq_head_;  // FFFFh grants the host's wish for no flow control
  pdu.cqe.cid = slot.sqe.cid;                                                   // SQID is reserved in Fabrics
  pdu.cqe.status = slot.cqe.status;
  item.tail_bytes = static_cast<std::uint8_t>(item.tail_bytes + end_header(pdu, negotiated_.header_digest));
  ++group_.stats.pdus_sent;
}

// Asks for the next part of a write's data, as far as the host allows R2Ts to be outstanding.
void QueuePair::queue_r2t(Slot& slot) {
  if (slot.tx.queued || slot.asked_bytes == slot.data_length || slot.r2ts_outstanding >= max_r2ts_) return;
  asked_.push({slot.index, slot.asked_bytes}, slot_limit_);
  slot.tx.clear();
  auto& pdu = begin_header<R2T>(slot.tx.head.data(), PduType::r2t);
  pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu + (negotiated_.header_digest ? digest_bytes : 0));
  pdu.cccid = slot.sqe.cid;
  pdu.ttag = slot.index;
  pdu.r2to = slot.asked_bytes;
  const std::uint32_t length = std::min(slot.r2t_bytes, slot.data_length - slot.asked_bytes);
  pdu.r2tl = length;
  slot.asked_bytes += length;
  ++slot.r2ts_outstanding;
  slot.data_since_ns = group_.thread.now_ns();
  slot.tx.head_bytes = end_header(pdu, negotiated_.header_digest);
  ++group_.stats.pdus_sent;
  send_queue_.push(slot.tx);
  want_flush();
  expect_by(slot.data_since_ns + std::min(group_.options.r2t_timeout_us, group_.options.send_stall_us) * ns_per_us);
}

void QueuePair::queue_ic_resp(std::uint8_t dgst) {
  IcResp pdu;
  pdu.ch.type = static_cast<std::uint8_t>(PduType::ic_resp);
  pdu.ch.hlen = sizeof pdu;
  pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu);
  pdu.dgst = dgst;
  pdu.maxh2cdata = group_.options.max_h2c_data_bytes;
  control_bytes_.resize(sizeof pdu);
  std::memcpy(control_bytes_.data(), &pdu, sizeof pdu);
  control_item_.clear();
  control_item_.data = control_bytes_.data();
  control_item_.data_bytes = sizeof pdu;
  ++group_.stats.pdus_sent;
  send_queue_.push(control_item_);
  want_flush();
}

// Ends the connection as section 3.5.2 says: C2HTermReq with the header at fault, then the host closes.
void QueuePair::terminate(const Fault& fault, const std::byte* header, std::size_t header_bytes) {
  log_limited(termination_log, LogLevel::warning, peer_.traddr, "{}: connection ended: {} (FES {:#x}, FEI {:#x})", label(), fault.reason,
              static_cast<unsigned>(fault.fes), fault.fei);
  ++group_.stats.terminations_sent;
  send_queue_.drop_unstarted();
  if (control_item_.queued) return close(fault.reason, true);  // ICResp is half out: nothing else can be said
  linger(State::terminating, fault.reason);
  const std::size_t copied = std::min(header_bytes, max_term_data_bytes);
  TermReq pdu;
  pdu.ch.type = static_cast<std::uint8_t>(PduType::c2h_term_req);
  pdu.ch.hlen = sizeof pdu;
  pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu + copied);
  pdu.fes = static_cast<std::uint16_t>(fault.fes);
  pdu.fei = fault.fei;
  control_bytes_.resize(sizeof pdu + copied);
  std::memcpy(control_bytes_.data(), &pdu, sizeof pdu);
  std::memcpy(control_bytes_.data() + sizeof pdu, header, copied);
  control_item_.clear();
  control_item_.data = control_bytes_.data();
  control_item_.data_bytes = static_cast<std::uint32_t>(control_bytes_.size());
  send_queue_.push(control_item_);
  want_flush();
}

void QueuePair::on_item_sent(SendItem& item) {
  if (item.owner == nullptr) {
    if (state_ != State::terminating) return;
    if (tls_ != nullptr) return tls_->finish(fd_);
    ::shutdown(fd_, SHUT_WR);
    return;
  }
  auto& slot = *static_cast<Slot*>(item.owner);
  if (slot.state == SlotState::sending) return owes_data(slot) ? drain(slot) : free_slot(slot);
  if (slot.state == SlotState::taking_back) return answer_aborted(slot);
  if (slot.state == SlotState::waiting_data) queue_r2t(slot);  // another may be allowed at once
}

void QueuePair::watch_writable(bool on) {
  if (on == watching_writable_) return;
  watching_writable_ = on;
  watch_deadlines();
  update_interest();
}

void QueuePair::update_interest() {
  const std::uint32_t wanted =
      (paused_ ? 0U : static_cast<std::uint32_t>(EPOLLIN)) | (watching_writable_ ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
  auto changed = group_.thread.fds().modify(fd_, wanted);
  if (!changed) log_error("{}: {}", label(), changed.error().message);
}

void QueuePair::flush() {
  if (state_ == State::closed) return;
  const SendQueue::Flushed sent = send_queue_.flush(fd_, tls_.get());
  group_.stats.send_calls += sent.calls;
  group_.stats.bytes_sent += sent.bytes;
  if (sent.outcome == SendQueue::Outcome::failed) {
    const bool host_is_gone = sent.err == EPIPE || sent.err == ECONNRESET;
    return close(fmt::format("sending: {}", errno_text(sent.err)), host_is_gone);
  }
  if (!watching_writable_) {
    stalled_since_ns_ = group_.thread.now_ns();
    sent_in_window_ = 0;
  }
  sent_in_window_ += sent.bytes;
  watch_writable(sent.outcome == SendQueue::Outcome::blocked);
  const bool all_out = send_queue_.empty() && (tls_ == nullptr || !tls_->has_unsent());
  if (state_ == State::disconnecting && executing_ == 0 && all_out) close(close_reason_, true);
}

}  // namespace catnap::tcp
