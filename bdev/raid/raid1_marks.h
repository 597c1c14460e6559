// The write-intent bitmap: group commit of marks, and their lazy clearing.
//
// One commit at a time. What lanes ask for while one is under way goes into the next: one write of the pages concerned and one flush per member, for
// all writes of all threads that wait. Clearing happens when a region was quiet: the mark is taken from the lanes' map, the region is looked at for
// writes in flight, members' data is flushed, and only then the page is written.
// Owner: the core's thread. Left out: which members there are (raid1_core.h), what is copied (raid1_sync.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "bdev/raid/bitmap_pages.h"
#include "bdev/raid/raid1_maps.h"
#include "bdev/raid/raid1_ports.h"

namespace catnap::bdev::raid1 {

class Core;
class Lane;

class Marks {
 public:
  explicit Marks(Core& core);
  ~Marks();

  void ask(std::shared_ptr<Lane> lane, const std::vector<std::uint64_t>& regions);
  // In memory lanes mark by themselves; there are some now.
  void made_in_memory() { watch(); }
  // Every region, durably, before `done`.
  void mark_all(std::function<void()> done);
  void mark_range(std::uint64_t first_region, std::uint64_t last_region, std::function<void()> done);
  // One region; its blocks are held by who asks, so that nobody clears it before it is used.
  void mark_then(std::uint64_t region, std::function<void()> done);
  // All pages to one slot's bitmap, after which its commits count; false: it cannot be written.
  void copy_to(std::uint32_t slot, std::function<void(bool)> done);
  // Before the array is online: the pages of the slots that hold all data, merged; then everywhere where commits go.
  void load(std::function<void()> done);
  void write_everywhere(std::function<void()> done);
  // Every page once more, while the array is online.
  void write_again(std::function<void()> done);
  // It went well: what could not be marked earlier is, and is cleared in its time.
  void written_again();
  // Lanes may go by what is set now.
  void publish_all();
  bool is_set(std::uint64_t region) const;
  std::uint64_t count() const;
  // A region has been dealt with by Sync, or a member has come: there may be something to clear.
  void watch();
  // Regions were copied: what of them nobody has written meanwhile is cleared now, so that a copy that is cut off goes on from about here.
  void clear_copied();
  // The array is being stopped and no write is in flight: clears everything that need not stay.
  void clear_all(std::function<void()> done);
  bool idle() const { return !busy_ && !flushing_; }
  void disarm();

  struct Counts {
    std::uint64_t commits = 0;  // writes of pages that marked something
    std::uint64_t regions_marked = 0;
    std::uint64_t clears = 0;
    std::uint64_t regions_cleared = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  struct Copy {
    std::uint32_t slot;
    std::function<void(bool)> done;
  };
  void cycle();
  void write_cycle(std::set<std::uint64_t> pages, bool durable);
  void cycle_written();
  void cycle_over();
  void run_copy();
  void look_for_quiet();
  void clear_quiet(bool aging);
  void quiet_flushed(bool flushed);
  bool may_clear() const;
  std::vector<std::uint32_t> targets() const;
  std::vector<MetaRunner::Piece> pieces_of(const std::set<std::uint64_t>& pages);
  void load_next(std::vector<std::uint32_t> from, std::function<void()> done);
  Port* port_of(std::uint32_t slot) const;
  bool in_memory() const;
  std::uint64_t offset_blocks() const;

  Core& core_;
  RegionMaps& maps_;
  std::unique_ptr<BitmapPages> pages_;             // null: in memory
  Bits wanted_;                                    // for the next commit
  Bits committing_;                                // in the one under way
  Bits candidates_;                                // members' data is being flushed for these
  Bits clearing_;                                  // flushed; for the next write
  std::vector<std::shared_ptr<Lane>> asking_;      // told after the next commit
  std::vector<std::shared_ptr<Lane>> asking_now_;  // told after this one
  std::vector<std::function<void()>> after_next_;
  std::vector<std::function<void()>> after_this_;
  std::vector<Copy> copies_;
  std::vector<std::uint32_t> failed_;  // slots whose pages could not be written
  std::vector<std::uint32_t> stale_;   // or were written on another association
  std::size_t pending_ = 0;
  bool busy_ = false;
  bool flushing_ = false;
  bool write_all_ = false;  // with the next commit
  std::unique_ptr<Alarm> alarm_;
  Counts counts_;
};

}  // namespace catnap::bdev::raid1
