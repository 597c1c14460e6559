// See block_turns.h.
#include "bdev/file/block_turns.h"

#include <utility>

#include "reactor/base/check.h"

namespace catnap::bdev {

BlockTurns::List& BlockTurns::home_of(const Entry& entry) { return is_wide(entry) ? wide_ : list_of(entry.first / region_blocks_); }

template <typename Visit>
void BlockTurns::for_list(const List& list, const Entry& entry, Visit visit) {
  for (Entry* other = list.head; other != nullptr; other = other->next) {
    if (other != &entry && conflict(*other, entry)) visit(*other);
  }
}

// Every entry that overlaps, if one of the two changes blocks. What begins in the region before may reach into the first one.
template <typename Visit>
void BlockTurns::for_neighbours(const Entry& entry, Visit visit) {
  for_list(wide_, entry, visit);
  const std::uint64_t first = entry.first / region_blocks_;
  const std::uint64_t last = (entry.end - 1) / region_blocks_;
  const std::uint64_t from = first == 0 ? 0 : first - 1;
  if (last - from + 1 >= lists) {
    for (const List& list : lists_) for_list(list, entry, visit);
    return;
  }
  for (std::uint64_t region = from; region <= last; ++region) for_list(list_of(region), entry, visit);
}

BlockTurns::Entry* BlockTurns::find(const BdevIo& io) {
  Entry sought;
  sought.first = io.offset_blocks;
  sought.end = io.offset_blocks + io.num_blocks;
  Entry* entry = home_of(sought).head;
  while (entry != nullptr && entry->io != &io) entry = entry->next;
  CATNAP_CHECK(entry != nullptr);
  return entry;
}

bool BlockTurns::enter(BdevIo& io) {
  const std::lock_guard lock(mutex_);
  if (free_ == nullptr) free_ = &entries_.emplace_back();
  Entry& entry = *std::exchange(free_, free_->next);
  entry = {};
  entry.io = &io;
  entry.first = io.offset_blocks;
  entry.end = io.offset_blocks + io.num_blocks;
  entry.number = ++arrivals_;
  entry.alone = io.op != Op::read;
  for_neighbours(entry, [&entry](Entry& earlier) {
    ++entry.waits_for;
    earlier.waited_for = true;
  });
  List& list = home_of(entry);
  entry.next = list.head;
  if (entry.next != nullptr) entry.next->previous = &entry;
  list.head = &entry;
  return entry.waits_for == 0;
}

void BlockTurns::remove(Entry& entry) {
  (entry.previous != nullptr ? entry.previous->next : home_of(entry).head) = entry.next;
  if (entry.next != nullptr) entry.next->previous = entry.previous;
  if (entry.waited_for) {
    for_neighbours(entry, [this, &entry](Entry& later) {
      if (later.number < entry.number || --later.waits_for > 0) return;
      later.io->channel->thread().send([go = go_, io = later.io] { go(*io); });
    });
  }
  entry.next = free_;
  free_ = &entry;
}

void BlockTurns::leave(const BdevIo& io) {
  const std::lock_guard lock(mutex_);
  remove(*find(io));
}

bool BlockTurns::give_up(const BdevIo& io) {
  const std::lock_guard lock(mutex_);
  Entry& entry = *find(io);
  if (entry.waits_for == 0) return false;
  remove(entry);
  return true;
}

}  // namespace catnap::bdev
