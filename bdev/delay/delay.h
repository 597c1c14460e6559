// The delay bdev: answers later than its base does, to see how hosts and tools bear a slow disk.
//
// An I/O goes to the base at once; its answer is kept for the latency that holds at that moment, 99 of 100 for the average and one for the p99,
// chosen at random. Reads (compare, verify) have one pair of latencies, writes (compare and write, copy) the other; flush, unmap, write zeroes and
// reset are as fast as the base, as in SPDK. A deadline exists only while an answer is kept. Abort and reset take kept answers out; the base may have
// done what was asked all the same.
//
// Owner: a DelayBdev belongs to app_thread, its channels to their threads. Left out: limits of throughput (QoS has them).
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "bdev/stack/virtual_bdev.h"
#include "bdev/stack/virtual_bdevs.h"

namespace catnap::bdev {

// In microseconds. Set on app_thread, read on every channel's thread.
struct DelayLatencies {
  enum Kind : std::uint8_t { avg_read, p99_read, avg_write, p99_write };
  static constexpr std::array<const char*, 4> names = {"avg_read", "p99_read", "avg_write", "p99_write"};
  // One day: more than any time-out in use, and far below what overflows nanoseconds.
  static constexpr std::uint64_t max_us = 86'400'000'000;

  std::array<std::atomic<std::uint64_t>, 4> us{};
};

struct DelayOptions {
  DelayOptions() : latencies(std::make_shared<DelayLatencies>()) {}
  std::string name;
  std::string base_bdev_name;
  std::string uuid;  // empty: made from the base's
  // Shared with the bdev: changing them changes it, also one that waits for its base.
  std::shared_ptr<DelayLatencies> latencies;
};

class DelayBdev final : public VirtualBdev {
 public:
  static constexpr const char* product = "delay";

  // Over that base, which it claims; not yet registered. Errors: VirtualBdev::claim_base()'s.
  static Result<std::shared_ptr<DelayBdev>> create(const DelayOptions& options, const std::shared_ptr<Bdev>& base);
  static VirtualRecipe recipe(DelayOptions options);

  DelayLatencies& latencies() const { return *latencies_; }
  std::string driver_specific_json() const override;

 private:
  DelayBdev(BdevInfo info, std::shared_ptr<StackedBase> base, std::shared_ptr<DelayLatencies> latencies)
      : VirtualBdev(std::move(info), std::move(base)), latencies_(std::move(latencies)) {}
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;

  std::shared_ptr<DelayLatencies> latencies_;
};

}  // namespace catnap::bdev
