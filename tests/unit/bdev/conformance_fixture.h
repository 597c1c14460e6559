// What the conformance suite's files share: one stack of bdevs per test, and ways to do I/O on its top.
// Owner: the test's OS thread. Left out: the promises themselves (conformance_test.cpp, conformance_trouble_test.cpp).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bdev/file/file_bdev.h"
#include "bdev/raid/raid_arrays.h"
#include "tests/unit/bdev/bench.h"
#include "tests/unit/bdev/layers.h"

namespace catnap::bdev {

using Bytes = std::vector<std::byte>;

inline Bytes pattern(std::size_t length_bytes, std::uint32_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(length_bytes);
  for (std::size_t at = 0; at < length_bytes; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, std::min(sizeof word, length_bytes - at));
  }
  return bytes;
}

class Conformance : public testing::TestWithParam<Stack> {
 protected:
  void SetUp() override { set_up(false); }

  void set_up(bool small) {
    std::string why;
    if (!GetParam().bottom.is_file) bench_.leap_over_waits();
    bench_.on_thread([&] { bottom_ = GetParam().bottom.make(bench_.workers, file_, small, why); });
    if (bottom_ == nullptr) GTEST_SKIP() << why;
    bench_.on_thread([&] { ASSERT_TRUE(Registry::instance().add(bottom_).has_value()); });
    bdev_ = bottom_;
    for (const Layer& layer : GetParam().layers) ASSERT_NO_FATAL_FAILURE(put_over(layer));
    // Examination reads what stands on each.
    bool examined = false;
    bench_.on_thread([&examined] { Registry::instance().when_examined([&examined] { examined = true; }); });
    bench_.until([&examined] { return examined; });
    bench_.on_thread([&] {
      bdev_->reset_stats();
      auto channel = bdev_->get_channel();
      ASSERT_TRUE(channel.has_value());
      channel_ = std::move(*channel);
    });
    block_ = bdev_->block_size();
  }

  void put_over(const Layer& layer) {
    std::string name;
    bench_.on_thread([&] { name = add_layer(layer, bdev_); });
    ASSERT_NE(name, "");
    bench_.until([&name] { return Registry::instance().find(name) != nullptr; });
    bdev_ = Registry::instance().find(name);
  }

  // The bottom goes; what stands on it goes with it.
  void TearDown() override {
    if (bottom_ == nullptr) return;
    if (Registry::instance().find(bottom_->name()) != bottom_) return bench_.on_thread(forget_arrays);
    bool removed = false;
    bench_.on_thread([&] {
      channel_ = {};
      Registry::instance().remove(bottom_->name(), [&removed](Result<void> result) { removed = result.has_value(); });
    });
    bench_.until([&removed] { return removed && Registry::instance().all().empty(); });
    bench_.on_thread(forget_arrays);
    bdev_.reset();
    bottom_.reset();
    bench_.settle();
    EXPECT_TRUE(bench_.idle());
  }

  Status run(BdevIo& io) {
    bool done = false;
    io.context = &done;
    io.done = [](BdevIo& ended) { *static_cast<bool*>(ended.context) = true; };
    bench_.on_thread([&] { channel_->submit(io); });
    bench_.until([&done] { return done; });
    return io.status;
  }

  Status run(Op op, std::uint64_t offset_blocks, std::uint64_t num_blocks, const std::vector<iovec>& iov = {}, bool fua = false) {
    BdevIo io;
    io.op = op;
    io.offset_blocks = offset_blocks;
    io.num_blocks = num_blocks;
    io.iov = iov.empty() ? nullptr : iov.data();
    io.iov_count = static_cast<std::uint32_t>(iov.size());
    io.fua = fua;
    return run(io);
  }

  Status write(std::uint64_t offset_blocks, const Bytes& bytes, bool fua = false) {
    const std::vector<iovec> iov{{const_cast<std::byte*>(bytes.data()), bytes.size()}};
    return run(Op::write, offset_blocks, bytes.size() / block_, iov, fua);
  }
  Bytes read(std::uint64_t offset_blocks, std::uint64_t num_blocks) {
    Bytes bytes(num_blocks * block_, std::byte{0xEE});
    EXPECT_EQ(run(Op::read, offset_blocks, num_blocks, {{bytes.data(), bytes.size()}}), Status::ok);
    return bytes;
  }
  static bool no_marks() {
    return std::ranges::all_of(RaidArrays::instance().all(), [](const auto& array) {
      const auto bitmap = array->level().bitmap_json(false);
      return !bitmap || bitmap->find("\"marked_regions\":0,") != std::string::npos;
    });
  }
  // What a module that keeps nothing gives back for it.
  Bytes expected(const Bytes& written) const { return GetParam().keeps_data() ? written : Bytes(written.size(), std::byte{0}); }
  // What was never written may read as anything.
  void fill_with_zeroes() {
    const std::uint64_t part = (1 << 20) / block_;
    for (std::uint64_t at = 0; at < bdev_->num_blocks(); at += part) {
      ASSERT_EQ(run(Op::write_zeroes, at, std::min(part, bdev_->num_blocks() - at)), Status::ok);
    }
  }
  std::uint64_t count_of(Op op) const { return bdev_->stats().ops[static_cast<std::size_t>(op)]; }

  TestFile file_{GetParam().bottom_bytes()};
  Bench bench_;
  std::shared_ptr<Bdev> bottom_;
  std::shared_ptr<Bdev> bdev_;  // the top
  ChannelRef channel_;
  std::uint32_t block_ = 512;
};

// A user that submits the next I/O from within each done, as a busy queue does.
struct Chain {
  BdevIo io;
  Bytes bytes;
  iovec iov{};
  std::uint64_t left = 0;
  std::uint64_t depth = 0;
  std::uint64_t deepest = 0;
  bool ended = false;

  static void done(BdevIo& io) {
    auto& chain = *static_cast<Chain*>(io.context);
    ASSERT_EQ(io.status, Status::ok);
    if (--chain.left == 0) {
      chain.ended = true;
      return;
    }
    chain.deepest = std::max(chain.deepest, ++chain.depth);
    io.channel->submit(io);
    --chain.depth;
  }
  void start(Channel& channel, Op op, std::uint64_t offset, std::uint64_t times) {
    bytes.resize(channel.bdev().block_size());
    iov = {bytes.data(), bytes.size()};
    io.op = op;
    io.offset_blocks = offset;
    io.num_blocks = 1;
    io.iov = &iov;
    io.iov_count = 1;
    io.context = this;
    io.done = done;
    left = times;
    channel.submit(io);
  }
};

inline std::string stack_name(const testing::TestParamInfo<Stack>& info) { return info.param.name; }

}  // namespace catnap::bdev
