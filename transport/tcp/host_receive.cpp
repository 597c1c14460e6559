// Bytes from the controller: from the socket to whole PDUs, and their data straight to the user's memory. See host_queue.h.
//
// One buffer per OS thread takes what a recvmsg brings beside the data of the PDU under way; nothing stays in it when the event is done, so queues of
// all threads that run there share it, also after a move.
#include <fmt/core.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "reactor/base/check.h"
#include "reactor/undumped_bytes.h"
#include "transport/tcp/host_slot.h"
#include "transport/tcp/take_parts.h"

namespace catnap::tcp {
namespace {

using transport::DataDirection;

// Room for a turn's worth of 4 KiB reads; larger reads lengthen a turn more than they save calls.
constexpr std::size_t receive_buffer_bytes = std::size_t{256} << 10;
constexpr std::size_t max_direct_pieces = 64;

constexpr std::uint32_t offset_flags = 1, offset_pfv = 8, offset_cpda = 10, offset_dgst = 11, offset_maxh2cdata = 12;
constexpr std::uint32_t offset_cccid = 8, offset_datal = 16, offset_r2tl = 16, offset_cqe_cid = 20;

std::byte* receive_buffer() {
  thread_local const UndumpedBytes buffer = undumped_bytes(receive_buffer_bytes);
  return buffer.get();
}

Fault invalid(std::uint32_t offset, const char* reason) { return {FatalError::invalid_header_field, offset, reason}; }

const char* name_of(FatalError fes) {
  switch (fes) {
    case FatalError::invalid_header_field:
      return "invalid PDU header field";
    case FatalError::pdu_sequence_error:
      return "PDU sequence error";
    case FatalError::header_digest_error:
      return "header digest error";
    case FatalError::data_transfer_out_of_range:
      return "data transfer out of range";
    case FatalError::limit_exceeded:
      return "data transfer limit exceeded";
    case FatalError::unsupported_parameter:
      return "unsupported parameter";
  }
  return "unknown reason";
}

}  // namespace

void HostQueue::on_event(std::uint32_t events) {
  if (state_ == State::connecting) return connected();
  if ((events & EPOLLOUT) != 0) want_flush();
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) on_readable();
}

// The pieces of the command's memory that the rest of the present payload belongs to.
std::size_t HostQueue::payload_pieces(iovec* pieces, std::size_t max_pieces) const {
  if (receive_ != Receive::payload) return 0;
  const HostRequest& request = *payload_slot_->request;
  std::uint32_t skip = payload_at_;
  std::uint32_t left = payload_left_;
  std::size_t count = 0;
  for (std::uint32_t i = 0; left > 0 && count < max_pieces; ++i) {
    const iovec& piece = request.iov[i];
    if (skip >= piece.iov_len) {
      skip -= static_cast<std::uint32_t>(piece.iov_len);
      continue;
    }
    const auto length = static_cast<std::uint32_t>(std::min<std::size_t>(left, piece.iov_len - skip));
    pieces[count++] = {static_cast<std::byte*>(piece.iov_base) + skip, length};
    left -= length;
    skip = 0;
  }
  return count;
}

// False: nothing was there, or the connection is over.
bool HostQueue::on_readable() {
  std::byte* const buffer = receive_buffer();
  const std::size_t kept = partial_.size();
  std::copy(partial_.begin(), partial_.end(), buffer);
  std::array<iovec, max_direct_pieces + 1> pieces;
  std::size_t count = payload_pieces(pieces.data(), max_direct_pieces);
  std::size_t direct = 0;
  for (std::size_t i = 0; i < count; ++i) direct += pieces[i].iov_len;
  // More pieces than fit: the buffer would take bytes that belong to the rest of them.
  if (direct == payload_left_ || count == 0) pieces[count++] = {buffer + kept, receive_buffer_bytes - kept};
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = count;
  const ssize_t got = tls_ == nullptr ? recvmsg(fd_, &message, MSG_DONTWAIT) : tls_->receive(fd_, pieces.data(), count);
  ++stats_.receive_calls;
  if (got == 0) {
    close(Error(ECONNRESET, "the controller closed the connection"));
    return false;
  }
  if (got < 0) {
    if (errno == EBADMSG && tls_ != nullptr) {
      close(Error(EBADMSG, "TLS: " + tls_->why()));
    } else if (errno != EAGAIN && errno != EINTR) {
      close(Error(errno, fmt::format("receiving: {}", errno_text(errno))));
    }
    come_back_for_tls();
    return false;
  }
  stats_.bytes_received += static_cast<std::uint64_t>(got);
  std::size_t size = static_cast<std::size_t>(got);
  if (direct > 0) {
    const std::size_t filled = std::min(size, direct);
    size -= filled;
    payload_taken(static_cast<std::uint32_t>(filled));
  }
  size += kept;
  const std::size_t consumed = parse(buffer, size);
  if (over()) return false;
  partial_.assign(buffer + consumed, buffer + size);
  come_back_for_tls();
  return true;
}

