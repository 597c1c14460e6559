// PDUs to bytes and back. Owner: none (pure functions). Left out: see pdu.h.
#include "tests/protocol/client/pdu.h"

#include <algorithm>

#include "reactor/base/crc32c.h"

namespace catnap::protocol {

namespace {

void append_digest(Bytes& out, std::span<const std::byte> of) {
  le32 digest = crc32c(of.data(), of.size());
  auto bytes = std::as_bytes(std::span<const le32, 1>(&digest, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

bool digest_matches(std::span<const std::byte> of, std::span<const std::byte> at) {
  le32 digest;
  std::memcpy(static_cast<void*>(&digest), at.data(), sizeof(digest));
  return crc32c(of.data(), of.size()) == digest;
}

bool carries_data(tcp::PduType type) { return type == tcp::PduType::c2h_data || type == tcp::PduType::c2h_term_req; }

ReceivedPdu malformed(ReceivedPdu pdu, std::string note) {
  pdu.outcome = Outcome::malformed;
  pdu.note = std::move(note);
  return pdu;
}

}  // namespace

Bytes build_pdu_bytes(std::span<const std::byte> header, std::span<const std::byte> data, Digests digests, std::uint32_t alignment_bytes) {
  Bytes out(header.begin(), header.end());
  auto type = static_cast<tcp::PduType>(header[0]);
  bool never_digests = type == tcp::PduType::ic_req || type == tcp::PduType::h2c_term_req;
  std::uint8_t flags = std::to_integer<std::uint8_t>(out[1]);
  if (digests.header && !never_digests) flags |= tcp::flag_hdgst;
  if (digests.data && !never_digests && !data.empty()) flags |= tcp::flag_ddgst;
  std::size_t before_data = header.size() + ((flags & tcp::flag_hdgst) != 0 ? tcp::digest_bytes : 0);
  std::size_t data_offset =
      type == tcp::PduType::h2c_term_req ? before_data : (before_data + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
  if (data.empty()) data_offset = before_data;
  std::size_t length = data_offset + data.size() + ((flags & tcp::flag_ddgst) != 0 ? tcp::digest_bytes : 0);

  tcp::CommonHeader ch;
  ch.type = static_cast<std::uint8_t>(type);
  ch.flags = flags;
  ch.hlen = static_cast<std::uint8_t>(header.size());
  ch.pdo = static_cast<std::uint8_t>(data.empty() || type == tcp::PduType::h2c_term_req ? 0 : data_offset);
  ch.plen = static_cast<std::uint32_t>(length);
  patch(out, 0, ch);

  if ((flags & tcp::flag_hdgst) != 0) append_digest(out, std::span(out).first(header.size()));
  out.resize(data_offset);
  out.insert(out.end(), data.begin(), data.end());
  if ((flags & tcp::flag_ddgst) != 0) append_digest(out, data);
  return out;
}

ReceivedPdu parse_pdu(std::span<const std::byte> pdu, Digests digests, std::uint32_t alignment_bytes) {
  ReceivedPdu result;
  result.outcome = Outcome::pdu;
  if (pdu.size() < sizeof(tcp::CommonHeader)) return malformed(std::move(result), "shorter than a common header");
  tcp::CommonHeader ch;
  std::memcpy(static_cast<void*>(&ch), pdu.data(), sizeof(ch));
  auto type = static_cast<tcp::PduType>(ch.type);
  if (ch.hlen < sizeof(ch) || ch.hlen > pdu.size() || ch.plen != pdu.size()) return malformed(std::move(result), "HLEN or PLEN");
  result.header.assign(pdu.begin(), pdu.begin() + ch.hlen);
  if (ch.hlen != tcp::header_bytes_of(type)) return malformed(std::move(result), "HLEN does not fit the type");

  bool may_digest = type != tcp::PduType::ic_resp && type != tcp::PduType::c2h_term_req;
  bool has_header_digest = (ch.flags & tcp::flag_hdgst) != 0;
  bool has_data_digest = (ch.flags & tcp::flag_ddgst) != 0;
  if (has_header_digest != (may_digest && digests.header)) return malformed(std::move(result), "HDGSTF is not as negotiated");
  if (has_data_digest != (type == tcp::PduType::c2h_data && digests.data)) return malformed(std::move(result), "DDGSTF is not as negotiated");

  std::size_t header_end = ch.hlen + (has_header_digest ? tcp::digest_bytes : 0);
  std::size_t data_end = pdu.size() - (has_data_digest ? tcp::digest_bytes : 0);
  if (header_end > data_end) return malformed(std::move(result), "PLEN leaves no room for the digests");
  if (has_header_digest && !digest_matches(pdu.first(ch.hlen), pdu.subspan(ch.hlen))) return malformed(std::move(result), "header digest");
  if (!carries_data(type)) {
    if (header_end != pdu.size()) return malformed(std::move(result), "PLEN: bytes behind a PDU without data");
    return result;
  }
  std::size_t data_offset = header_end;
  if (type == tcp::PduType::c2h_data) {
    data_offset = ch.pdo;
    if (data_offset < header_end || data_offset > data_end) return malformed(std::move(result), "PDO");
    if (data_offset % alignment_bytes != 0) return malformed(std::move(result), "PDO is not aligned as HPDA asks");
  }
  result.data.assign(pdu.begin() + static_cast<std::ptrdiff_t>(data_offset), pdu.begin() + static_cast<std::ptrdiff_t>(data_end));
  if (has_data_digest && !digest_matches(result.data, pdu.subspan(data_end))) return malformed(std::move(result), "data digest");
  return result;
}

Bytes pattern(std::size_t count, std::uint32_t seed) {
  Bytes bytes(count);
  std::uint32_t state = seed * 2654435761U + 1;
  for (auto& byte : bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

}  // namespace catnap::protocol
