// Block devices: what a module implements (Bdev, Channel) and what its users submit (BdevIo).
// Owner: a Bdev's configuration belongs to app_thread; a Channel and its BdevIos belong to the lightweight thread that got the channel.
// Left out: QoS and stacking policies (later layers), partitions.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/thread.h"
#include "transport/command_sink.h"

namespace catnap::bdev {

enum class Op : std::uint8_t { read, write, flush, unmap, write_zeroes, compare, reset };
inline constexpr std::size_t op_count = 7;
std::string_view op_name(Op op);  // SPDK's io type names: "read", "write", "unmap", "flush", "reset", "compare", "write_zeroes"

// How an I/O ended. One function of the server turns these into NVMe status.
enum class Status : std::uint8_t {
  ok,
  no_memory,        // module out of resources: the core queues and retries; never seen by users
  out_of_range,     // LBA range beyond the end
  not_supported,
  compare_failed,
  write_error,      // EIO and friends on the way to the medium
  read_error,
  no_space,         // ENOSPC behind the block device
  removed,          // hot-removed under way
  aborted,
  invalid,          // a broken request (zero blocks, wrong alignment)
};
std::string_view status_name(Status status);
Status status_from_errno(int errno_value, Op op);

class Channel;
class Bdev;

// One I/O in flight. Lives in its user's memory (an NVMe request's sink_context); must stay put until `done` ran.
// Fill op, offsets, iov, done, context; then Channel::submit(). `done` runs on the channel's thread, possibly within submit().
struct BdevIo {
  using Done = void (*)(BdevIo& io);

  Op op = Op::read;
  bool fua = false;               // write, write_zeroes: durable before done (Force Unit Access)
  Status status = Status::ok;     // valid in done
  std::uint8_t retries = 0;       // core's
  std::uint32_t iov_count = 0;
  std::uint64_t offset_blocks = 0;
  std::uint64_t num_blocks = 0;   // 0 only for flush (whole device) and reset
  const iovec* iov = nullptr;     // read: filled; write, compare: source. The array and its memory outlive the I/O.
  // read only: when set, a module that lends memory may answer with `lease` instead of filling iov (iov may then be null).
  bool accepts_lease = false;
  transport::Lease lease;
  Done done = nullptr;
  void* context = nullptr;        // user's
  Channel* channel = nullptr;     // core's
  BdevIo* next = nullptr;         // core's (queues)
  std::uint64_t start_ns = 0;     // core's (latency); turn time
};
static_assert(sizeof(BdevIo) <= 112, "must fit a request's sink_context beside the server's own fields");

// Per-channel counters, summed over channels by bdev_get_iostat; written by the owner, read by others (relaxed).
struct IoStats {
  std::uint64_t ops[op_count] = {};
  std::uint64_t bytes[op_count] = {};
  std::uint64_t latency_ns[op_count] = {};
  std::uint64_t max_latency_ns[op_count] = {};
  std::uint64_t min_latency_ns[op_count] = {};
  std::uint64_t errors[op_count] = {};
};

// What a bdev is; immutable but for size (resize) while registered.
struct BdevInfo {
  std::string name;
  std::vector<std::string> aliases;
  std::string uuid;          // 36 characters, lower case; never empty once registered
  std::string product_name;  // "Malloc disk", "Null disk", "AIO disk", "URING bdev"
  std::uint32_t block_size = 512;      // bytes; power of two ≥ 512
  std::uint32_t physical_block_size = 512;
  std::uint64_t num_blocks = 0;
  bool write_cache = false;  // flush has something to do (NVMe VWC)
  bool lends_reads = false;
  // The module is done with write and compare data when submit() returns (it copied it): the caller may reuse the bytes although done runs later.
  bool consumes_inline = false;
  std::uint32_t buffer_alignment = 1;  // bytes; O_DIRECT modules need the logical block size
  std::uint32_t optimal_io_boundary_blocks = 0;
};

// A bdev as seen from one lightweight thread. Reference-counted by ChannelRef; one per (bdev, thread).
// The public part (submit) is the core's: bounds, splitting at max sizes, NoMem queue, statistics, recursion guard. Modules implement execute().
class Channel {
 public:
  virtual ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Validates and starts the I/O. Every submitted I/O gets its done exactly once.
  void submit(BdevIo& io);
  Bdev& bdev() const { return bdev_; }
  Thread& thread() const { return thread_; }
  std::uint64_t in_flight() const { return in_flight_; }
  IoStats stats() const;  // any OS thread

 protected:
  Channel(Bdev& bdev, Thread& thread);
  // Starts one valid I/O: complete(io, status) now or later, on this thread. Status::no_memory puts it in the core's queue, to be tried again
  // when an I/O of this channel completes (or retry_queued() is called).
  virtual void execute(BdevIo& io) = 0;
  void complete(BdevIo& io, Status status);
  void retry_queued();

