// A bdev that reaches its disk over something that may be lost and found again (a connection, a cable): what stands on it tells by a number whether
// the disk may have lost what was not flushed, or may be another one.
// Owner: the bdev counts on any thread; readers on any thread; watchers on app_thread. Left out: what follows from a new association (raid1 leaves
// the member out and rebuilds what may be lost; plain users see what a disk with a volatile cache shows after a loss of power).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "reactor/thread.h"

namespace catnap::bdev {

// Beside Bdev, as a base class of bdevs that have associations.
class Associated {
 public:
  // Counted up before an I/O of the new association is answered.
  std::uint64_t associations() const { return associations_.load(std::memory_order_acquire); }
  // Calls `made` on app_thread, by message, each time the disk has been found again, until the token dies. On app_thread.
  std::shared_ptr<void> watch_associations(std::function<void()> made) {
    auto watcher = std::make_shared<std::function<void()>>(std::move(made));
    std::erase_if(watchers_, [](const auto& each) { return each.expired(); });
    watchers_.push_back(watcher);
    return watcher;
  }

 protected:
  ~Associated() = default;
  void count_association() { associations_.fetch_add(1, std::memory_order_acq_rel); }
  // I/O is possible again. On app_thread.
  void tell_of_association() {
    for (const auto& each : watchers_) {
      Thread::current()->send([each] {
        if (const auto alive = each.lock()) (*alive)();
      });
    }
  }

 private:
  std::atomic<std::uint64_t> associations_{0};
  std::vector<std::weak_ptr<std::function<void()>>> watchers_;
};

}  // namespace catnap::bdev
