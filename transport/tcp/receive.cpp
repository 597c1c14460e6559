// Bytes in: from the socket to whole PDUs, and their data to where it belongs. See queue_pair.h.
//
// The group's receive buffer holds what one recvmsg brought; nothing stays in it when the event is done: an incomplete header (≤ 255 bytes) moves to
// `partial_`, and data goes to its request's memory, straight from the socket once its header was seen.
#include <fmt/core.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "reactor/base/check.h"
#include "reactor/base/crc32c.h"
#include "reactor/base/log_limit.h"
#include "reactor/reactor.h"
#include "transport/nvme/status.h"
#include "transport/tcp/queue_pair.h"
#include "transport/tcp/take_parts.h"

namespace catnap::tcp {
namespace {

using nvme::GenericStatus;
using nvme::Status;

// What hosts do wrong: each address may say so a few times.
LogLimit fault_log;
// A host that goes on sending after C2HTermReq is read only so far: what was on its way fits, a flood does not.
constexpr std::uint64_t max_discarded_bytes = std::uint64_t{4} << 20;

constexpr std::uint32_t min_progress_bytes = 4096;
// Answers go out at the end of the turn, all in one call; but when this much data waits, before the next command is looked at: the host has work
// meanwhile, copies of reads are still in the CPU's cache, and nothing has to be copied for want of room to lend (1 MiB). docs/performance.md has the
// figures for 128 KiB to 1 MiB; answers of 4 KiB at the usual depths never get there.
constexpr std::uint64_t early_send_bytes = 768U << 10;
// Of one turn: 6 MiB and more, a millisecond or two, after which the group's other connections have theirs.
constexpr std::uint32_t early_sends_per_turn = 8;

constexpr std::uint32_t offset_cccid = 8, offset_ttag = 10;

// A record of TLS that carries a handshake message: type, then version 3.x. As a PDU it would be of an unknown type.
bool speaks_tls(const std::byte* bytes) { return bytes[0] == std::byte{22} && bytes[1] == std::byte{3}; }

}  // namespace

void QueuePair::on_event(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) want_flush();
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) on_readable();
}

// A look at the socket without asking epoll first (FdGroup::set_attempt).
bool QueuePair::attempt() {
  if (!goes_on()) return false;
  receive();
  arrived_.waits = arrived_.bytes >= 0 || (arrived_.err != EAGAIN && arrived_.err != EINTR);
  return arrived_.waits;
}

// To where the bytes belong, as far as that is known, and to the group's buffer.
void QueuePair::receive() {
  std::byte* const buffer = group_.receive_buffer.get();
  const std::size_t kept = partial_.size();
  std::copy(partial_.begin(), partial_.end(), buffer);

  std::array<iovec, 2 + Foreseen::max_pieces> pieces;
  std::size_t count = 0;
  // Without memory yet (the last read ended right before in-capsule data) the bytes come to the buffer, where they may be used in place.
  const std::size_t direct = receive_ == Receive::payload && payload_slot_ != nullptr && payload_to_ != nullptr ? payload_left_ : 0;
  if (direct > 0) pieces[count++] = {payload_to_, direct};
  Foreseen& foreseen = foresee(direct > 0);
  count += foreseen.put_pieces(&pieces[count]);
  if (!foreseen.is_full()) pieces[count++] = {buffer + kept, receive_buffer_bytes - kept};
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = count;
  arrived_.bytes = tls_ == nullptr ? recvmsg(fd_, &message, MSG_DONTWAIT) : tls_->receive(fd_, pieces.data(), count);
  arrived_.err = errno;
  arrived_.kept_bytes = kept;
  arrived_.direct_bytes = direct;
}

void QueuePair::on_readable() {
  if (!goes_on()) return discard_readable();
  if (!std::exchange(arrived_.waits, false)) receive();
  ++group_.stats.receive_calls;
  if (arrived_.bytes <= 0) return close_as_received();
  const auto got = static_cast<std::size_t>(arrived_.bytes);
  group_.stats.bytes_received += got;
  const std::size_t filled = std::min(got, arrived_.direct_bytes);
  if (group_.foreseen.empty()) {
    if (filled > 0) payload_filled(filled);
    parse_all(group_.receive_buffer.get(), arrived_.kept_bytes + got - filled);
  } else {
    take_foreseen(filled, got - filled);
  }
  come_back_for_tls();
}

// The end, or an error; or there was nothing after all.
void QueuePair::close_as_received() {
  if (arrived_.bytes == 0) return close("the host closed the connection", true);
  const int err = arrived_.err;
  if (err == EAGAIN || err == EINTR) return come_back_for_tls();
  if (err == EBADMSG && tls_ != nullptr) return close("TLS: " + tls_->why());
  close(fmt::format("receiving: {}", errno_text(err)), err == ECONNRESET);
}

