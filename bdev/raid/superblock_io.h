// Reading, writing and clearing superblocks from app_thread: for examine, for deletion, and for levels that write them when nothing else is going on.
// Owner: app_thread. Left out: raid1's updates under I/O (raid1_stores.h), the format (superblock.h).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "bdev/bdev.h"
#include "bdev/raid/superblock.h"
#include "reactor/task.h"

namespace catnap::bdev {

// How long each I/O of these may take before it is taken back: far above what a disk needs, and below what callers of RPCs wait for.
inline constexpr std::uint64_t superblock_io_limit_us = 5'000'000;

// The newer copy; nothing: there is none (or the bdev is too small for one). Errors: EIO (cannot be read), EILSEQ (both are broken),
// EPROTONOSUPPORT (written by a later version).
Task<Result<std::optional<Superblock>>> read_raid_superblock(std::shared_ptr<Bdev> bdev);
// To the copy that is not the newest, durable when it is over. Errors: EIO.
Task<Result<void>> write_raid_superblock(std::shared_ptr<Bdev> bdev, Superblock superblock);
// Zeroes in place of both copies, durable when it is over. Errors: EIO.
Task<Result<void>> clear_raid_superblock(std::shared_ptr<Bdev> bdev);

// A whole member's space in front of its data where there is a superblock and no bitmap, in bytes: SPDK's alignment of data.
inline constexpr std::uint64_t superblock_data_offset_bytes = 1 << 20;

}  // namespace catnap::bdev
