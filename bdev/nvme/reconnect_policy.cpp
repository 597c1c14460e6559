// See reconnect_policy.h.
// Owner: none (functions of their arguments). Left out: what reconnect_policy.h names.
#include "bdev/nvme/reconnect_policy.h"

#include <algorithm>
#include <string>

#include "reactor/base/check.h"
#include "reactor/clock.h"

namespace catnap::bdev {
namespace {

std::string named(const char* field, std::int64_t value) { return std::string(field) + " " + std::to_string(value); }

std::unexpected<Error> refuse(const std::string& what, const std::string& why) { return fail(EINVAL, what + " " + why); }

}  // namespace

Result<void> check_reconnect_timeouts(const ReconnectTimeouts& timeouts) {
  const auto& [loss, delay, fast_fail] = timeouts;
  const std::string loss_text = named("ctrlr_loss_timeout_sec", loss);
  const std::string delay_text = named("reconnect_delay_sec", delay);
  const std::string fast_text = named("fast_io_fail_timeout_sec", fast_fail);
  if (loss < -1) return refuse(loss_text, "is less than -1 (which means for ever)");
  if (loss == 0) {
    if (delay != 0) return refuse(delay_text, "must be 0 when ctrlr_loss_timeout_sec is 0: nothing is tried again");
    if (fast_fail != 0) return refuse(fast_text, "must be 0 when ctrlr_loss_timeout_sec is 0: I/O does not wait");
    return {};
  }
  if (delay == 0)
    return refuse(delay_text, "must not be 0 when ctrlr_loss_timeout_sec is " + std::to_string(loss) + ": attempts need a pause between them");
  if (loss > 0 && delay > static_cast<std::uint32_t>(loss))
    return refuse(delay_text, "is more than " + loss_text + ": no second attempt would be made");
  if (fast_fail == 0) return {};
  if (fast_fail < delay) return refuse(fast_text, "is less than " + delay_text + ": I/O would fail before a second attempt");
  if (loss > 0 && fast_fail > static_cast<std::uint32_t>(loss))
    return refuse(fast_text, "is more than " + loss_text + ": the controller would be gone first");
  return {};
}

void Outage::lost(std::uint64_t now_ns) {
  if (!lost_at_ns_) lost_at_ns_ = now_ns;
}

std::optional<std::uint64_t> Outage::after_loss_ns(std::uint64_t seconds) const {
  if (!lost_at_ns_) return std::nullopt;
  return *lost_at_ns_ + seconds * ns_per_s;
}

std::optional<std::uint64_t> Outage::io_fails_at_ns() const {
  if (timeouts_.fast_io_fail_timeout_sec == 0) return std::nullopt;
  return after_loss_ns(timeouts_.fast_io_fail_timeout_sec);
}

std::optional<std::uint64_t> Outage::removed_from_ns() const {
  if (timeouts_.ctrlr_loss_timeout_sec <= 0) return std::nullopt;
  return after_loss_ns(static_cast<std::uint64_t>(timeouts_.ctrlr_loss_timeout_sec));
}

Outage::Decision Outage::attempt_failed(std::uint64_t now_ns) const {
  if (timeouts_.reconnect_delay_sec == 0) return {Next::give_up, 0};
  const auto removed_from_at = removed_from_ns();
  if (removed_from_at && now_ns >= *removed_from_at) return {Next::remove, 0};
  std::uint64_t at_ns = now_ns + timeouts_.reconnect_delay_sec * ns_per_s;
  // The last attempt falls on the end of the time-out, so that a delay as long as the time-out leaves a second attempt.
  if (removed_from_at) at_ns = std::min(at_ns, *removed_from_at);
  return {Next::wait, at_ns};
}

bool Outage::io_waits(std::uint64_t now_ns, bool trying) const {
  if (!under_way()) return trying;  // connected: a queue, or a better ANA state, may be about to come
  // Without a delay nothing promises that the one attempt succeeds soon, and SPDK's users rely on the error.
  if (!trying || timeouts_.reconnect_delay_sec == 0) return false;
  const auto fails_at = io_fails_at_ns();
  return !fails_at || now_ns < *fails_at;
}

AddressChoice choose_address(std::span<const AddressHistory> addresses, std::size_t current, std::uint32_t reconnect_delay_sec,
                             std::uint64_t now_ns) {
  CATNAP_CHECK(current < addresses.size());
  const std::size_t next = (current + 1) % addresses.size();
  if (next == current || reconnect_delay_sec == 0) return {next, false};
  const auto failed_at = addresses[next].failed_at_ns;
  return {next, !failed_at || now_ns >= *failed_at + reconnect_delay_sec * ns_per_s};
}

}  // namespace catnap::bdev
