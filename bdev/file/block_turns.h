// Blocks of a file that goes through the page cache are seen old or new, never half written. The kernel copies a buffered write page by page (and a
// short one in several goes) while a read of the same pages may run, so here an I/O that overlaps a write in flight, or a write that overlaps a read,
// waits until the other is over. Whoever came first goes first; reads do not wait for reads.
//
// I/Os in flight stand in lists by the region of the file they begin in, so that entering and leaving looks only at neighbours: one short lock, no
// allocation once as many entries exist as were ever in flight. Files opened with O_DIRECT have no such table.
//
// Owner: one per file, used from all its channels' threads. Left out: blocks on a medium that the kernel writes directly (as atomic as the medium).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <mutex>

#include "bdev/bdev.h"

namespace catnap::bdev {

class BlockTurns {
 public:
  // Called on the thread of the I/O's channel, by message, when a waiting one may go.
  using Go = void (*)(BdevIo& io);
  BlockTurns(Go go, std::uint32_t block_size) : go_(go), region_blocks_(region_bytes / block_size) {}
  BlockTurns(const BlockTurns&) = delete;
  BlockTurns& operator=(const BlockTurns&) = delete;

  // What takes part: reads, writes and what makes blocks zero.
  static bool concerns(Op op) { return op == Op::read || op == Op::write || op == Op::unmap || op == Op::write_zeroes; }
  // True: go. False: it waits, and Go follows unless give_up() comes first.
  bool enter(BdevIo& io);
  // The I/O, which was told to go, is over.
  void leave(const BdevIo& io);
  // True: it still waited, and is out. False: it goes already, or was told to.
  bool give_up(const BdevIo& io);

 private:
  // The largest transfer that hosts usually send; larger I/Os (unmaps of gigabytes) stand in a list of their own that everybody looks at.
  static constexpr std::uint64_t region_bytes = 1 << 20;
  static constexpr std::size_t lists = 64;  // regions share them: 256 I/Os at random places meet about four others each

  struct Entry {
    BdevIo* io = nullptr;
    std::uint64_t first = 0, end = 0;  // blocks
    std::uint64_t number = 0;          // order of arrival
    std::uint32_t waits_for = 0;       // earlier ones that overlap
    bool alone = false;                // changes blocks
    bool waited_for = false;
    Entry* next = nullptr;
    Entry* previous = nullptr;
  };
  struct List {
    Entry* head = nullptr;
  };

  static bool conflict(const Entry& a, const Entry& b) { return (a.alone || b.alone) && a.first < b.end && b.first < a.end; }
  List& list_of(std::uint64_t region) { return lists_[region % lists]; }
  List& home_of(const Entry& entry);
  bool is_wide(const Entry& entry) const { return entry.end - entry.first > region_blocks_; }
  template <typename Visit>
  void for_neighbours(const Entry& entry, Visit visit);
  template <typename Visit>
  static void for_list(const List& list, const Entry& entry, Visit visit);
  Entry* find(const BdevIo& io);
  void remove(Entry& entry);

  const Go go_;
  const std::uint64_t region_blocks_;
  std::mutex mutex_;
  std::deque<Entry> entries_;
  Entry* free_ = nullptr;
  std::uint64_t arrivals_ = 0;
  std::array<List, lists> lists_;
  List wide_;
};

}  // namespace catnap::bdev
