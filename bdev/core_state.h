// What the core keeps beside a Bdev and a Channel; included by the core's own files alone.
// Owner: a Channel::Core belongs to the channel's thread (its counters are read from anywhere); a Bdev::State is split, see its members.
// Left out: everything a module or user needs (bdev.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "bdev/bdev.h"
#include "reactor/deferred.h"
#include "reactor/timer.h"

namespace catnap::bdev {

// Written by one thread, read by any: plain loads and stores of relaxed atomics, no read-modify-write on the I/O path.
class Counters {
 public:
  void add(Op op, std::uint64_t bytes, std::uint64_t latency_ns, bool failed);
  IoStats read() const;
  void clear();

  // The reset (Bdev::State::stats_generation) these numbers count from; older ones are void.
  std::atomic<std::uint64_t> generation{0};

 private:
  struct PerOp {
    std::atomic<std::uint64_t> ops{0}, bytes{0}, latency_ns{0}, max_latency_ns{0}, min_latency_ns{0}, errors{0};
  };
  PerOp per_op_[op_count];
};

// Adds `from` to `to`; minima and maxima are kept as such (a minimum counts only where there were operations).
void merge(IoStats& to, const IoStats& from);

struct Channel::Core {
  explicit Core(Channel& channel)
      : deferred_completions([&channel] { channel.run_deferred_completions(); }), starved_timer([&channel] { channel.retry_queued(); }) {}

  std::shared_ptr<Bdev> keep_alive;
  Counters counters;
  // Completions beyond max_completion_depth wait here for the ready list, oldest first.
  BdevIo* done_first = nullptr;
  BdevIo* done_last = nullptr;
  Deferred deferred_completions;
  Timer starved_timer;
  bool retrying = false;         // retry_queued() is on the stack
  bool freed_meanwhile = false;  // something completed while it was
  // One buffer of this channel's own for staged I/O while the reactor's pool is at its cap: staging never waits for the pool, so it cannot
  // wait for itself through a user that holds pool buffers meanwhile.
  std::byte* reserve = nullptr;
  bool reserve_in_use = false;
};

struct Bdev::State {
  mutable std::mutex mutex;  // guards the next four: channels come and go on their own threads
  std::vector<Channel*> channels;
  std::uint32_t ending_channels = 0;  // out of the list, not yet destroyed
  IoStats past;                       // of channels that have ended, since `past_generation`
  std::uint64_t past_generation = 0;

  std::atomic<bool> removed{false};
  std::atomic<std::uint64_t> stats_generation{0};

  // app_thread's.
  Thread* app_thread = nullptr;  // set by Registry::add()
  std::vector<Descriptor*> descriptors;
  std::string claimed_by;
  std::uint32_t claims = 0;
  bool claimed_exclusively = false;
  bool destroying = false;
  std::move_only_function<void(Result<void>)> removal_done;
};

}  // namespace catnap::bdev
