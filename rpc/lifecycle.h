// From start to service: whether startup_only or runtime_only methods may be called, and who waits for the change (--wait-for-rpc).
// Owner: app_thread. Left out: what initialising does (main() gives it in).
#pragma once

#include <functional>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/task.h"
#include "rpc/method.h"

namespace catnap::rpc {

class Lifecycle {
 public:
  enum class State : std::uint8_t { startup, initialising, runtime };
  // Brings the subsystems up; a failure leaves the state at startup, so that it can be tried again.
  using Initialise = std::function<Task<Result<void>>()>;

  explicit Lifecycle(Initialise initialise) : initialise_(std::move(initialise)) {}
  Lifecycle(const Lifecycle&) = delete;
  Lifecycle& operator=(const Lifecycle&) = delete;

  State state() const { return state_; }
  // May a method of this phase be called now? While initialising nothing of either phase may; `always` may at any time.
  bool allows(Phase phase) const;

  // Runs `initialise` (once: EALREADY after or during that). main() calls it unless --wait-for-rpc was given, framework_start_init does else.
  Task<Result<void>> start();
  // Returns once the state is runtime. Error: ECANCELED, the process ends instead.
  Task<Result<void>> wait();
  // The process ends: who waits gets ECANCELED.
  void end();

 private:
  Initialise initialise_;
  State state_ = State::startup;
  std::vector<Promise<bool>> waiting_;
};

}  // namespace catnap::rpc
