// bitmap_file of bdev_raid_create: a file as the bdev that holds an array's write-intent bitmap.
//
// The bdev is an aio bdev with a name of the array's (raid_bitmap_bdev_name). Saved configurations show both: its own create call, and the array's
// with bitmap_file; whichever comes first, the file is opened once.
//
// Owner: app_thread. Left out: what stands in the file (superblock.h, bitmap_pages.h).
#pragma once

#include "bdev/raid/raid.h"
#include "reactor/task.h"

namespace catnap::bdev {

// Room for both superblocks and twice the most regions that raid1 makes by itself. A file that is not there is made with this size.
inline constexpr std::uint64_t bitmap_file_bytes = 1 << 20;

// Opens the file, which is made when it is not there, and adds its bdev; nothing to do when that is there already. Errors: what opening says, EEXIST
// when the name is that of another bdev.
Task<Result<void>> open_bitmap_file(std::string array_name, std::string path);
// Removes that bdev, if it is there; the file stays.
Task<void> close_bitmap_file(std::string array_name);

}  // namespace catnap::bdev
