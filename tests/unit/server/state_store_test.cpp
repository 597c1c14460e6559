// The state file (server/state_store.h): power cuts at every step with a disk that forgets what was not synced, which of the steps are needed, full
// and failing disks, and how many who wait share one write. Left out: what the state is (state_text_test.cpp). Owner: the test's thread turns the
// app thread by hand; workers are real.
#include "server/state_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <thread>

#include "tests/unit/reactor/by_hand.h"
#include "tests/unit/server/forgetful_disk.h"

namespace catnap::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* path = "/state/file";

std::string text_of(std::int64_t number) { return std::to_string(number) + "\n"; }

// A store whose state is a number, and a disk below it.
struct Bench {
  explicit Bench(FileSteps& files) : workers(2) {
    app.on_thread([&] {
      store.emplace(*app.thread, workers, files, path, std::nullopt,
                    [this] { return StatePieces{std::make_shared<const std::string>(text_of(number))}; });
    });
  }
  ~Bench() {
    app.on_thread([&] { store.reset(); });
  }

  // Until `condition` holds; workers answer by messages.
  template <typename Condition>
  void turn_until(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!condition()) {
      app.settle();
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "it never happens";
      std::this_thread::yield();
    }
  }
  Result<void> prepare() {
    std::optional<Result<void>> prepared;
    app.on_thread([&] { store->prepare(100, [&](Result<void> outcome) { prepared = std::move(outcome); }); });
    turn_until([&] { return prepared.has_value(); });
    return *prepared;
  }
  void begin() {
    app.on_thread([&] { store->begins(true); });
  }
  void make() {
    app.on_thread([&] {
      ++number;
      store->made();
    });
  }
  void end(std::optional<Result<void>>& kept) {
    app.on_thread([&] { store->settle([&kept](Result<void> outcome) { kept = std::move(outcome); }); });
  }
  void settle(std::optional<Result<void>>& kept) {
    app.on_thread([&] {
      store->begins(true);
      ++number;
      store->made();
      store->settle([&kept](Result<void> outcome) { kept = std::move(outcome); });
    });
  }
  Result<void> change() {
    if (auto prepared = prepare(); !prepared) return prepared;
    std::optional<Result<void>> kept;
    settle(kept);
    turn_until([&] { return kept.has_value(); });
    return *kept;
  }

  ByHand app;
  WorkerPool workers;
  std::int64_t number = 0;
  std::optional<StateStore> store;
};

// Five changes with a power cut after `cut_after` steps of the disk. True: whatever the disk kept by itself, the file is what was acknowledged last
// or, of the change in flight, what comes after it.
bool survives(std::size_t cut_after, std::optional<Step> left_out) {
  ForgetfulDisk disk;
  disk.cut_after = cut_after;
  disk.left_out = left_out;
  std::int64_t acknowledged = 0;
  {
    Bench bench(disk);
    for (int i = 0; i < 5; ++i) {
      if (bench.change()) acknowledged = bench.number;
    }
  }
  for (const std::string& found : disk.after_power_cut(path)) {
    const bool nothing_yet = acknowledged == 0 && found == "(missing)";
    if (!nothing_yet && found != text_of(acknowledged) && found != text_of(acknowledged + 1)) return false;
  }
  return true;
}

constexpr std::size_t steps_of_five_changes = 20;

TEST(StateStore, HasWhatWasAcknowledgedAfterAPowerCutAtAnyStep) {
  for (std::size_t cut = 0; cut <= steps_of_five_changes; ++cut) EXPECT_TRUE(survives(cut, {})) << "power cut after step " << cut;
}

// The test above would notice if a step were missing.
TEST(StateStore, NeedsEachStep) {
  for (const Step step : {Step::sync, Step::rename, Step::sync_directory}) {
    bool all = true;
    for (std::size_t cut = 0; cut <= steps_of_five_changes && all; ++cut) all = survives(cut, step);
    EXPECT_FALSE(all) << "step " << static_cast<int>(step) << " could be left out";
  }
}

TEST(StateStore, WritesNothingWhenNothingDiffers) {
  ForgetfulDisk disk;
  Bench bench(disk);
  ASSERT_TRUE(bench.change());
  ASSERT_TRUE(bench.prepare());
  --bench.number;  // settle() counts on: the same as before
  std::optional<Result<void>> kept;
  bench.settle(kept);
  bench.turn_until([&] { return kept.has_value(); });
  EXPECT_TRUE(kept->has_value());
  EXPECT_EQ(bench.store->status().writes, 1u);
  EXPECT_EQ(disk.names.size(), 1u) << "the room that was set aside is given back";
}

TEST(StateStore, AFullDiskRefusesTheChangeBeforeItIsMade) {
  ForgetfulDisk disk;
  Bench bench(disk);
  ASSERT_TRUE(bench.change());
  disk.full = true;
  const auto refused = bench.prepare();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().err, ENOSPC);
  EXPECT_FALSE(bench.store->status().fault.has_value()) << "what is in force is on disk";
  disk.full = false;
  EXPECT_TRUE(bench.change());
  EXPECT_EQ(disk.names.at(path)->synced, text_of(2));
}

