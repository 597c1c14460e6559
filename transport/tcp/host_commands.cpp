// Commands of a host's queue pair: into the submission queue, their data out, back to their user. See host_queue.h.
#include <fmt/core.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "reactor/base/check.h"
#include "reactor/base/crc32c.h"
#include "reactor/base/log.h"
#include "transport/tcp/host_slot.h"
#include "transport/tcp/pdu_writer.h"

namespace catnap::tcp {
namespace {

using transport::DataDirection;

}  // namespace

std::uint32_t data_digest(const HostRequest& request, std::uint32_t offset, std::uint32_t length) {
  Crc32c crc;
  for (std::uint32_t i = 0; length > 0; ++i) {
    const iovec& piece = request.iov[i];
    if (offset >= piece.iov_len) {
      offset -= static_cast<std::uint32_t>(piece.iov_len);
      continue;
    }
    const auto part = static_cast<std::uint32_t>(std::min<std::size_t>(length, piece.iov_len - offset));
    crc.update(static_cast<const std::byte*>(piece.iov_base) + offset, part);
    length -= part;
    offset = 0;
  }
  return crc.value();
}

HostQueue::Slot* HostQueue::slot_of(std::uint16_t cid) {
  const std::uint16_t index = cid & ((1U << Slot::generation_shift) - 1);
  if (index >= options_.entries - 1) return nullptr;
  Slot& slot = slots_[index];
  return slot.request != nullptr && !slot.answered && slot.cid() == cid ? &slot : nullptr;
}

std::uint16_t HostQueue::cid_of(const HostRequest& request) const { return slots_[request.slot].cid(); }

bool HostQueue::has_room(const HostRequest& request) const { return in_use_ + (request.second != nullptr ? 2U : 1U) <= options_.entries - 1U; }

void HostQueue::submit(HostRequest& request) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  request.next = nullptr;
  const std::uint32_t commands = request.second != nullptr ? 2 : 1;
  stats_.requests += commands;
  if (state_ != State::ready) [[unlikely]] {
    HostRequest* second = request.second;
    request.outcome = HostRequest::Outcome::not_sent;
    request.done(request);
    if (second == nullptr) return;
    second->outcome = HostRequest::Outcome::not_sent;
    second->done(*second);
    return;
  }
  if (line_first_ == nullptr && has_room(request)) [[likely]] {
    start(request);
    if (request.second != nullptr) start(*request.second);
    return;
  }
  ++stats_.queued_requests;
  outstanding_ += commands;
  request.waiting = true;
  (line_last_ != nullptr ? line_last_->next : line_first_) = &request;
  line_last_ = &request;
}

bool HostQueue::take_back(HostRequest& request) {
  if (!request.waiting) return false;
  HostRequest* before = nullptr;
  HostRequest* at = line_first_;
  for (; at != &request; at = at->next) before = at;
  (before != nullptr ? before->next : line_first_) = request.next;
  if (line_last_ == &request) line_last_ = before;
  request.waiting = false;
  HostRequest* second = request.second;
  outstanding_ -= second != nullptr ? 2 : 1;
  request.outcome = HostRequest::Outcome::not_sent;
  request.done(request);
  if (second != nullptr) {
    second->outcome = HostRequest::Outcome::not_sent;
    second->done(*second);
  }
  return true;
}

void HostQueue::start_waiting() {
  while (line_first_ != nullptr && state_ == State::ready && has_room(*line_first_)) {
    HostRequest& request = *line_first_;
    line_first_ = request.next;
    if (line_first_ == nullptr) line_last_ = nullptr;
    request.waiting = false;
    outstanding_ -= request.second != nullptr ? 2 : 1;
    start(request);
    if (request.second != nullptr) start(*request.second);
  }
}