// Consumes what it can; returns how many bytes that was.
std::size_t HostQueue::parse(std::byte* bytes, std::size_t size) {
  return take_parts(bytes, size, [this](std::byte* part, std::size_t left) -> std::size_t {
    if (over()) return 0;
    if (receive_ == Receive::header) return take_header(part, left);
    return receive_ == Receive::payload ? take_payload(part, left) : take_digest(part, left);
  });
}

std::size_t HostQueue::take_header(std::byte* bytes, std::size_t size) {
  if (size < sizeof(CommonHeader)) return 0;
  const auto common = read_as<CommonHeader>(bytes);
  const auto refuse = [&](const Fault& fault, std::size_t have) {
    fail_protocol(fault, bytes, have);
    return size;  // all that follows is void
  };
  const auto type = static_cast<PduType>(common.type);
  const bool expects_ic = state_ == State::initializing;
  if (expects_ic != (type == PduType::ic_resp) && type != PduType::c2h_term_req)
    return refuse({FatalError::pdu_sequence_error, 0, expects_ic ? "a PDU before ICResp" : "a second ICResp"}, sizeof common);
  if (const auto fault = check_controller_header(common, negotiated_, layout_)) return refuse(*fault, sizeof common);
  if (size < layout_.header_bytes) return 0;
  if (layout_.header_digest) {
    if (const auto fault = check_header_digest({bytes, size}, common.hlen)) return refuse(*fault, common.hlen);
  }
  ++stats_.pdus_received;
  if (const auto fault = handle_header(bytes)) return refuse(*fault, common.hlen);
  return layout_.header_bytes;
}

std::optional<Fault> HostQueue::handle_header(const std::byte* header) {
  switch (layout_.type) {
    case PduType::ic_resp:
      return handle_ic_resp(header);
    case PduType::capsule_resp:
      return handle_capsule_resp(header);
    case PduType::c2h_data:
      return handle_c2h_data(header);
    case PduType::r2t:
      return handle_r2t(header);
    case PduType::c2h_term_req:
      handle_term_req(header);
      return std::nullopt;
    default:
      CATNAP_CHECK(false);  // check_controller_header lets no other type pass
  }
}

std::optional<Fault> HostQueue::handle_ic_resp(const std::byte* header) {
  const auto pdu = read_as<IcResp>(header);
  const std::uint32_t max_h2c = pdu.maxh2cdata;
  fault_values_ =
      fmt::format("PFV {}, CPDA {}, DGST {:#x}, MAXH2CDATA {}", std::uint16_t{pdu.pfv}, pdu.cpda, static_cast<unsigned>(pdu.dgst), max_h2c);
  if (pdu.pfv != pfv_1_0) return Fault{FatalError::unsupported_parameter, offset_pfv, "PFV is not 0"};
  if (pdu.cpda > max_pda) return invalid(offset_cpda, "CPDA is above 31");
  const bool header_digest = (pdu.dgst & dgst_header_enable) != 0;
  const bool data_digest = (pdu.dgst & dgst_data_enable) != 0;
  if (header_digest != options_.header_digest)
    return invalid(offset_dgst, options_.header_digest ? "header digest was asked for and is not granted" : "header digest was not asked for");
  if (data_digest != options_.data_digest)
    return invalid(offset_dgst, options_.data_digest ? "data digest was asked for and is not granted" : "data digest was not asked for");
  if (max_h2c < min_max_h2c_data || max_h2c % 4 != 0) return invalid(offset_maxh2cdata, "MAXH2CDATA is below 4096 or no multiple of 4");
  fault_values_.clear();
  cpda_ = pdu.cpda;
  max_h2c_data_bytes_ = max_h2c;
  negotiated_.header_digest = header_digest;
  negotiated_.data_digest = data_digest;
  send_connect();
  return std::nullopt;
}

std::optional<Fault> HostQueue::handle_capsule_resp(const std::byte* header) {
  const auto pdu = read_as<CapsuleResp>(header);
  Slot* slot = slot_of(pdu.cqe.cid);
  if (slot == nullptr || slot->command.queued) {
    fault_values_ = fmt::format("CID {:#x}", std::uint16_t{pdu.cqe.cid});
    return invalid(offset_cqe_cid, "CID of a response is that of no outstanding command");
  }
  slot->request->cqe = pdu.cqe;
  answer(*slot);
  return std::nullopt;
}

