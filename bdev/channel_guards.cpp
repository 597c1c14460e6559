// What an I/O may have to wait for before it reaches the module: its turn under the rate limits, locked blocks, a reset; and how it is taken back.
// None of this runs while none of it is in use (Channel::guards_). See bdev.h. Owner: the channel's thread. Left out: the queue for the module's
// resources (channel.cpp).
#include <algorithm>
#include <cstring>
#include <new>

#include "bdev/bdev.h"
#include "bdev/core_state.h"
#include "bdev/iov.h"
#include "bdev/parted_io.h"
#include "bdev/reset_run.h"
#include "reactor/base/check.h"

namespace catnap::bdev {
namespace {

// I/Os that one wake-up lets through a limit: more wait for the next turn of the reactor.
constexpr std::uint32_t limited_budget = 256;

// Borrowed bytes of an I/O that has to wait, behind this header.
struct KeptBytes {
  iovec iov{};
  const iovec* users_iov = nullptr;
  std::uint32_t users_iov_count = 0;
};

bool meet(std::uint64_t offset, std::uint64_t length, std::uint64_t other_offset, std::uint64_t other_length) {
  return offset < other_offset + other_length && other_offset < offset + length;
}

}  // namespace

bool touches(const BdevIo& io, std::uint64_t offset_blocks, std::uint64_t num_blocks) {
  if (io.op == Op::flush || io.op == Op::reset) return false;
  if (io.op == Op::copy && meet(io.source_offset_blocks, io.num_blocks, offset_blocks, num_blocks)) return true;
  return meet(io.offset_blocks, io.num_blocks, offset_blocks, num_blocks);
}

void Channel::submit_guarded(BdevIo& io) {
  if ((guards_ & guard_watched) != 0) observe_submit(io);
  const Status fitness = validate(io);
  if (fitness != Status::ok) {
    finish(io, fitness);
  } else {
    pass_limits(io);
  }
}

void Channel::pass_limits(BdevIo& io) {
  Core& core = *core_;
  if ((guards_ & guard_limited) == 0 || core.buckets == nullptr || !RateBuckets::counts(io.op)) {
    pass_locks(io);
    return;
  }
  const bool first = core.limited.empty();
  bool reserved = false;
  if (first && !core.running_limited && !core.buckets->anybody_waits()) {
    const std::uint64_t now_ns = thread_.now_ns();
    core.head_start_ns = core.buckets->reserve(io, bdev_.block_size(), now_ns, rate_burst_ns);
    reserved = true;
    if (core.head_start_ns <= now_ns) {
      core.buckets->pay(io, bdev_.block_size(), now_ns);
      pass_locks(io);
      return;
    }
  }
  io.phase = Phase::limited;
  keep_copy(io);
  core.limited.push_back(io);
  if (!first) return;
  core.buckets->begin_waiting();
  if (core.running_limited) return;
  core.let_through_ns = thread_.now_ns();
  core.rate_credit_ns = 0;
  if (reserved) {
    thread_.arm_at(core.limit_timer, std::max(core.head_start_ns, thread_.now_ns() + rate_step_us * ns_per_us));
  } else {
    limit_head();
  }
}

// The first of the queue gets the next turn.
void Channel::limit_head() {
  Core& core = *core_;
  core.head_start_ns = core.buckets->reserve(*core.limited.front(), bdev_.block_size(), thread_.now_ns(), rate_lateness_ns);
  thread_.arm_at(core.limit_timer, std::max(core.head_start_ns, thread_.now_ns() + rate_step_us * ns_per_us));
}

void Channel::limits_due() {
  Core& core = *core_;
  if (core.limited.empty()) return;
  const std::uint64_t now_ns = thread_.now_ns();
  if (now_ns < core.head_start_ns) {
    thread_.arm_at(core.limit_timer, core.head_start_ns);
    return;
  }
  const std::uint32_t block_size = bdev_.block_size();
  const std::shared_ptr<RateBuckets> buckets = core.buckets;
  const std::uint64_t elapsed_ns = now_ns - std::min(now_ns, core.let_through_ns);
  core.rate_credit_ns += static_cast<std::int64_t>(buckets->share_ns(now_ns, elapsed_ns));
  core.let_through_ns = now_ns;
  core.running_limited = true;
  bool more_due = false;
  for (std::uint32_t passed = 1;; ++passed) {
    BdevIo& io = *core.limited.pop_front();
    if (core.limited.empty()) buckets->end_waiting();
    const auto cost_ns = static_cast<std::int64_t>(buckets->cost_ns(io, block_size));
    core.rate_credit_ns = std::max(core.rate_credit_ns - cost_ns, -cost_ns);
    buckets->pay(io, block_size, now_ns);
    pass_locks(io);  // its user may submit the next one within, and change limits or abort
    if (core.limited.empty() || core.buckets != buckets) break;
    if (static_cast<std::int64_t>(buckets->cost_ns(*core.limited.front(), block_size)) > core.rate_credit_ns) break;
    more_due = passed == limited_budget;
    if (more_due) break;
    (void)buckets->reserve(*core.limited.front(), block_size, now_ns, rate_lateness_ns);
  }
  core.running_limited = false;
  if (core.limited.empty() || core.buckets == nullptr) return;
  limit_head();
  if (!more_due || core.buckets != buckets) return;
  core.head_start_ns = now_ns;  // its share is not used up yet
  thread_.arm_at(core.limit_timer, now_ns + rate_step_us * ns_per_us);
}

void Channel::forget_limited(const BdevIo& io) {
  Core& core = *core_;
  if (!core.limited.empty()) return;  // the next one takes over its turn
  core.buckets->end_waiting();
  if (core.running_limited) return;
  core.buckets->refund(io, bdev_.block_size());
  core.limit_timer.disarm();
}

void Channel::apply_limits(std::shared_ptr<RateBuckets> buckets) {
  Core& core = *core_;
  if (core.buckets == buckets) return;
  const bool some_wait = !core.limited.empty();
  if (some_wait) core.buckets->end_waiting();
  core.buckets = std::move(buckets);
  core.limit_timer.disarm();
  set_guard(guard_limited, core.buckets != nullptr);
  core.let_through_ns = thread_.now_ns();
  core.rate_credit_ns = 0;
  if (!some_wait) return;
  if (core.buckets != nullptr) {
    core.buckets->begin_waiting();
    if (!core.running_limited) limit_head();
    return;
  }
  IoList free = core.limited.take();
  while (!free.empty()) pass_locks(*free.pop_front());
}

void Channel::end_all_limited(Status status) {
  Core& core = *core_;
  if (core.limited.empty()) return;
  IoList all = core.limited.take();
  forget_limited(*all.front());
  while (!all.empty()) finish(*all.pop_front(), status);
}

void Channel::pass_locks(BdevIo& io) {
  Core& core = *core_;
  const bool frozen = (guards_ & guard_frozen) != 0 && io.op != Op::reset;
  const bool locked = (guards_ & guard_ranges) != 0 && std::ranges::any_of(core.ranges, [&io](const auto& hold) {
                        return hold->exempt != &io && touches(io, hold->offset_blocks, hold->num_blocks);
                      });
  if (!frozen && !locked) {
    admit(io);
    return;
  }
  io.phase = Phase::held;
  keep_copy(io);
  core.held.push_back(io);
}

void Channel::admit(BdevIo& io) {
  io.phase = Phase::admitted;
  if ((guards_ & guard_queue) != 0 && io.op != Op::reset) {
    queue_back(io);  // no overtaking
  } else {
    dispatch(io);
  }
}

void Channel::keep_copy(BdevIo& io) {
  if (!io.borrowed || (io.notes & BdevIo::note_copy) != 0) return;
  const std::uint64_t bytes = iov_bytes(io.iov, io.iov_count);
  auto* memory = static_cast<std::byte*>(::operator new(sizeof(KeptBytes) + bytes));
  auto* kept = new (memory) KeptBytes;
  kept->users_iov = io.iov;
  kept->users_iov_count = io.iov_count;
  kept->iov = {memory + sizeof(KeptBytes), bytes};
  IovCursor(io.iov, io.iov_count).copy_out(memory + sizeof(KeptBytes), bytes);
  io.iov = &kept->iov;
  io.iov_count = 1;
  io.kept = kept;
  io.notes |= BdevIo::note_copy;
}

void Channel::release_notes(BdevIo& io) {
  if ((io.notes & BdevIo::note_copy) != 0) {
    auto* kept = static_cast<KeptBytes*>(io.kept);
    io.iov = kept->users_iov;
    io.iov_count = kept->users_iov_count;
    ::operator delete(kept);
  }
  if ((io.notes & BdevIo::note_lock) != 0) {
    auto* hold = static_cast<std::shared_ptr<RangeHold>*>(io.kept);
    bdev_.range_locks().unlock(*hold);
    delete hold;
  }
  io.notes = 0;
}

bool Channel::abort(BdevIo& io) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  if (io.channel != this) return false;
  Core& core = *core_;
  switch (io.phase) {
    case Phase::limited:
      if (!core.limited.remove(io)) return false;  // being ended right now
      forget_limited(io);
      finish(io, Status::aborted);
      return true;
    case Phase::held:
      // Either in a queue, or a compare-and-write that waits for its own lock, or a reset in line.
      if (!core.held.remove(io) && !core.releasing.remove(io) && !core.ending.remove(io) && io.op != Op::compare_and_write) return false;
      finish(io, Status::aborted);
      return true;
    case Phase::admitted:
      return io.parted != nullptr ? io.parted->abort() : take_back(io);
    case Phase::outside:
    case Phase::part:
      return false;
  }
  return false;
}

