// An I/O that the core carries out in parts through a buffer of its own: unaligned reads and writes of O_DIRECT modules, compare where the module
// has none, write zeroes (and unmap) where the medium refuses them, and compare-and-write, copy and verify.
// Owner: the channel's thread; made by Channel::stage(), gone when the I/O it stands for is finished.
// Left out: parts in parallel (these are the rare I/Os; one part after another is simple and holds one buffer).
#pragma once

#include <memory>

#include "bdev/parted_io.h"
#include "reactor/buffer_pool.h"

namespace catnap::bdev {

// Largest part in bytes; also the size of a channel's reserve.
inline constexpr std::uint32_t staged_part_bytes = 131072;

class StagedIo final : public PartedIo {
 public:
  // Null when there is no buffer now (an I/O of this channel that holds the reserve is under way then, or memory is short).
  static std::unique_ptr<StagedIo> create(Channel& channel, BdevIo& whole);
  ~StagedIo() override;

  // Starts the next part; deletes this when parts answered at once were the last ones.
  void run();
  void part_done(BdevIo& part, Status status) override;
  bool abort() override;

 private:
  StagedIo(Channel& channel, BdevIo& whole) : PartedIo(channel, whole), blocks_(whole.num_blocks) {}
  Op next_op() const;
  std::uint64_t offset_of(std::uint64_t blocks, bool source) const;
  void start_part();
  Status take_in_part();
  bool step(Status status);
  bool finished_after(Status status);

  const std::uint64_t blocks_;  // of the whole
  BdevIo part_;
  iovec part_iov_{};
  Buffer pooled_;
  std::byte* data_ = nullptr;
  std::uint32_t capacity_bytes_ = 0;
  std::uint64_t done_blocks_ = 0;  // of this pass
  std::uint64_t part_blocks_ = 0;  // of a copy: what the read of the part brought
  bool writing_ = false;           // compare-and-write: the second pass; copy: the second half of a part
  bool backwards_ = false;         // copy to a place that overlaps and lies behind: the last part first, as in memmove
  bool starting_ = false;          // run() is on the stack: answers that come at once are taken by its loop, not by recursion
  bool answered_ = false;
  bool aborted_ = false;
  Status answer_ = Status::ok;
};

}  // namespace catnap::bdev
