// Building and parsing single NVMe/TCP PDUs. Builders make correct PDUs; hostile tests change the bytes afterwards.
// Owner: none (values). Left out: sockets (connection.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <span>
#include <string>

#include "tests/protocol/client/socket.h"
#include "transport/tcp/pdu.h"

namespace catnap::protocol {

// What both ends agreed on.
struct Digests {
  bool header = false;
  bool data = false;
};

// A PDU as bytes: `header` with TYPE and the fields of its own set (HLEN, PDO, PLEN and the digest flags are filled in here), then header digest,
// padding to a multiple of `alignment_bytes`, data and data digest.
Bytes build_pdu_bytes(std::span<const std::byte> header, std::span<const std::byte> data, Digests digests, std::uint32_t alignment_bytes);

template <typename Header>
Bytes build_pdu(const Header& header, std::span<const std::byte> data = {}, Digests digests = {}, std::uint32_t alignment_bytes = 4) {
  return build_pdu_bytes(std::as_bytes(std::span<const Header, 1>(&header, 1)), data, digests, alignment_bytes);
}

template <typename Header>
Header header_of_type(tcp::PduType type) {
  Header header;
  header.ch.type = static_cast<std::uint8_t>(type);
  return header;
}

// Overwrites a field in built bytes.
template <typename T>
void patch(Bytes& pdu, std::size_t offset, T value) {
  std::memcpy(pdu.data() + offset, &value, sizeof(value));
}

// How waiting for a PDU ended.
enum class Outcome : std::uint8_t {
  pdu,        // one arrived whole
  closed,     // the peer ended the connection
  timed_out,  // nothing whole came in time
  malformed,  // its lengths or digests are wrong: `note` says which
};

// For test messages.
inline std::ostream& operator<<(std::ostream& out, Outcome outcome) {
  constexpr const char* names[] = {"a PDU", "closed", "timed out", "malformed"};
  return out << names[static_cast<std::size_t>(outcome)];
}

struct ReceivedPdu {
  Outcome outcome = Outcome::closed;
  std::string note;
  Bytes header;  // HLEN bytes
  Bytes data;

  tcp::PduType type() const { return static_cast<tcp::PduType>(as<tcp::CommonHeader>().type); }
  std::uint8_t flags() const { return as<tcp::CommonHeader>().flags; }
  // The header's first bytes as a struct; what the header is too short for stays zero.
  template <typename Header>
  Header as() const {
    Header result{};
    std::memcpy(static_cast<void*>(&result), header.data(), std::min(sizeof(Header), header.size()));
    return result;
  }
};

// Checks and takes apart one whole PDU (PLEN bytes) that the controller sent.
ReceivedPdu parse_pdu(std::span<const std::byte> pdu, Digests digests, std::uint32_t alignment_bytes);

// `count` bytes that depend on `seed`, different at every place.
Bytes pattern(std::size_t count, std::uint32_t seed);

}  // namespace catnap::protocol
