// Bytes that must not get out: pages of their own, locked into memory, left out of core dumps and of children, and cleared before they are given
// back. Owner: whoever holds it (immutable after filling). Left out: what libraries copy out of it (OpenSSL clears its own copies when it frees
// them; lock_library_keys() is about those that it can keep apart).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "reactor/base/error.h"

namespace catnap::keyring {

class SecretBytes {
 public:
  SecretBytes() = default;
  SecretBytes(SecretBytes&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), capacity_(std::exchange(other.capacity_, 0)) {}
  SecretBytes& operator=(SecretBytes&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~SecretBytes();

  // Zeroes at first. Each takes whole pages of RLIMIT_MEMLOCK. Errors: ENOMEM (no memory, or RLIMIT_MEMLOCK is used up, named).
  static Result<SecretBytes> create(std::size_t size_bytes);
  // A copy of `bytes`. Errors: as create().
  static Result<SecretBytes> copy_of(std::span<const std::byte> bytes);

  std::span<std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  bool empty() const { return size_ == 0; }
  // Keeps the first `size_bytes`, which must not be more than there are.
  void shrink(std::size_t size_bytes);

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;  // bytes asked for at first
};

// Bytes for private halves of key pairs in OpenSSL: 32 to 64 each (X25519, P-256, P-384, ffdhe2048 to 8192), so 16,384 and more at a time. Beyond,
// OpenSSL makes none, and the handshake or authentication that wanted it fails; connections, half open ones too, are bounded far below
// (docs/limits.md).
inline constexpr std::size_t library_keys_bytes = std::size_t{1} << 20;

// From now on OpenSSL keeps private halves of key pairs in such memory too (its "secure heap": locked, not dumped, between pages that nobody may
// touch), and clears whatever else it gives back. Once, before it is used for anything. Errors: ENOMEM: it is there but not locked (RLIMIT_MEMLOCK),
// or not there at all; EBUSY: it has been used. Nothing depends on it.
Result<void> lock_library_keys();

}  // namespace catnap::keyring
