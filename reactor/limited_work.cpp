// See limited_work.h.
#include "reactor/limited_work.h"

#include <utility>

namespace catnap {

void LimitedWork::submit(WorkerPool& pool, std::move_only_function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    line_.push_back(std::move(work));
    if (running_ == most_) return;
    ++running_;
  }
  pool.submit([this] { run(); });
}

// On a worker: as long as there is something in line.
void LimitedWork::run() {
  std::unique_lock lock(mutex_);
  while (!line_.empty()) {
    auto work = std::move(line_.front());
    line_.pop_front();
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
  }
  --running_;
}

std::size_t LimitedWork::outstanding() const {
  const std::lock_guard lock(mutex_);
  return line_.size() + running_;
}

}  // namespace catnap
