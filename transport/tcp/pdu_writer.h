// Writing PDU headers, as both sides of NVMe/TCP do.
// Owner: none (pure functions). Left out: what a PDU says (respond.cpp, host_commands.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "reactor/base/crc32c.h"
#include "transport/tcp/pdu.h"

namespace catnap::tcp {

// Writes a PDU header to `to`, with its digest when agreed on; returns the bytes written.
template <typename Pdu>
std::size_t put_header(std::byte* to, Pdu& pdu, bool header_digest) {
  if (header_digest) pdu.ch.flags |= flag_hdgst;
  std::memcpy(to, &pdu, sizeof pdu);
  if (!header_digest) return sizeof pdu;
  const le32 digest = crc32c(to, sizeof pdu);
  std::memcpy(to + sizeof pdu, &digest, sizeof digest);
  return sizeof pdu + sizeof digest;
}

constexpr std::uint32_t round_up(std::uint32_t value, std::uint32_t alignment) { return (value + alignment - 1) / alignment * alignment; }

}  // namespace catnap::tcp
