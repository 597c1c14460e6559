// Who looks at I/Os in passing: time-outs, the depth over time, latency histograms. Nothing here runs periodically: a time-out's deadline exists
// while an I/O is in flight, and depths are integrals that move on when an I/O comes or goes. See bdev.h. Owner: the channel's thread; the Bdev's
// half is on app_thread, sums on any.
#include <fmt/core.h>

#include <algorithm>

#include "bdev/bdev.h"
#include "bdev/core_state.h"
#include "reactor/base/log.h"

namespace catnap::bdev {
namespace {

// Bdev::State::busy: how many channels are, above the microsecond since when one is (2^48 us are 8 years).
constexpr std::uint64_t busy_unit = std::uint64_t{1} << 48;
constexpr std::uint64_t busy_time_mask = busy_unit - 1;

void channel_busy(std::atomic<std::uint64_t>& busy, std::uint64_t now_ns) {
  std::uint64_t seen = busy.load(std::memory_order_relaxed);
  for (;;) {
    const std::uint64_t next = seen < busy_unit ? busy_unit | ((now_ns / ns_per_us) & busy_time_mask) : seen + busy_unit;
    if (busy.compare_exchange_weak(seen, next, std::memory_order_relaxed)) return;
  }
}

// Threads' clocks differ by their turns, so "since" may lie ahead.
std::uint64_t busy_for_ns(std::uint64_t busy, std::uint64_t now_ns) {
  const std::uint64_t now_us = (now_ns / ns_per_us) & busy_time_mask;
  const std::uint64_t since_us = busy & busy_time_mask;
  return now_us > since_us ? (now_us - since_us) * ns_per_us : 0;
}

void channel_idle(std::atomic<std::uint64_t>& busy, std::atomic<std::uint64_t>& io_time_ns, std::uint64_t now_ns) {
  std::uint64_t seen = busy.load(std::memory_order_relaxed);
  while (seen >= busy_unit) {
    const bool last = seen < 2 * busy_unit;
    if (!busy.compare_exchange_weak(seen, last ? 0 : seen - busy_unit, std::memory_order_relaxed)) continue;
    if (last) io_time_ns.fetch_add(busy_for_ns(seen, now_ns), std::memory_order_relaxed);
    return;
  }
}

// Moves the integral on to now.
void integrate(DepthIntegral& integral, std::uint64_t now_ns, std::uint64_t new_depth) {
  const std::uint64_t depth = integral.depth.load(std::memory_order_relaxed);
  const std::uint64_t changed_ns = integral.changed_ns.load(std::memory_order_relaxed);
  const std::uint64_t passed_ns = now_ns > changed_ns ? now_ns - changed_ns : 0;
  integral.weighted_ns.store(integral.weighted_ns.load(std::memory_order_relaxed) + depth * passed_ns, std::memory_order_relaxed);
  integral.changed_ns.store(now_ns, std::memory_order_relaxed);
  integral.depth.store(new_depth, std::memory_order_relaxed);
  if (new_depth > integral.peak.load(std::memory_order_relaxed)) integral.peak.store(new_depth, std::memory_order_relaxed);
}

std::string_view whereabouts(const BdevIo& io) {
  switch (io.phase) {
    case Phase::limited:
      return "it waits for its turn under the rate limit";
    case Phase::held:
      return "it waits for locked blocks or a reset";
    default:
      return "it is with the module";
  }
}

}  // namespace

void Channel::observe_submit(BdevIo& io) {
  Core& core = *core_;
  if (core.timeout_ns > 0 && !core.timeout_timer.armed()) thread_.arm_at(core.timeout_timer, io.start_ns + core.timeout_ns);
  if ((observers_ & observer_depth) == 0) return;
  const std::uint64_t depth = core.depth.depth.load(std::memory_order_relaxed);
  if (depth == 0) channel_busy(bdev_.state_->busy, io.start_ns);
  integrate(core.depth, io.start_ns, depth + 1);
}

void Channel::observe_finish(BdevIo& io, Status status) {
  Core& core = *core_;
  if ((observers_ & observer_timeout) != 0 && in_flight_ == 1) core.timeout_timer.disarm();
  if ((observers_ & observer_depth) != 0) {
    const std::uint64_t now_ns = thread_.now_ns();
    const std::uint64_t depth = core.depth.depth.load(std::memory_order_relaxed);
    if (depth == 1) channel_idle(bdev_.state_->busy, bdev_.state_->io_time_ns, now_ns);
    if (depth > 0) integrate(core.depth, now_ns, depth - 1);
  }
  if ((observers_ & observer_histogram) != 0 && status == Status::ok) {
    const std::uint64_t now_ns = thread_.now_ns();
    core.histogram->count(io.op, now_ns > io.start_ns ? now_ns - io.start_ns : 0);
  }
  if ((observers_ & observer_drain) != 0 && io.phase == Phase::admitted) observe_drains(io);
}

// Takes over what the bdev wants to be watched; under its mutex.
void Channel::adopt_watch_locked() {
  const Bdev::State& state = *bdev_.state_;
  Core& core = *core_;
  core.timeout_ns = state.timeout_ns;
  set_observer(observer_timeout, core.timeout_ns > 0);
  if (core.timeout_ns == 0) core.timeout_timer.disarm();

  const bool depth_wanted = state.depth_period_us > 0;
  if (depth_wanted != ((observers_ & observer_depth) != 0)) {
    const std::uint64_t now_ns = thread_.now_ns();
    if (core.depth.depth.load(std::memory_order_relaxed) > 0) channel_idle(bdev_.state_->busy, bdev_.state_->io_time_ns, now_ns);
    std::uint64_t depth = 0;
    for (std::uint64_t i = 0; depth_wanted && i < in_flight_; ++i) depth += table_[i]->phase != Phase::outside ? 1 : 0;
    if (depth > 0) channel_busy(bdev_.state_->busy, now_ns);
    core.depth.weighted_ns.store(0, std::memory_order_relaxed);
    core.depth.peak.store(0, std::memory_order_relaxed);
    core.depth.depth.store(0, std::memory_order_relaxed);
    integrate(core.depth, now_ns, depth);
    set_observer(observer_depth, depth_wanted);
  }
  set_guard(guard_watched, core.timeout_ns > 0 || depth_wanted);

  const bool other_shape = core.histogram == nullptr ? state.histogram_shape != nullptr : &core.histogram->shape() != state.histogram_shape.get();
  if (other_shape) core.histogram = state.histogram_shape != nullptr ? std::make_unique<Histogram>(state.histogram_shape) : nullptr;
  set_observer(observer_histogram, core.histogram != nullptr);
}

// Reports what is over its time, together, and waits for the next that may be.
void Channel::look_for_timeouts() {
  Core& core = *core_;
  const std::uint64_t now_ns = thread_.now_ns();
  const BdevIo* oldest = nullptr;
  std::uint64_t late = 0;
  std::uint64_t next_ns = TimerHeap::never_ns;
  for (std::uint64_t i = 0; core.timeout_ns > 0 && i < in_flight_; ++i) {
    BdevIo& io = *table_[i];
    if (io.phase == Phase::outside || (io.notes & BdevIo::note_timed_out) != 0) continue;
    if (now_ns - io.start_ns < core.timeout_ns) {
      next_ns = std::min(next_ns, io.start_ns + core.timeout_ns);
      continue;
    }
    io.notes |= BdevIo::note_timed_out;
    ++late;
    if (oldest == nullptr || io.start_ns < oldest->start_ns) oldest = &io;
  }
  if (next_ns != TimerHeap::never_ns) thread_.arm_at(core.timeout_timer, next_ns);
  if (oldest == nullptr) return;
  core.timed_out.store(core.timed_out.load(std::memory_order_relaxed) + late, std::memory_order_relaxed);
  log_warning("bdev '{}': {} I/O{} on thread '{}' not answered within {} us; the oldest, {} of {} blocks at {}, is {} us old: {}", bdev_.name(), late,
              late == 1 ? "" : "s", thread_.name(), core.timeout_ns / ns_per_us, op_name(oldest->op), oldest->num_blocks, oldest->offset_blocks,
              (now_ns - oldest->start_ns) / ns_per_us, whereabouts(*oldest));
}

void Bdev::watch_changed(std::move_only_function<void()> taken_up) {
  for_each_channel(
      [this](Channel& channel) {
        const std::lock_guard lock(state_->mutex);
        channel.adopt_watch_locked();
        // I/Os that are in flight already count from their start.
        if (channel.core_->timeout_ns > 0) channel.look_for_timeouts();
      },
      std::move(taken_up));
}

void Bdev::set_timeout(std::uint64_t timeout_us, std::move_only_function<void()> taken_up) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->timeout_ns = timeout_us * ns_per_us;
  }
  watch_changed(std::move(taken_up));
}

