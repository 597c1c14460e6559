// See range_lock.h.
#include "bdev/range_lock.h"

#include <algorithm>

#include "bdev/core_state.h"
#include "reactor/thread.h"

namespace catnap::bdev {
namespace {

bool overlap(const RangeHold& one, const RangeHold& other) {
  return one.offset_blocks < other.offset_blocks + other.num_blocks && other.offset_blocks < one.offset_blocks + one.num_blocks;
}

}  // namespace

// Nobody who asked earlier wants some of the same blocks.
bool RangeLocks::may_install_locked(const RangeHold& hold) const {
  for (const auto& earlier : bdev_.state_->ranges) {
    if (earlier.get() == &hold) return true;
    if (overlap(*earlier, hold)) return false;
  }
  return true;
}

std::shared_ptr<RangeHold> RangeLocks::lock(std::uint64_t offset_blocks, std::uint64_t num_blocks, const BdevIo* exempt,
                                            std::function<void()> granted) {
  auto hold = std::make_shared<RangeHold>();
  hold->offset_blocks = offset_blocks;
  hold->num_blocks = num_blocks;
  hold->exempt = exempt;
  hold->thread = Thread::current();
  hold->granted = std::move(granted);
  {
    const std::lock_guard lock(bdev_.state_->mutex);
    bdev_.state_->ranges.push_back(hold);
    if (!may_install_locked(*hold)) return hold;
    hold->installed = true;  // channels that come from now on know it from the start
  }
  install(hold);
  return hold;
}

// On every thread that has a channel: new I/Os wait, old ones are waited for.
void RangeLocks::install(const std::shared_ptr<RangeHold>& hold) {
  std::vector<Thread*> threads;
  {
    const std::lock_guard lock(bdev_.state_->mutex);
    threads = bdev_.channel_threads_locked();
  }
  hold->waiting.store(static_cast<std::uint32_t>(threads.size()) + 1, std::memory_order_relaxed);
  for (Thread* thread : threads) {
    auto here = [this, hold, bdev = bdev_.shared_from_this()] { install_here(hold); };
    if (!thread->run_or_send(std::move(here))) cleared(hold);
  }
  cleared(hold);
}

void RangeLocks::install_here(const std::shared_ptr<RangeHold>& hold) {
  Channel* channel = bdev_.channel_of_current_thread();
  if (channel == nullptr) {
    cleared(hold);
  } else {
    channel->add_range(hold, [this, hold] { cleared(hold); });
  }
}

void RangeLocks::cleared(const std::shared_ptr<RangeHold>& hold) {
  if (hold->waiting.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  hold->thread->run_or_send([this, hold, bdev = bdev_.shared_from_this()] { grant(hold); });
}

void RangeLocks::grant(const std::shared_ptr<RangeHold>& hold) {
  if (hold->given_up) {
    remove(hold);
    return;
  }
  hold->is_granted = true;
  hold->granted();
}

void RangeLocks::unlock(const std::shared_ptr<RangeHold>& hold) {
  hold->given_up = true;
  if (hold->is_granted) {
    remove(hold);
    return;
  }
  {
    const std::lock_guard lock(bdev_.state_->mutex);
    if (hold->installed) return;  // the grant is on its way and finds it given up
  }
  remove(hold);
}

void RangeLocks::remove(const std::shared_ptr<RangeHold>& hold) {
  std::vector<Thread*> threads;
  std::vector<std::shared_ptr<RangeHold>> next;
  {
    auto& state = *bdev_.state_;
    const std::lock_guard lock(state.mutex);
    std::erase(state.ranges, hold);
    if (hold->installed) threads = bdev_.channel_threads_locked();
    for (const auto& waiting : state.ranges) {
      if (waiting->installed || !may_install_locked(*waiting)) continue;
      waiting->installed = true;
      next.push_back(waiting);
    }
  }
  // The next one first: what waits for this one and overlaps that one as well goes on waiting, and does not slip in between.
  for (const auto& waiting : next) install(waiting);
  for (Thread* thread : threads) {
    thread->run_or_send([this, hold, bdev = bdev_.shared_from_this()] {
      if (Channel* channel = bdev_.channel_of_current_thread(); channel != nullptr) channel->drop_range(hold);
    });
  }
}

}  // namespace catnap::bdev
