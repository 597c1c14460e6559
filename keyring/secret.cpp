// See secret.h.
#include "keyring/secret.h"

#include <fmt/core.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "reactor/base/check.h"

namespace catnap::keyring {
namespace {

std::size_t whole_pages(std::size_t size_bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (size_bytes + page - 1) / page * page;
}

// Larger blocks are records under way, of which each record makes new ones: data, and no keys.
constexpr std::size_t most_cleared_bytes = 16384;

void clear(void* block) {
  const std::size_t size = malloc_usable_size(block);
  if (size < most_cleared_bytes) OPENSSL_cleanse(block, size);
}

// The C library's, but what is given back is cleared first: OpenSSL 3.0 itself leaves traffic secrets of a connection where they were.
void* take(std::size_t size, const char*, int) { return std::malloc(size); }
void give_back(void* block, const char*, int) {
  if (block == nullptr) return;
  clear(block);
  std::free(block);
}
void* take_more(void* block, std::size_t size, const char* file, int line) {
  if (block == nullptr) return take(size, file, line);
  if (size == 0) {
    give_back(block, file, line);
    return nullptr;
  }
  const std::size_t had = malloc_usable_size(block);
  void* larger = std::malloc(size);
  if (larger == nullptr) return nullptr;
  std::memcpy(larger, block, std::min(had, size));
  give_back(block, file, line);
  return larger;
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
  const bool clears = CRYPTO_set_mem_functions(take, take_more, give_back) == 1;
  // The smallest piece that it gives out: a private half of 256 bits.
  constexpr std::size_t least_bytes = 32;
  const int made = CRYPTO_secure_malloc_init(library_keys_bytes, least_bytes);
  if (made == 1 && !clears) return fail(EBUSY, "OpenSSL was in use before and does not clear all that it gives back");
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
