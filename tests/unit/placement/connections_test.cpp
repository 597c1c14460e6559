// The poll group for an accepted connection: single rules, and how even groups stay when hosts come and go.
// Owner: the test. Left out: real sockets (tests/protocol/placement_test.cpp).
#include <gtest/gtest.h>

#include "tests/unit/placement/machine.h"

namespace catnap::test {
namespace {

std::vector<GroupLoad> groups_with(const std::vector<std::uint32_t>& queues) {
  std::vector<GroupLoad> groups;
  for (unsigned i = 0; i < queues.size(); ++i) groups.push_back({queues[i], i});
  return groups;
}

TEST(PlaceConnection, TheFewestQueuesFirst) {
  EXPECT_EQ(place_connection(machine(1, 4), groups_with({3, 2, 1, 2}), std::nullopt, 0), 2U);
  EXPECT_EQ(place_connection(machine(1, 4), {}, std::nullopt, 0), std::nullopt);
  EXPECT_EQ(place_connection(machine(1, 4), groups_with({9}), 3, 17), 0U);
}

TEST(PlaceConnection, TiesInTurn) {
  for (std::size_t rotation = 0; rotation < 8; ++rotation) {
    EXPECT_EQ(place_connection(machine(1, 4), groups_with({1, 1, 1, 1}), std::nullopt, rotation), rotation % 4);
  }
  EXPECT_EQ(place_connection(machine(1, 4), groups_with({1, 2, 2, 1}), std::nullopt, 1), 3U);
}

TEST(PlaceConnection, PrefersTheCpuOfThePacketsAmongEquals) {
  const Topology topology = machine(2, 2);
  EXPECT_EQ(place_connection(topology, groups_with({1, 1, 1, 1}), 3, 0), 3U);
  EXPECT_EQ(place_connection(topology, groups_with({1, 1, 1, 2}), 3, 0), 2U) << "then its node";
  EXPECT_EQ(place_connection(topology, groups_with({1, 1, 2, 2}), 3, 1), 1U) << "then any, in turn";
  EXPECT_EQ(place_connection(topology, groups_with({0, 1, 1, 1}), 3, 1), 0U) << "never at the cost of balance";
}

TEST(PlaceConnection, WhatIsUnknownIsNoHindrance) {
  const std::vector<GroupLoad> nowhere(3);
  EXPECT_EQ(place_connection({}, nowhere, std::nullopt, 1), 1U);
  EXPECT_EQ(place_connection({}, nowhere, 5, 2), 2U);
  EXPECT_EQ(place_connection(machine(1, 2), groups_with({0, 0}), 700, 1), 1U) << "packets on a CPU that is not ours";
  const std::vector<GroupLoad> half{{0, std::nullopt}, {0, 1}};
  EXPECT_EQ(place_connection(machine(1, 2), half, 0, 0), 1U) << "on the same node beats unknown";
}

class Groups {
 public:
  Groups(unsigned count, std::mt19937& random) : topology_(machine(1, count)), queues_(count), random_(random) {}

  void connect() {
    const bool with_preference = draw(random_, 2) == 0;
    const auto preferred = with_preference ? std::optional<unsigned>(draw(random_, queues_.size())) : std::nullopt;
    const auto before = difference();
    const auto chosen = place_connection(topology_, groups_with(queues_), preferred, rotation_);
    ASSERT_TRUE(chosen.has_value());
    rotation_ = *chosen + 1;
    ++queues_[*chosen];
    connections_.push_back(*chosen);
    ASSERT_LE(difference(), std::max(1U, before)) << "a connect made it worse";
  }
  void disconnect_any() {
    const auto gone = connections_.begin() + draw(random_, connections_.size());
    --queues_[*gone];
    connections_.erase(gone);
  }
  // The worst that hosts can do: only connections of one group end.
  bool disconnect_from(std::size_t group) {
    const auto gone = std::find(connections_.begin(), connections_.end(), group);
    if (gone == connections_.end()) return false;
    --queues_[*gone];
    connections_.erase(gone);
    return true;
  }
  std::uint32_t difference() const { return spread_of(queues_).difference(); }
  std::size_t size() const { return connections_.size(); }

 private:
  Topology topology_;
  std::vector<std::uint32_t> queues_;
  std::vector<std::size_t> connections_;
  std::size_t rotation_ = 0;
  std::mt19937& random_;
};

// Hosts that come back: whoever left, and as many as left, the groups are even again once they are back.
TEST(PlaceConnection, AsManyConnectsAsDisconnectsMakeEven) {
  std::mt19937 random(seed());
  for (unsigned round = 0; round < 40; ++round) {
    SCOPED_TRACE(testing::Message() << "CATNAP_SEED=" << seed() << " round " << round);
    const unsigned count = 1 + draw(random, 16);
    Groups groups(count, random);
    const auto first = draw(random, 200);
    for (unsigned i = 0; i < first; ++i) groups.connect();
    ASSERT_LE(groups.difference(), 1U);
    for (unsigned step = 0; step < 100; ++step) {
      const bool one_sided = draw(random, 2) == 0;
      const std::size_t side = draw(random, count);
      std::uint32_t left = 0;
      for (std::uint32_t wish = draw(random, groups.size() + 1); left < wish; ++left) {
        if (one_sided && !groups.disconnect_from(side)) break;
        if (!one_sided) groups.disconnect_any();
      }
      for (std::uint32_t back = left + draw(random, 3); back > 0; --back) groups.connect();
      ASSERT_LE(groups.difference(), 1U) << left << " left and came back";
    }
  }
}

// In an order of any kind a connect never makes it worse (checked in connect()), and without disconnects the groups are always even.
TEST(PlaceConnection, ConnectsAloneNeverMakeUneven) {
  std::mt19937 random(seed());
  Groups groups(7, random);
  for (unsigned i = 0; i < 300; ++i) {
    groups.connect();
    ASSERT_LE(groups.difference(), 1U);
  }
  for (unsigned i = 0; i < 5000; ++i) {
    if (groups.size() != 0 && draw(random, 2) == 0) {
      groups.disconnect_any();
    } else {
      groups.connect();
    }
  }
}

// A probe that connects and hangs up, again and again, does not always hit the same reactor.
TEST(PlaceConnection, OneThatComesAndGoesVisitsAllGroups) {
  const Topology topology = machine(1, 4);
  std::vector<unsigned> visits(4);
  std::size_t rotation = 0;
  for (unsigned i = 0; i < 40; ++i) {
    const auto chosen = *place_connection(topology, groups_with({0, 0, 0, 0}), std::nullopt, rotation);
    rotation = chosen + 1;
    ++visits[chosen];
  }
  EXPECT_EQ(visits, (std::vector<unsigned>{10, 10, 10, 10}));
}

}  // namespace
}  // namespace catnap::test
