// See secret.h.
#include "bdev/crypto/secret.h"

#include <fmt/core.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace catnap::bdev {
namespace {

std::size_t whole_pages(std::size_t size_bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (size_bytes + page - 1) / page * page;
}

}  // namespace

Result<SecretBytes> SecretBytes::create(std::size_t size_bytes) {
  const std::size_t pages = whole_pages(size_bytes);
  void* memory = mmap(nullptr, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail(ENOMEM, fmt::format("Cannot allocate memory: {} bytes for a key", pages));
  if (mlock(memory, pages) != 0) {
    const int reason = errno;
    munmap(memory, pages);
    return fail(ENOMEM, fmt::format("Cannot allocate memory: {} bytes for a key cannot be locked ({}); see RLIMIT_MEMLOCK", pages, strerror(reason)));
  }
  madvise(memory, pages, MADV_DONTDUMP);
  madvise(memory, pages, MADV_WIPEONFORK);
  SecretBytes secret;
  secret.data_ = static_cast<std::byte*>(memory);
  secret.size_ = size_bytes;
  return secret;
}

SecretBytes::~SecretBytes() {
  if (data_ == nullptr) return;
  OPENSSL_cleanse(data_, size_);
  const std::size_t pages = whole_pages(size_);
  munlock(data_, pages);
  munmap(data_, pages);
}

}  // namespace catnap::bdev
