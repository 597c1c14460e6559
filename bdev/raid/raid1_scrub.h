// Compares members in sync with each other, block by block, and optionally makes them equal; blocks that one of them cannot read count as found too.
//
// A step holds its blocks in the OverlapTable, so what it reads is what members hold for good. Regions that are being resynced are passed over: they
// are known to differ. A repair marks the region first, like a write, and takes the word of the member in the lowest slot that can read the blocks.
// Owner: the core's thread. Left out: who is right (with two members nobody can say).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bdev/raid/raid1_lane.h"
#include "bdev/raid/raid1_maps.h"
#include "bdev/raid/raid1_meta.h"
#include "bdev/raid/raid1_pace.h"
#include "bdev/raid/raid1_ports.h"

namespace catnap::bdev::raid1 {

class Core;

class Scrub final : public OverlapWaiter {
 public:
  explicit Scrub(Core& core);
  ~Scrub();

  // Errors: EBUSY (one runs), EINVAL (nothing to compare with). `limit`: bytes per second, 0: none.
  Result<void> start(bool repair, std::uint64_t limit);
  void stop();
  // No step starts any more; `done` when none is under way.
  void quit(std::function<void()> done);
  bool running() const { return running_; }
  void set_limit(std::uint64_t bytes_per_second);
  void blocks_freed() override;

  struct Report {
    std::uint64_t blocks_done = 0;
    std::uint64_t blocks_passed_over = 0;  // in regions that are being copied, or while a member was away
    std::uint64_t blocks_different = 0;
    std::uint64_t blocks_unreadable = 0;  // on at least one member
    std::uint64_t blocks_repaired = 0;
    std::uint64_t first_different = 0;  // block; only with blocks_different
    bool repair = false;
    bool finished = false;
  };
  // Of the one that runs, or of the last one.
  const Report& report() const { return report_; }

 private:
  void next_step();
  void take_blocks();
  void retry_blocks();
  void read_all();
  void start_io(std::uint32_t slot, Op op);
  static void io_ended(BdevIo& io);
  void all_read();
  bool compare();
  void repair();
  void write_all();
  void all_written();
  void step_over();
  void over(const char* how);

  Core& core_;
  RegionMaps& maps_;
  bool running_ = false;
  bool stopping_ = false;
  bool under_way_ = false;
  std::function<void()> quit_;
  Report report_;
  std::uint64_t next_block_ = 0;
  std::uint64_t blocks_ = 0;  // of this step
  std::uint64_t began_ns_ = 0;
  OverlapHold hold_;
  bool waiting_ = false;
  bool registered_ = false;
  bool writing_ = false;
  std::atomic<bool> wake_posted_{false};
  struct Member {
    BdevIo io;
    iovec iov{};
    std::unique_ptr<MetaBuffer> buffer;
    Part outcome = Part::none;
    std::uint64_t association = 0;
    bool differs = false;
  };
  std::vector<Member> members_;
  std::uint32_t source_ = 0;
  std::size_t pending_ = 0;
  Pace pace_;
  std::unique_ptr<Alarm> alarm_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace catnap::bdev::raid1
