// What becomes of an I/O that did not succeed on its path: up to the user, on another path, on the same path later, or into the line of those that
// wait for a path. Decisions over values; tests go through them as tables.
// Owner: none (functions of their arguments). Left out: the line itself and its deadlines (the channel), which path (path_policy.h).
//
// SPDK's rules (bdev_nvme): DNR, an abort that somebody asked for, and bdev_retry_count used up go up; a fault of the path (status type 3h, a queue
// that ended, a path or controller that is not available any more) is retried elsewhere, not counted, and as long as a path is there or may come
// back; all else is retried on its path, after the delay that the controller named (CRD), and counted. Beyond them: what is an answer and no fault
// (miscompare, reservation conflict, the other half of a fused pair) goes up although DNR is clear.
#pragma once

#include <array>
#include <cstdint>

#include "transport/nvme/status.h"

namespace catnap::bdev {

enum class RetryAction : std::uint8_t {
  fail_up,       // complete with the status
  other_path,    // submit again at once, to whatever path the chooser names
  same_path,     // submit again to the same path after `delay_us`, if it is still usable then
  wait_for_path  // no path is usable now, but one may come: into the line
};

struct RetryDecision {
  RetryAction action = RetryAction::fail_up;
  std::uint64_t delay_us = 0;   // same_path
  bool counts = false;          // against bdev_retry_count
  bool read_ana_state = false;  // the controller's ANA log is to be read: the path's state is not what was believed
  bool operator==(const RetryDecision&) const = default;
};

// What is known when a command has completed with an error.
struct RetryQuestion {
  nvme::Status status;                  // not success; commands lost with their queue have aborted_sq_deletion
  bool path_usable = true;              // queue connected, namespace there, ANA state as believed takes I/O
  bool controller_available = true;     // not failed, resetting, waiting for a reconnect, disabled or going away
  bool other_path_usable = false;       // some path of the bdev takes I/O now
  bool path_may_come = false;           // some path's controller is connected or still tried (io_waits of reconnect_policy.h)
  std::int32_t retry_count_limit = 3;   // bdev_retry_count, -1: no limit
  std::uint32_t retries = 0;            // of this I/O that were counted
  std::array<std::uint16_t, 3> crdt{};  // Identify Controller CRDT1..3, in 100 ms
};
RetryDecision decide_retry(const RetryQuestion& question);

// An I/O that could not even be submitted, for no path is usable: waits or fails.
RetryDecision decide_without_path(bool path_may_come);

// Path-related (type 3h) or the end of the queue: says nothing about the command itself.
bool is_path_fault(nvme::Status status);
// One of the three ANA statuses.
bool is_ana_fault(nvme::Status status);
// An answer that no repetition changes.
bool is_answer(nvme::Status status);

// transport_ack_timeout of bdev_nvme_set_options (n, 0 to 31) as TCP_USER_TIMEOUT: the connection ends when sent bytes stay unacknowledged for 2^n
// ms; 0: the system's. SPDK's meaning for TCP.
std::uint32_t ack_timeout_ms(std::uint8_t transport_ack_timeout);
inline constexpr std::uint8_t max_transport_ack_timeout = 31;

}  // namespace catnap::bdev
