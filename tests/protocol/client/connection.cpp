// The host's side of one connection. Owner: the test's thread. Left out: see connection.h.
#include "tests/protocol/client/connection.h"

#include <algorithm>
#include <chrono>

namespace catnap::protocol {

namespace {

constexpr std::size_t receive_step_bytes = 256 * 1024;
// More than any PDU the tests ask for: a PLEN above it is garbage.
constexpr std::uint32_t max_believable_plen = 64U * 1024 * 1024;

nvme::SglDescriptor sgl_for(const Payload& payload) {
  nvme::SglDescriptor sgl;
  if (payload.way == Payload::Way::in_capsule) {
    sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
    sgl.length = static_cast<std::uint32_t>(payload.bytes.size());
  } else {
    sgl.set_type(nvme::SglType::transport_data_block, nvme::SglSubtype::transport);
    sgl.length = payload.way == Payload::Way::by_r2t ? static_cast<std::uint32_t>(payload.bytes.size()) : payload.length;
  }
  return sgl;
}

}  // namespace

Result<Connection> Connection::open_bare(std::uint16_t port, ConnectionOptions options) {
  auto socket = Socket::connect_tcp(port, options.receive_buffer_bytes, options.traddr);
  if (!socket) return std::unexpected(socket.error());
  Connection made;
  made.socket_ = std::move(*socket);
  made.options_ = options;
  return made;
}

Result<Connection> Connection::open(std::uint16_t port, ConnectionOptions options) {
  auto made = open_bare(port, options);
  if (!made) return made;
  auto request = header_of_type<tcp::IcReq>(tcp::PduType::ic_req);
  request.hpda = options.hpda;
  request.dgst =
      static_cast<std::uint8_t>((options.digests.header ? tcp::dgst_header_enable : 0) | (options.digests.data ? tcp::dgst_data_enable : 0));
  request.maxr2t = options.max_r2t - 1;
  if (!made->send(build_pdu(request))) return fail(EPROTO, "the target closed before ICReq");
  auto answer = made->receive_pdu();
  if (answer.outcome != Outcome::pdu || answer.type() != tcp::PduType::ic_resp) return fail(EPROTO, "no ICResp came: " + answer.note);
  made->ic_resp_ = answer.as<tcp::IcResp>();
  if (made->ic_resp_.dgst != request.dgst) return fail(EPROTO, "ICResp: DGST is not what was asked for");
  if (made->ic_resp_.maxh2cdata < tcp::min_max_h2c_data || made->ic_resp_.maxh2cdata % 4 != 0) return fail(EPROTO, "ICResp: MAXH2CDATA");
  if (made->ic_resp_.cpda > tcp::max_pda) return fail(EPROTO, "ICResp: CPDA");
  made->data_alignment_bytes_ = tcp::pda_alignment_bytes(made->ic_resp_.cpda);
  return made;
}

bool Connection::send(std::span<const std::byte> bytes) { return socket_.send_all(bytes).has_value(); }

ReceivedPdu Connection::receive_pdu(Milliseconds limit) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  auto ended = [](Outcome outcome, std::string note) {
    ReceivedPdu result;
    result.outcome = outcome;
    result.note = std::move(note);
    return result;
  };
  while (true) {
    if (received_.size() >= sizeof(tcp::CommonHeader)) {
      tcp::CommonHeader ch;
      std::memcpy(static_cast<void*>(&ch), received_.data(), sizeof(ch));
      std::uint32_t length = ch.plen;
      if (length < sizeof(ch) || length > max_believable_plen) return ended(Outcome::malformed, "PLEN " + std::to_string(length));
      if (received_.size() >= length) {
        auto pdu = parse_pdu(std::span(received_).first(length), options_.digests, tcp::pda_alignment_bytes(options_.hpda));
        received_.erase(received_.begin(), received_.begin() + length);
        return pdu;
      }
    }
    auto left = std::chrono::ceil<Milliseconds>(deadline - std::chrono::steady_clock::now());
    auto bytes = socket_.receive_some(receive_step_bytes, std::max(left, Milliseconds(0)));
    if (!bytes) return ended(bytes.error().err == ETIMEDOUT ? Outcome::timed_out : Outcome::closed, bytes.error().message);
    if (bytes->empty()) return ended(Outcome::closed, "the controller closed the connection");
    received_.insert(received_.end(), bytes->begin(), bytes->end());
  }
}

std::optional<Bytes> Connection::receive_until_closed(Milliseconds limit) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  while (true) {
    auto left = std::chrono::ceil<Milliseconds>(deadline - std::chrono::steady_clock::now());
    auto bytes = socket_.receive_some(receive_step_bytes, std::max(left, Milliseconds(0)));
    if (!bytes && bytes.error().err == ETIMEDOUT) return std::nullopt;
    if (!bytes || bytes->empty()) return std::exchange(received_, {});
    received_.insert(received_.end(), bytes->begin(), bytes->end());
  }
}

Bytes Connection::capsule(const nvme::SubmissionEntry& sqe, std::span<const std::byte> in_capsule) const {
  auto header = header_of_type<tcp::CapsuleCmd>(tcp::PduType::capsule_cmd);
  header.sqe = sqe;
  return pdu(header, in_capsule);
}