std::uint64_t Bdev::timeout_us() const {
  const std::lock_guard lock(state_->mutex);
  return state_->timeout_ns / ns_per_us;
}

std::uint64_t Bdev::timed_out_ios() const {
  const std::lock_guard lock(state_->mutex);
  std::uint64_t sum = state_->past_timed_out;
  for (const Channel* channel : state_->channels) sum += channel->core_->timed_out.load(std::memory_order_relaxed);
  return sum;
}

void Bdev::set_histogram(std::shared_ptr<const HistogramShape> shape, std::move_only_function<void()> taken_up) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->past_histogram = shape != nullptr ? std::make_unique<Histogram>(shape) : nullptr;
    state_->histogram_shape = std::move(shape);
  }
  watch_changed(std::move(taken_up));
}

std::unique_ptr<Histogram> Bdev::histogram() const {
  const std::lock_guard lock(state_->mutex);
  if (state_->histogram_shape == nullptr) return nullptr;
  auto sum = std::make_unique<Histogram>(state_->histogram_shape);
  sum->add(*state_->past_histogram);
  for (const Channel* channel : state_->channels) {
    const Histogram* counted = channel->core_->histogram.get();
    if (counted != nullptr && counted->same_shape(*sum)) sum->add(*counted);
  }
  return sum;
}