 private:
  friend class Bdev;
  friend class ChannelRef;
  struct Counters;

  Bdev& bdev_;
  Thread& thread_;
  std::uint32_t references_ = 0;
  std::uint32_t depth_ = 0;
  std::uint64_t in_flight_ = 0;
  BdevIo* queued_first_ = nullptr;
  BdevIo* queued_last_ = nullptr;
  std::unique_ptr<Counters> counters_;
};

// Holds a channel of the current thread.
class ChannelRef {
 public:
  ChannelRef() = default;
  explicit ChannelRef(Channel* channel);
  ChannelRef(ChannelRef&& other) noexcept;
  ChannelRef& operator=(ChannelRef&& other) noexcept;
  ~ChannelRef();
  Channel* operator->() const { return channel_; }
  Channel* get() const { return channel_; }
  explicit operator bool() const { return channel_ != nullptr; }

 private:
  Channel* channel_ = nullptr;
};

// What happened to a bdev while somebody has it open; delivered on app_thread.
enum class Event : std::uint8_t {
  removed,  // no new I/O will be accepted soon: release every channel, then the descriptor; the delete RPC waits for that
  resized,
};

class Bdev : public std::enable_shared_from_this<Bdev> {
 public:
  explicit Bdev(BdevInfo info);
  virtual ~Bdev();
  Bdev(const Bdev&) = delete;
  Bdev& operator=(const Bdev&) = delete;

  const std::string& name() const { return info_.name; }
  const BdevInfo& info() const { return info_; }
  std::uint32_t block_size() const { return info_.block_size; }
  std::uint64_t num_blocks() const { return num_blocks_.load(std::memory_order_relaxed); }  // any OS thread
  virtual bool supports(Op op) const = 0;
  // The channel of the current thread, made when there is none. Errors: what the module's create_channel says (ENOMEM, EMFILE…).
  Result<ChannelRef> get_channel();
  // Sum over all channels, past ones included. Any OS thread.
  IoStats stats() const;
  void reset_stats();
  // The module's entry of driver_specific in bdev_get_bdevs, as a JSON text ("{}": nothing to say). On app_thread.
  virtual std::string driver_specific_json() const { return "{}"; }
  // The method and parameters (JSON text) that would create it again, for framework_get_config. On app_thread.
  virtual std::string config_json() const = 0;
  // Frees the module's resources (files); `done` on app_thread. Called once by the registry when no descriptor and no channel is left.
  virtual void destroy(std::move_only_function<void()> done) { done(); }

 protected:
  virtual Result<std::unique_ptr<Channel>> create_channel(Thread& thread) = 0;
  // On app_thread: publishes a new size and tells every opener.
  void set_num_blocks(std::uint64_t num_blocks);

 private:
  friend class Registry;
  friend class Channel;
  friend class ChannelRef;
  struct State;

  BdevInfo info_;
  std::atomic<std::uint64_t> num_blocks_;
  std::unique_ptr<State> state_;
};

// An open bdev: keeps it from being freed and receives its events. Lives on app_thread.
class Descriptor {
 public:
  ~Descriptor();
  Bdev& bdev() const { return *bdev_; }

 private:
  friend class Registry;
  Descriptor(std::shared_ptr<Bdev> bdev, std::string opener, bool writable, std::function<void(Event)> on_event);
  std::shared_ptr<Bdev> bdev_;
  std::string opener_;
  bool claims_write_;
  std::function<void(Event)> on_event_;
};

// All bdevs of the process. Everything on app_thread.
class Registry {
 public:
  static Registry& instance();

  // Errors: EEXIST (name, alias or uuid taken, named), EINVAL (empty name, block size).
  Result<void> add(std::shared_ptr<Bdev> bdev);
  // By name, alias or UUID; null when there is none.
  std::shared_ptr<Bdev> find(std::string_view name_or_uuid) const;
  std::vector<std::shared_ptr<Bdev>> all() const;
  // Errors: ENODEV; EBUSY when `writable` and somebody else (named) claims it for writing exclusively. `opener` is shown in errors and bdev_get_bdevs ("NVMe-oF Target").
  // Several descriptors of one opener name may share a claim.
  Result<std::unique_ptr<Descriptor>> open(std::string_view name, std::string opener, bool writable, std::function<void(Event)> on_event);
  // Marks it removed (no new opens, find() no longer sees it), tells openers, waits until they are gone, destroys it, then done on app_thread.
  // Errors: ENODEV.
  void remove(std::string_view name, std::move_only_function<void(Result<void>)> done);
  // The name of who claims the bdev for writing; empty when nobody does.
  std::string claimed_by(const Bdev& bdev) const;

 private:
  friend class Descriptor;
  friend class Bdev;
  Registry();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace catnap::bdev
