// A raid1 with superblocks used from several reactors at once, on real OS threads, while a member is taken out and in again, a scrub runs and the
// speed limit changes: no block is seen half written, every I/O ends once and well, and in the end the members are equal.
// This is what ThreadSanitizer is for; the orders of events that matter for crashes are the simulation's (tests/sim/raid1_test.cpp).
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>

#include "bdev/malloc/malloc.h"
#include "bdev/raid/raid_arrays.h"
#include "bdev/raid/raid_bdev.h"
#include "reactor/runtime.h"
#include "tests/unit/bdev/rival.h"

namespace catnap::bdev {
namespace {

constexpr std::size_t users_count = 4;
constexpr std::uint64_t member_blocks = 8192;  // 1 MiB of superblock and bitmap, 3 of data

int writes_of_each() { return std::getenv("CATNAP_SOAK") != nullptr ? 200'000 : 2'000; }

Result<void> add_disk(const std::string& name) {
  MallocOptions options;
  options.name = name;
  options.num_blocks = member_blocks;
  auto made = MallocBdev::create(options, nullptr);
  if (!made) return std::unexpected(made.error());
  return Registry::instance().add(*made);
}

std::shared_ptr<RaidArray> mirror() { return RaidArrays::instance().find("R"); }

bool is_whole() {
  const auto array = mirror();
  for (const auto& member : array->members()) {
    if (member->state != MemberState::in_sync) return false;
  }
  return !array->level().progress().has_value();
}

// What goes on on app_thread meanwhile.
struct Life {
  explicit Life(Runtime& of) : runtime(of) {}
  Runtime& runtime;
  std::vector<std::unique_ptr<Rival>> rivals;
  std::atomic<std::size_t> running{users_count};
  int rounds = 0;
  std::uint64_t different = 0;
  bool ended_well = false;
};

Task<void> until_whole() {
  while (!is_whole()) co_await SleepFor(1000);
}

Task<Result<void>> scrub(Life* life) {
  const ScrubOptions options;
  Result<void> started = mirror()->level().start_scrub(options);
  if (!started) co_return started;
  while (mirror()->info_json().find("\"running\":true") != std::string::npos) co_await SleepFor(1000);
  const std::string text = mirror()->info_json();
  if (text.find("\"blocks_different\":0") == std::string::npos) ++life->different;
  co_return started;
}

Task<Result<void>> one_round(Life* life) {
  Result<void> outcome = co_await mirror()->remove_member(life->rounds % 2 == 0 ? 0 : 1);
  if (!outcome) co_return outcome;
  raid_settings().process_max_bandwidth_mib_sec = life->rounds % 3 == 0 ? 200 : 0;
  mirror()->level().settings_changed();
  outcome = co_await mirror()->add_member(life->rounds % 2 == 0 ? "A" : "B");
  if (!outcome) co_return outcome;
  co_await until_whole();
  outcome = co_await scrub(life);
  ++life->rounds;
  co_return outcome;
}

Task<Result<void>> live(Life* life) {
  for (const char* name : {"A", "B"}) {
    auto added = add_disk(name);
    if (!added) co_return added;
  }
  RaidOptions options;
  options.name = "R";
  options.kind = RaidKind::raid1;
  options.members = {"A", "B"};
  options.superblock = true;
  options.bitmap_region_kib = 4;
  Result<void> outcome = co_await RaidArrays::instance().create(options);
  if (!outcome) co_return outcome;
  const auto top = Registry::instance().find("R");
  const auto reactors = life->runtime.reactors();
  for (std::size_t i = 0; i < users_count; ++i) {
    Thread& thread = life->runtime.create_thread(*reactors[i % reactors.size()], "user");
    life->rivals.push_back(std::make_unique<Rival>(top, static_cast<std::uint32_t>(i), writes_of_each(), [life] { --life->running; }));
    thread.send([rival = life->rivals.back().get()] { rival->start(); });
  }
  while (life->running.load() > 0 && outcome) outcome = co_await one_round(life);
  while (life->running.load() > 0) co_await SleepFor(1000);
  if (!outcome) co_return outcome;
  outcome = co_await one_round(life);  // with nobody there
  life->ended_well = is_whole();
  co_return outcome;
}

Task<void> end(Life* life) {
  Result<void> removed = co_await RaidArrays::instance().remove("R", true);
  EXPECT_TRUE(removed.has_value());
  for (const char* name : {"A", "B"}) {
    const Promise<bool> gone;
    Registry::instance().remove(name, [gone](Result<void>) { gone.set(true); });
    co_await gone;
  }
  life->runtime.request_stop();
}

TEST(Raid1Threads, MembersComeAndGoWhileSeveralReactorsWrite) {
  RuntimeOptions options;
  options.cpumask = CpuMask::of_process();
  options.mode = ReactorMode::interrupt;
  const auto runtime = std::move(*Runtime::start(options));
  Life life(*runtime);
  runtime->run([&life] {
    spawn<Result<void>>(live(&life), [&life](Result<void> outcome) {
      EXPECT_TRUE(outcome.has_value()) << outcome.error().message;
      spawn(end(&life));
    });
  });
  raid_settings() = RaidSettings();
  EXPECT_TRUE(life.ended_well);
  EXPECT_EQ(life.different, 0u);
  EXPECT_GE(life.rounds, 1);
  for (const auto& rival : life.rivals) {
    EXPECT_EQ(rival->torn(), 0);
    EXPECT_EQ(rival->wrong(), 0);
  }
}

}  // namespace
}  // namespace catnap::bdev