// Gives the command a place in the queue and hands its capsule to the send queue.
void HostQueue::start(HostRequest& request) {
  Slot& slot = *free_;
  free_ = slot.next_free;
  ++in_use_;
  ++outstanding_;
  slot.generation = (slot.generation + 1) & 0xF;
  slot.request = &request;
  slot.answered = slot.digest_bad = false;
  slot.moved_bytes = slot.r2t_end_bytes = 0;
  slot.newer = nullptr;
  slot.older = newest_;
  (newest_ != nullptr ? newest_->newer : oldest_) = &slot;
  newest_ = &slot;
  request.slot = slot.index;
  request.submitted_ns = thread_.now_ns();
  if (options_.command_timeout_us > 0 && !deadline_.armed() && !request.late)
    thread_.arm_at(deadline_, request.submitted_ns + options_.command_timeout_us * ns_per_us);
  queue_command(slot);
}

void HostQueue::queue_command(Slot& slot) {
  const HostRequest& request = *slot.request;
  const std::uint32_t in_capsule_limit =
      options_.qid == 0 || (state_ == State::attaching && auth_ == nullptr) ? admin_in_capsule_bytes : options_.in_capsule_bytes;
  slot.in_capsule = request.direction == DataDirection::host_to_controller && request.data_bytes > 0 && request.data_bytes <= in_capsule_limit;
  auto& pdu = begin_header<CapsuleCmd>(slot.capsule.data(), PduType::capsule_cmd);
  pdu.sqe = request.sqe;
  pdu.sqe.cid = slot.cid();
  pdu.sqe.set_psdt(nvme::Psdt::sgl);
  pdu.sqe.sgl = {};
  pdu.sqe.sgl.length = request.data_bytes;
  const std::uint32_t bare = sizeof pdu + (negotiated_.header_digest ? digest_bytes : 0U);
  const std::uint32_t data_offset = slot.in_capsule ? round_up(bare, pda_alignment_bytes(cpda_)) : bare;
  if (slot.in_capsule) {
    pdu.sqe.sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
    pdu.ch.pdo = static_cast<std::uint8_t>(data_offset);
    pdu.ch.plen = data_offset + request.data_bytes + (negotiated_.data_digest ? digest_bytes : 0U);
    if (negotiated_.data_digest) pdu.ch.flags |= flag_ddgst;
  } else {
    pdu.sqe.sgl.set_type(nvme::SglType::transport_data_block, nvme::SglSubtype::transport);
    pdu.ch.plen = bare;
  }
  slot.command.clear();
  slot.command.data_bytes = end_header(pdu, negotiated_.header_digest);
  slot.command.data = slot.capsule.data();
  ++stats_.pdus_sent;
  send_queue_.push(slot.command);
  if (slot.in_capsule) {
    slot.data.clear();
    slot.data.pad_bytes = static_cast<std::uint8_t>(data_offset - bare);
    queue_data_part(slot, request.data_bytes);
  }
  want_flush();
}

// The next `length` bytes of the command's data, behind whatever head the item has.
void HostQueue::queue_data_part(Slot& slot, std::uint32_t length) {
  const HostRequest& request = *slot.request;
  SendItem& item = slot.data;
  item.data_bytes = length;
  if (request.iov_count == 1) {
    item.data = static_cast<const std::byte*>(request.iov->iov_base) + slot.moved_bytes;
  } else {
    item.pieces = request.iov;
    item.piece_count = request.iov_count;
    item.pieces_at = slot.moved_bytes;
  }
  if (negotiated_.data_digest) {
    const bool whole = length == request.data_bytes;
    const le32 digest = whole && request.known_digest ? *request.known_digest : data_digest(request, slot.moved_bytes, length);
    std::memcpy(item.tail.data(), &digest, sizeof digest);
    item.tail_bytes = sizeof digest;
  }
  slot.moved_bytes += length;
  send_queue_.push(item);
}

