// See rate_limits.h.
#include "bdev/rate_limits.h"

#include <algorithm>

#include "reactor/clock.h"

namespace catnap::bdev {
namespace {

constexpr std::uint64_t bytes_per_mbyte = 1048576;
constexpr std::uint64_t ordinary_io_bytes = 131072;  // what hosts cut large transfers into

std::uint64_t scaled(std::uint64_t value, std::uint64_t by, std::uint64_t over) {
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(value) * by / over);
}

// Rates so high that bytes per second would not fit are no limits.
std::uint64_t bytes_of(std::uint64_t mbytes) { return mbytes > ~std::uint64_t{0} / bytes_per_mbyte ? 0 : mbytes * bytes_per_mbyte; }

}  // namespace

RateBuckets::RateBuckets(const RateLimits& limits, std::uint64_t now_ns, const RateBuckets* before) {
  const std::uint64_t rates[bucket_count] = {limits.rw_ios_per_sec, bytes_of(limits.rw_mbytes_per_sec), bytes_of(limits.r_mbytes_per_sec),
                                             bytes_of(limits.w_mbytes_per_sec)};
  for (std::size_t i = 0; i < bucket_count; ++i) {
    Bucket& bucket = buckets_[i];
    bucket.per_second = rates[i];
    std::uint64_t start_ns = now_ns;
    if (before != nullptr && before->buckets_[i].per_second > 0 && rates[i] > 0) {
      const std::uint64_t paid_ns = before->buckets_[i].paid_ns.load(std::memory_order_relaxed);
      // In units, but for no longer than it would have taken, or one ordinary I/O takes now: what ran ahead of a high limit for a moment does not
      // stop a low one for minutes.
      const std::uint64_t longest_ns = std::max(paid_ns - std::min(paid_ns, now_ns), bucket.cost(i == 0 ? 1 : ordinary_io_bytes));
      if (paid_ns > now_ns) start_ns += std::min(longest_ns, scaled(paid_ns - now_ns, before->buckets_[i].per_second, rates[i]));
    }
    bucket.next_ns.store(start_ns, std::memory_order_relaxed);
    bucket.paid_ns.store(start_ns, std::memory_order_relaxed);
  }
}

bool RateBuckets::counts(Op op) {
  switch (op) {
    case Op::read:
    case Op::write:
    case Op::compare:
    case Op::compare_and_write:
    case Op::copy:
    case Op::verify:
      return true;
    case Op::flush:
    case Op::unmap:
    case Op::write_zeroes:
    case Op::reset:
    case Op::write_uncorrectable:
      return false;
  }
  return false;
}

RateBuckets::Units RateBuckets::units_of(const BdevIo& io, std::uint32_t block_size) {
  const std::uint64_t bytes = io.num_blocks * block_size;
  const bool reads = io.op != Op::write;
  const bool writes = io.op == Op::write || io.op == Op::compare_and_write || io.op == Op::copy;
  return {{1, reads && writes ? 2 * bytes : bytes, reads ? bytes : 0, writes ? bytes : 0}};
}

std::uint64_t RateBuckets::Bucket::cost(std::uint64_t units) const { return per_second == 0 ? 0 : scaled(units, ns_per_s, per_second); }

std::uint64_t RateBuckets::Bucket::advance(std::atomic<std::uint64_t>& time_ns, std::uint64_t cost_ns, std::uint64_t now_ns, std::uint64_t slack_ns) {
  const std::uint64_t earliest_ns = now_ns > slack_ns ? now_ns - slack_ns : 0;
  std::uint64_t seen_ns = time_ns.load(std::memory_order_relaxed);
  for (;;) {
    const std::uint64_t start_ns = std::max(seen_ns, earliest_ns);
    if (time_ns.compare_exchange_weak(seen_ns, start_ns + cost_ns, std::memory_order_relaxed)) return start_ns;
  }
}

std::uint64_t RateBuckets::reserve(const BdevIo& io, std::uint32_t block_size, std::uint64_t now_ns, std::uint64_t slack_ns) {
  const Units units = units_of(io, block_size);
  std::uint64_t start_ns = 0;
  for (std::size_t i = 0; i < bucket_count; ++i) {
    Bucket& bucket = buckets_[i];
    if (bucket.per_second == 0 || units.of[i] == 0) continue;
    start_ns = std::max(start_ns, Bucket::advance(bucket.next_ns, bucket.cost(units.of[i]), now_ns, slack_ns));
  }
  return start_ns;
}

void RateBuckets::refund(const BdevIo& io, std::uint32_t block_size) {
  const Units units = units_of(io, block_size);
  for (std::size_t i = 0; i < bucket_count; ++i) {
    if (units.of[i] > 0) buckets_[i].next_ns.fetch_sub(buckets_[i].cost(units.of[i]), std::memory_order_relaxed);
  }
}

void RateBuckets::pay(const BdevIo& io, std::uint32_t block_size, std::uint64_t now_ns) {
  const Units units = units_of(io, block_size);
  for (std::size_t i = 0; i < bucket_count; ++i) {
    Bucket& bucket = buckets_[i];
    if (bucket.per_second > 0 && units.of[i] > 0) Bucket::advance(bucket.paid_ns, bucket.cost(units.of[i]), now_ns, rate_lateness_ns);
  }
}

std::uint64_t RateBuckets::cost_ns(const BdevIo& io, std::uint32_t block_size) const {
  const Units units = units_of(io, block_size);
  std::uint64_t cost_ns = 0;
  for (std::size_t i = 0; i < bucket_count; ++i) cost_ns = std::max(cost_ns, buckets_[i].cost(units.of[i]));
  return cost_ns;
}

std::uint64_t RateBuckets::share_ns(std::uint64_t now_ns, std::uint64_t elapsed_ns) const {
  std::uint64_t next_ns = 0;
  for (const Bucket& bucket : buckets_) {
    if (bucket.per_second > 0) next_ns = std::max(next_ns, bucket.next_ns.load(std::memory_order_relaxed));
  }
  const std::uint64_t unused_ns = now_ns > next_ns + rate_unused_ns ? now_ns - next_ns - rate_unused_ns : 0;
  return (elapsed_ns + unused_ns) / std::max(1u, waiting_.load(std::memory_order_relaxed));
}

}  // namespace catnap::bdev
