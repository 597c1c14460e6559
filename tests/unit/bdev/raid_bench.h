// Malloc bdevs and arrays over them, for the tests of bdev/raid.
// Owner: the test's OS thread. Left out: what every bdev promises (the conformance suite).
#pragma once

#include <json/json.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdev/raid/raid_arrays.h"
#include "bdev/raid/raid_bdev.h"
#include "bdev/rpc_common.h"
#include "tests/unit/bdev/stack_bench.h"

namespace catnap::bdev {

class RaidTest : public StackTest {
 protected:
  void SetUp() override {}
  void TearDown() override {
    bench_.on_thread([this] { channel_ = {}; });
    while (!RaidArrays::instance().all().empty()) remove_array(RaidArrays::instance().all().front()->name());
    StackTest::TearDown();
    RaidArray::set_listener(nullptr);
  }

  void add_disk(const std::string& name, std::uint64_t num_blocks = blocks, std::uint32_t block_size = 512, const std::string& uuid = "") {
    bench_.on_thread([&] {
      MallocOptions options;
      options.name = name;
      options.num_blocks = num_blocks;
      options.block_size = block_size;
      options.uuid = uuid;
      ASSERT_TRUE(Registry::instance().add(*MallocBdev::create(options, nullptr)).has_value());
    });
  }
  // What a sequence ends with.
  Result<void> wait_for(const std::function<Task<Result<void>>()>& begin) {
    std::optional<Result<void>> outcome;
    bench_.on_thread([&] { spawn<Result<void>>(begin(), [&outcome](Result<void> ended) { outcome = std::move(ended); }); });
    bench_.until([&outcome] { return outcome.has_value(); });
    return *outcome;
  }
  static RaidOptions options_of(RaidKind kind, const std::string& name, std::vector<std::string> members, std::uint32_t strip_size_kib = 4) {
    RaidOptions options;
    options.name = name;
    options.kind = kind;
    options.members = std::move(members);
    options.strip_size_kib = kind == RaidKind::raid1 ? 0 : strip_size_kib;
    return options;
  }
  Result<void> create_array(const RaidOptions& options) {
    return wait_for([&options] { return RaidArrays::instance().create(options); });
  }
  Result<void> remove_array(const std::string& name, bool clear_superblock = false) {
    return wait_for([&] { return RaidArrays::instance().remove(name, clear_superblock); });
  }
  static std::shared_ptr<RaidArray> array(const std::string& name) { return RaidArrays::instance().find(name); }
  static Json::Value info(const std::string& name) { return parse_json(array(name)->info_json()); }
  void until_state(const std::string& name, RaidState state) {
    bench_.until([&] { return array(name) != nullptr && array(name)->state() == state; });
  }
  void open_top(const std::string& name) {
    bench_.on_thread([&] { open(name); });
  }
  void close_top() {
    bench_.on_thread([this] { channel_ = {}; });
  }
};

}  // namespace catnap::bdev
