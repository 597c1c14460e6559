// What the core keeps beside a Bdev and a Channel; included by the core's own files alone.
// Owner: a Channel::Core belongs to the channel's thread (its counters are read from anywhere); a Bdev::State is split, see its members.
// Left out: everything a module or user needs (bdev.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <vector>

#include "bdev/bdev.h"
#include "bdev/histogram.h"
#include "bdev/io_list.h"
#include "bdev/range_lock.h"
#include "bdev/rate_limits.h"
#include "reactor/deferred.h"
#include "reactor/timer.h"

namespace catnap::bdev {

// Bits of Channel::guards_: why an I/O has to be looked at before it starts.
inline constexpr std::uint32_t guard_watched = 1;  // time-outs or depth are wanted
inline constexpr std::uint32_t guard_limited = 2;  // rate limits
inline constexpr std::uint32_t guard_ranges = 4;   // some blocks are locked
inline constexpr std::uint32_t guard_frozen = 8;   // a reset is under way
inline constexpr std::uint32_t guard_queue = 16;   // others wait for the module's resources
// Bits of Channel::observers_: why an I/O has to be looked at when it ends.
inline constexpr std::uint32_t observer_timeout = 1;
inline constexpr std::uint32_t observer_depth = 2;
inline constexpr std::uint32_t observer_histogram = 4;
inline constexpr std::uint32_t observer_drain = 8;  // a lock or reset waits for I/Os to end

// Completions on this OS thread's stack now: lightweight threads do not switch within a callback, so the stack is the OS thread's.
extern thread_local std::uint32_t completion_depth;

// Which resets counters have seen: of everything, of extremes, of errors. One word, so that one relaxed load on the I/O path tells.
struct ResetCounts {
  std::uint64_t word = 0;
  static constexpr std::uint64_t unit(Bdev::StatsReset what) {
    return std::uint64_t{1} << (what == Bdev::StatsReset::all ? 0 : what == Bdev::StatsReset::maxmin ? 24 : 44);
  }
  std::uint64_t all() const { return word & 0xFFFFFF; }
  std::uint64_t maxmin() const { return (word >> 24) & 0xFFFFF; }
  std::uint64_t error() const { return word >> 44; }
  // One more of them; its field wraps around.
  ResetCounts after(Bdev::StatsReset what) const;
};

// Sets to zero what a reset after `seen` has set to zero by `now`.
void apply_resets(IoStats& stats, ResetCounts seen, ResetCounts now);

// Written by one thread, read by any: plain loads and stores of relaxed atomics, no read-modify-write on the I/O path.
class Counters {
 public:
  Counters() { clear(); }
  void add(Op op, std::uint64_t bytes, std::uint64_t latency_ns, bool failed);
  IoStats read() const;
  // Forgets what the resets up to `now` say.
  void follow(ResetCounts now);

  // The resets (Bdev::State::stats_resets) these numbers have seen.
  std::atomic<std::uint64_t> seen{0};

 private:
  void clear();
  void clear_extremes();
  void clear_errors();

  struct PerOp {
    std::atomic<std::uint64_t> ops{0}, bytes{0}, latency_ns{0}, max_latency_ns{0}, min_latency_ns{0}, errors{0};
  };
  PerOp per_op_[op_count];
};

// Adds `from` to `to`; minima and maxima are kept as such (a minimum counts only where there were operations).
void merge(IoStats& to, const IoStats& from);

// The depth of one channel over time; written by the channel's thread, read by any.
struct DepthIntegral {
  std::atomic<std::uint64_t> depth{0};
  std::atomic<std::uint64_t> peak{0};
  std::atomic<std::uint64_t> weighted_ns{0};  // up to changed_ns
  std::atomic<std::uint64_t> changed_ns{0};
};

// Somebody who waits until the I/Os that were admitted before are over: those in a range, or all.
struct Drain {
  std::shared_ptr<RangeHold> hold;  // null: all
  std::uint64_t left = 0;
  std::function<void()> drained;
};

struct Channel::Core {
  explicit Core(Channel& channel);

