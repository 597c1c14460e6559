// Memory that data of hosts passes through and that core dumps leave out (MADV_DONTDUMP): whole pages of its own, so that nothing else is left out
// with it, between two pages that nobody may touch, so that running over either end is found at once, in every build. Owner: whoever holds it. Left
// out: locking it (keyring/secret.h), a pool of it (buffer_pool.h).
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <memory>

#include "reactor/base/check.h"

namespace catnap {

struct UnmapUndumped {
  std::size_t size_bytes = 0;
  std::size_t guard_bytes = 0;
  void operator()(std::byte* memory) const { ::munmap(memory - guard_bytes, size_bytes + 2 * guard_bytes); }
};
using UndumpedBytes = std::unique_ptr<std::byte[], UnmapUndumped>;

// Zeroes that take memory when they are touched; `size_bytes` is a multiple of pages. A few for each OS thread: without memory for them nothing can
// go on.
inline UndumpedBytes undumped_bytes(std::size_t size_bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  CATNAP_CHECK(size_bytes % page == 0);
  void* all = ::mmap(nullptr, size_bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CATNAP_CHECK(all != MAP_FAILED);
  std::byte* memory = static_cast<std::byte*>(all) + page;
  CATNAP_CHECK(::mprotect(memory, size_bytes, PROT_READ | PROT_WRITE) == 0);
  static_cast<void>(::madvise(memory, size_bytes, MADV_DONTDUMP));
  return {memory, UnmapUndumped{size_bytes, page}};
}

}  // namespace catnap
