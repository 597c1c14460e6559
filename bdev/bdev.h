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
  no_memory,     // module out of resources: the core queues and retries; never seen by users
  out_of_range,  // LBA range beyond the end
  not_supported,
  compare_failed,
  write_error,  // EIO and friends on the way to the medium
  read_error,
  no_space,  // ENOSPC behind the block device
  removed,   // hot-removed under way
  aborted,
  invalid,  // a broken request (zero blocks, wrong alignment)
};
std::string_view status_name(Status status);
Status status_from_errno(int errno_value, Op op);

class Channel;
class Bdev;
class StagedIo;

// One I/O in flight. Lives in its user's memory (an NVMe request's sink_context); must stay put until `done` ran.
// Fill op, offsets, iov, done, context; then Channel::submit(). `done` runs on the channel's thread, possibly within submit().
struct BdevIo {
  using Done = void (*)(BdevIo& io);

  Op op = Op::read;
  bool fua = false;            // write, write_zeroes: durable before done (Force Unit Access)
  Status status = Status::ok;  // valid in done
  std::uint8_t retries = 0;    // core's: how often the module was out of resources for it (stops at 255)
  std::uint32_t iov_count = 0;
  std::uint64_t offset_blocks = 0;
  std::uint64_t num_blocks = 0;  // 0 only for flush (whole device) and reset
  const iovec* iov = nullptr;    // read: filled; write, compare: source. The array and its memory outlive the I/O.
  // read only: when set, a module that lends memory may answer with `lease` instead of filling iov (iov may then be null).
  bool accepts_lease = false;
  transport::Lease lease;
  Done done = nullptr;
  void* context = nullptr;     // user's
  Channel* channel = nullptr;  // core's
  BdevIo* next = nullptr;      // core's (queues)
  std::uint64_t start_ns = 0;  // core's (latency); turn time
  StagedIo* staged = nullptr;  // core's: set in the parts of an I/O that runs through a buffer of the core
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
  std::string uuid;                // 36 characters, lower case; never empty once registered
  std::string product_name;        // "Malloc disk", "Null disk", "AIO disk", "URING bdev"
  std::uint32_t block_size = 512;  // bytes; power of two ≥ 512
  std::uint32_t physical_block_size = 512;
  std::uint64_t num_blocks = 0;    // at creation; Bdev::num_blocks() follows a resize
  bool write_cache = false;        // flush has something to do (NVMe VWC)
  bool unmap_reads_zeroes = true;  // what a read of deallocated blocks gives: zeroes, or nothing one may rely on (NVMe DLFEAT)
  bool lends_reads = false;
  // The module is done with write and compare data when submit() returns (it copied it): the caller may reuse the bytes although done runs later.
  bool consumes_inline = false;
  // bytes, power of two; O_DIRECT modules need up to the logical block size. The core moves what is not aligned through buffers of its own.
  std::uint32_t buffer_alignment = 1;
  std::uint32_t optimal_io_boundary_blocks = 0;
  // Compare, or write zeroes, is carried out by the core with reads, or writes; the module does not see them. supports() says true all the same.
  bool core_compares = false;
  bool core_writes_zeroes = false;
};

// Completions that run within one another on one OS thread's stack before the next ones go through the ready list. Each level is the user's done
// and the module's execute(), under 1 KiB together: 16 stay far from any stack's end and lose no measurable time.
inline constexpr std::uint32_t max_completion_depth = 16;

// How long the core waits before it asks a module again that is out of resources while none of the channel's I/O is under way (no completion
// will come to say that something is free). Rare: the kernel itself is short of memory then.
inline constexpr std::uint64_t starved_retry_us = 1000;

// A bdev as seen from one lightweight thread. Reference-counted by ChannelRef; one per (bdev, thread). Ends on its thread, by a message, when the
// last reference and the last I/O are gone.
// The public part (submit) is the core's: validation, buffers for unaligned I/O, NoMem queue, statistics, recursion guard. Modules implement
// execute().
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
  // For modules whose medium refuses to write zeroes or to unmap: the core writes zeroes from a buffer of its own instead. `io` as in execute().
  void execute_by_writing_zeroes(BdevIo& io);

 private:
  friend class Bdev;
  friend class ChannelRef;
  friend class StagedIo;
  struct Core;

  Status validate(const BdevIo& io) const;
  bool needs_staging(const BdevIo& io) const;
  void dispatch(BdevIo& io);
  void stage(BdevIo& io);
  void queue_front(BdevIo& io);
  void queue_back(BdevIo& io);
  void finish(BdevIo& io, Status status);
  void call_done(BdevIo& io);
  void run_deferred_completions();
  void account(const BdevIo& io, Status status);
  void add_reference() { ++references_; }
  void drop_reference();
  void end_if_unused();

  Bdev& bdev_;
  Thread& thread_;
  std::atomic<std::uint32_t> references_{0};  // changed on the channel's thread only
  bool ending_ = false;                       // the message that may end this channel is under way
  std::uint64_t in_flight_ = 0;               // submitted, done not yet called
  std::uint64_t executing_ = 0;               // in the module's hands (parts of staged I/O included)
  BdevIo* queued_first_ = nullptr;
  BdevIo* queued_last_ = nullptr;
  std::unique_ptr<Core> core_;
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

