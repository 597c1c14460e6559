// What happens in the target, and the notifications of it: that hosts can neither flood them nor push out the rest, on a thread turned by hand.
// Left out: who tells (tests/protocol).
#include "server/happenings.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "rpc/notifications.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::server {
namespace {

using rpc::Notifications;

class HappeningsTest : public testing::Test {
 protected:
  HappeningsTest() {
    Happenings::instance().listen(app.thread, [this](const Happening& happening) { heard.push_back(happening); });
  }
  ~HappeningsTest() override { Happenings::instance().listen(nullptr, nullptr); }
  std::size_t heard_of(const std::string& whom) const {
    return static_cast<std::size_t>(std::ranges::count_if(heard, [&](const Happening& each) { return each.about == whom; }));
  }

  ByHand app;
  std::vector<Happening> heard;
};

TEST_F(HappeningsTest, WhatIsToldIsHeardOnTheThreadOfWhoListens) {
  Happenings::instance().tell(Happening(path_down, "Nvme0").with("reason", "gone"));
  EXPECT_TRUE(heard.empty()) << "never within the call";
  app.settle();
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_STREQ(heard[0].type, path_down);
  EXPECT_EQ(heard[0].details[0].second, "gone");
  EXPECT_FALSE(heard[0].by_host);
}

TEST_F(HappeningsTest, AHostThatMakesTheSameHappenAgainAndAgainIsToldOfInBursts) {
  for (int i = 0; i < 1000; ++i) {
    Happenings::instance().tell_of_host(Happening(host_connected, "nqn.2026-11.io.catnap:loud"));
    Happenings::instance().tell_of_host(Happening(host_disconnected, "nqn.2026-11.io.catnap:loud"));
  }
  Happenings::instance().tell_of_host(Happening(host_connected, "nqn.2026-11.io.catnap:quiet"));
  app.settle();
  EXPECT_EQ(heard_of("nqn.2026-11.io.catnap:quiet"), 1u);
  // A machine that needs longer than an interval for this gives a second burst.
  EXPECT_GE(heard_of("nqn.2026-11.io.catnap:loud"), 2 * Happenings::burst_of_host);
  EXPECT_LE(heard_of("nqn.2026-11.io.catnap:loud"), 6 * Happenings::burst_of_host);
  EXPECT_TRUE(heard.back().by_host);
  ASSERT_FALSE(heard.back().details.empty());
  EXPECT_STREQ(heard.back().details.back().first, "left_out");
}

TEST_F(HappeningsTest, NobodyListensAndNothingHappens) {
  Happenings::instance().listen(nullptr, nullptr);
  Happenings::instance().tell(Happening(path_up, "Nvme0"));
  app.settle();
  EXPECT_TRUE(heard.empty());
}

TEST(NotificationsTest, EventsOfHostsDoNotPushOutTheRest) {
  Notifications notifications;
  notifications.add("bdev_register", "the first");
  for (std::size_t i = 0; i < 5 * Notifications::max_kept; ++i) {
    notifications.add(host_connected, fmt::format("host {}", i), Json::Value(Json::objectValue), Notifications::Cause::host);
  }
  auto all = notifications.since(0, ~std::uint64_t{0});
  ASSERT_EQ(all.size(), 1 + Notifications::max_kept_of_hosts);
  EXPECT_EQ(all.front().context, "the first");
  EXPECT_EQ(all.back().id, 5 * Notifications::max_kept);
  EXPECT_GT(all.back().time_ms, 0u);
  EXPECT_EQ(notifications.since(all.back().id, 10).size(), 1u);
  for (std::size_t i = 0; i < 2 * Notifications::max_kept; ++i) notifications.add("bdev_register", fmt::format("bdev {}", i));
  all = notifications.since(0, ~std::uint64_t{0});
  ASSERT_EQ(all.size(), Notifications::max_kept);
  EXPECT_EQ(all.front().context, fmt::format("bdev {}", Notifications::max_kept)) << "the oldest go";
  for (std::size_t i = 1; i < all.size(); ++i) EXPECT_LT(all[i - 1].id, all[i].id);
}

}  // namespace
}  // namespace catnap::server
