// See retry_policy.h.
// Owner: none (functions of their arguments). Left out: what retry_policy.h names.
#include "bdev/nvme/retry_policy.h"

#include <algorithm>
#include <limits>

#include "reactor/base/check.h"

namespace catnap::bdev {

using nvme::GenericStatus;
using nvme::MediaStatus;
using nvme::PathStatus;
using nvme::Status;

bool is_path_fault(Status status) { return status.sct == nvme::StatusCodeType::path || status.same_code(GenericStatus::aborted_sq_deletion); }

bool is_ana_fault(Status status) {
  return status.same_code(PathStatus::ana_persistent_loss) || status.same_code(PathStatus::ana_inaccessible) ||
         status.same_code(PathStatus::ana_transition);
}

bool is_answer(Status status) {
  return status.same_code(MediaStatus::compare_failure) || status.same_code(GenericStatus::reservation_conflict) ||
         status.same_code(GenericStatus::failed_fused) || status.same_code(GenericStatus::missing_fused);
}

RetryDecision decide_without_path(bool path_may_come) {
  RetryDecision decision;
  if (path_may_come) decision.action = RetryAction::wait_for_path;
  return decision;
}

RetryDecision decide_retry(const RetryQuestion& question) {
  const Status status = question.status;
  RetryDecision decision;
  const bool used_up = question.retry_count_limit >= 0 && question.retries >= static_cast<std::uint32_t>(question.retry_count_limit);
  if (status.dnr || status.same_code(GenericStatus::abort_requested) || is_answer(status) || used_up) return decision;

  if (is_path_fault(status) || !question.path_usable || !question.controller_available) {
    decision = question.other_path_usable ? RetryDecision{.action = RetryAction::other_path} : decide_without_path(question.path_may_come);
    decision.read_ana_state = is_ana_fault(status);
    return decision;
  }
  decision.action = RetryAction::same_path;
  decision.counts = true;
  if (status.crd != 0) decision.delay_us = std::uint64_t{question.crdt[status.crd - 1]} * 100'000;
  return decision;
}

std::uint32_t ack_timeout_ms(std::uint8_t transport_ack_timeout) {
  if (transport_ack_timeout == 0) return 0;
  CATNAP_CHECK(transport_ack_timeout <= max_transport_ack_timeout);
  const std::uint64_t ms = std::uint64_t{1} << transport_ack_timeout;
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(ms, std::numeric_limits<std::int32_t>::max()));  // the socket option is signed in the kernel
}

}  // namespace catnap::bdev
