// When a lost controller is tried again, when I/O that waits for it begins to fail, and when it is given up: decisions over three options and the
// time, without I/O, timers or threads, so that tests go through all combinations with numbers. Owner: whoever holds the value (a controller's
// thread). Left out: connecting itself, and what is done about each decision (the controller's sequence).
//
// The options have SPDK's names, rules and meaning (bdev_nvme_attach_controller, bdev_nvme_set_options):
//   ctrlr_loss_timeout_sec    -1: tried for ever; 0: a lost controller is tried once and then stays failed until somebody resets it;
//                             n: removed by the first attempt that fails n s or later after the loss.
//   reconnect_delay_sec       pause between an attempt that failed and the next one on the same address; 0 only together with loss time-out 0.
//   fast_io_fail_timeout_sec  0: I/O waits as long as the controller is tried; n: from n s after the loss on it fails at once.
// Finer than SPDK in two points, for both are promises in seconds: I/O begins to fail at its time and not at the next failed attempt after it, and
// the last attempt is made when the loss time-out ends and not up to one delay later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "reactor/base/error.h"

namespace catnap::bdev {

struct ReconnectTimeouts {
  std::int32_t ctrlr_loss_timeout_sec = 0;     // -1 and up
  std::uint32_t reconnect_delay_sec = 0;       // seconds
  std::uint32_t fast_io_fail_timeout_sec = 0;  // seconds
  bool operator==(const ReconnectTimeouts&) const = default;
};

// EINVAL with the field, its value and the reason:
//   loss time-out below -1; loss time-out 0 with one of the others not 0; loss time-out not 0 with delay 0; delay above the loss time-out (unless
//   -1); fast I/O fail (unless 0) below the delay or above the loss time-out (unless -1).
[[nodiscard]] Result<void> check_reconnect_timeouts(const ReconnectTimeouts& timeouts);

// The outage of one controller. Times are of any monotonic clock, in nanoseconds.
class Outage {
 public:
  explicit Outage(ReconnectTimeouts timeouts = {}) : timeouts_(timeouts) {}

  // New options hold for an outage that is under way too.
  void set_timeouts(ReconnectTimeouts timeouts) { timeouts_ = timeouts; }
  const ReconnectTimeouts& timeouts() const { return timeouts_; }

  // The connection is gone. The first attempt may be made at once. Without effect when it was gone already: the outage counts from its first moment.
  void lost(std::uint64_t now_ns);
  // Connected again: the outage is over.
  void connected() { lost_at_ns_.reset(); }
  bool under_way() const { return lost_at_ns_.has_value(); }

  enum class Next : std::uint8_t {
    wait,     // try again at `at_ns`
    give_up,  // no attempt by itself: failed until a reset (loss time-out 0)
    remove,   // the controller is to be deleted
  };
  struct Decision {
    Next next = Next::give_up;
    std::uint64_t at_ns = 0;  // with Next::wait: not before now
    bool operator==(const Decision&) const = default;
  };
  // After an attempt that failed (all its addresses, see choose_address) at `now_ns`.
  Decision attempt_failed(std::uint64_t now_ns) const;

  // Whether I/O that no path can take now waits for this controller; outside of an outage it does. `trying`: an attempt is under way or due, so not
  // given up, removed or disabled.
  bool io_waits(std::uint64_t now_ns, bool trying) const;
  // The moment at which io_waits() turns false by itself during this outage; none: never.
  std::optional<std::uint64_t> io_fails_at_ns() const;
  // The moment from which a failed attempt removes the controller; none: never.
  std::optional<std::uint64_t> removed_from_ns() const;

 private:
  std::optional<std::uint64_t> after_loss_ns(std::uint64_t seconds) const;

  ReconnectTimeouts timeouts_;
  std::optional<std::uint64_t> lost_at_ns_;
};

// The addresses of one controller that are tried in turn (multipath mode "failover": one connected, the others in reserve).
struct AddressHistory {
  std::optional<std::uint64_t> failed_at_ns;  // when it failed last, since it was last connected
};
struct AddressChoice {
  std::size_t index = 0;
  bool now = false;  // else after the pause of the outage
  bool operator==(const AddressChoice&) const = default;
};
// Which address comes after `current` has failed: the next one round; at once if it has not failed yet in this outage, or its failure is older than
// the delay. With a delay of 0 nothing is tried at once: the next reset tries it. `addresses` is not empty, `current` is an index of it.
AddressChoice choose_address(std::span<const AddressHistory> addresses, std::size_t current, std::uint32_t reconnect_delay_sec, std::uint64_t now_ns);

}  // namespace catnap::bdev
