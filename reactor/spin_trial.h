// Does looking for work make a difference to those who send it? Asked by trial: short slices with and without looking, in turn, and who got more
// done.
//
// A host that waits for each answer sends the next command the sooner, the sooner this one is seen: looking then pays in commands per second. One
// that sends at a rate of its own does not send more because somebody looks, so that the time between two of its commands, all of it looked through,
// buys nothing but a few microseconds: several times the CPU that sleeping takes.
//
// Owner: the tuner of one reactor. Left out: clocks, and what progress is (the reactor tells), so that it is tested with numbers.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace catnap {

class SpinTrial {
 public:
  // Gaps shorter than this are looked through without asking: sleeping would cost as much.
  static constexpr std::uint64_t cheap_gap_ns = 5'000;
  // Each slice is long enough for hundreds of commands at the rates in question, and for twenty gaps of the longest kind.
  static constexpr std::uint64_t shortest_slice_ns = 2'000'000;
  static constexpr std::uint64_t gaps_in_slice = 20;
  static constexpr int slices_of_each = 5;
  // Looking pays if it gets at least a tenth more done. Less is within the noise of five slices.
  static constexpr std::uint64_t more_percent = 110;
  // Half as much again is clear after the first slices, and spares the host that waits for each answer the rest of the trial.
  static constexpr std::uint64_t clearly_more_percent = 150;
  // Between trials: doubling while the answer stays the same. Asked rarely where looking pays, as that costs some of its speed (10 ms of it in 3.2
  // s); more often where it does not, as that costs only a little CPU.
  static constexpr std::uint64_t first_rest_ns = 50'000'000;
  static constexpr std::uint64_t longest_rest_looking_ns = 3'200'000'000;
  static constexpr std::uint64_t longest_rest_sleeping_ns = 400'000'000;

  static constexpr std::uint64_t usual_gaps = 4;

  struct Seen {
    std::uint64_t now_ns = 0;
    std::uint64_t gap_ns = 0;    // the idle time that has just ended
    std::uint64_t progress = 0;  // commands done since the beginning of time
    std::uint64_t max_ns = 0;    // the longest look there may be
    bool disturbed = false;      // somebody else had the CPU, or looking is forbidden for now
  };

  // Is it worth looking now?
  bool looking() const { return mean_gap_ns_ <= cheap_gap_ns || (running_ ? slice_ % 2 == 0 : pays_); }
  bool pays() const { return pays_; }
  std::uint64_t trials() const { return trials_; }

  void learn(const Seen& seen) {
    // Gaps of such times are not this load's, nor those of looking: neither the mean nor what was found out about it changes.
    if (seen.disturbed) return put_off(seen.now_ns);
    // A moving mean that a few late commands do not make another load: each counts as a few usual gaps at most.
    const std::uint64_t usual_ns = std::min(usual_gaps * mean_gap_ns_ + cheap_gap_ns, usual_gaps * seen.max_ns);
    mean_gap_ns_ = (63 * mean_gap_ns_ + std::min(seen.gap_ns, usual_ns)) / 64;
    // Cheap gaps are always looked through, and those far beyond the longest look never: nothing to find out.
    if (mean_gap_ns_ <= cheap_gap_ns || mean_gap_ns_ > 2 * seen.max_ns) {
      running_ = false;
      return;
    }
    if (running_) return go_on(seen);
    if (is_another_load() || seen.now_ns >= last_ns_ + rest_ns_) begin(seen);
  }

 private:
  struct Slice {
    std::uint64_t took_ns = 0;
    std::uint64_t progress = 0;
    std::uint64_t mean_gap_ns = 0;  // at its end
  };

  void put_off(std::uint64_t now_ns) {
    running_ = false;
    last_ns_ = now_ns;
    rest_ns_ = std::max(rest_ns_, first_rest_ns);
  }

  // Than the one that was judged.
  bool is_another_load() const { return mean_gap_ns_ > 2 * judged_gap_ns_ || 2 * mean_gap_ns_ < judged_gap_ns_; }

  void begin(const Seen& seen) {
    running_ = true;
    slice_ = 0;
    begin_slice(seen);
  }

  void begin_slice(const Seen& seen) {
    began_ns_ = seen.now_ns;
    began_progress_ = seen.progress;
  }

  void go_on(const Seen& seen) {
    const std::uint64_t slice_ns = std::max(shortest_slice_ns, gaps_in_slice * seen.max_ns);
    const std::uint64_t took_ns = seen.now_ns - began_ns_;
    if (took_ns < slice_ns) return;
    if (took_ns > 2 * slice_ns) {  // the load stopped meanwhile
      judged_gap_ns_ = mean_gap_ns_;
      return put_off(seen.now_ns);
    }
    slices_[slice_] = {took_ns, seen.progress - began_progress_, mean_gap_ns_};
    begin_slice(seen);
    ++slice_;
    if (slice_ == 2 && is_more(slices_[0], slices_[1], clearly_more_percent)) return decide(true, seen.now_ns);
    if (slice_ == slices_.size()) decide(is_more(best_of(0), best_of(1), more_percent), seen.now_ns);
  }

  // Rates compared without dividing: times are below 2^36 ns and progress below 2^20.
  static bool is_more(const Slice& one, const Slice& other, std::uint64_t percent) {
    return one.progress * other.took_ns * 100 >= other.progress * one.took_ns * percent;
  }

  // Commands of the slices of one kind and the time they took, without the slice that did worst: one moment that the machine lost must not decide.
  Slice best_of(std::size_t kind) const {
    Slice sum;
    Slice worst = slices_[kind];
    for (std::size_t i = kind; i < slices_.size(); i += 2) {
      sum.took_ns += slices_[i].took_ns;
      sum.progress += slices_[i].progress;
      if (is_more(worst, slices_[i], 100)) worst = slices_[i];
    }
    return {sum.took_ns - worst.took_ns, sum.progress - worst.progress, 0};
  }

  void decide(bool pays, std::uint64_t now_ns) {
    // Gaps are longer where each ends with a wake-up: from now on they are as they were in the slices that decided.
    mean_gap_ns_ = slices_[pays ? 0 : 1].mean_gap_ns;
    const bool as_before = pays == pays_ && rest_ns_ != 0 && !is_another_load();
    rest_ns_ = as_before ? std::min(2 * rest_ns_, pays ? longest_rest_looking_ns : longest_rest_sleeping_ns) : first_rest_ns;
    pays_ = pays;
    running_ = false;
    ++trials_;
    last_ns_ = now_ns;
    judged_gap_ns_ = mean_gap_ns_;
  }

  bool pays_ = true;
  bool running_ = false;
  std::size_t slice_ = 0;  // even: looking, odd: sleeping
  std::array<Slice, 2 * slices_of_each> slices_{};
  std::uint64_t began_ns_ = 0;
  std::uint64_t began_progress_ = 0;
  std::uint64_t last_ns_ = 0;  // the end of the last trial, or of what put it off
  std::uint64_t rest_ns_ = 0;
  std::uint64_t mean_gap_ns_ = 0;
  std::uint64_t judged_gap_ns_ = 0;
  std::uint64_t trials_ = 0;
};

}  // namespace catnap
