// Copying between scatter lists and flat memory, from any byte of the list on.
// Owner: none (pure functions). Left out: digests (reactor/base/crc32c.h takes iovecs itself).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace catnap::bdev {

// Walks a scatter list once, front to back.
class IovCursor {
 public:
  IovCursor(const iovec* iov, std::uint32_t count) : iov_(iov), end_(iov + count) {}

  void skip(std::uint64_t length_bytes) {
    advance(length_bytes, [](std::byte*, std::size_t, std::size_t) { return true; });
  }
  void copy_out(std::byte* to, std::uint64_t length_bytes) {
    copy_out_by(to, length_bytes, [](std::byte* target, const std::byte* source, std::size_t length) { std::memcpy(target, source, length); });
  }
  // By a copy function of the caller's: (to, from, bytes).
  template <typename Copy>
  void copy_out_by(std::byte* to, std::uint64_t length_bytes, Copy copy) {
    advance(length_bytes, [to, copy](std::byte* piece, std::size_t length, std::size_t at) {
      copy(to + at, piece, length);
      return true;
    });
  }
  void copy_in(const std::byte* from, std::uint64_t length_bytes) {
    advance(length_bytes, [from](std::byte* piece, std::size_t length, std::size_t at) {
      std::memcpy(piece, from + at, length);
      return true;
    });
  }
  void fill_zero(std::uint64_t length_bytes) {
    advance(length_bytes, [](std::byte* piece, std::size_t length, std::size_t) {
      std::memset(piece, 0, length);
      return true;
    });
  }
  // False at the first difference (the cursor then stands somewhere behind it).
  bool equals(const std::byte* other, std::uint64_t length_bytes) {
    return advance(length_bytes,
                   [other](const std::byte* piece, std::size_t length, std::size_t at) { return std::memcmp(piece, other + at, length) == 0; });
  }
  bool equals_zero(std::uint64_t length_bytes) {
    return advance(length_bytes, [](const std::byte* piece, std::size_t length, std::size_t) {
      return length == 0 || (piece[0] == std::byte{0} && std::memcmp(piece, piece + 1, length - 1) == 0);
    });
  }

  // Moves on by at most length_bytes, in at most max_pieces pieces (0: any number), a multiple of block_bytes; appends the pieces. Returns the
  // bytes taken: 0 when a block lies in more than max_pieces.
  std::uint64_t take(std::uint64_t length_bytes, std::uint32_t max_pieces, std::uint32_t block_bytes, std::vector<iovec>& pieces) {
    IovCursor ahead = *this;
    std::uint64_t bytes = 0;
    std::uint32_t count = 0;
    ahead.advance(length_bytes, [&](std::byte*, std::size_t length, std::size_t) {
      if (max_pieces > 0 && count == max_pieces) return false;
      ++count;
      bytes += length;
      return true;
    });
    bytes -= bytes % block_bytes;
    advance(bytes, [&pieces](std::byte* piece, std::size_t length, std::size_t) {
      pieces.push_back({piece, length});
      return true;
    });
    return bytes;
  }

 private:
  template <typename Visit>
  bool advance(std::uint64_t length_bytes, Visit visit) {
    std::size_t at = 0;
    while (length_bytes > 0 && iov_ != end_) {
      const std::size_t left = iov_->iov_len - used_;
      const std::size_t piece = left < length_bytes ? left : static_cast<std::size_t>(length_bytes);
      if (piece > 0 && !visit(static_cast<std::byte*>(iov_->iov_base) + used_, piece, at)) return false;
      at += piece;
      length_bytes -= piece;
      used_ += piece;
      if (used_ == iov_->iov_len) {
        ++iov_;
        used_ = 0;
      }
    }
    return true;
  }

  const iovec* iov_;
  const iovec* end_;
  std::size_t used_ = 0;
};

inline std::uint64_t iov_bytes(const iovec* iov, std::uint32_t count) {
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < count; ++i) sum += iov[i].iov_len;
  return sum;
}

}  // namespace catnap::bdev
