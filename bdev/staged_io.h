// An I/O that the core carries out in parts through a buffer of its own: unaligned reads and writes of O_DIRECT modules, compare where the module
// has none, write zeroes (and unmap) where the medium refuses them.
// Owner: the channel's thread; made by Channel::stage(), gone when the I/O it stands for is finished.
// Left out: parts in parallel (these are the rare I/Os; one part after another is simple and holds one buffer).
#pragma once

#include <memory>

#include "bdev/bdev.h"
#include "reactor/buffer_pool.h"

namespace catnap::bdev {

// Largest part in bytes; also the size of a channel's reserve.
inline constexpr std::uint32_t staged_part_bytes = 131072;

class StagedIo {
 public:
  // Null when there is no buffer now (an I/O of this channel that holds the reserve is under way then, or memory is short).
  static std::unique_ptr<StagedIo> create(Channel& channel, BdevIo& whole);
  ~StagedIo();
  StagedIo(const StagedIo&) = delete;
  StagedIo& operator=(const StagedIo&) = delete;

  // Starts the next part; deletes this when parts answered at once were the last ones.
  void run();
  // The module answered the part. Deletes this when it was the last one.
  void part_done(Status status);

 private:
  StagedIo(Channel& channel, BdevIo& whole) : channel_(channel), whole_(whole) {}
  void start_part();
  Status take_in_part();
  bool finished_after(Status status);

  Channel& channel_;
  BdevIo& whole_;
  BdevIo part_;
  iovec part_iov_{};
  Buffer pooled_;
  std::byte* data_ = nullptr;
  std::uint32_t capacity_bytes_ = 0;
  std::uint64_t done_blocks_ = 0;
  bool starting_ = false;  // run() is on the stack: answers that come at once are taken by its loop, not by recursion
  bool answered_ = false;
  Status answer_ = Status::ok;
};

}  // namespace catnap::bdev
