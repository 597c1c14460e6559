// A malloc bdev and I/O on whatever is put over it, for the tests of single virtual bdevs.
// Owner: the test's OS thread. Left out: the promises of every bdev (the conformance suite).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "bdev/malloc/malloc.h"
#include "bdev/stack/virtual_bdevs.h"
#include "tests/unit/bdev/bench.h"

namespace catnap::bdev {

// One I/O with memory of its own.
struct TestIo {
  TestIo(Op op, std::uint64_t offset, std::uint64_t blocks, int value = 0) : bytes(blocks * 512, static_cast<std::byte>(value)) {
    iov = {bytes.data(), bytes.size()};
    io.op = op;
    io.offset_blocks = offset;
    io.num_blocks = blocks;
    io.iov = bytes.empty() ? nullptr : &iov;
    io.iov_count = bytes.empty() ? 0 : 1;
    io.context = this;
    io.done = [](BdevIo& ended) { ++static_cast<TestIo*>(ended.context)->times_done; };
  }
  bool done() const { return times_done > 0; }
  std::vector<std::byte> bytes;
  iovec iov{};
  BdevIo io;
  int times_done = 0;
};

class StackTest : public testing::Test {
 protected:
  static constexpr std::uint64_t blocks = 8192;  // of 512 bytes

  void SetUp() override {
    bench_.on_thread([] { add_malloc("M0"); });
  }
  void TearDown() override {
    bench_.on_thread([this] { channel_ = {}; });
    while (!Registry::instance().all().empty()) remove(Registry::instance().all().front()->name());
    bench_.settle();
    EXPECT_TRUE(bench_.idle());
  }
  static void add_malloc(const std::string& name) {
    MallocOptions options;
    options.name = name;
    options.num_blocks = blocks;
    ASSERT_TRUE(Registry::instance().add(*MallocBdev::create(options, nullptr)).has_value());
  }
  void remove(const std::string& name) {
    bool removed = false;
    bench_.on_thread([&] { Registry::instance().remove(name, [&removed](Result<void>) { removed = true; }); });
    bench_.until([&removed] { return removed; });
  }
  // Makes it, and opens a channel of the bdev of that name.
  void make(VirtualRecipe recipe, const std::string& name) {
    bench_.on_thread([&] {
      const auto made = VirtualBdevs::instance().create(std::move(recipe));
      ASSERT_TRUE(made.has_value()) << made.error().message;
      open(name);
    });
  }
  void open(const std::string& name) {
    auto channel = Registry::instance().find(name)->get_channel();
    ASSERT_TRUE(channel.has_value());
    channel_ = std::move(*channel);
  }
  void forget(std::string_view product, std::string_view name) {
    bench_.on_thread([&] { EXPECT_TRUE(VirtualBdevs::instance().forget(product, name).has_value()); });
  }
  void submit(TestIo& io) {
    bench_.on_thread([&] { channel_->submit(io.io); });
  }
  bool abort(TestIo& io) {
    bool taken = false;
    bench_.on_thread([&] { taken = channel_->abort(io.io); });
    return taken;
  }
  Status run(TestIo& io) {
    submit(io);
    bench_.until([&io] { return io.done(); });
    return io.io.status;
  }
  Status run(Op op, std::uint64_t offset, std::uint64_t count, int value = 0) {
    TestIo io(op, offset, count, value);
    return run(io);
  }
  // The value in all bytes of a block; -1: they differ.
  int value_of(std::uint64_t block) {
    TestIo io(Op::read, block, 1);
    EXPECT_EQ(run(io), Status::ok);
    const bool same = std::ranges::all_of(io.bytes, [&io](std::byte byte) { return byte == io.bytes[0]; });
    return same ? std::to_integer<int>(io.bytes[0]) : -1;
  }

  Bench bench_;
  ChannelRef channel_;
};

}  // namespace catnap::bdev
