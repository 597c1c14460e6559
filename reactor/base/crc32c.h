// CRC32C (Castagnoli), the digest of NVMe/TCP headers and data (NVMe TCP Transport Specification 1.0c, section 3.3.1.1) and of our metadata.
// Owner: none (pure functions). Left out: CRC16/64 of protection information.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace catnap {

// Digest in progress. Feed bytes in order, in any cut; value() is the finished digest as it stands on the wire (little-endian le32).
class Crc32c {
 public:
  void update(std::span<const std::byte> bytes);
  void update(const void* data, std::size_t length_bytes) { update({static_cast<const std::byte*>(data), length_bytes}); }
  std::uint32_t value() const { return ~state_; }
  void reset() { state_ = 0xFFFFFFFFu; }

 private:
  std::uint32_t state_ = 0xFFFFFFFFu;
};

std::uint32_t crc32c(const void* data, std::size_t length_bytes);
std::uint32_t crc32c(std::span<const iovec> pieces);

}  // namespace catnap
