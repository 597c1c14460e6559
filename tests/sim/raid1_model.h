// What the blocks of an array may hold, from what was written, answered, flushed, read and crashed.
// Owner: the world. Left out: where data is (raid1_disk.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace catnap::sim {

class BlockHistory {
 public:
  static constexpr std::uint64_t never = ~std::uint64_t{0};

  // Contents that a block may have before anything was written. Times are a counter of events that goes up.
  void may_begin_with(std::uint64_t block, std::uint64_t content);
  // Returns a number by which the write is known.
  std::uint64_t write_begins(std::uint64_t first_block, std::vector<std::uint64_t> contents, std::uint64_t now);
  void write_ends(std::uint64_t write, bool acknowledged, bool durable, std::uint64_t now, std::uint64_t oldest_read);
  // Every write that was acknowledged before `began` is durable.
  void flushed(std::uint64_t began);
  void crashed(std::uint64_t now);
  // Empty: it may have read that.
  std::string read(std::uint64_t block, std::uint64_t content, std::uint64_t began, std::uint64_t now);

 private:
  struct Write {
    std::uint64_t id = 0;
    std::uint64_t content = 0;
    std::uint64_t began = 0;
    std::uint64_t over = never;
    bool acknowledged = false;
    bool durable = false;
  };
  std::map<std::uint64_t, std::vector<Write>> blocks_;
  std::uint64_t next_id_ = 1;
  std::uint64_t last_crash_ = 0;
};

}  // namespace catnap::sim
