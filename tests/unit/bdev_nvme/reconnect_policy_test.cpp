// The three reconnect options: which combinations are valid, and what each of them does in outages of any length, on a clock of numbers.
// Owner: the test. Left out: connections (the initiator's tests).
#include "bdev/nvme/reconnect_policy.h"

#include <gtest/gtest.h>

#include <array>
#include <ostream>
#include <vector>

#include "reactor/clock.h"

namespace catnap::bdev {

void PrintTo(const ReconnectTimeouts& timeouts, std::ostream* out) {
  *out << "loss " << timeouts.ctrlr_loss_timeout_sec << " delay " << timeouts.reconnect_delay_sec << " fast fail "
       << timeouts.fast_io_fail_timeout_sec;
}

namespace {

struct ValidityRow {
  ReconnectTimeouts timeouts;
  const char* refused_for;  // what the sentence contains, null: valid
};

const ValidityRow validity_rows[] = {
    {{0, 0, 0}, nullptr},
    {{-2, 1, 0}, "ctrlr_loss_timeout_sec -2 is less than -1"},
    {{-1, 0, 0}, "reconnect_delay_sec 0 must not be 0 when ctrlr_loss_timeout_sec is -1"},
    {{-1, 1, 0}, nullptr},
    {{-1, 10, 9}, "fast_io_fail_timeout_sec 9 is less than reconnect_delay_sec 10"},
    {{-1, 10, 10}, nullptr},
    {{-1, 1, 1'000'000}, nullptr},
    {{0, 1, 0}, "reconnect_delay_sec 1 must be 0"},
    {{0, 0, 1}, "fast_io_fail_timeout_sec 1 must be 0"},
    {{1, 0, 0}, "reconnect_delay_sec 0 must not be 0 when ctrlr_loss_timeout_sec is 1"},
    {{1, 1, 0}, nullptr},
    {{1, 2, 0}, "reconnect_delay_sec 2 is more than ctrlr_loss_timeout_sec 1"},
    {{10, 2, 1}, "fast_io_fail_timeout_sec 1 is less than reconnect_delay_sec 2"},
    {{10, 2, 2}, nullptr},
    {{10, 2, 10}, nullptr},
    {{10, 2, 11}, "fast_io_fail_timeout_sec 11 is more than ctrlr_loss_timeout_sec 10"},
    {{2147483647, 1, 4294967295U}, "fast_io_fail_timeout_sec 4294967295 is more than ctrlr_loss_timeout_sec 2147483647"},
};

TEST(ReconnectTimeoutsCheck, EachRuleHasItsSentence) {
  for (const ValidityRow& row : validity_rows) {
    auto checked = check_reconnect_timeouts(row.timeouts);
    if (row.refused_for == nullptr) {
      EXPECT_TRUE(checked.has_value()) << testing::PrintToString(row.timeouts) << ": " << checked.error().message;
      continue;
    }
    ASSERT_FALSE(checked.has_value()) << testing::PrintToString(row.timeouts);
    EXPECT_EQ(checked.error().err, EINVAL);
    EXPECT_NE(checked.error().message.find(row.refused_for), std::string::npos) << checked.error().message;
  }
}

// All combinations of a range, of which the valid ones are the rows of the tests below. Validity in other words than the code's: with every option
// that is not "off" in order delay <= fast fail <= loss, and all or none of delay and loss off.
std::vector<ReconnectTimeouts> valid_combinations() {
  std::vector<ReconnectTimeouts> valid;
  for (std::int32_t loss : {-1, 0, 1, 2, 3, 5, 8, 13}) {
    for (std::uint32_t delay : {0U, 1U, 2U, 3U, 5U, 13U, 14U}) {
      for (std::uint32_t fast : {0U, 1U, 2U, 4U, 5U, 13U, 20U}) {
        const double loss_s = loss < 0 ? 1e9 : loss;
        const bool expected = loss == 0 ? delay == 0 && fast == 0 : delay > 0 && delay <= loss_s && (fast == 0 || (delay <= fast && fast <= loss_s));
        const ReconnectTimeouts timeouts{loss, delay, fast};
        EXPECT_EQ(check_reconnect_timeouts(timeouts).has_value(), expected) << testing::PrintToString(timeouts);
        if (expected) valid.push_back(timeouts);
      }
    }
  }
  return valid;
}

// A controller whose peer is away from `lost` until `back`, driven by an Outage on a clock of milliseconds.
struct Life {
  std::vector<std::uint64_t> attempts_ms;  // when each attempt began
  std::vector<std::uint64_t> failures_ms;
  std::optional<std::uint64_t> io_failed_ms;  // first moment at which waiting I/O failed
  std::optional<std::uint64_t> removed_ms, gave_up_ms, connected_ms;
};

constexpr std::uint64_t ms = ns_per_ms;

Life live(const ReconnectTimeouts& timeouts, std::uint64_t back_ms, std::uint64_t attempt_ms, std::uint64_t until_ms) {
  constexpr std::uint64_t start_ns = 12'345'678'901;
  Outage outage(timeouts);
  outage.lost(start_ns);
  Life life;
  std::optional<std::uint64_t> attempt_began = 0, next_try;
  life.attempts_ms.push_back(0);
  for (std::uint64_t now = 0; now <= until_ms; ++now) {
    const std::uint64_t now_ns = start_ns + now * ms;
    if (attempt_began && now == *attempt_began + attempt_ms) {
      attempt_began.reset();
      if (now >= back_ms) {
        outage.connected();
        life.connected_ms = now;
        return life;
      }
      life.failures_ms.push_back(now);
      const Outage::Decision decision = outage.attempt_failed(now_ns);
      if (decision.next == Outage::Next::remove) life.removed_ms = now;
      if (decision.next == Outage::Next::give_up) life.gave_up_ms = now;
      if (decision.next == Outage::Next::wait) next_try = (decision.at_ns - start_ns) / ms;
    }
    if (next_try == now) {
      next_try.reset();
      attempt_began = now;
      life.attempts_ms.push_back(now);
    }
    const bool trying = !life.removed_ms && !life.gave_up_ms;
    if (!life.io_failed_ms && !outage.io_waits(now_ns, trying)) life.io_failed_ms = now;
    if (!trying) return life;
  }
  return life;
}

constexpr std::uint64_t never_ms = ~std::uint64_t{0};
constexpr std::uint64_t horizon_ms = 45'000;

// Attempts that fail at once, and those that take a while: as long as a connect to an address that drops packets.
const std::array<std::uint64_t, 3> attempt_lengths_ms{1, 700, 2'500};

TEST(Outage, APeerThatStaysAwayIsGivenUpExactlyAsTheOptionsSay) {
  for (const ReconnectTimeouts& timeouts : valid_combinations()) {
    for (std::uint64_t attempt_ms : attempt_lengths_ms) {
      SCOPED_TRACE(testing::PrintToString(timeouts) + " attempts of " + std::to_string(attempt_ms) + " ms");
      const Life life = live(timeouts, never_ms, attempt_ms, horizon_ms);
      ASSERT_FALSE(life.connected_ms.has_value());
      EXPECT_EQ(life.attempts_ms[0], 0U) << "the first attempt waits for nothing";
      const std::uint64_t loss_ms = static_cast<std::uint64_t>(std::max(timeouts.ctrlr_loss_timeout_sec, 0)) * 1000;
      const std::uint64_t delay_ms = timeouts.reconnect_delay_sec * 1000ULL;
      if (timeouts.ctrlr_loss_timeout_sec == 0) {
        EXPECT_EQ(life.gave_up_ms, attempt_ms);
        EXPECT_EQ(life.attempts_ms.size(), 1U);
        EXPECT_EQ(life.io_failed_ms, 0U) << "nothing waits for what is not tried again";
        continue;
      }
      EXPECT_FALSE(life.gave_up_ms.has_value());
      for (std::size_t at = 1; at < life.attempts_ms.size(); ++at) {
        const std::uint64_t pause = life.attempts_ms[at] - life.failures_ms[at - 1];
        const bool last_one = loss_ms != 0 && life.attempts_ms[at] == loss_ms;
        EXPECT_TRUE(last_one ? pause <= delay_ms : pause == delay_ms) << "attempt " << at << " after " << pause;
      }
      if (timeouts.ctrlr_loss_timeout_sec < 0) {
        EXPECT_FALSE(life.removed_ms.has_value());
        EXPECT_GE(life.attempts_ms.size(), horizon_ms / (delay_ms + attempt_ms));
      } else {
        ASSERT_TRUE(life.removed_ms.has_value());
        EXPECT_GE(*life.removed_ms, loss_ms);
        EXPECT_LE(*life.removed_ms, loss_ms + attempt_ms) << "an attempt that is under way at the end of the time-out is the last";
      }
      if (timeouts.fast_io_fail_timeout_sec != 0) {
        EXPECT_EQ(life.io_failed_ms, timeouts.fast_io_fail_timeout_sec * 1000ULL) << "not with the next attempt, but at its time";
      } else {
        EXPECT_EQ(life.io_failed_ms, life.removed_ms) << "waits as long as the controller is tried";
      }
    }
  }
}

TEST(Outage, APeerThatComesBackIsConnectedByTheNextAttemptAndNoIoFailsBeforeItsTime) {
  for (const ReconnectTimeouts& timeouts : valid_combinations()) {
    if (timeouts.ctrlr_loss_timeout_sec == 0) continue;
    for (std::uint64_t attempt_ms : attempt_lengths_ms) {
      for (std::uint64_t back_ms : {0ULL, 500ULL, 1'500ULL, 4'999ULL, 5'000ULL, 12'000ULL, 19'000ULL}) {
        SCOPED_TRACE(testing::PrintToString(timeouts) + " attempts of " + std::to_string(attempt_ms) + " ms, back at " + std::to_string(back_ms));
        const Life life = live(timeouts, back_ms, attempt_ms, horizon_ms);
        const std::uint64_t loss_ms =
            timeouts.ctrlr_loss_timeout_sec < 0 ? never_ms : static_cast<std::uint64_t>(timeouts.ctrlr_loss_timeout_sec) * 1000;
        if (back_ms <= loss_ms) {
          ASSERT_TRUE(life.connected_ms.has_value()) << "back before the time-out, so it is found";
          EXPECT_LE(*life.connected_ms, back_ms + timeouts.reconnect_delay_sec * 1000ULL + 2 * attempt_ms);
        }
        if (life.io_failed_ms && life.connected_ms) {
          ASSERT_NE(timeouts.fast_io_fail_timeout_sec, 0U);
          EXPECT_EQ(*life.io_failed_ms, timeouts.fast_io_fail_timeout_sec * 1000ULL);
        }
      }
    }
  }
}

TEST(Outage, CountsFromItsFirstMomentAndANewOneFromTheStart) {
  Outage outage({10, 2, 4});
  outage.lost(100 * ns_per_s);
  outage.lost(103 * ns_per_s);
  EXPECT_EQ(outage.io_fails_at_ns(), 104 * ns_per_s);
  EXPECT_EQ(outage.removed_from_ns(), 110 * ns_per_s);
  outage.connected();
  EXPECT_FALSE(outage.under_way());
  EXPECT_FALSE(outage.io_fails_at_ns().has_value());
  outage.lost(200 * ns_per_s);
  EXPECT_EQ(outage.io_fails_at_ns(), 204 * ns_per_s);
}

TEST(Outage, WithoutOneIoWaitsWhateverTheOptions) {
  for (const ReconnectTimeouts& timeouts : valid_combinations()) {
    Outage outage(timeouts);
    EXPECT_TRUE(outage.io_waits(5 * ns_per_s, true)) << "an I/O queue may be about to be connected";
    EXPECT_FALSE(outage.io_waits(5 * ns_per_s, false)) << "disabled, say";
    outage.lost(5 * ns_per_s);
    outage.connected();
    EXPECT_TRUE(outage.io_waits(1'000 * ns_per_s, true));
  }
}

TEST(Outage, NewOptionsHoldForAnOutageUnderWay) {
  Outage outage({-1, 1, 0});
  outage.lost(0);
  EXPECT_TRUE(outage.io_waits(1'000 * ns_per_s, true));
  outage.set_timeouts({20, 1, 5});
  EXPECT_FALSE(outage.io_waits(1'000 * ns_per_s, true));
  EXPECT_EQ(outage.attempt_failed(1'000 * ns_per_s).next, Outage::Next::remove);
}

TEST(ChooseAddress, GoesRoundAndTriesAtOnceWhatHasNotFailedWithinTheDelay) {
  const std::uint64_t now = 100 * ns_per_s;
  const AddressHistory fresh{}, just_failed{now - ns_per_s}, long_ago{now - 5 * ns_per_s};
  const std::array<AddressHistory, 1> one{just_failed};
  EXPECT_EQ(choose_address(one, 0, 2, now), (AddressChoice{0, false})) << "the only one gets its pause";
  const std::array<AddressHistory, 3> three{just_failed, fresh, long_ago};
  EXPECT_EQ(choose_address(three, 0, 2, now), (AddressChoice{1, true}));
  EXPECT_EQ(choose_address(three, 1, 2, now), (AddressChoice{2, true}));
  EXPECT_EQ(choose_address(three, 2, 2, now), (AddressChoice{0, false}));
  EXPECT_EQ(choose_address(three, 0, 0, now), (AddressChoice{1, false})) << "without a delay the next reset tries it";
}

}  // namespace
}  // namespace catnap::bdev
