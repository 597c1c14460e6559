// PDUs of one connection. Owner: see fake_connection.h. Left out: what commands are answered (fake_commands.cpp), and what wrong is done
// (fake_deeds.cpp).
#include "tests/protocol/fake/fake_connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "transport/tcp/pdu.h"

namespace catnap::protocol {
namespace {

// Longer than any test, so that silence of the host ends nothing; bounded, so that a test that forgot a connection ends.
constexpr Milliseconds host_may_think{600'000};
constexpr std::size_t max_pdu_bytes = 4 << 20;

template <typename Header>
Header header_in(std::span<const std::byte> pdu) {
  Header header{};
  std::memcpy(static_cast<void*>(&header), pdu.data(), std::min(sizeof(header), pdu.size()));
  return header;
}

std::span<const std::byte> data_in(std::span<const std::byte> pdu) {
  const auto ch = header_in<tcp::CommonHeader>(pdu);
  const std::size_t digest = (ch.flags & tcp::flag_ddgst) != 0 ? tcp::digest_bytes : 0;
  if (ch.pdo == 0 || ch.pdo + digest > pdu.size()) return {};
  return pdu.subspan(ch.pdo, pdu.size() - ch.pdo - digest);
}

}  // namespace

void FakeConnection::run() {
  bool alive = true;
  switch (controller_.next_deed("accept", StepKind::accept)) {
    case Deed::reset:
      alive = reset();
      break;
    case Deed::close:
      alive = false;
      break;
    case Deed::garbage:
      alive = send(pattern(4096, 99));
      mute_ = true;
      break;
    case Deed::silence:
      mute_ = true;
      break;
    default:
      break;
  }
  Bytes received;
  while (alive) {
    auto got = socket_.receive_some(256 * 1024, host_may_think);
    if (!got || got->empty()) break;
    if (mute_) continue;
    received.insert(received.end(), got->begin(), got->end());
    while (alive && received.size() >= sizeof(tcp::CommonHeader)) {
      const std::size_t length = header_in<tcp::CommonHeader>(received).plen;
      if (length < sizeof(tcp::CommonHeader) || length > max_pdu_bytes) {
        alive = false;
        break;
      }
      if (received.size() < length) break;
      alive = handle_pdu(std::span(received).first(length));
      received.erase(received.begin(), received.begin() + static_cast<std::ptrdiff_t>(length));
    }
  }
  over_.store(true);
  // The fd stays until the object goes, so that hang_up() never meets another file's number.
  ::shutdown(socket_.fd(), SHUT_RDWR);
}

void FakeConnection::hang_up() { ::shutdown(socket_.fd(), SHUT_RDWR); }

bool FakeConnection::send(std::span<const std::byte> bytes) {
  const std::lock_guard lock(send_mutex_);
  return socket_.send_all(bytes).has_value();
}

Bytes FakeConnection::data_pdu(std::uint16_t cid, std::uint32_t offset_bytes, std::span<const std::byte> data, bool last) const {
  auto header = header_of_type<tcp::C2HData>(tcp::PduType::c2h_data);
  if (last) header.ch.flags = tcp::flag_last_pdu;
  header.cccid = cid;
  header.datao = offset_bytes;
  header.datal = static_cast<std::uint32_t>(data.size());
  return build_pdu(header, data, digests_, alignment_bytes_);
}

Bytes FakeConnection::response_pdu(const nvme::CompletionEntry& cqe) const {
  auto header = header_of_type<tcp::CapsuleResp>(tcp::PduType::capsule_resp);
  header.cqe = cqe;
  return build_pdu(header, {}, digests_);
}

Bytes FakeConnection::r2t_pdu(std::uint16_t cid, std::uint32_t offset_bytes, std::uint32_t length_bytes) const {
  auto header = header_of_type<tcp::R2T>(tcp::PduType::r2t);
  header.cccid = cid;
  header.ttag = cid;
  header.r2to = offset_bytes;
  header.r2tl = length_bytes;
  return build_pdu(header, {}, digests_);
}

bool FakeConnection::handle_pdu(std::span<const std::byte> pdu) {
  const auto type = static_cast<tcp::PduType>(header_in<tcp::CommonHeader>(pdu).type);
  if (!initialized_) return type == tcp::PduType::ic_req && answer_ic_req(pdu);
  if (type == tcp::PduType::capsule_cmd) return handle_capsule(pdu);
  if (type == tcp::PduType::h2c_data) return handle_h2c_data(pdu);
  return false;  // H2CTermReq, and what hosts never send
}

bool FakeConnection::answer_ic_req(std::span<const std::byte> pdu) {
  const Deed deed = controller_.next_deed("ICReq", StepKind::ic);
  const auto request = header_in<tcp::IcReq>(pdu);
  auto response = header_of_type<tcp::IcResp>(tcp::PduType::ic_resp);
  const bool header_digest = controller_.options_.header_digest && (request.dgst & tcp::dgst_header_enable) != 0;
  const bool data_digest = controller_.options_.data_digest && (request.dgst & tcp::dgst_data_enable) != 0;
  response.dgst = static_cast<std::uint8_t>((header_digest ? tcp::dgst_header_enable : 0) | (data_digest ? tcp::dgst_data_enable : 0));
  response.maxh2cdata = 65536U;
  {
    const std::lock_guard lock(controller_.mutex_);
    if (controller_.change_ic_resp_) controller_.change_ic_resp_(response);
  }
  alignment_bytes_ = tcp::pda_alignment_bytes(request.hpda);
  initialized_ = true;
  const Bytes correct = build_pdu(response);
  if (deed == Deed::answer_twice && !send(correct)) return false;
  if (deed != Deed::correct && deed != Deed::answer_twice) return bad_connection(deed, correct);
  digests_ = {header_digest, data_digest};
  return send(correct);
}

bool FakeConnection::handle_capsule(std::span<const std::byte> pdu) {
  const auto capsule = header_in<tcp::CapsuleCmd>(pdu);
  ++commands_;
  FakeAnswer answer = answer_of(capsule.sqe, data_in(pdu));
  const Deed deed = controller_.next_deed(answer.step, answer.kind);
  if (const auto dw0 = controller_.event_before(answer.step)) raise_event(*dw0);
  {
    const std::lock_guard lock(controller_.mutex_);
    if (controller_.change_answer_) controller_.change_answer_(answer.step, answer.cqe, answer.data);
  }
  if (deed != Deed::correct) return perform(deed, answer);
  return answer_correctly(answer);
}

bool FakeConnection::handle_h2c_data(std::span<const std::byte> pdu) {
  const auto header = header_in<tcp::H2CData>(pdu);
  const auto found = writing_.find(header.cccid);
  if (found == writing_.end()) return true;  // of a command that a deed has ended already
  Writing& writing = found->second;
  const std::span<const std::byte> data = data_in(pdu);
  if (header.datao + data.size() > writing.bytes.size()) return false;
  std::ranges::copy(data, writing.bytes.begin() + header.datao);
  writing.received += static_cast<std::uint32_t>(data.size());
  if (writing.received < writing.bytes.size()) return true;
  store(writing.answer.write_at, writing.bytes);
  const nvme::CompletionEntry cqe = writing.answer.cqe;
  writing_.erase(found);
  return send(response_pdu(cqe));
}

bool FakeConnection::raise_event(std::uint32_t dw0) {
  std::uint16_t cid = 0;
  {
    const std::lock_guard lock(events_mutex_);
    if (waiting_events_.empty()) return false;
    cid = waiting_events_.front();
    waiting_events_.pop_front();
  }
  nvme::CompletionEntry cqe;
  cqe.cid = cid;
  cqe.dw0 = dw0;
  return send(response_pdu(cqe));
}

}  // namespace catnap::protocol
