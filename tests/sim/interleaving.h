// Runs several OS threads one at a time, in an order chosen by a seed at every step of the sleep protocol, under a virtual clock and a virtual wait:
// what a real machine shows once in a million runs comes by itself here, and comes again with the same seed.
// Owner: the test's OS thread; actors touch it only while they hold the baton, which makes everything of the model single-threaded.
// Left out: memory that two CPUs see in different orders (ThreadSanitizer and wake_up_stress_test look for that).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "reactor/base/sim_point.h"
#include "reactor/clock.h"

namespace catnap::sim {

class Interleaving {
 public:
  explicit Interleaving(std::uint64_t seed) : random_(seed) {}
  Interleaving(const Interleaving&) = delete;
  Interleaving& operator=(const Interleaving&) = delete;

  void add_actor(std::string name, std::function<void()> run);
  // Asked at every step: a sentence when the state is wrong, which ends the run.
  void check_with(std::function<std::string()> check) { check_ = std::move(check); }
  void leave_out(Step step) { left_out_ = step; }
  // Until all actors have returned, or the check failed: then waits end at once, and over() tells the actors to leave.
  void run();

  bool over() const { return over_; }
  const std::string& failure() const { return failure_; }  // "": none
  std::uint64_t steps() const { return steps_; }
  // One word per step, for telling two runs apart and for reading what led to a failure.
  const std::vector<std::string>& trace() const { return trace_; }
  void note(std::string text);

  VirtualClock& clock() { return clock_; }
  const VirtualClock& clock() const { return clock_; }
  std::uint64_t choose(std::uint64_t below) { return random_() % below; }

  // Is this actor in its wait, with nothing that would end it now?
  bool waits(std::size_t actor) const;
  // Has an actor taken a wake-up upon itself that it has not written yet?
  bool wake_up_under_way() const;
  // Is an actor in the middle of making something known that another reactor has to be woken for?
  bool sending_under_way() const;

  // From the actors, by the functions of sim_point.h.
  void at_point(Point point);
  bool is_left_out(Step step) const { return left_out_ == step && !over_; }
  void wait(int epoll_fd, std::int64_t timeout_ns);
  static Interleaving* current();

 private:
  enum class State : std::uint8_t { runnable, waiting, done };
  struct Actor {
    std::string name;
    std::function<void()> run;
    State state = State::runnable;
    Point last = Point::turn_ended;
    int epoll_fd = -1;
    std::uint64_t until_ns = 0;
    std::binary_semaphore baton{0};
    std::thread os_thread;
  };

  bool can_go_on(const Actor& actor) const;
  void fail(std::string what);
  // Gives the baton to whom the seed chooses, and returns when it is this actor's again (`self` null: when all are done).
  void hand_over(Actor* self);
  Actor* choose_next();

  std::mt19937_64 random_;
  VirtualClock clock_;
  std::vector<std::unique_ptr<Actor>> actors_;
  std::function<std::string()> check_;
  std::optional<Step> left_out_;
  std::binary_semaphore all_done_{0};
  bool over_ = false;
  std::string failure_;
  std::uint64_t steps_ = 0;
  std::vector<std::string> trace_;
};

}  // namespace catnap::sim