TEST(StateStore, AfterAFailedWriteNothingIsLetInBeforeTheStateIsOnDisk) {
  for (const Step step : {Step::write, Step::sync, Step::rename, Step::sync_directory}) {
    ForgetfulDisk disk;
    Bench bench(disk);
    ASSERT_TRUE(bench.change());
    disk.broken = step;
    const auto failed = bench.change();
    ASSERT_FALSE(failed.has_value());
    EXPECT_EQ(failed.error().err, EIO);
    EXPECT_TRUE(bench.store->status().fault.has_value());
    EXPECT_FALSE(bench.prepare().has_value()) << "still broken";
    disk.broken = std::nullopt;
    ASSERT_TRUE(bench.prepare());
    EXPECT_EQ(disk.after_power_cut(path).front(), text_of(2)) << "the change that was not kept is now, before the next is made";
    EXPECT_FALSE(bench.store->status().fault.has_value());
    std::optional<Result<void>> kept;
    bench.settle(kept);
    bench.turn_until([&] { return kept.has_value(); });
    EXPECT_TRUE(kept->has_value());
  }
}

// Holds the first sync until it is let go.
class SlowDisk final : public FileSteps {
 public:
  Result<void> write(const std::string&, std::string_view bytes) override {
    const std::lock_guard guard(mutex);
    written.emplace_back(bytes);
    return {};
  }
  Result<void> sync(const std::string&) override {
    std::unique_lock guard(mutex);
    syncing = true;
    go.wait(guard, [this] { return open; });
    return {};
  }
  Result<void> rename(const std::string&, const std::string&) override { return {}; }
  Result<void> sync_directory(const std::string&) override { return {}; }
  void remove(const std::string&) override {}

  bool is_syncing() {
    const std::lock_guard guard(mutex);
    return syncing;
  }
  void let_go() {
    const std::lock_guard guard(mutex);
    open = true;
    go.notify_all();
  }

  std::mutex mutex;
  std::condition_variable go;
  bool open = false;
  bool syncing = false;
  std::vector<std::string> written;
};

TEST(StateStore, ThoseWhoComeDuringAWriteShareTheNext) {
  SlowDisk disk;
  Bench bench(disk);
  constexpr std::size_t crowd = 20;
  std::array<std::optional<Result<void>>, crowd> kept;
  for (auto& each : kept) {
    ASSERT_TRUE(bench.prepare());
    bench.settle(each);
    if (&each == &kept.front()) bench.turn_until([&] { return disk.is_syncing(); });
  }
  for (const auto& each : kept) EXPECT_FALSE(each.has_value()) << "answered before it is on disk";
  disk.let_go();
  bench.turn_until([&] { return kept.back().has_value(); });
  for (const auto& each : kept) EXPECT_TRUE(each.has_value() && each->has_value());
  EXPECT_THAT(disk.written, ElementsAre(text_of(1), text_of(crowd)));
  EXPECT_EQ(bench.store->status().changes, crowd);
}

// What a write has is what was in force between two changes, never the half of one.
TEST(StateStore, TheNextChangeIsNotSeenByAWriteThatBeginsInTheMiddleOfIt) {
  SlowDisk disk;
  Bench bench(disk);
  std::optional<Result<void>> first, second, third;
  ASSERT_TRUE(bench.prepare());
  bench.settle(first);
  bench.turn_until([&] { return disk.is_syncing(); });
  ASSERT_TRUE(bench.prepare());
  bench.settle(second);
  ASSERT_TRUE(bench.prepare());
  bench.begin();
  bench.app.on_thread([&] { bench.number += 100; });  // half of the third
  disk.let_go();
  bench.turn_until([&] { return second.has_value(); });
  EXPECT_THAT(disk.written, ElementsAre(text_of(1), text_of(2)));
  bench.make();
  bench.end(third);
  bench.turn_until([&] { return third.has_value(); });
  EXPECT_THAT(disk.written, ElementsAre(text_of(1), text_of(2), text_of(103)));
}

// A change that gave its turn up (rpc/turn.h) may end while another is half made.
TEST(StateStore, AChangeThatEndsLateIsWrittenWithoutTheHalfOfAnother) {
  ForgetfulDisk disk;
  Bench bench(disk);
  std::optional<Result<void>> early, late, latest;
  ASSERT_TRUE(bench.prepare());
  bench.begin();
  bench.make();  // 1, and its turn is given up
  ASSERT_TRUE(bench.prepare());
  bench.begin();
  bench.app.on_thread([&] { bench.number += 100; });
  bench.end(early);
  bench.turn_until([&] { return early.has_value(); });
  EXPECT_EQ(disk.names.at(path)->synced, text_of(1));
  // What that write took is used up: who ends now has to wait until the other is made.
  bench.app.on_thread([&] { bench.store->keep([&](Result<void> outcome) { late = std::move(outcome); }); });
  for (int i = 0; i < 100; ++i) bench.app.settle();
  EXPECT_FALSE(late.has_value());
  bench.make();
  bench.end(latest);
  bench.turn_until([&] { return late.has_value() && latest.has_value(); });
  EXPECT_EQ(disk.names.at(path)->synced, text_of(102));
}

// SIGTERM: bdevs and subsystems go, and that is not the configuration.
TEST(StateStore, WhatEndsAtTheEndIsNotWritten) {
  ForgetfulDisk disk;
  Bench bench(disk);
  ASSERT_TRUE(bench.change());
  std::optional<Result<void>> kept;
  ASSERT_TRUE(bench.prepare());
  bench.begin();
  bench.app.on_thread([&] { bench.store->end(); });
  bench.app.on_thread([&] { bench.number = 0; });
  bench.make();
  bench.end(kept);
  bench.turn_until([&] { return kept.has_value(); });
  EXPECT_EQ(kept->error().err, ECANCELED);
  EXPECT_FALSE(bench.prepare().has_value());
  EXPECT_EQ(disk.names.at(path)->synced, text_of(1));
}

}  // namespace
}  // namespace catnap::server