  Thread::Hold hold;  // the thread does not exit while it has channels
  std::shared_ptr<Bdev> keep_alive;
  Counters counters;
  IoList queue;  // for the module's resources: no overtaking
  // Completions beyond max_completion_depth wait here for the ready list, oldest first.
  IoList done;
  Deferred deferred_completions;
  Timer starved_timer;
  bool retrying = false;         // retry_queued() is on the stack
  bool freed_meanwhile = false;  // something completed while it was
  // One buffer of this channel's own for staged I/O while the reactor's pool is at its cap: staging never waits for the pool, so it cannot
  // wait for itself through a user that holds pool buffers meanwhile.
  std::byte* reserve = nullptr;
  bool reserve_in_use = false;

  // Rate limits. `limited` waits for its turn; its head has a time reserved while it is not empty.
  std::shared_ptr<RateBuckets> buckets;
  IoList limited;
  std::uint64_t head_start_ns = 0;
  std::uint64_t let_through_ns = 0;  // when some were last, or when the queue began
  std::int64_t rate_credit_ns = 0;   // what is left of this channel's share; below zero: its last I/O was dearer
  bool running_limited = false;
  Timer limit_timer;

  // Locks and resets.
  std::vector<std::shared_ptr<RangeHold>> ranges;
  IoList held;
  // Taken out of `held`, to be let through or ended one by one: users abort from within.
  IoList releasing;
  IoList ending;
  bool is_releasing = false;
  std::list<Drain> drains;

  // Time-outs, depth, histogram.
  std::uint64_t timeout_ns = 0;
  Timer timeout_timer;
  std::atomic<std::uint64_t> timed_out{0};
  DepthIntegral depth;
  std::unique_ptr<Histogram> histogram;  // replaced under the bdev's mutex, so that others may read it there
};

struct Bdev::State {
  mutable std::mutex mutex;  // guards all up to the mark: channels come and go on their own threads
  std::vector<Channel*> channels;
  std::uint32_t ending_channels = 0;  // out of the list, not yet destroyed
  IoStats past;                       // of channels that have ended, since `past_seen`
  ResetCounts past_seen;
  std::uint64_t past_timed_out = 0;
  std::uint64_t past_weighted_ns = 0;
  std::shared_ptr<RateBuckets> buckets;            // null: no limits
  std::vector<std::shared_ptr<RangeHold>> ranges;  // in order of asking; those that are `installed` bind
  bool frozen = false;                             // a reset is under way: the front of `resets`
  std::vector<BdevIo*> resets;                     // one at a time, in order
  std::uint64_t timeout_ns = 0;
  std::uint64_t depth_period_us = 0;
  std::shared_ptr<const HistogramShape> histogram_shape;
  std::unique_ptr<Histogram> past_histogram;
  // --- to here ---

  std::atomic<bool> removed{false};
  std::atomic<std::uint64_t> stats_resets{0};
  // How many channels have I/O in flight, and since when at least one has: one word, as they come and go on different threads.
  std::atomic<std::uint64_t> busy{0};
  std::atomic<std::uint64_t> io_time_ns{0};
  RangeLocks range_locks;

  explicit State(Bdev& bdev) : range_locks(bdev) {}

  // app_thread's.
  Thread* app_thread = nullptr;  // set by Registry::add()
  RateLimits limits;
  std::vector<Descriptor*> descriptors;
  std::string claimed_by;
  std::uint32_t claims = 0;
  bool claimed_exclusively = false;
  bool destroying = false;
  bool lost = false;  // Removal::lost
  bool uuid_made_up = false;
  std::move_only_function<void(Result<void>)> removal_done;
};

// Whether the I/O touches blocks of the range, as reader or writer.
bool touches(const BdevIo& io, std::uint64_t offset_blocks, std::uint64_t num_blocks);

}  // namespace catnap::bdev
