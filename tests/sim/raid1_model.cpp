// See raid1_model.h.
#include "tests/sim/raid1_model.h"

#include <fmt/format.h>

#include <algorithm>

namespace catnap::sim {

void BlockHistory::may_begin_with(std::uint64_t block, std::uint64_t content) {
  Write write;
  write.content = content;
  write.over = 0;
  blocks_[block].push_back(write);
}

std::uint64_t BlockHistory::write_begins(std::uint64_t first_block, std::vector<std::uint64_t> contents, std::uint64_t now) {
  const std::uint64_t id = next_id_++;
  for (std::size_t i = 0; i < contents.size(); ++i) {
    Write write;
    write.id = id;
    write.content = contents[i];
    write.began = now;
    blocks_[first_block + i].push_back(write);
  }
  return id;
}

void BlockHistory::write_ends(std::uint64_t id, bool acknowledged, bool durable, std::uint64_t now, std::uint64_t oldest_read) {
  for (auto& [block, writes] : blocks_) {
    for (Write& write : writes) {
      if (write.id != id) continue;
      write.over = now;
      write.acknowledged = acknowledged;
      write.durable = durable;
    }
    // What nothing can bring back any more, and no read under way can still find.
    const auto gone = [&writes, oldest_read](const Write& old) {
      return std::ranges::any_of(writes, [&old, oldest_read](const Write& newer) {
        return newer.acknowledged && newer.durable && newer.began > old.over && newer.over < oldest_read;
      });
    };
    writes.erase(std::remove_if(writes.begin(), writes.end(), [&](const Write& old) { return gone(old); }), writes.end());
  }
}

void BlockHistory::flushed(std::uint64_t began) {
  for (auto& [block, writes] : blocks_) {
    for (Write& write : writes) write.durable |= write.acknowledged && write.over < began;
  }
}

void BlockHistory::crashed(std::uint64_t now) {
  last_crash_ = now;
  for (auto& [block, writes] : blocks_) {
    std::vector<Write> left;
    for (const Write& write : writes) {
      const bool overwritten = std::ranges::any_of(writes, [&write](const Write& newer) { return newer.durable && newer.began > write.over; });
      if (overwritten) continue;
      left.push_back(write);
      left.back().over = std::min(write.over, now);
      left.back().acknowledged &= write.durable;
    }
    writes = std::move(left);
  }
}

std::string BlockHistory::read(std::uint64_t block, std::uint64_t content, std::uint64_t began, std::uint64_t now) {
  std::vector<Write>& writes = blocks_[block];
  bool legal = false;
  for (const Write& write : writes) {
    if (write.content != content) continue;
    legal |= std::ranges::none_of(writes, [&](const Write& newer) { return newer.acknowledged && newer.over < began && newer.began > write.over; });
  }
  if (!legal) {
    std::string known;
    for (const Write& write : writes) {
      known += fmt::format(" {:x}[{}..{}{}{}]", write.content, write.began, write.over == never ? 0 : write.over, write.acknowledged ? " ack" : "",
                           write.durable ? " durable" : "");
    }
    return fmt::format("block {} reads as {:x} ({}..{}), which it cannot hold; writes:{}", block, content, began, now, known);
  }
  // Not written since the crash: from now on it is this.
  if (std::ranges::all_of(writes, [this](const Write& write) { return write.over <= last_crash_; })) {
    Write only;
    only.content = content;
    only.over = last_crash_;
    only.acknowledged = only.durable = true;
    writes = {only};
  }
  return "";
}

}  // namespace catnap::sim
