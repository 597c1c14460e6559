// Writing PDU headers, as both sides of NVMe/TCP do.
// Owner: none (pure functions). Left out: what a PDU says (respond.cpp, host_commands.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "reactor/base/crc32c.h"
#include "transport/tcp/pdu.h"

namespace catnap::tcp {

// Begins a PDU's header in the memory it is sent from. Made elsewhere and copied, the copy's wide loads would wait for the fields' narrow stores, and
// these for all stores before them: of a write, for its blocks on their way to the disk's memory (docs/performance.md, "What was tried").
template <typename Pdu>
Pdu& begin_header(std::byte* at, PduType type) {
  static_assert(alignof(Pdu) == 1);
  Pdu& pdu = *new (at) Pdu;
  pdu.ch.type = static_cast<std::uint8_t>(type);
  pdu.ch.hlen = sizeof pdu;
  return pdu;
}

// Adds the header's digest behind it, when agreed on; returns the bytes of both.
template <typename Pdu>
std::uint8_t end_header(Pdu& pdu, bool header_digest) {
  if (!header_digest) return sizeof pdu;
  pdu.ch.flags |= flag_hdgst;
  auto* const at = reinterpret_cast<std::byte*>(&pdu);
  const le32 digest = crc32c(at, sizeof pdu);
  std::memcpy(at + sizeof pdu, &digest, sizeof digest);
  return sizeof pdu + sizeof digest;
}

constexpr std::uint32_t round_up(std::uint32_t value, std::uint32_t alignment) { return (value + alignment - 1) / alignment * alignment; }

}  // namespace catnap::tcp
