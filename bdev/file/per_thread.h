// One shared object per lightweight thread (an aio context), made with the first channel that needs it, gone with the last.
// Owner: the map is used from any thread, under its lock; the objects belong to their threads. Left out: finding objects of other threads.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "reactor/base/error.h"
#include "reactor/thread.h"

namespace catnap::bdev {

// T::create(Thread&, unsigned entries) -> Result<std::shared_ptr<T>>. Objects of different sizes do not mix.
template <typename T>
class PerThread {
 public:
  Result<std::shared_ptr<T>> get(Thread& thread, unsigned entries) {
    const std::lock_guard lock(mutex_);
    std::erase_if(objects_, [](const auto& entry) { return entry.second.expired(); });
    if (const auto found = objects_.find({thread.id(), entries}); found != objects_.end()) {
      if (auto object = found->second.lock()) return object;
    }
    auto created = T::create(thread, entries);
    if (created) objects_[{thread.id(), entries}] = *created;
    return created;
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<std::uint64_t, unsigned>, std::weak_ptr<T>> objects_;  // by thread id (never reused) and size
};

}  // namespace catnap::bdev
