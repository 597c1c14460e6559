// What the queues of one controller share across poll groups: a few flags, counters and the error log.
// Owner: shared; any OS thread (atomics, or a mutex off the I/O path). Left out: everything else about a controller (its admin queue's thread).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "server/error_log.h"
#include "server/keep_alive.h"

namespace catnap::server {

// Counters of one I/O queue, written by its thread alone.
struct IoCounters {
  std::atomic<std::uint64_t> read_commands{0}, write_commands{0}, bytes_read{0}, bytes_written{0};
  std::atomic<std::uint64_t> busy_ns{0};  // some I/O of this queue was with a block device

  static void add(std::atomic<std::uint64_t>& counter, std::uint64_t amount) {
    counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
};

class ControllerShared {
 public:
  // Ready and not shut down: I/O queues may connect and commands are carried out. With io_queues, a handshake: who connects a queue counts it first
  // and looks at this flag then, who ends the queues clears this flag first and looks at the count then.
  std::atomic<bool> accepting_io{false};
  std::atomic<std::uint32_t> io_queues{0};
  std::atomic<std::uint32_t> granted_io_queues{0};
  KeepAlive keep_alive;
  ErrorLog errors;
  // Commands that ended because the medium lost or refused data (SMART, Media and Data Integrity Errors).
  std::atomic<std::uint64_t> media_errors{0};
  // Command retry delay index (CRD) for what the host may try again; 0 while it has not enabled advanced command retry, or no delay is configured.
  std::atomic<std::uint8_t> retry_delay_index{0};

  struct Totals {
    std::uint64_t read_commands = 0, write_commands = 0, bytes_read = 0, bytes_written = 0;
    std::uint64_t busy_ns = 0;  // of the busiest queue: queues are busy side by side, so the controller was at least that long
  };

  std::shared_ptr<IoCounters> add_queue() {
    auto counters = std::make_shared<IoCounters>();
    const std::lock_guard lock(mutex_);
    queues_.push_back(counters);
    return counters;
  }
  void remove_queue(const std::shared_ptr<IoCounters>& counters) {
    const std::lock_guard lock(mutex_);
    add(past_, *counters);
    std::erase(queues_, counters);
  }
  Totals totals() const {
    const std::lock_guard lock(mutex_);
    Totals sum = past_;
    for (const auto& queue : queues_) add(sum, *queue);
    return sum;
  }

 private:
  static void add(Totals& sum, const IoCounters& counters) {
    sum.read_commands += counters.read_commands.load(std::memory_order_relaxed);
    sum.write_commands += counters.write_commands.load(std::memory_order_relaxed);
    sum.bytes_read += counters.bytes_read.load(std::memory_order_relaxed);
    sum.bytes_written += counters.bytes_written.load(std::memory_order_relaxed);
    sum.busy_ns = std::max(sum.busy_ns, counters.busy_ns.load(std::memory_order_relaxed));
  }

  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<IoCounters>> queues_;
  Totals past_;
};

}  // namespace catnap::server