// Takes what is whole, and keeps an incomplete header.
void QueuePair::parse_all(std::byte* bytes, std::size_t size) {
  const std::size_t consumed = parse(bytes, size);
  if (!goes_on()) return;
  partial_.assign(bytes + consumed, bytes + size);
  note_begun_pdu();
}

// Bytes of the present payload are where they belong.
void QueuePair::payload_filled(std::size_t bytes) {
  received_in_window_ += bytes;
  payload_to_ += bytes;
  payload_left_ -= static_cast<std::uint32_t>(bytes);
  if (payload_left_ == 0) payload_arrived();
}

// What epoll does not tell of: bytes that the library holds, in either direction.
void QueuePair::come_back_for_tls() {
  if (tls_ == nullptr || state_ == State::closed) return;
  if (tls_->has_pending() && !paused_) group_.thread.make_ready(read_on_);
  if (tls_->has_unsent()) want_flush();
}

// The host owes the rest of a PDU, and this connection may have had enough for now.
void QueuePair::note_begun_pdu() {
  if (pdu_since_ns_ == 0 && (receive_ != Receive::header || !partial_.empty())) {
    pdu_since_ns_ = group_.thread.now_ns();
    std::uint64_t within_us = group_.options.pdu_timeout_us;
    if (payload_slot_ != nullptr && payload_slot_->in_capsule && payload_slot_->buffer) {
      payload_slot_->buffer_since_ns = pdu_since_ns_;
      if (waiting_data_ + kept_ == 0) begin_data_window();
      within_us = std::min(within_us, group_.options.send_stall_us);
    }
    expect_by(pdu_since_ns_ + within_us * ns_per_us);
  }
  if (heap_bytes_ > group_.options.max_buffered_bytes && !paused_) {
    paused_ = true;
    ++group_.stats.receive_pauses;
    update_interest();
  }
}

// After a fault or a disconnect: reads on, so that the close is seen and the last PDU sent is not destroyed by a reset (unread data at close).
void QueuePair::discard_readable() {
  const iovec room{group_.receive_buffer.get(), receive_buffer_bytes};
  const ssize_t got = tls_ == nullptr ? recv(fd_, room.iov_base, room.iov_len, MSG_DONTWAIT) : tls_->receive(fd_, &room, 1);
  if (got > 0 && state_ == State::terminating) {
    discarded_bytes_ += static_cast<std::uint64_t>(got);
    if (discarded_bytes_ > max_discarded_bytes) return close(close_reason_, true);
  }
  if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) return come_back_for_tls();
  close(close_reason_, true);
}

// Between two PDUs; whether anything was. May close the connection.
bool QueuePair::send_early() {
  if (send_queue_.data_bytes() < early_send_bytes || watching_writable_) return false;
  flush();
  return true;
}

// Consumes what it can; returns how many bytes that was.
std::size_t QueuePair::parse(std::byte* bytes, std::size_t size) {
  std::uint32_t early_sends = 0;
  return take_parts(bytes, size, [this, &early_sends](std::byte* part, std::size_t left) -> std::size_t {
    if (receive_ == Receive::header && early_sends < early_sends_per_turn && send_early()) ++early_sends;
    if (!goes_on()) return 0;
    if (receive_ == Receive::header) return take_header(part, left);
    return receive_ == Receive::payload ? take_payload(part, left) : take_digest(part, left);
  });
}

std::size_t QueuePair::take_header(std::byte* bytes, std::size_t size) {
  if (size < sizeof(CommonHeader)) return 0;
  const auto common = read_as<CommonHeader>(bytes);
  const auto refuse = [&](const Fault& fault, std::size_t have) {
    terminate(fault, bytes, have);
    return size;  // all that follows is void
  };
  if (state_ == State::expecting_ic_req && speaks_tls(bytes))
    return refuse({FatalError::invalid_header_field, 0, "the host begins with TLS, and this listener was added without secure_channel"},
                  sizeof common);
  const auto type = static_cast<PduType>(common.type);
  const bool data_pdu = type == PduType::capsule_cmd || type == PduType::h2c_data;
  if ((data_pdu && state_ == State::expecting_ic_req) || (type == PduType::ic_req && state_ == State::ready))
    return refuse({FatalError::pdu_sequence_error, 0, data_pdu ? "PDU before ICReq" : "second ICReq"}, sizeof common);
  if (const auto fault = check_common_header(common, negotiated_, layout_)) return refuse(*fault, sizeof common);
  if (size < layout_.header_bytes) return 0;
  if (layout_.header_digest) {
    if (const auto fault = check_header_digest({bytes, size}, common.hlen)) {
      ++group_.stats.header_digest_errors;
      return refuse(*fault, common.hlen);
    }
  }
  ++group_.stats.pdus_received;
  pdu_since_ns_ = 0;  // of the one before; a new one may begin with its data
  expect_next(bytes, size, common.plen);
  handle_header(bytes, layout_);
  if (layout_.payload_bytes > 0) {
    receive_ = Receive::payload;
    payload_left_ = payload_bytes_ = layout_.payload_bytes;
  }
  return layout_.header_bytes;
}

