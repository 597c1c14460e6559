// Receiving the data of R2Ts where it belongs: what is expected next, and what to do with what came. See foreseen.h, queue_pair.h.
// Owner: the queue pair's thread. Left out: PDUs nobody can foresee, which go through the group's buffer (receive.cpp).
//
// Before a recvmsg: the rest of the data under way, then for the oldest R2Ts a header, the data's place in the command's memory, a digest, and so on.
// After it the headers are compared with what was foreseen, all of them before anything is done with the first. From the first other one on, the
// bytes are put in one piece and read like any; the next is foreseen again when data was seen to follow data.
#include "transport/tcp/queue_pair.h"

namespace catnap::tcp {

// `payload_first`: the receive begins with the rest of the data that is under way. Empty when nothing is expected, or can be told.
Foreseen& QueuePair::foresee(bool payload_first) {
  Foreseen& plan = group_.foreseen;
  plan.begin(negotiated_, payload_first && layout_.data_digest);
  if (asked_.empty() || !foresees_ || !partial_.empty() || !(payload_first || receive_ == Receive::header)) return plan;
  std::uint32_t from_bytes = 0;
  while (!asked_.empty() && still_asked(asked_.at(0), from_bytes) == nullptr) asked_.pop_front();
  for (std::size_t i = 0; i < asked_.size() && !plan.is_full(); ++i) foresee_asked(plan, asked_.at(i));
  return plan;
}

// The command whose R2T this is, and which byte of its data comes next; null when all its data came, or nobody wants it.
const Slot* QueuePair::still_asked(const AskedOrder::Asked& asked, std::uint32_t& from_bytes) {
  const Slot* slot = slot_at(asked.slot);
  if (slot == nullptr || slot->state != SlotState::waiting_data) return nullptr;
  from_bytes = slot->received_bytes + (slot == payload_slot_ ? payload_bytes_ : 0);
  const bool in_this_r2t = from_bytes >= asked.offset_bytes && from_bytes - asked.offset_bytes < slot->r2t_bytes;
  return in_this_r2t && from_bytes < slot->asked_bytes ? slot : nullptr;
}

// As many PDUs as MAXH2CDATA makes of it.
void QueuePair::foresee_asked(Foreseen& plan, const AskedOrder::Asked& asked) {
  std::uint32_t from_bytes = 0;
  const Slot* slot = still_asked(asked, from_bytes);
  if (slot == nullptr || plan.has(slot->data + from_bytes)) return;
  const std::uint32_t end_bytes = std::min(slot->data_length, asked.offset_bytes + slot->r2t_bytes);
  while (from_bytes < end_bytes && !plan.is_full()) {
    H2CData pdu;
    pdu.cccid = slot->sqe.cid;
    pdu.ttag = slot->index;
    pdu.datao = from_bytes;
    const std::uint32_t length = std::min(end_bytes - from_bytes, negotiated_.max_h2c_data_bytes);
    pdu.datal = length;
    pdu.ch.flags = from_bytes + length == end_bytes ? flag_last_pdu : 0;
    plan.add(pdu, slot->data + from_bytes);
    from_bytes += length;
  }
}

// What one receive brought: `filled` bytes of the data under way, and `size` behind them. All of it is looked at before any of it is used, as the
// commands whose memory it lies in may not be there afterwards.
void QueuePair::take_foreseen(std::size_t filled, std::size_t size) {
  Foreseen& plan = group_.foreseen;
  const Foreseen::Right right = plan.check(size);
  std::unique_ptr<std::byte[]> others;
  std::size_t others_bytes = 0;
  if (!right.all) {
    others = plan.gather(right.pdus, size, group_.receive_buffer.get(), others_bytes);
    size -= others_bytes;
    foresees_ = false;
  }
  if (filled > 0) payload_filled(filled);
  const std::size_t digest = std::min(size, plan.leading_bytes());
  (void)parse(plan.leading(), digest);
  size -= digest;
  for (std::size_t i = 0; i < right.pdus && goes_on(); ++i) {
    Foreseen::Pdu& pdu = plan.pdu(i);
    if (size < pdu.header_bytes) return parse_all(pdu.header.data(), size);
    size -= take_foreseen_pdu(pdu, size);
  }
  if (!goes_on()) return;
  parse_all(right.all ? group_.receive_buffer.get() : others.get(), right.all ? size : others_bytes);
}

// One whose header is there; returns how many of `size` bytes are its own.
std::size_t QueuePair::take_foreseen_pdu(Foreseen::Pdu& pdu, std::size_t size) {
  std::size_t left = size - pdu.header_bytes;
  (void)parse(pdu.header.data(), pdu.header_bytes);
  if (!goes_on()) return size;
  const std::size_t data = std::min<std::size_t>(left, pdu.data_bytes);
  if (payload_to_ == pdu.data) {
    payload_filled(data);
  } else {
    (void)parse(pdu.data, data);  // nobody wants it any more
  }
  left -= data;
  const std::size_t trailer = goes_on() ? std::min<std::size_t>(left, pdu.trailer_bytes) : 0;
  (void)parse(pdu.digest.data(), trailer);
  return size - (left - trailer);
}

}  // namespace catnap::tcp
