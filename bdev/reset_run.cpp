// See reset_run.h.
#include "bdev/reset_run.h"

#include "bdev/core_state.h"
#include "reactor/base/check.h"
#include "reactor/thread.h"

namespace catnap::bdev {

void ResetRun::begin(Channel& channel, BdevIo& whole) { (new ResetRun(channel, whole))->freeze_all(); }

void ResetRun::freeze_all() {
  Bdev& bdev = channel_.bdev();
  std::vector<Thread*> threads;
  {
    const std::lock_guard lock(bdev.state_->mutex);
    bdev.state_->frozen = true;  // channels that come from now on are frozen from the start
    threads = bdev.channel_threads_locked();
  }
  waiting_.store(static_cast<std::uint32_t>(threads.size()) + 1, std::memory_order_relaxed);
  for (Thread* thread : threads) {
    auto here = [this, &bdev, keep = bdev.shared_from_this()] {
      if (Channel* channel = bdev.channel_of_current_thread(); channel != nullptr) {
        channel->freeze([this] { drained(); });
      } else {
        drained();
      }
    };
    if (!thread->run_or_send(std::move(here))) drained();
  }
  drained();
}

void ResetRun::drained() {
  if (waiting_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  // By message also when the last one was here: the caller may be in the middle of this channel's completions.
  channel_.thread().send([this] { execute(); });
}

void ResetRun::execute() {
  whole_.phase = Phase::admitted;
  prepare(part_, Op::reset);
  dispatch(part_);
}

void ResetRun::part_done(BdevIo&, Status status) {
  thaw_all();
  end_whole(status);
}

void ResetRun::thaw_all() {
  Bdev& bdev = channel_.bdev();
  std::vector<Thread*> threads;
  BdevIo* next = nullptr;
  {
    auto& state = *bdev.state_;
    const std::lock_guard lock(state.mutex);
    CATNAP_CHECK(!state.resets.empty() && state.resets.front() == &whole_);
    state.resets.erase(state.resets.begin());
    if (!state.resets.empty()) next = state.resets.front();
    state.frozen = false;
    threads = bdev.channel_threads_locked();
  }
  for (Thread* thread : threads) {
    thread->send([&bdev, keep = bdev.shared_from_this()] {
      if (Channel* channel = bdev.channel_of_current_thread(); channel != nullptr) channel->thaw();
    });
  }
  if (next != nullptr) next->channel->thread().send([next] { begin(*next->channel, *next); });
}

}  // namespace catnap::bdev
