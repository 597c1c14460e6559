// See secret.h.
#include "keyring/secret.h"

#include <fmt/core.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "reactor/base/check.h"

namespace catnap::keyring {
namespace {

std::size_t whole_pages(std::size_t size_bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (size_bytes + page - 1) / page * page;
}

}  // namespace

Result<SecretBytes> SecretBytes::create(std::size_t size_bytes) {
  const std::size_t pages = whole_pages(std::max<std::size_t>(size_bytes, 1));
  void* memory = mmap(nullptr, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail(ENOMEM, fmt::format("Cannot allocate memory: {} bytes for a key", pages));
  if (mlock(memory, pages) != 0) {
    const int reason = errno;
    munmap(memory, pages);
    return fail(ENOMEM,
                fmt::format("Cannot allocate memory: {} bytes for a key cannot be locked ({}); see RLIMIT_MEMLOCK", pages, errno_text(reason)));
  }
  madvise(memory, pages, MADV_DONTDUMP);
  madvise(memory, pages, MADV_WIPEONFORK);
  SecretBytes secret;
  secret.data_ = static_cast<std::byte*>(memory);
  secret.size_ = size_bytes;
  secret.capacity_ = size_bytes;
  return secret;
}

Result<SecretBytes> SecretBytes::copy_of(std::span<const std::byte> bytes) {
  auto secret = create(bytes.size());
  if (secret) std::copy(bytes.begin(), bytes.end(), secret->data_);
  return secret;
}

void SecretBytes::shrink(std::size_t size_bytes) {
  CATNAP_CHECK(size_bytes <= size_);
  OPENSSL_cleanse(data_ + size_bytes, size_ - size_bytes);
  size_ = size_bytes;
}

Result<void> lock_library_keys() {
  // The smallest piece that it gives out: a private half of 256 bits.
  constexpr std::size_t least_bytes = 32;
  const int made = CRYPTO_secure_malloc_init(library_keys_bytes, least_bytes);
  if (made == 1) return {};
  return fail(ENOMEM, fmt::format("{} bytes for private keys of OpenSSL {}; see RLIMIT_MEMLOCK", library_keys_bytes,
                                  made == 2 ? "are not locked" : "could not be set apart"));
}

SecretBytes::~SecretBytes() {
  if (data_ == nullptr) return;
  const std::size_t pages = whole_pages(std::max<std::size_t>(capacity_, 1));
  OPENSSL_cleanse(data_, capacity_);
  munlock(data_, pages);
  munmap(data_, pages);
}

}  // namespace catnap::keyring
