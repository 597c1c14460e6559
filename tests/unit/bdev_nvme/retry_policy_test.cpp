// What becomes of an I/O that failed: every status, on every kind of path, and the limits of retries.
// Owner: the test. Left out: the line in which I/O waits (the initiator's tests).
#include "bdev/nvme/retry_policy.h"

#include <gtest/gtest.h>

#include <ostream>

namespace catnap::bdev {

void PrintTo(const RetryDecision& decision, std::ostream* out) {
  static const char* const names[] = {"fail_up", "other_path", "same_path", "wait_for_path"};
  *out << names[static_cast<int>(decision.action)] << " after " << decision.delay_us << " us" << (decision.counts ? ", counted" : "")
       << (decision.read_ana_state ? ", ANA log to be read" : "");
}

namespace {

using nvme::CommandStatus;
using nvme::GenericStatus;
using nvme::MediaStatus;
using nvme::PathStatus;
using nvme::Status;

const RetryDecision fails_up{};
const RetryDecision waits{RetryAction::wait_for_path};
RetryDecision here_after(std::uint64_t delay_us) { return {RetryAction::same_path, delay_us, true}; }
RetryDecision with_ana(RetryDecision decision) {
  decision.read_ana_state = true;
  return decision;
}

Status with_crd(Status status, std::uint8_t crd) {
  status.crd = crd;
  return status;
}

// The situation of one path that works, unless changed.
RetryQuestion on_a_good_path(Status status) {
  RetryQuestion question;
  question.status = status;
  question.path_may_come = true;
  question.crdt = {10, 20, 655};
  return question;
}

TEST(RetryTable, StatusOnAGoodPath) {
  struct Row {
    Status status;
    RetryDecision decision;
  };
  const Row rows[] = {
      {GenericStatus::internal_error, here_after(0)},
      {Status(GenericStatus::internal_error).with_dnr(), fails_up},
      {GenericStatus::invalid_field, here_after(0)},
      {GenericStatus::namespace_not_ready, here_after(0)},
      {with_crd(GenericStatus::namespace_not_ready, 1), here_after(1'000'000)},
      {with_crd(GenericStatus::namespace_not_ready, 2), here_after(2'000'000)},
      {with_crd(GenericStatus::command_interrupted, 3), here_after(65'500'000)},
      {GenericStatus::transient_transport_error, here_after(0)},
      {GenericStatus::abort_requested, fails_up},
      {GenericStatus::aborted_sq_deletion, waits},
      {MediaStatus::unrecovered_read_error, here_after(0)},
      {Status(MediaStatus::unrecovered_read_error).with_dnr(), fails_up},
      {MediaStatus::compare_failure, fails_up},
      {GenericStatus::reservation_conflict, fails_up},
      {GenericStatus::failed_fused, fails_up},
      {GenericStatus::missing_fused, fails_up},
      {CommandStatus::write_to_read_only_range, here_after(0)},
      {PathStatus::internal_path_error, waits},
      {PathStatus::controller_pathing_error, waits},
      {PathStatus::host_pathing_error, waits},
      {PathStatus::aborted_by_host, waits},
      {PathStatus::ana_inaccessible, with_ana(waits)},
      {PathStatus::ana_transition, with_ana(waits)},
      {PathStatus::ana_persistent_loss, with_ana(waits)},
      {Status(PathStatus::ana_inaccessible).with_dnr(), fails_up},
  };
  for (const Row& row : rows) EXPECT_EQ(decide_retry(on_a_good_path(row.status)), row.decision) << std::hex << row.status.field();
}

// All 15-bit status fields in all situations, against the rules in one sentence each.
TEST(RetryTable, EveryStatusInEverySituation) {
  for (unsigned field = 1; field < 0x8000; ++field) {
    const Status status = Status::from_field(static_cast<std::uint16_t>(field));
    if (status.is_success()) continue;
    for (unsigned bits = 0; bits < 16; ++bits) {
      RetryQuestion question = on_a_good_path(status);
      question.path_usable = (bits & 1) != 0;
      question.controller_available = (bits & 2) != 0;
      question.other_path_usable = (bits & 4) != 0;
      question.path_may_come = (bits & 8) != 0;
      const RetryDecision decision = decide_retry(question);
      if (status.dnr || is_answer(status) || status.same_code(GenericStatus::abort_requested)) {
        ASSERT_EQ(decision, fails_up) << std::hex << field;
        continue;
      }
      const bool path_at_fault = is_path_fault(status) || !question.path_usable || !question.controller_available;
      if (!path_at_fault) {
        ASSERT_EQ(decision.action, RetryAction::same_path) << std::hex << field;
        ASSERT_TRUE(decision.counts) << "what is retried where it failed is counted, or it never ends";
        continue;
      }
      ASSERT_FALSE(decision.counts) << "losing paths uses up nothing: no error goes up while one lives";
      if (question.other_path_usable) {
        ASSERT_EQ(decision.action, RetryAction::other_path) << std::hex << field;
      } else {
        ASSERT_EQ(decision.action, question.path_may_come ? RetryAction::wait_for_path : RetryAction::fail_up) << std::hex << field;
      }
    }
  }
}

TEST(Retry, CountsUpToItsLimit) {
  RetryQuestion question = on_a_good_path(GenericStatus::internal_error);
  for (question.retries = 0; question.retries < 3; ++question.retries) EXPECT_EQ(decide_retry(question), here_after(0)) << question.retries;
  EXPECT_EQ(decide_retry(question), fails_up);
  question.retry_count_limit = 0;
  question.retries = 0;
  EXPECT_EQ(decide_retry(question), fails_up) << "bdev_retry_count 0: never";
  question.retry_count_limit = -1;
  question.retries = 4'000'000'000U;
  EXPECT_EQ(decide_retry(question), here_after(0)) << "bdev_retry_count -1: for ever";
}

TEST(Retry, WithoutAPathIoWaitsExactlyWhileOneMayCome) {
  EXPECT_EQ(decide_without_path(true), waits);
  EXPECT_EQ(decide_without_path(false), fails_up);
}

TEST(AckTimeout, IsAPowerOfTwoInMilliseconds) {
  EXPECT_EQ(ack_timeout_ms(0), 0U);
  EXPECT_EQ(ack_timeout_ms(1), 2U);
  EXPECT_EQ(ack_timeout_ms(12), 4096U);
  EXPECT_EQ(ack_timeout_ms(30), 1U << 30);
  EXPECT_EQ(ack_timeout_ms(31), 2147483647U) << "what a socket takes";
}

}  // namespace
}  // namespace catnap::bdev
