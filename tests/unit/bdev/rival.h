// A user of a bdev who fights with others like him over few blocks, on a thread of his own: is a block ever seen half written, does every I/O end
// once? Owner: his thread; what he found is read when all have ended. Left out: which bdev, and who else does what to it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "bdev/bdev.h"

namespace catnap::bdev {

inline constexpr std::uint64_t used_blocks = 48;
inline constexpr std::uint64_t most_blocks = 40;

// Writes uniform blocks and looks whether what it reads is uniform; two I/Os at a time, so that there is one to abort.
class Rival {
 public:
  Rival(std::shared_ptr<Bdev> bdev, std::uint32_t seed, int times, std::function<void()> ended)
      : bdev_(std::move(bdev)), random_(seed), left_(times), ended_(std::move(ended)) {
    for (Slot& slot : slots_) {
      slot.owner = this;
      slot.bytes.resize(most_blocks * bdev_->block_size());
    }
  }
  void start() {
    auto channel = bdev_->get_channel();
    ASSERT_TRUE(channel.has_value());
    channel_ = std::move(*channel);
    for (Slot& slot : slots_) next(slot);
  }
  int torn() const { return torn_; }
  int wrong() const { return wrong_; }
  std::uint64_t aborted() const { return aborted_; }

 private:
  struct Slot {
    Rival* owner = nullptr;
    BdevIo io;
    iovec iov{};
    std::vector<std::byte> bytes;
    bool busy = false;
  };

  void next(Slot& slot) {
    if (left_ <= 0) return end_when_idle();
    --left_;
    BdevIo& io = slot.io;
    io = {};
    io.context = &slot;
    io.done = [](BdevIo& over) {
      Slot& done = *static_cast<Slot*>(over.context);
      done.owner->answered(done);
    };
    io.num_blocks = 1 + random_() % most_blocks;
    io.offset_blocks = random_() % (used_blocks - io.num_blocks + 1);
    slot.iov = {slot.bytes.data(), io.num_blocks * bdev_->block_size()};
    const auto roll = random_() % 100;
    if (roll < 45) {
      io.op = Op::write;
      std::memset(slot.bytes.data(), static_cast<int>(random_() % 255 + 1), slot.iov.iov_len);
    } else if (roll < 97) {
      io.op = Op::read;
    } else if (roll < 99) {
      io.op = Op::write_zeroes;
    } else {
      io.op = Op::reset;
      io.offset_blocks = io.num_blocks = 0;
    }
    if (io.op == Op::read || io.op == Op::write) {
      io.iov = &slot.iov;
      io.iov_count = 1;
    }
    slot.busy = true;
    channel_->submit(io);
    Slot& other = slots_[&slot == &slots_[0] ? 1 : 0];
    if (random_() % 20 == 0 && other.busy) (void)channel_->abort(other.io);
  }

  void answered(Slot& slot) {
    if (!slot.busy) ++wrong_;
    slot.busy = false;
    if (slot.io.status == Status::aborted) {
      ++aborted_;
    } else if (slot.io.status != Status::ok) {
      ++wrong_;
    } else if (slot.io.op == Op::read) {
      const std::uint32_t size = bdev_->block_size();
      for (std::uint64_t i = 0; i < slot.io.num_blocks; ++i) {
        const std::byte* block = slot.bytes.data() + i * size;
        if (std::memcmp(block, block + 1, size - 1) != 0) ++torn_;
      }
    }
    next(slot);
  }

  void end_when_idle() {
    if (ended_once_ || slots_[0].busy || slots_[1].busy) return;
    ended_once_ = true;
    channel_ = {};
    ended_();
  }

  std::shared_ptr<Bdev> bdev_;
  std::mt19937 random_;
  int left_;
  std::function<void()> ended_;
  Slot slots_[2];
  ChannelRef channel_;
  int torn_ = 0, wrong_ = 0;
  std::uint64_t aborted_ = 0;
  bool ended_once_ = false;
};

}  // namespace catnap::bdev
