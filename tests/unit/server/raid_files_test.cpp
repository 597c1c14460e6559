// FILE.raid, which knows what arrays without a record of their own cannot say themselves (server/raid_files.h): what cannot be written is told and
// tried again until it can. Owner: the test's thread turns the app thread by hand; workers are real. Left out: what its lines mean
// (tests/unit/bdev/raid1_start_test.cpp).
#include "server/raid_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "tests/unit/reactor/by_hand.h"

namespace catnap::server {
namespace {

class RaidNotesTest : public testing::Test {
 protected:
  RaidNotesTest() : workers_(2) {
    std::string name = testing::TempDir() + "catnap_raid_files_XXXXXX";
    directory_ = ::mkdtemp(name.data());
    app_.on_thread([this] {
      file_.emplace(*app_.thread, workers_, directory_ + "/state",
                    [this](const Result<void>& written) { told_.push_back(written ? "" : written.error().message); });
    });
  }
  ~RaidNotesTest() override {
    app_.on_thread([this] { file_.reset(); });
    std::filesystem::remove_all(directory_);
  }

  // Workers answer by messages.
  void until_told(std::size_t times) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (told_.size() < times) {
      app_.settle();
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "it never happens";
      std::this_thread::yield();
    }
  }
  void keep(std::string text) {
    app_.on_thread([this, text = std::move(text)] { file_->keep(text, [this] { ++kept_; }); });
  }
  std::string path() const { return directory_ + "/state.raid"; }
  std::string found() const { return read_raid_notes(directory_ + "/state").value_or("(cannot be read)"); }

  ByHand app_;
  WorkerPool workers_;
  std::string directory_;
  std::vector<std::string> told_;
  int kept_ = 0;
  std::optional<RaidNotesFile> file_;
};

TEST_F(RaidNotesTest, WhatCannotBeWrittenIsToldAndTriedAgain) {
  keep("one\n");
  until_told(1);
  EXPECT_EQ(told_.back(), "");
  EXPECT_EQ(found(), "one\n");
  // Nothing can be renamed over a directory with something in it.
  ASSERT_EQ(::unlink(path().c_str()), 0);
  ASSERT_EQ(::mkdir(path().c_str(), 0700), 0);
  ASSERT_EQ(::mkdir((path() + "/in_the_way").c_str(), 0700), 0);
  keep("two\n");
  until_told(2);
  EXPECT_NE(told_.back(), "");
  EXPECT_EQ(kept_, 2) << "who waits goes on";
  for (std::size_t again = 3; again <= 4; ++again) {
    app_.advance_us(RaidNotesFile::retry_us);
    until_told(again);
    EXPECT_NE(told_.back(), "");
  }
  std::filesystem::remove_all(path());
  app_.advance_us(RaidNotesFile::retry_us);
  until_told(5);
  EXPECT_EQ(told_.back(), "");
  EXPECT_EQ(found(), "two\n");
  app_.advance_us(10 * RaidNotesFile::retry_us);
  EXPECT_EQ(told_.size(), 5U) << "nothing is left to be tried";
}

TEST_F(RaidNotesTest, ANewTextIsTriedAtOnce) {
  ASSERT_EQ(::mkdir(path().c_str(), 0700), 0);
  ASSERT_EQ(::mkdir((path() + "/in_the_way").c_str(), 0700), 0);
  keep("one\n");
  until_told(1);
  EXPECT_NE(told_.back(), "");
  std::filesystem::remove_all(path());
  keep("two\n");
  until_told(2);
  EXPECT_EQ(found(), "two\n");
  keep("");
  until_told(3);
  EXPECT_FALSE(std::filesystem::exists(path()));
}

}  // namespace
}  // namespace catnap::server