// The command behind this PDU, if it is there, is announced before this one is looked at: when its turn comes, its memory has.
void QueuePair::expect_next(const std::byte* bytes, std::size_t size, std::size_t pdu_bytes) {
  if (pdu_bytes + sizeof(CapsuleCmd) > size) return;
  const auto next = read_as<CapsuleCmd>(bytes + pdu_bytes);
  if (next.ch.type == static_cast<std::uint8_t>(PduType::capsule_cmd)) sink_->expect(next.sqe);
}

void QueuePair::handle_header(const std::byte* header, const Layout& layout) {
  payload_slot_ = nullptr;
  payload_to_ = nullptr;
  const bool data = layout.type == PduType::h2c_data;
  if (data && after_data_) foresees_ = true;
  after_data_ = data;
  switch (layout.type) {
    case PduType::ic_req:
      return handle_ic_req(header);
    case PduType::capsule_cmd:
      return handle_capsule(header, layout);
    case PduType::h2c_data:
      return handle_h2c_data(header, layout);
    case PduType::h2c_term_req:
      return handle_term_req(header, layout);
    default:
      CATNAP_CHECK(false);  // check_common_header lets no other type pass
  }
}

void QueuePair::handle_ic_req(const std::byte* header) {
  const auto request = read_as<IcReq>(header);
  if (const auto fault = check_ic_req(request)) return terminate(*fault, header, sizeof request);
  hpda_ = request.hpda;
  max_r2ts_ = std::min<std::uint32_t>(request.maxr2t, 0xFFFE) + 1;
  enter(State::ready);
  handshake_deadline_ns_ = accepted_ns_ + group_.options.handshake_timeout_us * ns_per_us;
  queue_ic_resp(request.dgst & (dgst_header_enable | dgst_data_enable));
  negotiated_.header_digest = (request.dgst & dgst_header_enable) != 0;
  negotiated_.data_digest = (request.dgst & dgst_data_enable) != 0;
}

void QueuePair::handle_capsule(const std::byte* header, const Layout& layout) {
  const auto capsule = read_as<CapsuleCmd>(header);
  if (!has_free_slot())
    return terminate(
        {FatalError::pdu_sequence_error, 0, connected_ ? "more commands than the queue has entries" : "a command before Connect was answered"},
        header, sizeof capsule);
  start_command(capsule, layout.payload_bytes);
}

std::optional<Fault> QueuePair::check_h2c_data(const H2CData& pdu, std::uint32_t payload_bytes) {
  Slot* slot = slot_at(pdu.ttag);
  if (slot == nullptr || !(slot->state == SlotState::waiting_data || owes_data(*slot)))
    return Fault{FatalError::invalid_header_field, offset_ttag, "TTAG names no R2T"};
  if (slot->sqe.cid != pdu.cccid) return Fault{FatalError::invalid_header_field, offset_cccid, "CCCID is not the R2T's"};
  const std::uint32_t offset = pdu.datao, length = pdu.datal;
  if (length != payload_bytes) return Fault{FatalError::invalid_header_field, 16, "DATAL is not the length of the data"};
  if (offset != slot->received_bytes) return Fault{FatalError::data_transfer_out_of_range, 0, "DATAO does not go on where the last data ended"};
  const std::uint32_t r2t_end = std::min(slot->data_length, (offset / slot->r2t_bytes + 1) * slot->r2t_bytes);
  // Of several R2Ts the last may still be queued; data for those before it is welcome.
  const std::uint32_t sent_end = slot->tx.queued && !slot->aborted ? (slot->asked_bytes - 1) / slot->r2t_bytes * slot->r2t_bytes : slot->asked_bytes;
  if (r2t_end > sent_end) return Fault{FatalError::pdu_sequence_error, 0, "data for an R2T that was not sent yet"};
  if (length > r2t_end - offset) return Fault{FatalError::data_transfer_out_of_range, 0, "more data than the R2T asks for"};
  const bool last = (pdu.ch.flags & flag_last_pdu) != 0;
  if (last != (offset + length == r2t_end))
    return Fault{FatalError::invalid_header_field, 1, last ? "LAST_PDU before the end" : "no LAST_PDU at the end"};
  return std::nullopt;
}

