// A latency histogram: 32 steps per power of two of nanoseconds, so each figure is within 3 %.
// Owner: one thread. Left out: nothing.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace catnap::perf {

class Latencies {
 public:
  void add(std::uint64_t ns) {
    ++counts_[bucket(ns)];
    ++total_;
    sum_ns_ += ns;
    max_ns_ = std::max(max_ns_, ns);
  }
  void add(const Latencies& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
    sum_ns_ += other.sum_ns_;
    max_ns_ = std::max(max_ns_, other.max_ns_);
  }
  std::uint64_t count() const { return total_; }
  std::uint64_t max_ns() const { return max_ns_; }
  double mean_ns() const { return total_ == 0 ? 0 : static_cast<double>(sum_ns_) / static_cast<double>(total_); }
  // The latency that this part of all I/Os (0..1) was not above; 0 when there were none.
  std::uint64_t percentile_ns(double part) const {
    const auto rank = static_cast<std::uint64_t>(static_cast<double>(total_) * part);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (counts_[i] > 0 && seen > rank) return std::min(end_of(i), max_ns_);
    }
    return max_ns_;
  }
  // Calls `each(end_ns, count)` for every step that has some.
  template <typename Each>
  void for_each_bucket(Each each) const {
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      if (counts_[i] > 0) each(end_of(i), counts_[i]);
    }
  }

 private:
  static constexpr unsigned step_bits = 5;
  static constexpr std::size_t steps = 1U << step_bits;
  static std::size_t bucket(std::uint64_t ns) {
    if (ns < steps) return ns;
    const unsigned shift = 63U - static_cast<unsigned>(__builtin_clzll(ns)) - step_bits;
    return (shift + 1) * steps + ((ns >> shift) & (steps - 1));
  }
  static std::uint64_t end_of(std::size_t bucket) {
    if (bucket < steps) return bucket + 1;
    const std::size_t shift = bucket / steps - 1;
    return (steps + bucket % steps + 1) << shift;
  }

  std::array<std::uint64_t, steps * (64 - step_bits + 1)> counts_{};
  std::uint64_t total_ = 0;
  std::uint64_t sum_ns_ = 0;
  std::uint64_t max_ns_ = 0;
};

}  // namespace catnap::perf
