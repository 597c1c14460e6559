// See histogram.h.
#include "bdev/histogram.h"

#include <bit>

namespace catnap::bdev {

std::uint32_t HistogramShape::range_of(std::uint64_t value_ns) const {
  const auto bits = static_cast<std::uint32_t>(std::bit_width(value_ns));
  return bits > granularity ? bits - granularity : 0;
}

Histogram::Histogram(std::shared_ptr<const HistogramShape> shape)
    : shape_(std::move(shape)),
      min_range_(shape_->min_range()),
      max_range_(shape_->max_range()),
      counts_(std::make_unique<std::atomic<std::uint64_t>[]>(shape_->buckets())) {}

void Histogram::count(Op op, std::uint64_t latency_ns) {
  if (shape_->only.has_value() && *shape_->only != op) return;
  const std::uint32_t granularity = shape_->granularity;
  const std::uint64_t per_range = std::uint64_t{1} << granularity;
  const std::uint32_t range = shape_->range_of(latency_ns);
  std::uint64_t bucket = 0;
  if (range > max_range_) {
    bucket = shape_->buckets() - 1;
  } else if (range >= min_range_) {
    const std::uint32_t shift = range == 0 ? 0 : range - 1;
    bucket = (std::uint64_t{range - min_range_} << granularity) + ((latency_ns >> shift) & (per_range - 1));
  }
  counts_[bucket].store(counts_[bucket].load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void Histogram::add(const Histogram& other) {
  for (std::size_t i = 0; i < shape_->buckets(); ++i) {
    const std::uint64_t more = other.counts_[i].load(std::memory_order_relaxed);
    if (more > 0) counts_[i].store(counts_[i].load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }
}

std::vector<std::uint64_t> Histogram::buckets() const {
  std::vector<std::uint64_t> all(shape_->buckets());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = counts_[i].load(std::memory_order_relaxed);
  return all;
}

std::uint64_t Histogram::end_of(std::size_t bucket) const {
  const std::uint32_t granularity = shape_->granularity;
  const std::uint64_t range = min_range_ + (bucket >> granularity);
  const std::uint64_t next = (bucket & ((std::uint64_t{1} << granularity) - 1)) + 1;
  if (range == 0) return next;
  return (std::uint64_t{1} << (range + granularity - 1)) + (next << (range - 1));
}

}  // namespace catnap::bdev