void QueuePair::handle_h2c_data(const std::byte* header, const Layout& layout) {
  const auto pdu = read_as<H2CData>(header);
  if (const auto fault = check_h2c_data(pdu, layout.payload_bytes)) return terminate(*fault, header, sizeof pdu);
  Slot& slot = *slot_at(pdu.ttag);
  if (slot.aborted) return discard_h2c_data(slot, layout.payload_bytes);
  payload_slot_ = &slot;
  payload_to_ = payload_slot_->data + payload_slot_->received_bytes;
  // Data that comes a few bytes at a time does not buy time.
  if (layout.payload_bytes >= min_progress_bytes) payload_slot_->data_since_ns = group_.thread.now_ns();
}

void QueuePair::handle_term_req(const std::byte* header, const Layout& layout) {
  const auto request = read_as<TermReq>(header);
  log_limited(fault_log, LogLevel::warning, peer_.traddr, "{}: the host ends the connection: H2CTermReq FES {:#x} FEI {:#x} ({} bytes)", label(),
              std::uint16_t{request.fes}, std::uint32_t{request.fei}, layout.header_bytes);
  close("H2CTermReq", true);
}

// --- data ---

// Memory for in-capsule data that cannot be used where it lies. It never waits: the bytes behind it on the connection may be what others wait for.
void QueuePair::prepare_in_capsule_memory(Slot& slot) {
  Buffer buffer = Reactor::current()->buffers().try_get(payload_bytes_);
  if (buffer) {
    slot.buffer = std::move(buffer);
    slot.data = slot.buffer.data();
  } else {
    use_heap(slot, payload_bytes_);
  }
  slot.consumes_inline = false;
  payload_to_ = slot.data;
}

// The common small write: all of its data, and the digest, lie in the receive buffer, and the sink uses them there.
bool QueuePair::take_whole_payload_in_place(Slot& slot, std::byte* bytes, std::size_t size, std::size_t& taken) {
  const std::size_t trailer = layout_.data_digest ? digest_bytes : 0;
  if (!slot.in_capsule || !slot.consumes_inline || slot.state != SlotState::receiving) return false;
  if (payload_to_ != nullptr || size < payload_bytes_ + trailer) return false;
  slot.data = bytes;
  payload_to_ = bytes + payload_bytes_;
  payload_left_ = 0;
  taken = payload_bytes_ + trailer;
  bool good = true;
  if (layout_.data_digest) good = crc32c(bytes, payload_bytes_) == read_as<le32>(bytes + payload_bytes_);
  payload_done(good);
  return true;
}

std::size_t QueuePair::take_payload(std::byte* bytes, std::size_t size) {
  if (payload_slot_ != nullptr) {
    std::size_t taken = 0;
    if (take_whole_payload_in_place(*payload_slot_, bytes, size, taken)) return taken;
    if (payload_to_ == nullptr) prepare_in_capsule_memory(*payload_slot_);
  }
  const auto taken = static_cast<std::uint32_t>(std::min<std::size_t>(size, payload_left_));
  if (payload_slot_ != nullptr) {
    std::memcpy(payload_to_, bytes, taken);
    payload_filled(taken);
    return taken;
  }
  payload_left_ -= taken;
  if (payload_left_ == 0) payload_arrived();
  return taken;
}

void QueuePair::payload_arrived() {
  if (!layout_.data_digest) return payload_done(true);
  receive_ = Receive::digest;
  digest_have_ = 0;
}

std::size_t QueuePair::take_digest(const std::byte* bytes, std::size_t size) {
  const std::size_t taken = gather_digest(digest_, digest_have_, bytes, size);
  if (digest_have_ < digest_bytes) return taken;
  bool good = true;
  if (payload_slot_ != nullptr) good = crc32c(payload_to_ - payload_bytes_, payload_bytes_) == read_as<le32>(digest_.data());
  payload_done(good);
  return taken;
}

// The data of a PDU is there, and was checked. A wrong data digest ends the command, not the connection (section 3.3.2.1).
void QueuePair::payload_done(bool digest_ok) {
  receive_ = Receive::header;
  pdu_since_ns_ = 0;
  Slot* slot = std::exchange(payload_slot_, nullptr);
  if (!digest_ok) ++group_.stats.data_digest_errors;
  if (slot == nullptr) return;
  const Status bad_digest = Status(GenericStatus::transient_transport_error);
  if (slot->in_capsule) {
    slot->data_complete = true;
    slot->received_bytes = payload_bytes_;
    if (!digest_ok) return abandon(*slot, bad_digest);
    if (slot->state == SlotState::receiving) execute(*slot);
    return;
  }
  slot->received_bytes += payload_bytes_;
  slot->digest_bad = slot->digest_bad || !digest_ok;
  if (slot->received_bytes % slot->r2t_bytes == 0 || slot->received_bytes == slot->data_length) --slot->r2ts_outstanding;
  if (slot->received_bytes < slot->data_length) return queue_r2t(*slot);
  if (slot->digest_bad) return abandon(*slot, bad_digest);
  execute(*slot);
}

}  // namespace catnap::tcp