void Bdev::set_depth_period(std::uint64_t period_us, std::move_only_function<void()> taken_up) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->depth_period_us == 0) {
      state_->io_time_ns.store(0, std::memory_order_relaxed);
      state_->past_weighted_ns = 0;
    }
    state_->depth_period_us = period_us;
  }
  watch_changed(std::move(taken_up));
}

Bdev::Depth Bdev::depth(std::uint64_t now_ns) const {
  const std::lock_guard lock(state_->mutex);
  Depth sum;
  sum.period_us = state_->depth_period_us;
  if (sum.period_us == 0) return sum;
  sum.weighted_io_time_ns = state_->past_weighted_ns;
  for (const Channel* channel : state_->channels) {
    const DepthIntegral& integral = channel->core_->depth;
    const std::uint64_t depth = integral.depth.load(std::memory_order_relaxed);
    const std::uint64_t changed_ns = integral.changed_ns.load(std::memory_order_relaxed);
    sum.now += depth;
    sum.peak += integral.peak.load(std::memory_order_relaxed);
    sum.weighted_io_time_ns += integral.weighted_ns.load(std::memory_order_relaxed) + (now_ns > changed_ns ? depth * (now_ns - changed_ns) : 0);
  }
  const std::uint64_t busy = state_->busy.load(std::memory_order_relaxed);
  sum.io_time_ns = state_->io_time_ns.load(std::memory_order_relaxed) + (busy >= busy_unit ? busy_for_ns(busy, now_ns) : 0);
  return sum;
}

}  // namespace catnap::bdev
