// A few OS threads for calls that may block (open, fsync, DNS, buffered pread): the loops themselves never block.
// Owner: Runtime; submit() from any OS thread. Results come back as messages.
// Left out: priorities, cancelling a call that runs.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "reactor/thread.h"

namespace catnap {

class WorkerPool {
 public:
  // 4: enough that one stuck device does not hold up another's open; each costs only a stack while asleep.
  static constexpr std::size_t default_workers = 4;

  explicit WorkerPool(std::size_t workers = default_workers);
  ~WorkerPool();  // finishes what was submitted
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Runs `work` on a worker.
  void submit(std::move_only_function<void()> work);
  // Runs `work` on a worker, then `done(result)` as a message on `reply_to`.
  template <typename Work, typename Done>
  void submit(Thread& reply_to, Work work, Done done) {
    submit([&reply_to, work = std::move(work), done = std::move(done)]() mutable {
      auto result = work();
      reply_to.send([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
    });
  }

 private:
  void loop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::move_only_function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace catnap