std::optional<Fault> HostQueue::handle_c2h_data(const std::byte* header) {
  const auto pdu = read_as<C2HData>(header);
  const std::uint32_t offset = pdu.datao, length = pdu.datal;
  Slot* slot = slot_of(pdu.cccid);
  const auto refuse = [&](FatalError fes, std::uint32_t fei, const char* reason) {
    fault_values_ = fmt::format("CCCID {:#x}, DATAO {}, DATAL {}, of {} bytes", std::uint16_t{pdu.cccid}, offset, length,
                                slot != nullptr ? slot->request->data_bytes : 0);
    return Fault{fes, fei, reason};
  };
  constexpr auto field = FatalError::invalid_header_field;
  if (slot == nullptr || slot->command.queued) return refuse(field, offset_cccid, "CCCID of C2HData is that of no outstanding command");
  if (slot->request->direction != DataDirection::controller_to_host) return refuse(field, offset_cccid, "C2HData for a command that reads nothing");
  if (length != layout_.payload_bytes) return refuse(field, offset_datal, "DATAL is not the length of the data");
  if (offset != slot->moved_bytes) return refuse(FatalError::data_transfer_out_of_range, 0, "DATAO does not go on where the last data ended");
  if (length > slot->request->data_bytes - offset) return refuse(FatalError::data_transfer_out_of_range, 0, "more data than the command asked for");
  payload_last_ = (pdu.ch.flags & flag_last_pdu) != 0;
  payload_success_ = (pdu.ch.flags & flag_success) != 0;
  if (payload_success_ && !payload_last_) return refuse(field, offset_flags, "SUCCESS without LAST_PDU");
  payload_slot_ = slot;
  payload_at_ = offset;
  payload_left_ = payload_bytes_ = length;
  receive_ = Receive::payload;
  return std::nullopt;
}

std::optional<Fault> HostQueue::handle_r2t(const std::byte* header) {
  const auto pdu = read_as<R2T>(header);
  const std::uint32_t offset = pdu.r2to, length = pdu.r2tl;
  Slot* slot = slot_of(pdu.cccid);
  const auto refuse = [&](FatalError fes, std::uint32_t fei, const char* reason) {
    fault_values_ = fmt::format("CCCID {:#x}, TTAG {:#x}, R2TO {}, R2TL {}, of {} bytes", std::uint16_t{pdu.cccid}, std::uint16_t{pdu.ttag}, offset,
                                length, slot != nullptr ? slot->request->data_bytes : 0);
    return Fault{fes, fei, reason};
  };
  constexpr auto field = FatalError::invalid_header_field;
  if (slot == nullptr || slot->command.queued) return refuse(field, offset_cccid, "CCCID of R2T is that of no outstanding command");
  if (slot->request->direction != DataDirection::host_to_controller || slot->in_capsule)
    return refuse(field, offset_cccid, "R2T for a command whose data is not to be asked for");
  if (slot->data.queued || slot->moved_bytes < slot->r2t_end_bytes)
    return refuse(FatalError::limit_exceeded, 0, "a second R2T before the first was served");
  if (length == 0) return refuse(field, offset_r2tl, "R2TL is 0");
  if (offset != slot->moved_bytes) return refuse(FatalError::data_transfer_out_of_range, 0, "R2TO does not go on where the last data ended");
  if (length > slot->request->data_bytes - offset) return refuse(FatalError::data_transfer_out_of_range, 0, "R2T for more data than the command has");
  slot->ttag = pdu.ttag;
  slot->r2t_end_bytes = offset + length;
  queue_h2c_data(*slot);
  return std::nullopt;
}

void HostQueue::handle_term_req(const std::byte* header) {
  const auto pdu = read_as<TermReq>(header);
  const std::uint16_t fes = pdu.fes;
  close(Error(ECONNRESET, fmt::format("the controller ended the connection: C2HTermReq FES {:#x} ({}), FEI {:#x}", fes,
                                      name_of(static_cast<FatalError>(fes)), std::uint32_t{pdu.fei})));
}

// --- data ---

void HostQueue::payload_taken(std::uint32_t bytes) {
  payload_at_ += bytes;
  payload_left_ -= bytes;
  if (payload_left_ > 0) return;
  if (!layout_.data_digest) return payload_done(true);
  receive_ = Receive::digest;
  digest_have_ = 0;
}

std::size_t HostQueue::take_payload(const std::byte* bytes, std::size_t size) {
  std::array<iovec, max_direct_pieces> pieces;
  const std::size_t count = payload_pieces(pieces.data(), pieces.size());
  std::uint32_t taken = 0;
  for (std::size_t i = 0; i < count && taken < size; ++i) {
    const auto part = static_cast<std::uint32_t>(std::min<std::size_t>(pieces[i].iov_len, size - taken));
    std::memcpy(pieces[i].iov_base, bytes + taken, part);
    taken += part;
  }
  payload_taken(taken);
  return taken;
}

std::size_t HostQueue::take_digest(const std::byte* bytes, std::size_t size) {
  const std::size_t taken = gather_digest(digest_, digest_have_, bytes, size);
  if (digest_have_ < digest_bytes) return taken;
  const std::uint32_t digest = data_digest(*payload_slot_->request, payload_at_ - payload_bytes_, payload_bytes_);
  payload_done(digest == read_as<le32>(digest_.data()));
  return taken;
}

// A wrong data digest ends the command, not the connection (section 3.3.1.1).
void HostQueue::payload_done(bool digest_ok) {
  receive_ = Receive::header;
  Slot& slot = *std::exchange(payload_slot_, nullptr);
  slot.moved_bytes += payload_bytes_;
  if (!digest_ok) {
    ++stats_.data_digest_errors;
    slot.digest_bad = true;
  }
  if (!payload_success_) return;
  slot.request->cqe = {};
  slot.request->cqe.cid = slot.cid();
  answer(slot);
}

}  // namespace catnap::tcp
