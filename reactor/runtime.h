// All OS threads of a process: the control thread (app_thread), the data reactors, the worker pool.
// Owner: main(). start() and stop() are called by main's OS thread only; the accessors are safe from any OS thread while it runs.
// Left out: what the threads do; signal handling (server/main).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/cpumask.h"
#include "reactor/reactor.h"
#include "reactor/worker_pool.h"

namespace catnap {

struct RuntimeOptions {
  CpuMask cpumask;  // empty: one reactor on the first CPU this process may use
  ReactorMode mode = ReactorMode::adaptive;
  std::uint64_t max_spin_us = ReactorOptions{}.max_spin_us;
  std::size_t buffer_cap_bytes = ReactorOptions{}.buffer_cap_bytes;
};

class Runtime {
 public:
  // Errors: EINVAL (a CPU of the mask is not there or not allowed, named).
  static Result<std::unique_ptr<Runtime>> start(RuntimeOptions options);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // The process's runtime, for modules that have no other way to it; null before start().
  static Runtime* instance();

  // Runs `main_function` as the first message of app_thread, then blocks until request_stop() and until all threads have exited.
  void run(Message main_function);
  void request_stop();

  Thread& app_thread() { return *app_thread_; }
  Reactor& control() const { return *control_; }
  std::vector<Reactor*> reactors() const;  // data reactors, by lcore
  // The loops' own threads (Reactor::loop()), the control thread's first.
  std::vector<Thread*> loops() const;
  // Every lightweight thread there is now, app_thread first.
  std::vector<Thread*> threads() const;
  WorkerPool& workers() { return *workers_; }

  // Runs `visit` on every lightweight thread that exists now, each on itself, then `done` on the calling one (must be a lightweight thread).
  // A thread that exits meanwhile counts as visited.
  void for_each_thread(std::function<void(Thread&)> visit, Message done);

  // A new lightweight thread on the given reactor, which may run on the CPUs of `cpumask` (none given: on this one). `name` need not be unique, ids
  // are.
  Thread& create_thread(Reactor& reactor, std::string name, std::optional<CpuMask> cpumask = std::nullopt);
  // Null: no data reactor runs there.
  Reactor* reactor_on(unsigned cpu) const;

 private:
  explicit Runtime(RuntimeOptions options);
  RuntimeOptions options_;
  std::unique_ptr<WorkerPool> workers_;
  std::unique_ptr<Reactor> control_;
  Thread* app_thread_ = nullptr;
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::vector<std::thread> os_threads_;
};

}  // namespace catnap
