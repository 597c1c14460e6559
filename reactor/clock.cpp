// CLOCK_MONOTONIC. See clock.h.
#include "reactor/clock.h"

#include <ctime>

namespace catnap {
namespace {

class MonotonicClock final : public Clock {
 public:
  std::uint64_t now_ns() const override { return read(CLOCK_MONOTONIC); }
  std::uint64_t coarse_ns() const override { return read(CLOCK_MONOTONIC_COARSE); }

 private:
  static std::uint64_t read(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * ns_per_s + static_cast<std::uint64_t>(now.tv_nsec);
  }
};

}  // namespace

const Clock& system_clock() {
  static const MonotonicClock clock;
  return clock;
}

}  // namespace catnap
