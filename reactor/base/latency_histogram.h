// Latencies counted by size: 32 steps per power of two of nanoseconds (as catnap-perf counts them), so that a percentile read from the counts is off
// by 3.1 % at most, from 1.024 us to 34 s; what is shorter or longer is counted, and known as that. Owner: one thread counts; any may read meanwhile
// (each count by itself). Left out: shapes that clients choose (bdev/histogram.h).
#pragma once

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
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  std::uint64_t operator[](std::size_t bucket) const { return counts_[bucket].load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<std::uint64_t>, buckets> counts_{};
};

// The same as plain numbers: several summed up, by one thread.
struct LatencyCounts {
  std::array<std::uint64_t, LatencyHistogram::buckets> counts{};
  std::uint64_t total = 0;

  void count(std::uint64_t ns) { add(LatencyHistogram::bucket_of(ns), 1); }
  void add(const LatencyHistogram& histogram) {
    for (std::size_t i = 0; i < counts.size(); ++i) add(i, histogram[i]);
  }
  void add(const LatencyCounts& other) {
    for (std::size_t i = 0; i < counts.size(); ++i) add(i, other.counts[i]);
  }
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
  void add(std::size_t bucket, std::uint64_t more) {
    counts[bucket] += more;
    total += more;
  }
};

}  // namespace catnap
