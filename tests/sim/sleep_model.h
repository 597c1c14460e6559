// A small world of reactors, threads and foreign senders that do random things to each other, and knows at every step what is due where.
// Owner: the test's OS thread; while it runs, whoever holds the baton of its Interleaving.
// Left out: real time and real CPUs (tests/sim/wake_up_stress_test.cpp).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "reactor/fd_group.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"
#include "tests/sim/interleaving.h"

namespace catnap::sim {

class SleepModel {
 public:
  struct Outcome {
    std::string failure;  // "": none
    std::uint64_t steps = 0;
    std::uint64_t events = 0;
    std::string tail;  // the last steps, one a line
  };

  explicit SleepModel(std::uint64_t seed, std::optional<Step> left_out = {});
  ~SleepModel();
  Outcome run();

 private:
  // What was asked for and has not happened yet.
  struct Sent {
    std::size_t to;
    bool handed_over = false;  // send() has returned: from now on the wake-up is nobody's duty any more
    bool ran = false;
  };
  struct Bell {
    int fd = -1;
    std::size_t thread = 0;
    bool edge = false;
    bool in_child = false;
    bool rung = false;
  };
  struct Actor {
    Thread* thread = nullptr;
    std::unique_ptr<FdGroup> child;
    bool nested = false;
    std::vector<std::unique_ptr<Timer>> timers;
    std::uint64_t earliest_ns = 0;  // of its armed timers; ~0: none
    std::unique_ptr<Deferred> deferred;
    bool deferred_due = false;
    bool end_handed_over = false;
    Poller* poller = nullptr;
    int poller_runs_left = 0;
    bool moving = false;  // asked for, not over
    int modes_being_set = 0;
  };
  struct Arrival {
    std::size_t reactor;
    bool handed_over = false;
    bool ran = false;
  };

  void make_reactors();
  void make_thread(std::size_t index);
  void make_bell(std::size_t thread, bool in_child);
  void sender(std::size_t number);
  void act(std::optional<std::size_t> self);
  void act_as_anybody();
  void act_on_own_thread(std::size_t self);
  void send_message();
  void ring();
  void answer(std::size_t bell);
  void arm(std::size_t self);
  void turn_nesting(std::size_t self);
  void change_mode();
  void change_thread_mode();
  void move_thread();
  void adopt_another();
  void add_busy_poller(std::size_t self);
  std::string check() const;
  std::string check_reactor(std::size_t index) const;
  bool all_done() const;

  Interleaving interleaving_;
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::vector<Actor> threads_;
  std::vector<std::unique_ptr<Sent>> sent_;
  std::vector<Bell> bells_;
  std::vector<std::unique_ptr<Arrival>> arrivals_;
  std::vector<int> modes_being_set_;
  std::vector<bool> stop_asked_;
  std::uint64_t events_ = 0;
  std::uint64_t budget_ = 0;  // what may still be begun
  bool winding_up_ = false;
};

}  // namespace catnap::sim
