// Latencies counted by size: 32 steps per power of two of nanoseconds (as catnap-perf counts them), so that a percentile read from the counts is off
// by 3.1 % at most, from 1.024 us to 34 s; what is shorter or longer is counted, and known as that. Owner: one thread counts; any may read meanwhile
// (each count by itself). Left out: shapes that clients choose (bdev/histogram.h).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace catnap {

class LatencyHistogram {
 public:
  static constexpr unsigned step_bits = 5;
  static constexpr std::size_t steps = std::size_t{1} << step_bits;
  static constexpr unsigned first_power = 10;  // 2^10 ns: nothing over a network is shorter
  static constexpr unsigned end_power = 35;    // 2^35 ns: hosts give up after 30 s
  static constexpr std::size_t octaves = end_power - first_power;
  // What is shorter, the steps, what is longer.
  static constexpr std::size_t buckets = octaves * steps + 2;

  static std::size_t bucket_of(std::uint64_t ns) {
    if (ns < (std::uint64_t{1} << first_power)) return 0;
    if (ns >= (std::uint64_t{1} << end_power)) return buckets - 1;
    const auto power = static_cast<unsigned>(std::bit_width(ns)) - 1;
    return 1 + (power - first_power) * steps + ((ns >> (power - step_bits)) & (steps - 1));
  }
  // Exclusive; of the last one: no end.
  static constexpr std::uint64_t end_of(std::size_t bucket) {
    if (bucket == 0) return std::uint64_t{1} << first_power;
    if (bucket == buckets - 1) return ~std::uint64_t{0};
    const auto power = static_cast<unsigned>(first_power + (bucket - 1) / steps);
    return (steps + (bucket - 1) % steps + 1) << (power - step_bits);
  }

  void count(std::uint64_t ns) { count_in(bucket_of(ns)); }
  void count_in(std::size_t bucket) {
    std::atomic<std::uint64_t>& counter = counts_[bucket];
    const std::uint64_t before = counter.load(std::memory_order_relaxed);
    counter.store(before + 1, std::memory_order_relaxed);
    if (before == 0) used_.store(used_.load(std::memory_order_relaxed) | stretch_of(bucket), std::memory_order_relaxed);
  }
  std::uint64_t operator[](std::size_t bucket) const { return counts_[bucket].load(std::memory_order_relaxed); }

  // A set of stretches of buckets, a bit each. Latencies of one kind lie close together: who reads many histograms skips what nothing was counted in.
  static constexpr std::size_t stretch = 32;
  static constexpr std::uint32_t stretch_of(std::size_t bucket) { return std::uint32_t{1} << (bucket / stretch); }
  // Where anything was counted; the newest counts may be missing.
  std::uint32_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  static_assert((buckets - 1) / stretch < 32);

  std::array<std::atomic<std::uint64_t>, buckets> counts_{};
  std::atomic<std::uint32_t> used_{0};
};

// The same as plain numbers: several summed up, by one thread.
struct LatencyCounts {
  std::array<std::uint64_t, LatencyHistogram::buckets> counts{};
  std::uint64_t total = 0;

  void count(std::uint64_t ns) {
    const std::size_t bucket = LatencyHistogram::bucket_of(ns);
    used_ |= LatencyHistogram::stretch_of(bucket);
    add(bucket, 1);
  }
  void add(const LatencyHistogram& histogram) { add_used(histogram.used(), histogram); }
  void add(const LatencyCounts& other) { add_used(other.used_, other.counts); }
  // The latency in nanoseconds that this part (0..1) of all was not above, as the end of its step; 0 when there are none.
  std::uint64_t percentile_ns(double part) const {
    const auto rank = static_cast<std::uint64_t>(static_cast<double>(total) * part);
    std::uint64_t seen = 0;
    std::uint64_t found = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] == 0) continue;
      seen += counts[i];
      found = LatencyHistogram::end_of(i);
      if (seen > rank) break;
    }
    return found;
  }

 private:
  template <typename Counts>
  void add_used(std::uint32_t used, const Counts& more) {
    used_ |= used;
    for (; used != 0; used &= used - 1) {
      const std::size_t first = static_cast<std::size_t>(std::countr_zero(used)) * LatencyHistogram::stretch;
      const std::size_t end = std::min(first + LatencyHistogram::stretch, LatencyHistogram::buckets);
      for (std::size_t i = first; i < end; ++i) add(i, more[i]);
    }
  }
  void add(std::size_t bucket, std::uint64_t more) {
    counts[bucket] += more;
    total += more;
  }

  std::uint32_t used_ = 0;
};

}  // namespace catnap
