// Places threads on reactors: static leaves them where they were made, dynamic moves them by load (dynamic_scheduler.h).
//
// Dynamic measures once a period, but only while something is busy: at rest it has no timer, and asks each reactor to say when it has been busy for
// load_limit percent within one period. Reactors tell by one comparison at the end of turns that did something.
//
// Owner: app_thread. Left out: CPU frequencies; changing the mode of a reactor (never done behind the user's back).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "reactor/dynamic_scheduler.h"
#include "reactor/runtime.h"

namespace catnap {

class Scheduler : public std::enable_shared_from_this<Scheduler> {
 public:
  static constexpr std::uint64_t default_period_us = 1'000'000;  // SPDK's
  static std::shared_ptr<Scheduler> make(Runtime& runtime);

  void use_static();
  void use_dynamic(std::uint64_t period_us, DynamicOptions options);
  bool dynamic() const { return policy_ != nullptr; }
  std::uint64_t period_us() const { return period_us_; }
  void set_period_us(std::uint64_t period_us);
  const DynamicOptions& options() const { return options_; }

  // Errors: EINVAL naming the parameter (SPDK's names): no reactor there, isolated itself.
  Result<void> set_cores(unsigned scheduling_core, CpuMask isolated);
  unsigned scheduling_core() const { return scheduling_core_; }
  const CpuMask& isolated_cores() const { return isolated_; }

  // Measuring now; false at rest, when nothing of it wakes anybody.
  bool active() const { return poller_ != nullptr; }
  std::uint64_t moves() const { return moves_; }  // ordered so far

 private:
  explicit Scheduler(Runtime& runtime);
  void start();
  void rest();
  int period_over();
  std::vector<ThreadLoad> measure(std::vector<CoreLoad>& cores);

  Runtime& runtime_;
  std::uint64_t period_us_ = default_period_us;
  DynamicOptions options_;
  std::unique_ptr<DynamicPolicy> policy_;  // null: static
  unsigned scheduling_core_ = 0;
  CpuMask isolated_;
  Poller* poller_ = nullptr;
  std::uint64_t moves_ = 0;
  std::uint64_t measured_ns_ = 0;
  std::map<std::uint64_t, std::uint64_t> thread_busy_ns_;  // at the last measurement, by thread id
  std::map<const Reactor*, std::uint64_t> reactor_busy_ns_;
};

}  // namespace catnap
