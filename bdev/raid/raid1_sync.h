// Copies between members: regions that may differ after an unclean stop (resync), and what a member that came back or is new does not have (rebuild).
//
// Both are one set of regions. A region is copied chunk by chunk with its blocks held in the OverlapTable, so no write comes between; when enough are
// copied members are flushed, and only then the regions count as equal. A restart goes on with what is still marked.
// Owner: the core's thread. Left out: which members there are (raid1_core.h), when marks are cleared (raid1_marks.h), verification (raid1_scrub.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "bdev/raid/raid1_lane.h"
#include "bdev/raid/raid1_maps.h"
#include "bdev/raid/raid1_meta.h"
#include "bdev/raid/raid1_pace.h"
#include "bdev/raid/raid1_ports.h"

namespace catnap::bdev::raid1 {

class Core;

class Sync final : public OverlapWaiter {
 public:
  // Copied regions that wait for a flush at most: one flush for so many, and little to do again after a crash.
  static constexpr std::uint64_t regions_per_flush = 64;

  explicit Sync(Core& core);
  ~Sync();

  // From now on these have to be copied; `suspect`: members in sync may differ there, so reads come from one until then.
  void add(std::uint64_t first_region, std::uint64_t last_region, bool suspect);
  void add_marked(bool suspect);
  bool pending(std::uint64_t region) const { return todo_.test(region); }
  bool finished() const { return todo_.empty(); }
  // Something changed: starts, goes on, or is over.
  void look();
  // No step starts any more; `done` when none is under way.
  void stop(std::function<void()> done);
  // Bytes per second, 0: none.
  void set_limit(std::uint64_t bytes_per_second);
  void blocks_freed() override;

  // Who was the source when the first of the suspect regions became one.
  std::uint32_t first_source() const { return first_source_; }
  bool running() const { return running_; }
  struct Progress {
    std::uint64_t regions_done = 0;
    std::uint64_t regions_total = 0;
    std::uint64_t blocks_copied = 0;  // written to a member, since the copy began
  };
  const Progress& progress() const { return progress_; }
  std::uint64_t unreadable_blocks() const { return unreadable_blocks_; }

 private:
  struct Copy;
  bool anything_to_copy() const;
  void drop_todo();
  void start_copies();
  void start_some();
  bool start_one();
  void next_chunk(Copy& copy);
  void take_blocks(Copy& copy);
  void retry_blocks();
  void read(Copy& copy);
  void read_ended(Copy& copy);
  void unreadable(Copy& copy);
  void write(Copy& copy);
  void written(Copy& copy);
  void chunk_over(Copy& copy);
  void region_over(Copy& copy);
  void flush_copied();
  void copied_flushed(std::vector<std::uint64_t> regions, bool flushed);
  void begin();
  void over();
  void start_io(Copy& copy, std::uint32_t slot, Op op);
  static void io_ended(BdevIo& io);
  std::uint32_t choose_source(const Copy& copy) const;
  void stopped();

  Core& core_;
  RegionMaps& maps_;
  Bits todo_;
  Bits copied_;  // waits for a flush
  Bits started_;
  std::uint64_t cursor_ = 0;
  std::uint64_t suspects_ = 0;
  std::uint32_t first_source_ = 0;
  std::vector<std::unique_ptr<Copy>> copies_;
  bool flushing_ = false;
  bool running_ = false;
  bool promoting_ = false;
  bool stopping_ = false;
  bool go_on_posted_ = false;
  std::function<void()> stopped_;
  bool waits_for_blocks_ = false;
  std::atomic<bool> wake_posted_{false};
  Pace pace_;
  std::unique_ptr<Alarm> alarm_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  const char* process_ = "resync";
  Progress progress_;
  std::uint64_t unreadable_blocks_ = 0;
};

}  // namespace catnap::bdev::raid1