// Of a user's I/O or a part: out of the queue for resources, or out of the module's hands.
bool Channel::take_back(BdevIo& io) {
  if (!core_->queue.remove(io)) return abort_in_module(io);
  set_guard(guard_queue, !core_->queue.empty());
  if (core_->queue.empty()) core_->starved_timer.disarm();
  end(io, Status::aborted);
  return true;
}

void Channel::add_range(const std::shared_ptr<RangeHold>& hold, std::function<void()> clear) {
  core_->ranges.push_back(hold);
  set_guard(guard_ranges, true);
  drain(hold, std::move(clear));
}

void Channel::drop_range(const std::shared_ptr<RangeHold>& hold) {
  std::erase(core_->ranges, hold);
  set_guard(guard_ranges, !core_->ranges.empty());
  release_held();
}

// Calls `drained` when the I/Os that are admitted now, and in the range, are over.
void Channel::drain(const std::shared_ptr<RangeHold>& hold, std::function<void()> drained) {
  Drain wait{hold, 0, std::move(drained)};
  for (std::uint64_t i = 0; i < in_flight_; ++i) {
    const BdevIo& io = *table_[i];
    if (io.phase != Phase::admitted) continue;
    if (hold == nullptr || (hold->exempt != &io && touches(io, hold->offset_blocks, hold->num_blocks))) ++wait.left;
  }
  if (wait.left == 0) {
    wait.drained();
    return;
  }
  core_->drains.push_back(std::move(wait));
  set_observer(observer_drain, true);
}

