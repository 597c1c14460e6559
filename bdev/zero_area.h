// Zeroes to lend: read-only memory that reads as zero and takes none (all of it is the kernel's one zero page).
// Owner: none; any thread, for the life of the process. Left out: zeroes to write from (nobody may change these).
#pragma once

#include <cstddef>

#include "reactor/buffer_pool.h"
#include "transport/command_sink.h"

namespace catnap::bdev {

// As large as the largest I/O a transport moves.
inline constexpr std::size_t zero_area_bytes = BufferPool::max_size_bytes;
const std::byte* zero_area();
// A loan of them: nothing to lock, since zeroes do not change. length_bytes ≤ zero_area_bytes.
transport::Lease lend_zeroes();

}  // namespace catnap::bdev
