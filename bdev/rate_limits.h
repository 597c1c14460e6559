// The arithmetic of rate limits: a bdev's limits are times, shared by all its channels. Each limit has the time from which on the next I/O may start;
// an I/O that starts moves it on by what it costs at that rate. So nothing has to be refilled, nothing wakes up while nothing waits, and limits of
// one I/O per second or a hundred thousand are the same thing. A channel reserves a time for the first I/O of its queue only, so channels take turns.
// Owner: shared by the channels' threads (atomics). Left out: the queues and their deadlines (channel_guards.cpp).
#pragma once

#include <atomic>
#include <cstdint>

#include "bdev/bdev.h"

namespace catnap::bdev {

// How far a limit's time may lag behind the clock. For who comes after a pause this is a burst: half a percent of what is due in ten seconds. For who
// waits it makes up for late wake-ups, which on a crowded machine are some tenths of a second.
inline constexpr std::uint64_t rate_burst_ns = 50'000'000;
inline constexpr std::uint64_t rate_lateness_ns = 250'000'000;
// A channel that waits does so at least this long: at high rates one wake-up then lets several I/Os through. Below what a host can tell from the
// wire.
inline constexpr std::uint64_t rate_step_us = 100;
// How much may be left unused before those who want more share it out: some wake-ups' worth, since what others will still take must not be given
// away.
inline constexpr std::uint64_t rate_unused_ns = 4 * rate_step_us * 1000;

class RateBuckets {
 public:
  // What is left to pay under `before` (null: nothing) is still to be paid under the new limits.
  RateBuckets(const RateLimits& limits, std::uint64_t now_ns, const RateBuckets* before);

  // Reads and writes, in every form; not flush, unmap, write zeroes and the like, as in SPDK.
  static bool counts(Op op);
  // Takes the next turn for `io`: the time at which it may start (in the past: now). `slack_ns`: one of the above.
  std::uint64_t reserve(const BdevIo& io, std::uint32_t block_size, std::uint64_t now_ns, std::uint64_t slack_ns);
  // Gives back the turn of an I/O that will not start.
  void refund(const BdevIo& io, std::uint32_t block_size);
  // The I/O starts.
  void pay(const BdevIo& io, std::uint32_t block_size, std::uint64_t now_ns);
  // Time that `io` costs under the limit that binds it most.
  std::uint64_t cost_ns(const BdevIo& io, std::uint32_t block_size) const;
  // What a channel that was let through `elapsed_ns` ago may start now, as time: its share of that, and of what others have left unused.
  std::uint64_t share_ns(std::uint64_t now_ns, std::uint64_t elapsed_ns) const;

  // Channels whose queue is not empty. Who comes while others wait, waits too.
  void begin_waiting() { waiting_.fetch_add(1, std::memory_order_relaxed); }
  void end_waiting() { waiting_.fetch_sub(1, std::memory_order_relaxed); }
  bool anybody_waits() const { return waiting_.load(std::memory_order_relaxed) > 0; }

 private:
  static constexpr std::size_t bucket_count = 4;
  struct Bucket {
    std::uint64_t per_second = 0;           // I/Os or bytes; 0: no limit
    std::atomic<std::uint64_t> next_ns{0};  // the next reservation starts here
    std::atomic<std::uint64_t> paid_ns{0};  // as next_ns, of I/Os that did start
    std::uint64_t cost(std::uint64_t units) const;
    static std::uint64_t advance(std::atomic<std::uint64_t>& time_ns, std::uint64_t cost_ns, std::uint64_t now_ns, std::uint64_t slack_ns);
  };
  struct Units {
    std::uint64_t of[bucket_count];
  };
  static Units units_of(const BdevIo& io, std::uint32_t block_size);

  Bucket buckets_[bucket_count];
  std::atomic<std::uint32_t> waiting_{0};
};

}  // namespace catnap::bdev
