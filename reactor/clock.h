// The clock of every loop: CLOCK_MONOTONIC in nanoseconds, or a number that a test moves by hand.
// Owner: the reactor that holds it. Left out: wall-clock time (logs ask the system themselves).
#pragma once

#include <cstdint>

namespace catnap {

class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since an arbitrary start; never goes back.
  virtual std::uint64_t now_ns() const = 0;
  // The same to within a few milliseconds, and cheaper: for what is asked after every callback.
  virtual std::uint64_t coarse_ns() const { return now_ns(); }
};

// CLOCK_MONOTONIC. The one instance that production code uses.
const Clock& system_clock();

// Stands still until told: timers in tests fire without waiting.
class VirtualClock final : public Clock {
 public:
  std::uint64_t now_ns() const override { return now_ns_; }
  void advance_ns(std::uint64_t by_ns) { now_ns_ += by_ns; }
  void advance_us(std::uint64_t by_us) { now_ns_ += by_us * 1000; }

 private:
  std::uint64_t now_ns_ = 1'000'000'000;
};

inline constexpr std::uint64_t ns_per_us = 1'000;
inline constexpr std::uint64_t ns_per_ms = 1'000'000;
inline constexpr std::uint64_t ns_per_s = 1'000'000'000;

}  // namespace catnap