void Channel::observe_drains(const BdevIo& io) {
  std::vector<std::function<void()>> over;  // run behind the loop: they may begin and end other waits
  std::erase_if(core_->drains, [&](Drain& wait) {
    const RangeHold* hold = wait.hold.get();
    const bool counted = hold == nullptr || (hold->exempt != &io && touches(io, hold->offset_blocks, hold->num_blocks));
    if (!counted || --wait.left > 0) return false;
    over.push_back(std::move(wait.drained));
    return true;
  });
  set_observer(observer_drain, !core_->drains.empty());
  for (const auto& drained : over) drained();
}

// A reset begins: nothing new starts, what can be taken back is.
void Channel::freeze(std::function<void()> drained) {
  Core& core = *core_;
  set_guard(guard_frozen, true);
  end_all_limited(Status::aborted);
  while (!core.held.empty()) core.ending.push_back(*core.held.pop_front());  // what comes meanwhile is held until the thaw
  while (!core.ending.empty()) finish(*core.ending.pop_front(), Status::aborted);
  IoList queue = core.queue.take();
  set_guard(guard_queue, false);
  core.starved_timer.disarm();
  while (!queue.empty()) end(*queue.pop_front(), Status::aborted);
  // From the back: what ends moves the last entry into its place, which was looked at already.
  for (std::uint64_t i = in_flight_; i-- > 0;) {
    if (i >= in_flight_) continue;
    BdevIo& io = *table_[i];
    if (io.phase == Phase::admitted || (io.notes & BdevIo::note_lock) != 0) (void)abort(io);
  }
  drain(nullptr, std::move(drained));
}

void Channel::thaw() {
  set_guard(guard_frozen, false);
  release_held();
}

void Channel::release_held() {
  Core& core = *core_;
  while (!core.held.empty()) core.releasing.push_back(*core.held.pop_front());
  if (core.is_releasing) return;  // from within: the loop below goes on with them
  core.is_releasing = true;
  while (!core.releasing.empty()) pass_locks(*core.releasing.pop_front());
  core.is_releasing = false;
}

void Channel::start_reset(BdevIo& io) {
  io.phase = Phase::held;
  bool first = false;
  {
    const std::lock_guard lock(bdev_.state_->mutex);
    bdev_.state_->resets.push_back(&io);
    first = bdev_.state_->resets.size() == 1;
  }
  if (first) ResetRun::begin(*this, io);
}

}  // namespace catnap::bdev
