// CLOCK_MONOTONIC. See clock.h.
#include "reactor/clock.h"

#include <ctime>

namespace catnap {
namespace {

class MonotonicClock final : public Clock {
 public:
  std::uint64_t now_ns() const override {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * ns_per_s + static_cast<std::uint64_t>(now.tv_nsec);
  }
};

}  // namespace

const Clock& system_clock() {
  static const MonotonicClock clock;
  return clock;
}

}  // namespace catnap
