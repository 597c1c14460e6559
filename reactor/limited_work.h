// Work of one kind on the worker pool, a few at a time, so that a crowd that asks for it (handshakes, authentications) leaves workers for the rest of
// the process. First come, first served.
// Owner: whoever declares it; submit() from any OS thread. Left out: cancelling, and bounds of the line, which the users' own limits are.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>

#include "reactor/worker_pool.h"

namespace catnap {

class LimitedWork {
 public:
  explicit LimitedWork(std::size_t most) : most_(most) {}
  LimitedWork(const LimitedWork&) = delete;
  LimitedWork& operator=(const LimitedWork&) = delete;

  // Runs `work` on a worker of `pool`, or of the pool that the work before it was given. Must outlive what was submitted.
  void submit(WorkerPool& pool, std::move_only_function<void()> work);
  // Waiting and running.
  std::size_t outstanding() const;

 private:
  void run();

  const std::size_t most_;
  mutable std::mutex mutex_;
  std::size_t running_ = 0;
  std::deque<std::move_only_function<void()>> line_;
};

}  // namespace catnap
