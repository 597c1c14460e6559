// A latency histogram in the shape that SPDK's clients decode: each power-of-two range of nanoseconds has 2^granularity buckets.
// Range 0 covers [0, 2^granularity) in steps of 1, range r > 0 covers [2^(granularity+r-1), 2^(granularity+r)) in steps of 2^(r-1).
// Owner: one thread counts; any may read meanwhile (relaxed). Left out: base64 (bdev_stats_rpc.cpp).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bdev/bdev.h"

namespace catnap::bdev {

struct HistogramShape {
  std::uint32_t granularity = 7;           // 1..max_histogram_granularity
  std::uint64_t min_ns = 1'000;            // inclusive; shorter ones count in the first bucket
  std::uint64_t max_ns = 120'000'000'000;  // exclusive; longer ones count in the last bucket
  std::optional<Op> only;                  // one operation, or all

  std::uint32_t range_of(std::uint64_t value_ns) const;
  std::uint32_t min_range() const { return range_of(min_ns); }
  std::uint32_t max_range() const { return range_of(max_ns - 1); }
  std::size_t buckets() const { return std::size_t{max_range() - min_range() + 1} << granularity; }
};

// 2^11 buckets per range: 64 ranges of them are 1 MiB per channel.
inline constexpr std::uint32_t max_histogram_granularity = 11;

class Histogram {
 public:
  explicit Histogram(std::shared_ptr<const HistogramShape> shape);
  const HistogramShape& shape() const { return *shape_; }
  void count(Op op, std::uint64_t latency_ns);
  // `other` has the same shape object.
  void add(const Histogram& other);
  bool same_shape(const Histogram& other) const { return shape_ == other.shape_; }
  std::vector<std::uint64_t> buckets() const;
  // Upper end (exclusive) of a bucket in nanoseconds.
  std::uint64_t end_of(std::size_t bucket) const;

 private:
  std::shared_ptr<const HistogramShape> shape_;
  std::uint32_t min_range_;
  std::uint32_t max_range_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> counts_;
};

}  // namespace catnap::bdev
