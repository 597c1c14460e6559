// Bytes that must not get out: pages of their own, locked into memory, left out of core dumps, and cleared before they are given back.
// Owner: whoever holds it (immutable after filling). Left out: what libraries copy out of it (OpenSSL clears its key schedules when it frees them).
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "reactor/base/error.h"

namespace catnap::bdev {

class SecretBytes {
 public:
  SecretBytes() = default;
  SecretBytes(SecretBytes&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  SecretBytes& operator=(SecretBytes&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~SecretBytes();

  // Zeroes at first. Errors: ENOMEM (no memory, or RLIMIT_MEMLOCK is used up, named).
  static Result<SecretBytes> create(std::size_t size_bytes);
  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace catnap::bdev
