// See spin_lock.h.
#include "reactor/spin_lock.h"

#include <sched.h>

#include <cstdio>
#include <cstdlib>

#include "reactor/base/check.h"

namespace catnap {
namespace {

// The holder may have lost its CPU: after about 2 µs of looking, let others run.
constexpr int looks_before_yield = 64;

thread_local const char* held_name = nullptr;
thread_local int held_count = 0;
// Its address tells OS threads apart, without a system call.
thread_local char identity;

}  // namespace

void SpinLock::lock() {
  CATNAP_CHECK(holder_.load(std::memory_order_relaxed) != &identity);
  for (int looks = 1;; ++looks) {
    const void* nobody = nullptr;
    if (holder_.compare_exchange_weak(nobody, &identity, std::memory_order_acquire, std::memory_order_relaxed)) break;
    if (looks % looks_before_yield == 0) {
      sched_yield();
    } else {
      __builtin_ia32_pause();
    }
  }
  held_name = name_;
  ++held_count;
}

void SpinLock::unlock() {
  CATNAP_CHECK(holder_.load(std::memory_order_relaxed) == &identity);
  --held_count;
  holder_.store(nullptr, std::memory_order_release);
}

void SpinLock::check_none_held(const char* callback) {
  if (held_count == 0) return;
  std::fprintf(stderr, "spin lock '%s' is still held after a callback (%s)\n", held_name, callback);
  std::abort();
}

}  // namespace catnap
