// How both ends of a connection go through what they received: header, data and digest, each in as many pieces as it comes.
// Owner: none (functions of their arguments). Left out: what a part means (receive.cpp, host_receive.cpp), which PDUs are well formed (framing.h).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "transport/tcp/framing.h"

namespace catnap::tcp {

template <typename Pdu>
Pdu read_as(const std::byte* bytes) {
  Pdu pdu;
  std::memcpy(&pdu, bytes, sizeof pdu);
  return pdu;
}

// Hands bytes to `take(bytes, size)`, which says how many it took, until it takes none: more are needed, or the connection is over. Returns how many
// were taken.
template <typename Take>
std::size_t take_parts(std::byte* bytes, std::size_t size, Take take) {
  std::size_t consumed = 0;
  while (consumed < size) {
    const std::size_t taken = take(bytes + consumed, size - consumed);
    if (taken == 0) break;
    consumed += taken;
  }
  return consumed;
}

// Adds to a digest of which `have` bytes are there; returns how many were taken. It is whole with digest_bytes.
inline std::size_t gather_digest(std::array<std::byte, digest_bytes>& digest, std::uint32_t& have, const std::byte* bytes, std::size_t size) {
  const auto taken = static_cast<std::uint32_t>(std::min<std::size_t>(size, digest_bytes - have));
  std::memcpy(digest.data() + have, bytes, taken);
  have += taken;
  return taken;
}

}  // namespace catnap::tcp
