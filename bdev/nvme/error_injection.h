// Faults that users inject into the commands of a controller (bdev_nvme_add_error_injection): by opcode, so many times, with a status of their
// choice, and with or without the controller seeing the command.
//
// Owner: any OS thread; a table of atomic words. One that was made stays until its controller goes, so the I/O path looks at a pointer and, while
// something was injected, at one word. Left out: fused pairs, which
// meet nothing; the methods (nvme_injection_rpc.cpp).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "reactor/timer.h"
#include "transport/nvme/status.h"
#include "transport/tcp/host_queue.h"

namespace catnap::bdev {

// What a command meets.
struct InjectedFault {
  bool do_not_submit = false;    // the controller does not see it
  std::uint64_t timeout_us = 0;  // do_not_submit: how long it takes until it fails, up to max_timeout_us
  nvme::Status status;           // success: it only does not reach the controller, or nothing at all
  bool operator==(const InjectedFault&) const = default;
};

class ErrorInjections {
 public:
  // An hour: what is held back longer than that nobody waits for.
  static constexpr std::uint64_t max_timeout_us = 3'600'000'000;

  // The next `count` commands of that opcode meet `fault`. 0: none.
  void set(std::uint8_t opcode, const InjectedFault& fault, std::uint32_t count) {
    Entry& entry = entries_[opcode];
    entry.left.store(0, std::memory_order_relaxed);
    entry.fault.store(packed(fault), std::memory_order_relaxed);
    entry.left.store(count, std::memory_order_release);
  }
  // What this command meets; none: nothing. Counts.
  std::optional<InjectedFault> take(std::uint8_t opcode) {
    Entry& entry = entries_[opcode];
    std::uint32_t left = entry.left.load(std::memory_order_acquire);
    while (left > 0) {
      if (entry.left.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel)) return unpacked(entry.fault.load(std::memory_order_relaxed));
    }
    return std::nullopt;
  }
  std::uint32_t left(std::uint8_t opcode) const { return entries_[opcode].left.load(std::memory_order_relaxed); }

 private:
  // Status field in bits 14:0, do_not_submit in bit 15, timeout_us from bit 16 on.
  static std::uint64_t packed(const InjectedFault& fault) {
    return fault.status.field() | (fault.do_not_submit ? 1U << 15 : 0U) | fault.timeout_us << 16;
  }
  static InjectedFault unpacked(std::uint64_t word) {
    return {(word & 1U << 15) != 0, word >> 16, nvme::Status::from_field(static_cast<std::uint16_t>(word & 0x7FFF))};
  }
  struct Entry {
    std::atomic<std::uint32_t> left{0};
    std::atomic<std::uint64_t> fault{0};
  };
  std::array<Entry, 256> entries_;
};

// Commands that met a fault, on one thread: those that are held back, and those whose answer is replaced.
class FaultyCommands {
 public:
  FaultyCommands();
  ~FaultyCommands();  // nothing is held
  FaultyCommands(const FaultyCommands&) = delete;
  FaultyCommands& operator=(const FaultyCommands&) = delete;

  // Before a command (no fused pair) is submitted. True: it is held, and must not be.
  bool meet(ErrorInjections& injections, tcp::HostRequest& request);
  // A held command ends as not_sent. False: it is not held here.
  bool take_back(tcp::HostRequest& request);

 private:
  struct Held;
  void end(Held& held);
  std::vector<std::unique_ptr<Held>> held_;
};

}  // namespace catnap::bdev
