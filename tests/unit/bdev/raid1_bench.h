// raid1 arrays over real bdevs, and a disk that is lost and found again, for the tests of bdev/raid.
// Owner: the test's OS thread. Left out: crashes and orders of events (tests/sim/raid1_test.cpp).
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bdev/raid/raid1.h"
#include "bdev/stacked.h"
#include "bdev/uring/uring.h"
#include "tests/unit/bdev/raid_bench.h"

namespace catnap::bdev {

// As a remote disk: over another bdev, which stands for what the target has.
class Reconnecting final : public StackedBdev, public Associated {
 public:
  // `unmaps`: what was unmapped there reads as zeroes, as below.
  static std::shared_ptr<Reconnecting> over(const std::string& base_name, const std::string& name, bool unmaps = true) {
    auto base = open_base(base_name, "test", Claim::exclusive);
    if (!base) return nullptr;
    BdevInfo info;
    inherit(info, (*base)->descriptor->bdev());
    info.name = name;
    info.unmap_reads_zeroes &= unmaps;
    info.product_name = "Test disk";
    return std::shared_ptr<Reconnecting>(new Reconnecting(std::move(info), std::move(*base)));
  }
  // On app_thread. The connection went and came between two I/Os; `tell`: whoever watches hears of it by itself.
  void found_again(bool tell = true) {
    count_association();
    if (tell) tell_of_association();
  }
  std::string config_json() const override { return ""; }

 private:
  Reconnecting(BdevInfo info, std::shared_ptr<StackedBase> base) : StackedBdev(std::move(info), std::move(base)) {}
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override {
    auto below = base_channel();
    if (!below) return std::unexpected(below.error());
    return std::make_unique<StackedChannel>(*this, thread, std::move(*below));
  }
};

class Raid1Test : public RaidTest {
 protected:
  static RaidOptions mirror(std::vector<std::string> members, bool superblock = false) {
    RaidOptions options = options_of(RaidKind::raid1, "R", std::move(members));
    options.superblock = superblock;
    return options;
  }
  void add_file(const std::string& name, const TestFile& of, const std::string& uuid = "") {
    bench_.on_thread([&] {
      UringOptions options;
      options.name = name;
      options.filename = of.path();
      options.block_size = 512;
      options.uuid = uuid;
      auto created = UringBdev::create(options, bench_.workers);
      ASSERT_TRUE(created.has_value()) << created.error().message;
      ASSERT_TRUE(Registry::instance().add(*created).has_value());
    });
  }
  // Over a new malloc bdev of the same name and "_there".
  std::shared_ptr<Reconnecting> add_remote(const std::string& name, bool unmaps = true) {
    add_disk(name + "_there");
    std::shared_ptr<Reconnecting> made;
    bench_.on_thread([&] {
      made = Reconnecting::over(name + "_there", name, unmaps);
      ASSERT_TRUE(Registry::instance().add(made).has_value());
    });
    return made;
  }
  Json::Value bitmap() { return parse_json(*array("R")->level().bitmap_json(true)); }
  static MemberState state_of(std::uint32_t slot) { return array("R")->member(slot).state; }
  static bool is_whole() {
    for (const auto& member : array("R")->members()) {
      if (member->state != MemberState::in_sync) return false;
    }
    return !array("R")->level().progress().has_value();
  }
  void until_whole() {
    bench_.until(is_whole);
    bench_.settle();  // what follows from it at once
  }
  // The byte that a bdev of its own holds at that block.
  int value_on(const std::string& name, std::uint64_t block) {
    open_top(name);
    const int value = value_of(block);
    close_top();
    return value;
  }
  void write_on(const std::string& name, std::uint64_t block, std::uint64_t count, int value) {
    ChannelRef top = std::move(channel_);
    open_top(name);
    EXPECT_EQ(run(Op::write, block, count, value), Status::ok);
    close_top();
    channel_ = std::move(top);
  }
};

}  // namespace catnap::bdev
