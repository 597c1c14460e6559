// Long lists: complete and in order, and others have their turns in between.
// Owner: the test's thread; app_thread is turned by hand. Left out: what methods list (protocol tests).
#include "rpc/listing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/reactor/by_hand.h"

namespace catnap::rpc {
namespace {

using testing::ElementsAre;

Json::Value quick(const int& item) { return item; }

// Takes a slice and more of this thread.
Json::Value slow(const int& item) {
  const std::uint64_t end_ns = system_clock().now_ns() + listing_slice_ns;
  while (system_clock().now_ns() < end_ns) {
  }
  return item;
}

TEST(Listing, AShortListIsThereAtOnce) {
  ByHand app;
  Json::Value shown;
  app.on_thread([&] { spawn<Json::Value>(list_in_slices(std::vector<int>{3, 1, 2}, &quick), [&](Json::Value list) { shown = std::move(list); }); });
  ASSERT_EQ(shown.size(), 3u) << "without another turn: a client that sends a batch finds its answers in order";
  EXPECT_EQ(shown[0].asInt(), 3);
  EXPECT_EQ(shown[2].asInt(), 2);
}

TEST(Listing, AnEmptyListIsAnArray) {
  ByHand app;
  Json::Value shown;
  app.on_thread([&] { spawn<Json::Value>(list_in_slices(std::vector<int>(), &quick), [&](Json::Value list) { shown = std::move(list); }); });
  EXPECT_TRUE(shown.isArray());
}

TEST(Listing, OthersHaveTheirTurnsBetweenSlices) {
  ByHand app;
  std::vector<std::string> log;
  app.on_thread([&] {
    spawn<Json::Value>(list_in_slices(std::vector<int>{0, 1, 2, 3}, &slow), [&](Json::Value list) {
      log.push_back("listed " + std::to_string(list.size()));
      for (int i = 0; i < 4; ++i) EXPECT_EQ(list[i].asInt(), i);
    });
    log.emplace_back("the first slice");
    Thread::current()->send([&] { log.emplace_back("somebody else"); });
  });
  app.settle();
  EXPECT_THAT(log, ElementsAre("the first slice", "somebody else", "listed 4"));
}

}  // namespace
}  // namespace catnap::rpc
