// The way from startup to runtime (lifecycle.h).
// Owner: app_thread. Left out: the RPCs (framework_rpc.cpp).
#include "rpc/lifecycle.h"

#include <utility>

namespace catnap::rpc {

bool Lifecycle::allows(Phase phase) const {
  switch (phase) {
    case Phase::startup_only:
      return state_ == State::startup;
    case Phase::runtime_only:
      return state_ == State::runtime;
    case Phase::always:
      return true;
  }
  return false;
}

Task<Result<void>> Lifecycle::start() {
  if (state_ == State::initialising) co_return fail(EALREADY, "the framework is being initialised already");
  if (state_ == State::runtime) co_return fail(EALREADY, "the framework is initialised already");
  state_ = State::initialising;
  Result<void> outcome = co_await initialise_();
  state_ = outcome ? State::runtime : State::startup;
  if (outcome) {
    for (const Promise<bool>& waiter : std::exchange(waiting_, {})) waiter.set(true);
  }
  co_return outcome;
}

Task<Result<void>> Lifecycle::wait() {
  if (state_ != State::runtime) {
    Promise<bool> initialised;
    waiting_.push_back(initialised);
    const bool done = co_await initialised;
    if (!done) co_return fail(ECANCELED, "the process is ending");
  }
  co_return Result<void>();
}

void Lifecycle::end() {
  for (const Promise<bool>& waiter : std::exchange(waiting_, {})) waiter.set(false);
}

}  // namespace catnap::rpc
