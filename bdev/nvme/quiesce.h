// After the end of an association: how long its commands may still be carried out (NVMe Base 2.1, section 9.6; docs/initiator.md, "Writes in
// flight"). Owner: none (a function of its arguments). Left out: who waits for it (write_fence.h).
#pragma once

#include <cstdint>

#include "transport/nvme/identify.h"

namespace catnap::bdev {

struct QuiesceTimes {
  // Until the controller has noticed, if it did not hear of the end: from then on it begins nothing.
  std::uint64_t notice_us = 0;
  // From then on, until what it had begun is over.
  std::uint64_t cleanup_us = 0;
  bool operator==(const QuiesceTimes&) const = default;
};

// Where the controller does not say how long it may go on with what it had begun (CQT 0): an I/O of a healthy medium is over long before.
inline constexpr std::uint64_t assumed_quiesce_us = 500'000;
// What controllers give hosts beyond the keep-alive time, and the grid on which they look: a second each in catnap, less in others.
inline constexpr std::uint64_t notice_slack_ms = 2'000;
// Without keep-alive no time is agreed on, and a controller may hold on for as long as it likes. As long as with the default of 10 s.
inline constexpr std::uint64_t assumed_notice_us = 24'000'000;

// `kato_ms`: as the host asked for it, 0: no keep-alive.
inline QuiesceTimes quiesce_times(const nvme::IdentifyController& data, std::uint32_t kato_ms) {
  QuiesceTimes times;
  times.cleanup_us = data.cqt != 0 ? data.cqt * std::uint64_t{1000} : assumed_quiesce_us;
  times.notice_us = assumed_notice_us;
  if (kato_ms == 0) return times;
  // The time that the controller goes by is rounded up to its granularity. Twice that: with traffic-based keep-alive it counts from the end of a
  // period in which something came; without, a controller that was starved may read the host's last Keep Alive only when the time is nearly over.
  const std::uint64_t granule_ms = data.kas != 0 ? std::uint64_t{data.kas} * 100 : 1;
  const std::uint64_t kept_ms = (kato_ms + granule_ms - 1) / granule_ms * granule_ms + notice_slack_ms;
  times.notice_us = 2 * kept_ms * 1000;
  return times;
}

}  // namespace catnap::bdev
