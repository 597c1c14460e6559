// How long an adaptive reactor keeps looking for work before it sleeps: grows while looking pays, falls to 0 when it does not.
// Whether it pays at all where the time between two commands costs more CPU to look through than to sleep through is found out by trial
// (spin_trial.h). Owner: its reactor. Left out: clocks and system calls (the reactor measures and tells), so that it is tested with numbers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "reactor/spin_trial.h"

namespace catnap {

class SpinTuner {
 public:
  // Somebody else had the CPU for so long: a time slice.
  static constexpr std::uint64_t slice_ns = 1'000'000;

  explicit SpinTuner(std::uint64_t max_spin_ns) : max_ns_(max_spin_ns), budget_ns_(max_spin_ns / 4) {}

  struct Idle {
    std::uint64_t gap_ns = 0;     // from the end of the last work to the next work
    std::uint64_t spun_ns = 0;    // of which looking
    std::uint64_t slept_ns = 0;   // of which asleep; 0: looking found it
    bool preempted = false;       // the kernel took the CPU away while looking, or for a slice while working
    std::uint64_t stolen_ns = 0;  // then: for how long at most, at one time
    std::uint64_t progress = 0;   // commands that this reactor has done since it began
  };

  // Budget for the idle time that begins now.
  std::uint64_t budget_ns(std::uint64_t now_ns) const { return now_ns < pause_until_ns_ || !trial_.looking() ? 0 : budget_ns_; }

  const SpinTrial& trial() const { return trial_; }

  void learn(const Idle& idle, std::uint64_t now_ns) {
    const bool looked = trial_.looking();
    const bool lost_slice = idle.preempted && idle.stolen_ns >= slice_ns;
    trial_.learn({now_ns, idle.gap_ns, idle.progress, max_ns_, lost_slice || now_ns < pause_until_ns_});
    if (lost_slice) return pause_for_slice(idle.stolen_ns, now_ns);
    if (idle.preempted) {
      preempted_score_ += weight_of_a_preemption;
      if (preempted_score_ >= preempted_limit) pause(now_ns);
      return;  // the gap says nothing about the work
    }
    preempted_score_ = std::max(0, preempted_score_ - 1);
    if (!looked) return;  // how long to look is learned by looking
    if (idle.slept_ns == 0) {
      peer_shares_cpu_score_ = 0;
      vain_score_ = std::max(0, vain_score_ - worth_of_a_find);
      pause_ns_ = first_pause_ns;
      grow(idle.gap_ns);
      return;
    }
    if (idle.spun_ns > 0 && ++vain_score_ >= vain_limit) return pause(now_ns);
    if (idle.gap_ns > max_ns_ + idle.spun_ns) {
      budget_ns_ = budget_ns_ / 2 < floor_ns ? 0 : budget_ns_ / 2;
      return;
    }
    // Looked in vain, then work came as soon as the CPU was free: who sends it waits for this CPU.
    if (idle.spun_ns > 0 && idle.slept_ns < soon_ns && ++peer_shares_cpu_score_ >= peer_shares_cpu_limit) return pause(now_ns);
    grow(idle.gap_ns);
  }

  std::uint64_t max_ns() const { return max_ns_; }
  // What was learned stays, as far as the new bound allows.
  void set_max_ns(std::uint64_t max_ns) {
    max_ns_ = max_ns;
    budget_ns_ = std::min(budget_ns_, max_ns);
  }

 private:
  // Below this a look costs about as much as one epoll_wait and finds nothing that the next would not.
  static constexpr std::uint64_t floor_ns = 1'000;
  // A sleep that ends this soon ended because the sender got the CPU (a cross-CPU wake-up alone takes 25 µs or more).
  static constexpr std::uint64_t soon_ns = 20'000;
  static constexpr int peer_shares_cpu_limit = 3;
  // Looking must pay now and then, whatever the gaps are: a sender on this CPU that works on a batch for longer than `soon_ns` never gets to send
  // while this thread looks, and the gaps are as long as the looking makes them. A find is worth this many looks in vain.
  static constexpr int vain_limit = 16;
  static constexpr int worth_of_a_find = 4;
  // The kernel's own work takes the CPU for some microseconds now and then; who shares it takes it again and again. So one preemption in 16 idle
  // times is nothing, four in a row are enough.
  static constexpr int weight_of_a_preemption = 16;
  static constexpr int preempted_limit = 64;
  // The CPU was gone for `slice_ns`: others run there for whole time slices, or a cgroup quota is used up, which costs the rest of its period.
  // Finding work by looking says nothing against that, since it is the looking that uses the quota up. So this pause is long against what was lost,
  // doubles when it happens again soon, and is forgotten only with time.
  static constexpr std::uint64_t slice_pause_factor = 16;
  static constexpr std::uint64_t longest_slice_pause_ns = 10'000'000'000;
  static constexpr std::uint64_t forgotten_after_pauses = 8;
  // Pauses double up to a bound, so that a wrong guess costs little and a right one is asked again rarely.
  static constexpr std::uint64_t first_pause_ns = 10'000'000;
  static constexpr std::uint64_t longest_pause_ns = 1'000'000'000;

  void grow(std::uint64_t gap_ns) { budget_ns_ = std::min(max_ns_, std::max(budget_ns_, 2 * gap_ns)); }
  void pause(std::uint64_t now_ns) {
    pause_until_ns_ = now_ns + pause_ns_;
    pause_ns_ = std::min(2 * pause_ns_, longest_pause_ns);
    peer_shares_cpu_score_ = vain_score_ = preempted_score_ = 0;
  }

  void pause_for_slice(std::uint64_t stolen_ns, std::uint64_t now_ns) {
    const bool again = slice_pause_ns_ != 0 && now_ns < pause_until_ns_ + forgotten_after_pauses * slice_pause_ns_;
    slice_pause_ns_ = std::min(std::max(again ? 2 * slice_pause_ns_ : 0, slice_pause_factor * stolen_ns), longest_slice_pause_ns);
    pause_until_ns_ = now_ns + slice_pause_ns_;
    peer_shares_cpu_score_ = 0;
  }

  SpinTrial trial_;
  std::uint64_t max_ns_;
  std::uint64_t budget_ns_;
  std::uint64_t slice_pause_ns_ = 0;  // the last one
  std::uint64_t pause_until_ns_ = 0;
  std::uint64_t pause_ns_ = first_pause_ns;
  int peer_shares_cpu_score_ = 0;
  int vain_score_ = 0;
  int preempted_score_ = 0;
};

}  // namespace catnap
