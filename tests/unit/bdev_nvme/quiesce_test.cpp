// That nothing of an association is carried out after the time that the host waits for: the host's reckoning (quiesce.h) against the target's
// (server/keep_alive.h), with a target that stops when it likes, and reads what it then finds in the order that is worst.
//
// Times are numbers. The host: sends writes, and Keep Alives one at a time; gives up when one is not answered in time; from then on nothing arrives.
// The target: reads its sockets when it runs, and nothing while it is stopped; asks KeepAlive before each command. The last write that it carries out
// must not come after the host's time is over.
#include "bdev/nvme/quiesce.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

#include "server/keep_alive.h"

namespace catnap::bdev {
namespace {

constexpr std::uint64_t ms = 1'000'000;
constexpr std::uint64_t step = 10 * ms;  // a turn of everybody
constexpr std::uint64_t silence_grid_ms = 1000;

TEST(QuiesceTest, TimesAreTheControllersOrAssumed) {
  nvme::IdentifyController data;
  data.kas = std::uint16_t{10};
  data.cqt = std::uint16_t{1000};
  EXPECT_EQ(quiesce_times(data, 10'000), (QuiesceTimes{.notice_us = 24'000'000, .cleanup_us = 1'000'000}));
  EXPECT_EQ(quiesce_times(data, 1'001).notice_us, 8'000'000U) << "rounded up to 2 s";
  EXPECT_EQ(quiesce_times(data, 0).notice_us, assumed_notice_us) << "nothing was agreed on";
  data.kas = data.cqt = std::uint16_t{0};
  EXPECT_EQ(quiesce_times(data, 1'001), (QuiesceTimes{.notice_us = 6'002'000, .cleanup_us = assumed_quiesce_us}));
}

struct Message {
  bool keep_alive = false;
};

class Race {
 public:
  // `gated`: the target asks before it carries out; without, the test must find what is wrong.
  Race(std::uint32_t seed, bool gated) : random_(seed), gated_(gated) {
    kato_ms_ = pick(1, 4) * 1000;
    data_.kas = std::uint16_t{10};
    data_.cqt = std::uint16_t{1000};
    keep_alive_.start(0, (kato_ms_ + silence_grid_ms) * ms);
    next_stop_ns_ = pick(0, 20'000) * ms;
    next_keep_alive_ns_ = kato_ms_ * ms / 2;
    cut_ns_ = pick(0, 3) == 0 ? pick(0, 20'000) * ms : ~std::uint64_t{0};
  }

  // How long after the host's time the last write was carried out, in ns; 0 or less: never.
  std::int64_t run() {
    for (now_ns_ = 0; now_ns_ < 120'000 * ms; now_ns_ += step) {
      host();
      target();
      if (given_up_ns_ != 0 && sockets_empty() && now_ns_ > given_up_ns_ + 60'000 * ms) break;
    }
    if (given_up_ns_ == 0 || last_carried_out_ns_ == 0) return 0;
    const std::uint64_t over_ns = given_up_ns_ + quiesce_times(data_, kato_ms_).notice_us * 1000;
    return static_cast<std::int64_t>(last_carried_out_ns_) - static_cast<std::int64_t>(over_ns);
  }
  bool given_up() const { return given_up_ns_ != 0; }

 private:
  std::uint32_t pick(std::uint32_t from, std::uint32_t to) { return std::uniform_int_distribution<std::uint32_t>(from, to)(random_); }
  bool sockets_empty() const { return admin_.empty() && io_.empty(); }
  bool arrives() const { return now_ns_ < cut_ns_; }

  void host() {
    if (given_up_ns_ != 0) return;
    if (keep_alive_sent_ns_ != 0 && now_ns_ >= keep_alive_sent_ns_ + kato_ms_ * ms) {
      given_up_ns_ = now_ns_;
      return;
    }
    if (keep_alive_sent_ns_ == 0 && now_ns_ >= next_keep_alive_ns_) {
      keep_alive_sent_ns_ = now_ns_;
      next_keep_alive_ns_ = now_ns_ + kato_ms_ * ms / 2;
      if (arrives()) admin_.push_back({.keep_alive = true});
    }
    // Now busy, now at rest.
    if (pick(0, 999) == 0) busy_ = !busy_;
    if (busy_ && arrives() && io_.size() < 16) io_.push_back({});
  }

  void target() {
    if (now_ns_ < runs_again_ns_) return;
    if (now_ns_ >= next_stop_ns_) {
      runs_again_ns_ = now_ns_ + pick(0, 30'000) * ms;
      next_stop_ns_ = runs_again_ns_ + pick(0, 5'000) * ms;
      return;
    }
    const bool admin_first = pick(0, 1) == 0;
    if (admin_first) read_admin();
    read_io();
    if (!admin_first) read_admin();
  }
  void read_admin() {
    for (; !admin_.empty(); admin_.pop_front()) {
      if (keep_alive_.heard(now_ns_) && given_up_ns_ == 0) keep_alive_sent_ns_ = 0;  // answered
    }
  }
  void read_io() {
    for (; !io_.empty(); io_.pop_front()) {
      if (gated_ && keep_alive_.over(now_ns_)) continue;
      keep_alive_.note_traffic();
      last_carried_out_ns_ = now_ns_;
    }
  }

  std::mt19937 random_;
  bool gated_;
  nvme::IdentifyController data_;
  server::KeepAlive keep_alive_;
  std::uint32_t kato_ms_ = 0;
  std::uint64_t now_ns_ = 0;
  std::uint64_t given_up_ns_ = 0, keep_alive_sent_ns_ = 0, next_keep_alive_ns_ = 0, cut_ns_ = 0;
  std::uint64_t runs_again_ns_ = 0, next_stop_ns_ = 0;
  std::uint64_t last_carried_out_ns_ = 0;
  bool busy_ = true;
  std::deque<Message> admin_, io_;
};

constexpr std::uint32_t seeds = 2000;

TEST(QuiesceTest, NothingIsCarriedOutAfterTheHostsTime) {
  std::uint32_t outages = 0;
  std::int64_t nearest = std::numeric_limits<std::int64_t>::min();
  for (std::uint32_t seed = 1; seed <= seeds; ++seed) {
    Race race(seed, true);
    const std::int64_t late = race.run();
    outages += race.given_up() ? 1 : 0;
    if (race.given_up() && late != 0) nearest = std::max(nearest, late);
    ASSERT_LE(late, 0) << "seed " << seed;
  }
  EXPECT_GT(outages, seeds / 2) << "otherwise this shows little";
  printf("%u outages; the nearest write came %.1f s before the end of the host's time\n", outages, static_cast<double>(-nearest) / 1e9);
}

TEST(QuiesceTest, ATargetThatDoesNotAskIsFoundOut) {
  for (std::uint32_t seed = 1; seed <= seeds; ++seed) {
    if (Race(seed, false).run() > 0) return;
  }
  FAIL() << "the race cannot find anything";
}

}  // namespace
}  // namespace catnap::bdev
