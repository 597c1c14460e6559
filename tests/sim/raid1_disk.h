// A disk for the simulation of raid1: it forgets what was not flushed, tears what is in flight at its block, fails, and comes back as it was, without
// what it had not flushed, or empty.
// Owner: the world (raid1_world.h), one OS thread. Left out: when its I/Os end (the world chooses).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "bdev/bdev.h"

namespace catnap::sim {

using Random = std::mt19937_64;

class SimDisk {
 public:
  static constexpr std::uint32_t block_size = 512;
  using Block = std::array<std::byte, block_size>;

  // What a read gives now.
  Block view(std::uint64_t block) const {
    for (auto version = unflushed_.rbegin(); version != unflushed_.rend(); ++version) {
      if (version->block == block) return version->data;
    }
    return durable(block);
  }
  Block durable(std::uint64_t block) const {
    const auto found = durable_.find(block);
    return found != durable_.end() ? found->second : Block{};
  }
  void set_durable(std::uint64_t block, const Block& data) { durable_[block] = data; }

  std::uint64_t association() const { return association_; }
  bool dead() const { return dead_; }
  void set_dead(bool dead) { dead_ = dead; }
  // The next write fails and leaves anything behind; reads of the block fail until it is written.
  void fail_next_write() { fail_next_write_ = true; }
  void spoil(std::uint64_t block) { bad_.insert(block); }
  // Something of it would fail if it were asked now.
  bool hurt() const { return fails() || !bad_.empty(); }
  bool fails() const { return dead_ || fail_next_write_; }
  bool bad(std::uint64_t block) const { return bad_.contains(block); }
  // The process has a new life: what fails once has failed.
  void recover() { dead_ = fail_next_write_ = false; }

  // The I/O was given to the disk; `ticket` must come back with it.
  std::uint64_t begin() { return clock_++; }
  // It ends now: its effect, and its status.
  bdev::Status end(const bdev::BdevIo& io, std::uint64_t ticket, Random& random);
  // It is under way and the power goes: some of its blocks may have been written.
  void tear(const bdev::BdevIo& io, Random& random);
  // What was not flushed is lost, or not, block by block.
  void lose_unflushed(Random& random);
  void associate_anew(Random& random) {
    lose_unflushed(random);
    ++association_;
  }
  void wipe() {
    durable_.clear();
    unflushed_.clear();
    bad_.clear();
  }

 private:
  struct Version {
    std::uint64_t block;
    std::uint64_t at;
    Block data;
  };
  static Block source_block(const bdev::BdevIo& io, std::uint64_t index);
  void write_block(std::uint64_t block, const Block& data, bool durable);

  std::unordered_map<std::uint64_t, Block> durable_;
  std::vector<Version> unflushed_;
  std::set<std::uint64_t> bad_;
  std::uint64_t clock_ = 1;
  std::uint64_t association_ = 1;
  bool dead_ = false;
  bool fail_next_write_ = false;
};

}  // namespace catnap::sim
