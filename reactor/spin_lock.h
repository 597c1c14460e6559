// A lock for the few places where two reactors touch the same words for a moment: held within one callback, never across it.
// Owner: whoever holds it. Left out: fairness, recursion (a second lock by the holder stops the process), sleeping.
#pragma once

#include <atomic>
#include <cstdint>

namespace catnap {

class SpinLock {
 public:
  explicit SpinLock(const char* name) : name_(name) {}  // the name must outlive the lock
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

  // Stops the process when the calling OS thread holds this lock already.
  void lock();
  // Stops the process when the calling OS thread does not hold it.
  void unlock();
  // Stops the process, naming the lock and `callback`, when the calling OS thread still holds one: the loops call it after every callback.
  static void check_none_held(const char* callback);

 private:
  const char* name_;
  std::atomic<const void*> holder_{nullptr};
};

}  // namespace catnap
