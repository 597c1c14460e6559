// Wakes one sequence that waits for something to change; a call while nobody waits is remembered once.
// Owner: one thread. Left out: several waiters.
#pragma once

#include <optional>
#include <utility>

#include "reactor/task.h"

namespace catnap::bdev {

class WakeUp {
 public:
  void call() {
    if (!waiter_) {
      called_ = true;
      return;
    }
    const Promise<bool> waiter = *std::exchange(waiter_, std::nullopt);
    waiter.set(true);
  }
  // To be named, then awaited.
  Promise<bool> wait() {
    Promise<bool> promise;
    if (std::exchange(called_, false)) {
      promise.set(true);
    } else {
      waiter_ = promise;
    }
    return promise;
  }

 private:
  bool called_ = false;
  std::optional<Promise<bool>> waiter_;
};

}  // namespace catnap::bdev
