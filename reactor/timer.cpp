// A binary heap of timers with the index kept in each timer, so that disarming is O(log n). See timer.h.
#include "reactor/timer.h"

#include "reactor/base/check.h"
#include "reactor/stall_watch.h"

namespace catnap {

void Timer::disarm() {
  if (heap_ != nullptr) heap_->disarm(*this);
}

TimerHeap::~TimerHeap() {
  for (Timer* timer : heap_) timer->heap_ = nullptr;
}

void TimerHeap::put(std::size_t index, Timer* timer) {
  heap_[index] = timer;
  timer->index_ = index;
}

void TimerHeap::sift_up(std::size_t index) {
  Timer* moving = heap_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (heap_[parent]->deadline_ns_ <= moving->deadline_ns_) break;
    put(index, heap_[parent]);
    index = parent;
  }
  put(index, moving);
}

void TimerHeap::sift_down(std::size_t index) {
  Timer* moving = heap_[index];
  for (;;) {
    std::size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->deadline_ns_ < heap_[child]->deadline_ns_) ++child;
    if (moving->deadline_ns_ <= heap_[child]->deadline_ns_) break;
    put(index, heap_[child]);
    index = child;
  }
  put(index, moving);
}

void TimerHeap::arm(Timer& timer, std::uint64_t deadline_ns) {
  CATNAP_CHECK(timer.heap_ == nullptr || timer.heap_ == this);
  timer.deadline_ns_ = deadline_ns;
  if (timer.heap_ == nullptr) {
    timer.heap_ = this;
    heap_.push_back(&timer);
    timer.index_ = heap_.size() - 1;
  } else {
    sift_down(timer.index_);
  }
  sift_up(timer.index_);
}

void TimerHeap::disarm(Timer& timer) {
  CATNAP_CHECK(timer.heap_ == this);
  timer.heap_ = nullptr;
  Timer* last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  put(timer.index_, last);
  sift_down(last->index_);
  sift_up(last->index_);
}

std::size_t TimerHeap::fire_due(std::uint64_t now_ns) {
  // The size now bounds the loop: a timer that re-arms itself for a time already past runs once per call, not for ever.
  std::size_t fired = 0;
  for (std::size_t left = heap_.size(); left > 0 && nearest_ns() <= now_ns; --left) {
    Timer* due = heap_.front();
    disarm(*due);
    due->fire_();
    StallWatch::ended(StallWatch::Kind::timer);
    ++fired;
  }
  return fired;
}

}  // namespace catnap
