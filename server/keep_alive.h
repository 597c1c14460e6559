// How long a controller still listens to its host: the moment from which nothing of this association is carried out any more.
//
// A host that hears nothing gives the association up, repeats elsewhere what was outstanding, and after the keep-alive time goes on as if this
// controller were dead (NVMe Base 2.1, section 9.6). So a target that was stopped or starved must not carry out what it then finds in its sockets,
// not even what would prove that the host was alive: queues ask over() before each command, and count it only then. What is over stays over. With
// commands of I/O queues (traffic based keep alive, Base 2.0 section 3.9) the end moves on by whole limits: after the last command the association
// lasts for one limit at least and for two at most.
//
// Owner: none; any OS thread (two atomic numbers and a flag). Left out: who ends the connections, and the timer (controller.h).
#pragma once

#include <atomic>
#include <cstdint>

namespace catnap::server {

class KeepAlive {
 public:
  static constexpr std::uint64_t never_ns = ~std::uint64_t{0};

  // Counts anew from `now_ns`, with this limit; 0: none. Without effect when it is over. The admin queue's thread.
  void start(std::uint64_t now_ns, std::uint64_t limit_ns) {
    limit_ns_.store(limit_ns, std::memory_order_relaxed);
    move_on(limit_ns == 0 ? never_ns : now_ns + limit_ns);
  }
  // A command on the admin queue. False: too late. The admin queue's thread.
  bool heard(std::uint64_t now_ns) {
    if (over(now_ns)) return false;
    const std::uint64_t limit_ns = limit_ns_.load(std::memory_order_relaxed);
    if (limit_ns != 0) move_on(now_ns + limit_ns);
    return true;
  }
  // A command on an I/O queue that found it not over. Writes only when the flag is down: queues on several CPUs do not fight for the line.
  void note_traffic() {
    if (!traffic_.load(std::memory_order_relaxed)) traffic_.store(true, std::memory_order_relaxed);
  }
  bool over(std::uint64_t now_ns) {
    if (now_ns < end_ns_.load(std::memory_order_relaxed)) [[likely]]
      return false;
    return !extended(now_ns);
  }
  // When it ends unless something comes; never_ns: it does not. 0: it is over.
  std::uint64_t end_ns() const { return end_ns_.load(std::memory_order_relaxed); }

 private:
  void move_on(std::uint64_t to_ns) {
    std::uint64_t end_ns = end_ns_.load(std::memory_order_relaxed);
    while (end_ns != 0 && !end_ns_.compare_exchange_weak(end_ns, to_ns, std::memory_order_relaxed)) {
    }
  }
  // The end has come: whatever was heard on I/O queues came before it, so it moves on by one limit.
  bool extended(std::uint64_t now_ns) {
    std::uint64_t end_ns = end_ns_.load(std::memory_order_relaxed);
    while (now_ns >= end_ns) {
      if (end_ns == 0) return false;
      const bool more = traffic_.exchange(false, std::memory_order_relaxed);
      const std::uint64_t next_ns = more ? end_ns + limit_ns_.load(std::memory_order_relaxed) : 0;
      // Who else moves it on meanwhile has seen what this one has: nothing is lost.
      if (end_ns_.compare_exchange_strong(end_ns, next_ns, std::memory_order_relaxed)) end_ns = next_ns;
    }
    return true;
  }

  std::atomic<std::uint64_t> end_ns_{never_ns};
  std::atomic<std::uint64_t> limit_ns_{0};
  std::atomic<bool> traffic_{false};
};

}  // namespace catnap::server