Bytes Connection::h2c_data(std::uint16_t cid, std::uint16_t ttag, std::uint32_t offset_bytes, std::span<const std::byte> data, bool last) const {
  auto header = header_of_type<tcp::H2CData>(tcp::PduType::h2c_data);
  if (last) header.ch.flags = tcp::flag_last_pdu;
  header.cccid = cid;
  header.ttag = ttag;
  header.datao = offset_bytes;
  header.datal = static_cast<std::uint32_t>(data.size());
  return pdu(header, data);
}

std::uint16_t Connection::submit(nvme::SubmissionEntry sqe, Payload payload) {
  std::uint16_t cid = next_cid();
  sqe.cid = cid;
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl = sgl_for(payload);
  auto bytes = capsule(sqe, payload.way == Payload::Way::in_capsule ? std::span<const std::byte>(payload.bytes) : std::span<const std::byte>());
  Pending pending;
  pending.result.data.resize(payload.length);
  pending.payload = std::move(payload);
  pending_.insert_or_assign(cid, std::move(pending));
  send(bytes);  // a dead connection shows in wait()
  return cid;
}

CommandResult Connection::wait(std::uint16_t cid, Milliseconds limit) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  CommandResult failed;
  auto found = pending_.find(cid);
  if (found == pending_.end()) {
    failed.note = "no such command in flight";
    return failed;
  }
  while (!found->second.done) {
    auto left = std::chrono::ceil<Milliseconds>(deadline - std::chrono::steady_clock::now());
    auto pdu = receive_pdu(std::max(left, Milliseconds(0)));
    failed.outcome = pdu.outcome;
    failed.note = pdu.note;
    if (pdu.outcome != Outcome::pdu) return failed;
    failed.outcome = handle(pdu, failed.note);
    if (failed.outcome != Outcome::pdu) return failed;
  }
  auto result = std::move(found->second.result);
  pending_.erase(found);
  return result;
}

CommandResult Connection::run(const nvme::SubmissionEntry& sqe, Payload payload) {
  auto cid = submit(sqe, std::move(payload));
  return wait(cid);
}

Outcome Connection::handle(const ReceivedPdu& pdu, std::string& note) {
  bool fine = false;
  switch (pdu.type()) {
    case tcp::PduType::r2t:
      fine = handle_r2t(pdu.as<tcp::R2T>(), note);
      break;
    case tcp::PduType::c2h_data:
      fine = handle_c2h_data(pdu, note);
      break;
    case tcp::PduType::capsule_resp:
      fine = handle_completion(pdu.as<tcp::CapsuleResp>().cqe, note);
      break;
    case tcp::PduType::c2h_term_req: {
      auto term = pdu.as<tcp::TermReq>();
      note = "C2HTermReq, FES " + std::to_string(std::uint16_t{term.fes}) + ", FEI " + std::to_string(std::uint32_t{term.fei});
      termination_ = pdu;
      return Outcome::closed;
    }
    default:
      note = "a PDU of a type controllers do not send";
  }
  return fine ? Outcome::pdu : Outcome::malformed;
}

bool Connection::handle_r2t(const tcp::R2T& r2t, std::string& note) {
  auto found = pending_.find(r2t.cccid);
  std::uint64_t end = std::uint64_t{r2t.r2to} + std::uint32_t{r2t.r2tl};
  if (found == pending_.end() || found->second.done || found->second.payload.way != Payload::Way::by_r2t) {
    note = "R2T for a command that sends no data";
    return false;
  }
  auto& bytes = found->second.payload.bytes;
  if (r2t.r2tl == 0 || end > bytes.size()) {
    note = "R2T beyond the command's data";
    return false;
  }
  ++found->second.result.r2t_pdus;
  for (std::uint32_t offset = r2t.r2to; offset < end;) {
    auto length = static_cast<std::uint32_t>(std::min<std::uint64_t>(end - offset, ic_resp_.maxh2cdata));
    send(h2c_data(r2t.cccid, r2t.ttag, offset, std::span(bytes).subspan(offset, length), offset + length == end));
    offset += length;
  }
  return true;
}

bool Connection::handle_c2h_data(const ReceivedPdu& pdu, std::string& note) {
  auto header = pdu.as<tcp::C2HData>();
  auto found = pending_.find(header.cccid);
  std::uint64_t end = std::uint64_t{header.datao} + std::uint32_t{header.datal};
  if (found == pending_.end() || found->second.done || end > found->second.result.data.size() || header.datal != pdu.data.size()) {
    note = "C2HData for no command, beyond its length, or with a DATAL that is not the data's";
    return false;
  }
  auto& result = found->second.result;
  ++result.c2h_data_pdus;
  std::ranges::copy(pdu.data, result.data.begin() + std::uint32_t{header.datao});
  if ((header.ch.flags & tcp::flag_success) == 0) return true;
  if ((header.ch.flags & tcp::flag_last_pdu) == 0) {
    note = "SUCCESS flag without LAST_PDU";
    return false;
  }
  result.by_success_flag = true;
  nvme::CompletionEntry cqe;
  cqe.cid = header.cccid;
  return handle_completion(cqe, note);
}

bool Connection::handle_completion(const nvme::CompletionEntry& cqe, std::string& note) {
  auto found = pending_.find(cqe.cid);
  if (found == pending_.end() || found->second.done) {
    note = "completion for command " + std::to_string(std::uint16_t{cqe.cid}) + ", which is not in flight";
    return false;
  }
  found->second.done = true;
  found->second.result.outcome = Outcome::pdu;
  found->second.result.cqe = cqe;
  found->second.result.status = nvme::status_of(cqe);
  return true;
}

}  // namespace catnap::protocol
