// The error bdev: fails, corrupts, holds up or starves I/O of its base as it is told, to see what hosts and tools make of it.
//
// One injection per kind of I/O: what to do, for how many I/Os, from which queue depth on, and for which blocks. Everything else is handed down.
// Nothing is lent and nothing consumed inline, since both would hide the data that is to be corrupted, or held up.
//
// Owner: an ErrorBdev belongs to app_thread, its channels to their threads; the injections are shared under a mutex, which the path of an
// I/O takes only while one is set. Left out: saving injections in the configuration (they are an experiment, and count down).
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "bdev/stack/virtual_bdev.h"
#include "bdev/stack/virtual_bdevs.h"

namespace catnap::bdev {

enum class Fault : std::uint8_t {
  failure,       // ends with `status`
  corrupt_data,  // one byte of what is read or written is another
  pending,       // held back, not even handed down, until resumed, aborted or reset
  nomem,         // the module is out of resources: the core tries again
};

struct Injection {
  Fault fault = Fault::failure;
  std::uint32_t count = 0;                 // I/Os that it still meets
  std::uint64_t queue_depth = 0;           // other I/Os of the channel in flight, at which it begins
  std::uint64_t corrupt_offset_bytes = 0;  // from the I/O's first byte; beyond its end nothing is changed
  std::uint8_t corrupt_value = 0;          // what the byte is combined with by XOR
  std::uint64_t offset_blocks = 0;         // only I/O that touches these blocks
  std::uint64_t num_blocks = 0;            // 0: all
  std::optional<Status> status;            // of failure; none: read or write error, as fits
};

// What is set for each kind of I/O. Any OS thread.
class Injections {
 public:
  // Replaces what was set for `op`; count 0 takes it away.
  void set(Op op, const Injection& injection);
  void clear();
  // Whether this I/O is met, and then what by; counts it. `in_flight`: others on its channel.
  std::optional<Injection> meets(const BdevIo& io, std::uint64_t in_flight);
  bool any() const { return any_.load(std::memory_order_relaxed); }

 private:
  void update_any();

  mutable std::mutex mutex_;
  std::array<Injection, op_count> by_op_;
  std::atomic<bool> any_{false};
};

struct ErrorOptions {
  ErrorOptions() = default;
  std::string base_name;  // the bdev is called EE_ and this
  std::string uuid;       // empty: made from the base's
};

class ErrorBdev final : public VirtualBdev {
 public:
  static constexpr const char* product = "Error Injection Disk";
  static std::string name_for(std::string_view base_name) { return "EE_" + std::string(base_name); }

  // Over that base, which it claims; not yet registered. Errors: VirtualBdev::claim_base()'s.
  static Result<std::shared_ptr<ErrorBdev>> create(const ErrorOptions& options, const std::shared_ptr<Bdev>& base);
  static VirtualRecipe recipe(ErrorOptions options);

  Injections& injections() { return injections_; }
  // Lets go on what is held back now, on all channels; then `done` on app_thread.
  void resume_pending(std::move_only_function<void()> done);
  std::string driver_specific_json() const override;

 private:
  using VirtualBdev::VirtualBdev;
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;

  Injections injections_;
};

}  // namespace catnap::bdev
