// Work that runs later on the same thread, without allocation: one of the four forms of work of the sleep contract (docs/architecture.md).
// Owner: the thread whose list it is queued on. Left out: cancelling from another thread.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>

#include "reactor/base/check.h"

namespace catnap {

// An intrusive entry of a thread's ready list (runs next turn, forbids sleeping until then) or turn-end list (runs at the end of this turn).
// Queue it through Thread::make_ready() or Thread::at_turn_end(); queueing a queued entry does nothing. Destroying a queued entry takes it off.
class Deferred {
 public:
  explicit Deferred(std::function<void()> run) : run_(std::move(run)) {}
  ~Deferred() { cancel(); }
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;

  bool queued() const { return previous_ != nullptr; }
  void cancel() {
    if (previous_ == nullptr) return;
    previous_->next_ = next_;
    next_->previous_ = previous_;
    previous_ = next_ = nullptr;
  }

 private:
  friend class DeferredList;
  Deferred() = default;  // a list's head

  Deferred* previous_ = nullptr;
  Deferred* next_ = nullptr;
  std::function<void()> run_;
};

// First in, first out; owned by one thread.
class DeferredList {
 public:
  DeferredList() { head_.previous_ = head_.next_ = &head_; }
  ~DeferredList() {
    while (!empty()) head_.next_->cancel();
    head_.previous_ = head_.next_ = nullptr;
  }
  DeferredList(const DeferredList&) = delete;
  DeferredList& operator=(const DeferredList&) = delete;

  bool empty() const { return head_.next_ == &head_; }
  // Nothing is queued behind it.
  bool ends_with(const Deferred& entry) const { return head_.previous_ == &entry; }
  void push(Deferred& entry) {
    if (entry.queued()) return;
    entry.previous_ = head_.previous_;
    entry.next_ = &head_;
    head_.previous_->next_ = &entry;
    head_.previous_ = &entry;
  }
  // Runs what is queued now; what these queue in turn stays for the next call. Returns how many ran.
  std::size_t run_once() {
    if (empty()) return 0;
    DeferredList batch;
    batch.take(*this);
    std::size_t ran = 0;
    while (!batch.empty()) {
      batch.pop()();
      ++ran;
    }
    return ran;
  }

 private:
  void take(DeferredList& from) {
    CATNAP_DCHECK(empty());
    if (from.empty()) return;
    head_.next_ = from.head_.next_;
    head_.previous_ = from.head_.previous_;
    head_.next_->previous_ = &head_;
    head_.previous_->next_ = &head_;
    from.head_.previous_ = from.head_.next_ = &from.head_;
  }
  // Takes the first entry off and returns its function by reference: the entry may requeue itself, or die, within its own run.
  std::function<void()>& pop() {
    Deferred* first = head_.next_;
    first->cancel();
    return first->run_;
  }

  Deferred head_;
};

}  // namespace catnap
