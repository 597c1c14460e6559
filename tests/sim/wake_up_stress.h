// Four reactors on OS threads of their own, and foreign senders, who keep a changing number of events going: messages, eventfds, pipes, timers, ready
// work, nesting and unnesting, mode switches, moves. An observer looks for the state that a lost wake-up is: the same wait twice, with work that is
// due. Owner: the test's OS thread, which observes; events run on the threads of the reactors. Left out: every interleaving (sleep_model.h has
// those); here are real CPUs, their memory, and the kernel's wait.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "reactor/fd_group.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"

namespace catnap::sim {

class WakeUpStress {
 public:
  static constexpr std::size_t reactor_count = 4;
  static constexpr std::size_t thread_count = 8;
  static constexpr std::size_t sender_count = 2;

  struct Report {
    std::string lost;  // "": no wake-up was
    std::uint64_t events = 0;
    std::uint64_t samples = 0;
    std::uint64_t suspects = 0;  // seen once with work due: a wake-up that was under way
    std::uint64_t sleeps = 0;
    std::uint64_t mode_switches = 0;
    std::uint64_t nestings = 0;
    std::uint64_t moves = 0;
    std::uint64_t left = 0;  // events that never came
    // From the moment at which something was due until it ran. Wall time: shows how busy the machine was as well.
    std::uint64_t worst_message_ns = 0, worst_fd_ns = 0, worst_timer_ns = 0;
  };

  explicit WakeUpStress(std::uint64_t seed);
  ~WakeUpStress();
  // Until `events` have happened, or a wake-up was lost.
  Report run(std::uint64_t events);

 private:
  enum class BellKind : std::uint8_t { level_eventfd, edge_eventfd, pipe, in_child };
  static constexpr std::array bell_kinds{BellKind::level_eventfd, BellKind::edge_eventfd, BellKind::pipe, BellKind::in_child};
  struct Bell {
    BellKind kind;
    int read_fd = -1;
    int write_fd = -1;
    std::atomic<bool> rung{false};
    std::atomic<std::uint64_t> rung_ns{0};
  };
  struct Worker {
    Thread* thread = nullptr;
    std::mt19937 random;
    std::unique_ptr<FdGroup> child;
    bool nested = false;
    std::vector<std::unique_ptr<Bell>> bells;
    std::unique_ptr<Timer> timer;
    bool timer_token = false;
    std::unique_ptr<Deferred> deferred;
    std::uint64_t worst_message_ns = 0, worst_fd_ns = 0, worst_timer_ns = 0;  // its own, read when all is over
  };
  // Odd while an OS thread is within an operation on another's reactor: what it has begun, it still has to finish.
  struct alignas(64) Epoch {
    std::atomic<std::uint64_t> value{0};
  };
  class Operation;

  void make_worker(std::size_t index);
  void make_bell(Worker& worker, BellKind kind);
  void event(Worker& worker);
  void go_on(std::mt19937& random, Worker* self);
  bool go_on_alone(std::mt19937& random, Worker& self);
  void send_message(std::size_t to);
  void ring(std::size_t to, std::size_t bell);
  void switch_mode(std::mt19937& random);
  void move(std::size_t which, std::size_t to);
  void sender(std::size_t number);
  void observe();
  bool is_due(std::size_t reactor, const Reactor::WaitState& state, std::string& what) const;
  void confirm(std::size_t reactor, const Reactor::WaitState& first, const std::string& what);
  void wait_for_operations_under_way() const;
  std::uint64_t happened() const;

  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::vector<std::thread> os_threads_;
  std::array<Worker, thread_count> workers_;
  std::array<Epoch, reactor_count + sender_count> epochs_;
  std::array<Epoch, thread_count> counts_;
  std::atomic<std::int64_t> under_way_{0};
  std::atomic<std::int64_t> wanted_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> mode_switches_{0}, nestings_{0}, moves_{0};
  std::vector<std::thread> senders_;
  std::uint64_t seed_;
  Report report_;
};

}  // namespace catnap::sim
