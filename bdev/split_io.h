// An I/O that is larger than its module takes, or crosses its boundary, as several I/Os on the same memory, some of them under way at once.
// Owner: the channel's thread; gone when the I/O it stands for is finished. Left out: memory that no cut fits (staged_io.h).
#pragma once

#include <memory>
#include <vector>

#include "bdev/iov.h"
#include "bdev/parted_io.h"

namespace catnap::bdev {

// Parts of one I/O under way at a time: enough to keep a device busy, and few enough that others get their turn.
inline constexpr std::size_t split_parts_at_once = 8;

class SplitIo final : public PartedIo {
 public:
  SplitIo(Channel& channel, BdevIo& whole) : PartedIo(channel, whole), cursor_(whole.iov, whole.iov_count) {}

  // Starts as many parts as may be under way; may end the whole, and this.
  void run();
  void part_done(BdevIo& part, Status status) override;
  bool abort() override;

 private:
  struct Part {
    BdevIo io;
    std::vector<iovec> iov;
  };

  void start_part();
  Part& free_part();
  bool over() const { return in_flight_ == 0 && (started_blocks_ == whole_.num_blocks || status_ != Status::ok); }

  IovCursor cursor_;
  std::vector<std::unique_ptr<Part>> parts_;
  std::vector<Part*> free_;
  std::uint64_t started_blocks_ = 0;
  std::size_t in_flight_ = 0;
  Status status_ = Status::ok;  // the first that was not
  bool running_ = false;        // run() is on the stack
};

}  // namespace catnap::bdev