// The next H2CData of the R2T under way.
void HostQueue::queue_h2c_data(Slot& slot) {
  const std::uint32_t length = std::min(slot.r2t_end_bytes - slot.moved_bytes, max_h2c_data_bytes_);
  slot.data.clear();
  auto& pdu = begin_header<H2CData>(slot.data.head.data(), PduType::h2c_data);
  const std::uint32_t bare = sizeof pdu + (negotiated_.header_digest ? digest_bytes : 0U);
  const std::uint32_t data_offset = round_up(bare, pda_alignment_bytes(cpda_));
  pdu.ch.pdo = static_cast<std::uint8_t>(data_offset);
  pdu.ch.plen = data_offset + length + (negotiated_.data_digest ? digest_bytes : 0U);
  if (negotiated_.data_digest) pdu.ch.flags |= flag_ddgst;
  if (slot.moved_bytes + length == slot.r2t_end_bytes) pdu.ch.flags |= flag_last_pdu;
  pdu.cccid = slot.cid();
  pdu.ttag = slot.ttag;
  pdu.datao = slot.moved_bytes;
  pdu.datal = length;
  slot.data.head_bytes = end_header(pdu, negotiated_.header_digest);
  slot.data.pad_bytes = static_cast<std::uint8_t>(data_offset - bare);
  ++stats_.pdus_sent;
  queue_data_part(slot, length);
  want_flush();
}

void HostQueue::on_item_sent(SendItem& item) {
  if (item.owner == nullptr) return;  // ICReq
  Slot& slot = *static_cast<Slot*>(item.owner);
  if (&item != &slot.data) return;
  if (slot.answered) {
    finish(slot, HostRequest::Outcome::answered);
  } else if (slot.moved_bytes < slot.r2t_end_bytes) {
    queue_h2c_data(slot);
  }
}

// request.cqe is the controller's. Success is believed only with all of the data.
void HostQueue::answer(Slot& slot) {
  HostRequest& request = *slot.request;
  if (slot.digest_bad) {
    nvme::set_status(request.cqe, nvme::GenericStatus::transient_transport_error);
  } else if (request.cqe.status_field() == 0 && slot.moved_bytes < request.data_bytes) [[unlikely]] {
    log_warning("{}: the controller reports success for command {:#x} (opcode {:#x}) after {} of {} bytes of its data", label_, slot.cid(),
                request.sqe.opcode, slot.moved_bytes, request.data_bytes);
    nvme::set_status(request.cqe, nvme::GenericStatus::data_transfer_error);
  }
  if (slot.data.queued && !send_queue_.remove_unstarted(slot.data)) {
    slot.answered = true;  // the rest of this PDU has to go out, from the user's memory
    slot.r2t_end_bytes = slot.moved_bytes;
    return;
  }
  finish(slot, HostRequest::Outcome::answered);
}

void HostQueue::release(Slot& slot) {
  (slot.older != nullptr ? slot.older->newer : oldest_) = slot.newer;
  (slot.newer != nullptr ? slot.newer->older : newest_) = slot.older;
  slot.request = nullptr;
  slot.next_free = std::exchange(free_, &slot);
  --in_use_;
  --outstanding_;
}

void HostQueue::finish(Slot& slot, HostRequest::Outcome outcome) {
  HostRequest& request = *slot.request;
  release(slot);
  request.outcome = outcome;
  thread_.count_progress();
  request.done(request);
  if (line_first_ != nullptr) start_waiting();
}

// --- sending ---

void HostQueue::flush() {
  if (state_ == State::closed || state_ == State::connecting || state_ == State::securing) return;
  const SendQueue::Flushed sent = send_queue_.flush(fd_, tls_.get());
  stats_.send_calls += sent.calls;
  stats_.bytes_sent += sent.bytes;
  if (sent.outcome == SendQueue::Outcome::failed) return close(Error(sent.err, fmt::format("sending: {}", errno_text(sent.err))));
  const bool blocked = sent.outcome == SendQueue::Outcome::blocked || !send_queue_.empty();
  if (blocked == watching_writable_) return;
  watching_writable_ = blocked;
  update_interest();
}

void HostQueue::update_interest() {
  if (poller_ != nullptr || state_ == State::closed) return;
  const std::uint32_t wanted = static_cast<std::uint32_t>(EPOLLIN) | (watching_writable_ ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
  auto changed = in_fd_group_
                     ? thread_.fds().modify(fd_, wanted)
                     : thread_.fds().add(fd_, wanted, fmt::format("nvme queue {}", label_), [this](std::uint32_t events) { on_event(events); });
  if (!changed) return close(changed.error());
  in_fd_group_ = true;
}

}  // namespace catnap::tcp
