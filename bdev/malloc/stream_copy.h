// A copy that goes past the caches: for destinations too large to stay in them, where an ordinary copy reads every line from memory before it writes
// it. Owner: none, pure functions. Left out: machines without AVX2 (an ordinary copy there).
#pragma once

#include <cstddef>

namespace catnap::bdev {

// Bytes of the largest cache that a CPU of this machine has; 0: unknown.
std::size_t last_level_cache_bytes();

// As memcpy, by non-temporal stores. When it returns, the bytes are visible to whoever sees a later store of this thread.
void stream_copy(std::byte* to, const std::byte* from, std::size_t bytes);

}  // namespace catnap::bdev