class Descriptor;

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
  // The channel of the current thread, made when there is none. Errors: ENODEV (removed), what the module's create_channel says (ENOMEM, EMFILE…).
  Result<ChannelRef> get_channel();
  // Sum over all channels, past ones included. Any OS thread.
  IoStats stats() const;
  struct ChannelStats {
    std::uint64_t thread_id = 0;
    IoStats stats;
    std::uint32_t references = 0;
  };
  // One entry per channel there is now. Any OS thread.
  std::vector<ChannelStats> channel_stats() const;
  // From now on counters start at zero; readers see it at once. Any OS thread.
  void reset_stats();
  // Somebody holds a descriptor. On app_thread.
  bool is_open() const;
  // The module's entry of driver_specific in bdev_get_bdevs, as a JSON text ("{}": nothing to say). On app_thread.
  virtual std::string driver_specific_json() const { return "{}"; }
  // The method and parameters (JSON text) that would create it again, for framework_get_config. On app_thread.
  virtual std::string config_json() const = 0;
  // Frees the module's resources (files) without blocking; `done` on app_thread. Called once by the registry when no descriptor and no channel is
  // left.
  virtual void destroy(std::move_only_function<void()> done) { done(); }

 protected:
  virtual Result<std::unique_ptr<Channel>> create_channel(Thread& thread) = 0;
  // On app_thread: publishes a new size and tells every opener.
  void set_num_blocks(std::uint64_t num_blocks);

 private:
  friend class Registry;
  friend class Descriptor;
  friend class Channel;
  friend class ChannelRef;
  struct State;

  void end_channel(Channel& channel);

  BdevInfo info_;
  std::atomic<std::uint64_t> num_blocks_;
  std::unique_ptr<State> state_;
};

// An open bdev: keeps it from being freed and receives its events. Lives on app_thread.
class Descriptor {
 public:
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Bdev& bdev() const { return *bdev_; }
  const std::string& opener() const { return opener_; }

 private:
  friend class Bdev;
  friend class Registry;
  Descriptor(std::shared_ptr<Bdev> bdev, std::string opener, bool writable, std::function<void(Event)> on_event);

  void notify(Event event);

  std::shared_ptr<Bdev> bdev_;
  std::string opener_;
  bool claims_write_;
  std::shared_ptr<std::function<void(Event)>> on_event_;  // events travel as messages, which hold it weakly
};

// All bdevs of the process. Everything on app_thread.
class Registry {
 public:
  static Registry& instance();

  // A UUID is made up when the bdev has none. Errors: EEXIST (name, alias or uuid taken, named), EINVAL (name, block size, size or uuid unfit).
  Result<void> add(std::shared_ptr<Bdev> bdev);
  // By name, alias or UUID (any case); null when there is none.
  std::shared_ptr<Bdev> find(std::string_view name_or_uuid) const;
  // In the order in which they were added.
  std::vector<std::shared_ptr<Bdev>> all() const;
  // Errors: ENODEV; EBUSY when `writable` and somebody else (named) claims it for writing exclusively. `opener` is shown in errors and bdev_get_bdevs
  // ("NVMe-oF Target"). Several descriptors of one opener name may share a claim.
  Result<std::unique_ptr<Descriptor>> open(std::string_view name, std::string opener, bool writable, std::function<void(Event)> on_event);
  // Marks it removed (no new opens or channels, find() no longer sees it), tells openers, waits until they are gone (I/O on their channels is served
  // until then), destroys it, then done on app_thread. Errors: ENODEV.
  void remove(std::string_view name, std::move_only_function<void(Result<void>)> done);
  // What a removal still waits for, as a phrase ("opener NVMe-oF Target, 2 channels"); empty when no bdev of that name is being removed.
  std::string removal_waits_for(std::string_view name) const;
  // The name of who claims the bdev for writing; empty when nobody does.
  std::string claimed_by(const Bdev& bdev) const;
  // Calls `added` on app_thread, once, when a bdev answers to that name; at once when one does already. The token gives the wait up when it dies.
  std::shared_ptr<void> when_added(std::string name_or_uuid, std::function<void()> added);

 private:
  friend class Descriptor;
  friend class Bdev;
  Registry();
  void finish_removal(const std::shared_ptr<Bdev>& bdev);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Longest bdev name. SPDK sets none; 255 bytes are more than any caller makes up and keep log lines readable.
inline constexpr std::size_t max_name_length = 255;
// Bounds of block_size in bytes: NVMe's LBA data size can say more, but a block must fit one page-cache folio and our smallest stripe.
inline constexpr std::uint32_t min_block_size = 512;
inline constexpr std::uint32_t max_block_size = 65536;

// Whether a bdev can be shaped like that. Errors: EINVAL naming the field, its value and the bound.
Result<void> check_geometry(const BdevInfo& info, std::uint64_t max_size_bytes);

// A random (version 4, RFC 9562 section 5.4) UUID in lower case.
std::string random_uuid();
// Lower case when `text` is a UUID (8-4-4-4-12 hexadecimal digits), else EINVAL naming it.
Result<std::string> parse_uuid(std::string_view text);

}  // namespace catnap::bdev
