// Block devices: what a module implements (Bdev, Channel) and what its users submit (BdevIo).
// Owner: a Bdev's configuration belongs to app_thread; a Channel and its BdevIos belong to the lightweight thread that got the channel.
// Left out: help for modules that stand on other bdevs (stacked.h), the limits' arithmetic (rate_limits.h), partitions.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/thread.h"
#include "transport/command_sink.h"

namespace catnap::bdev {

enum class Op : std::uint8_t {
  read,
  write,
  flush,
  unmap,
  write_zeroes,
  compare,
  reset,
  // The next three are carried out by the core through reads and writes of the module, unless the module says that it does them itself
  // (BdevInfo::native_...). Bdev::supports() says true in both cases.
  compare_and_write,    // iov: first what must be there, then what to write, num_blocks each; nothing else touches the blocks meanwhile
  copy,                 // num_blocks from source_offset_blocks to offset_blocks, which may overlap
  verify,               // a read that gives nothing back
  write_uncorrectable,  // from now on reads of these blocks end with media_error, until they are written
};
inline constexpr std::size_t op_count = 11;
std::string_view op_name(Op op);  // SPDK's io type names: "read", "write", "unmap", "flush", "reset", "compare", "write_zeroes", "copy"...

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
  invalid,      // a broken request (zero blocks, wrong alignment)
  media_error,  // the blocks cannot be read: marked by write_uncorrectable, or lost
};
std::string_view status_name(Status status);
Status status_from_errno(int errno_value, Op op);

class Channel;
class Bdev;
class PartedIo;

// Where an I/O is on its way through the core.
enum class Phase : std::uint8_t {
  outside,   // not submitted, or over
  limited,   // waits for its turn under a rate limit
  held,      // waits for a range lock or a reset to end
  admitted,  // in the module's hands, in parts there, or next in line for it
  part,      // the core's own, standing for a part of a user's
};

// One I/O in flight. Lives in its user's memory (an NVMe request's sink_context); must stay put until `done` ran.
// Fill op, offsets, iov, done, context; then Channel::submit(). `done` runs on the channel's thread, possibly within submit().
struct BdevIo {
  using Done = void (*)(BdevIo& io);

  Op op = Op::read;
  bool fua = false;            // write, write_zeroes, compare_and_write, copy: durable before done (Force Unit Access)
  Status status = Status::ok;  // valid in done
  std::uint8_t retries = 0;    // core's: how often the module was out of resources for it (stops at 255)
  std::uint32_t iov_count = 0;
  std::uint64_t offset_blocks = 0;
  std::uint64_t num_blocks = 0;  // 0 only for flush (whole device) and reset
  // read: filled; write, compare, compare_and_write: source. The array and its memory outlive the I/O. Others: null.
  const iovec* iov = nullptr;
  // read only: when set, a module that lends memory may answer with `lease` instead of filling iov (iov may then be null).
  bool accepts_lease = false;
  // write and compare only, and only where info().consumes_inline: the caller reuses the bytes as soon as submit() returned. When the core has to
  // keep such an I/O waiting it copies them first.
  bool borrowed = false;
  Phase phase = Phase::outside;   // core's
  std::uint8_t notes = 0;         // core's: bits below
  std::uint32_t table_index = 0;  // core's: place in the channel's table of I/Os in flight
  union {
    transport::Lease lease{};            // read with accepts_lease: the answer
    std::uint64_t source_offset_blocks;  // copy
    void* kept;                          // core's
  };
  Done done = nullptr;
  void* context = nullptr;     // user's
  Channel* channel = nullptr;  // core's
  BdevIo* next = nullptr;      // a link for queues of whoever holds the I/O: the core, or from execute() to complete() the module
  std::uint64_t start_ns = 0;  // core's (latency); turn time
  PartedIo* parted = nullptr;  // core's: the whole an I/O is a part of, or what carries out a whole in parts

  static constexpr std::uint8_t note_copy = 1;       // `kept` holds the copy of borrowed bytes, to which iov points
  static constexpr std::uint8_t note_lock = 2;       // `kept` holds the range lock of a compare-and-write
  static constexpr std::uint8_t note_timed_out = 4;  // was reported
};
static_assert(sizeof(BdevIo) <= 112, "must fit a request's sink_context beside the server's own fields");

// Per-channel counters, summed over channels by bdev_get_iostat; written by the owner, read by others (relaxed).
struct IoStats {
  static constexpr std::uint64_t no_minimum = ~std::uint64_t{0};

  IoStats() {
    for (auto& minimum : min_latency_ns) minimum = no_minimum;
  }
  std::uint64_t ops[op_count] = {};
  std::uint64_t bytes[op_count] = {};
  std::uint64_t latency_ns[op_count] = {};
  std::uint64_t max_latency_ns[op_count] = {};
  std::uint64_t min_latency_ns[op_count];
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
  std::uint32_t optimal_io_boundary_blocks = 0;  // 0: none
  // I/Os that cross the boundary, or are larger than the limits below, reach the module in parts. Blocks; 0: no limit. They bound read, write,
  // compare and verify; the last two say so themselves. Reads whose user accepts a lease and gives no iov are never cut: who lends takes any size.
  bool split_at_boundary = false;
  std::uint32_t max_io_blocks = 0;
  std::uint32_t max_segments = 0;  // iovecs per I/O; parts of a read or write with more go through fewer pieces
  std::uint64_t max_unmap_blocks = 0;
  std::uint64_t max_write_zeroes_blocks = 0;
  // Compare, or write zeroes, is carried out by the core with reads, or writes; the module does not see them. supports() says true all the same.
  bool core_compares = false;
  bool core_writes_zeroes = false;
  // The module carries these out itself and execute() sees them: a stacked module that hands them down, say.
  bool native_compare_and_write = false;
  bool native_copy = false;
  bool native_verify = false;
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
  // A read or write that may come soon, of any range: a module that is memory may have the CPU fetch it. Changes nothing.
  virtual void expect(Op op, std::uint64_t offset_blocks, std::uint64_t num_blocks) { (void)op, (void)offset_blocks, (void)num_blocks; }

  virtual ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Validates and starts the I/O. Every submitted I/O gets its done exactly once.
  void submit(BdevIo& io);
  // Takes an I/O of this channel back that is in flight: out of the core's queues, or out of the module's hands where it can give it back. True: it
  // ends with Status::aborted, now or when the part under way ends (of a large I/O something may have been carried out). False: too late, it ends as
  // if nobody had asked.
  bool abort(BdevIo& io);
  Bdev& bdev() const { return bdev_; }
  Thread& thread() const { return thread_; }
  std::uint64_t in_flight() const { return in_flight_; }
  IoStats stats() const;  // any OS thread

 protected:
  Channel(Bdev& bdev, Thread& thread);
  // Starts one valid I/O: complete(io, status) now or later, on this thread. Status::no_memory puts it in the core's queue, to be tried again
  // when an I/O of this channel completes (or retry_queued() is called).
  virtual void execute(BdevIo& io) = 0;
  // The module gives back an I/O that it delays, holds or has queued: complete(io, Status::aborted) from within, and true. False: it cannot, the I/O
  // will end by itself. A stacked module asks the channel below.
  virtual bool abort_in_module(BdevIo& io) {
    (void)io;
    return false;
  }
  void complete(BdevIo& io, Status status);
  void retry_queued();
  // For modules whose medium refuses to write zeroes or to unmap: the core writes zeroes from a buffer of its own instead. `io` as in execute().
  void execute_by_writing_zeroes(BdevIo& io);

 private:
  friend class Bdev;
  friend class ChannelRef;
  friend class PartedIo;
  friend class RangeLocks;
  friend class ResetRun;
  friend class Registry;
  struct Core;

  // channel.cpp: an ordinary I/O's way.
  Status validate(const BdevIo& io) const;
  void enter(BdevIo& io);
  void leave(BdevIo& io);
  void grow_table();
  void dispatch(BdevIo& io);
  void execute_now(BdevIo& io);
  void queue_front(BdevIo& io);
  void queue_back(BdevIo& io);
  void end(BdevIo& io, Status status);
  void finish(BdevIo& io, Status status);
  void call_done(BdevIo& io);
  void run_deferred_completions();
  void account(const BdevIo& io, Status status);
  void add_reference() { ++references_; }
  void drop_reference();
  void end_if_unused();
  // channel_shapes.cpp: what the module does not take as it comes.
  bool needs_staging(const BdevIo& io) const;
  bool needs_splitting(const BdevIo& io) const;
  void dispatch_shaped(BdevIo& io);
  void stage(BdevIo& io);
  void split(BdevIo& io);
  void lock_and_stage(BdevIo& io);
  void lock_granted(BdevIo& io);
  // channel_guards.cpp: what an I/O may have to wait for, and how it is taken back.
  void submit_guarded(BdevIo& io);
  void pass_limits(BdevIo& io);
  void pass_locks(BdevIo& io);
  void admit(BdevIo& io);
  void keep_copy(BdevIo& io);
  void release_notes(BdevIo& io);
  bool take_back(BdevIo& io);
  void set_guard(std::uint32_t bit, bool on) { guards_ = on ? guards_ | bit : guards_ & ~bit; }
  void limit_head();
  void limits_due();
  void forget_limited(const BdevIo& io);
  void apply_limits(std::shared_ptr<class RateBuckets> buckets);
  void end_all_limited(Status status);
  void add_range(const std::shared_ptr<struct RangeHold>& hold, std::function<void()> clear);
  void drop_range(const std::shared_ptr<struct RangeHold>& hold);
  void drain(const std::shared_ptr<struct RangeHold>& hold, std::function<void()> drained);
  void freeze(std::function<void()> drained);
  void thaw();
  void release_held();
  void start_reset(BdevIo& io);
  // channel_watch.cpp: time-outs, depth, histograms.
  void observe_submit(BdevIo& io);
  void observe_finish(BdevIo& io, Status status);
  void observe_drains(const BdevIo& io);
  void adopt_watch_locked();
  void look_for_timeouts();
  void set_observer(std::uint32_t bit, bool on) { observers_ = on ? observers_ | bit : observers_ & ~bit; }

  Bdev& bdev_;
  Thread& thread_;
  std::atomic<std::uint32_t> references_{0};  // changed on the channel's thread only
  bool ending_ = false;                       // the message that may end this channel is under way
  bool shapes_ = false;                       // the module has wants or limits of its own, so each I/O is looked at
  // What is asked before an I/O starts, and when it ends, while anything unusual is going on: bits of core_state.h. 0: nothing, the fast path.
  std::uint32_t guards_ = 0;
  std::uint32_t observers_ = 0;
  std::uint64_t executing_ = 0;  // in the module's hands (parts included)
  // Submitted, done not yet called: these stand in table_[0..in_flight_), in no order.
  std::uint64_t in_flight_ = 0;
  std::uint64_t table_size_ = 0;
  std::unique_ptr<BdevIo*[]> table_;
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

// Limits of one bdev, over all its channels; 0: none. Bytes are counted in mebibytes, as SPDK does.
struct RateLimits {
  std::uint64_t rw_ios_per_sec = 0;
  std::uint64_t rw_mbytes_per_sec = 0;
  std::uint64_t r_mbytes_per_sec = 0;
  std::uint64_t w_mbytes_per_sec = 0;
  bool any() const { return (rw_ios_per_sec | rw_mbytes_per_sec | r_mbytes_per_sec | w_mbytes_per_sec) != 0; }
  bool operator==(const RateLimits&) const = default;
};

class RangeLocks;

class Bdev : public std::enable_shared_from_this<Bdev> {
 public:
  explicit Bdev(BdevInfo info);
  virtual ~Bdev();
  Bdev(const Bdev&) = delete;
  Bdev& operator=(const Bdev&) = delete;

  const std::string& name() const { return info_.name; }
  const BdevInfo& info() const { return info_; }
  std::uint32_t block_size() const { return info_.block_size; }
  // Being removed without anybody having asked for it. On app_thread.
  bool is_lost() const;
  // Its UUID was not made up when it was added: the same medium has it again. On app_thread.
  bool has_lasting_uuid() const;
  std::uint64_t num_blocks() const { return num_blocks_.load(std::memory_order_relaxed); }  // any OS thread
  virtual bool supports(Op op) const = 0;
  // Whether a user may reuse the bytes of writes when submit() returns (BdevIo::borrowed) without a copy being made as a rule. Any OS thread.
  bool consumes_inline() const { return info_.consumes_inline && !limited_.load(std::memory_order_relaxed); }
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
  enum class StatsReset : std::uint8_t { all, maxmin, error };  // everything; longest and shortest latencies; errors
  // From now on these counters start at zero; readers see it at once. Any OS thread.
  void reset_stats(StatsReset what = StatsReset::all);
  // Limits from now on, for I/O that waits as well; `taken_up`, on app_thread, when every channel goes by them. On app_thread.
  void set_rate_limits(const RateLimits& limits, std::move_only_function<void()> taken_up = nullptr);
  RateLimits rate_limits() const;
  // `taken_up` of the next three as above.
  // Latencies of successful I/Os counted by size classes from now on (from zero); null: no more. Shape and meaning: histogram.h. On app_thread.
  void set_histogram(std::shared_ptr<const struct HistogramShape> shape, std::move_only_function<void()> taken_up = nullptr);
  // Sum over all channels, past ones included; null: not enabled. Any OS thread.
  std::unique_ptr<class Histogram> histogram() const;
  // Queue depth over time, from zero, without any sampling: `period_us` is what SPDK's clients set and read back; 0: off. On app_thread.
  void set_depth_period(std::uint64_t period_us, std::move_only_function<void()> taken_up = nullptr);
  struct Depth {
    std::uint64_t period_us = 0;
    std::uint64_t now = 0;                  // I/Os in flight
    std::uint64_t peak = 0;                 // sum of the channels' peaks since `reset_stats(maxmin)` or all
    std::uint64_t io_time_ns = 0;           // with at least one I/O in flight
    std::uint64_t weighted_io_time_ns = 0;  // integral of the depth
  };
  Depth depth(std::uint64_t now_ns) const;  // any OS thread
  // An I/O in flight for longer is reported in the log, once, and counted; 0: none. It is left alone. On app_thread.
  void set_timeout(std::uint64_t timeout_us, std::move_only_function<void()> taken_up = nullptr);
  std::uint64_t timeout_us() const;
  std::uint64_t timed_out_ios() const;  // since creation; any OS thread
  // Runs `visit` on every thread that has a channel, then `done` here. Channels made meanwhile are not visited: they begin with what the bdev says
  // then. On any thread; `visit` must not release channels.
  void for_each_channel(std::function<void(Channel&)> visit, std::move_only_function<void()> done);
  // Exclusive use of blocks: see range_lock.h.
  RangeLocks& range_locks();
  // Somebody holds a descriptor. On app_thread.
  bool is_open() const;
  // How many blocks take room now, as the medium counts (in pages, say), where the module knows without asking or waiting: NVMe's NUSE, at most
  // num_blocks(). Any OS thread.
  virtual std::optional<std::uint64_t> allocated_blocks() const { return std::nullopt; }
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
  friend class RangeLocks;
  friend class ResetRun;
  struct State;

  void end_channel(Channel& channel);
  void welcome(Channel& channel);        // a new one, under the state's mutex
  Channel* channel_of_current_thread();  // null: none
  std::vector<Thread*> channel_threads_locked() const;
  void watch_changed(std::move_only_function<void()> taken_up);

  BdevInfo info_;
  std::atomic<std::uint64_t> num_blocks_;
  std::atomic<bool> limited_{false};
  std::unique_ptr<State> state_;
};

// What a descriptor keeps others from.
enum class Claim : std::uint8_t {
  none,       // reads only, beside any other
  shared,     // writes; other descriptors of the same opener may too (all namespaces of "NVMe-oF Target"; the parts of a split bdev)
  exclusive,  // writes; no other descriptor may, not even of the same opener (a module that takes the whole bdev)
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
  Descriptor(std::shared_ptr<Bdev> bdev, std::string opener, Claim claim, std::function<void(Event)> on_event);

  void notify(Event event);

  std::shared_ptr<Bdev> bdev_;
  std::string opener_;
  Claim claim_;
  std::shared_ptr<std::function<void(Event)>> on_event_;  // events travel as messages, which hold it weakly
};

// Why a bdev is removed.
enum class Removal : std::uint8_t {
  wanted,  // somebody asked for it
  lost,    // what it stands on has gone (another target, a bdev below, members of an array): it comes back with that, and its users wait for it
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
  Result<std::unique_ptr<Descriptor>> open(std::string_view name, std::string opener, bool writable, std::function<void(Event)> on_event) {
    return open(name, std::move(opener), writable ? Claim::shared : Claim::none, std::move(on_event));
  }
  // The same, with the claim said. `opener` of a module is its name ("passthru").
  Result<std::unique_ptr<Descriptor>> open(std::string_view name, std::string opener, Claim claim, std::function<void(Event)> on_event);
  // Marks it removed (no new opens or channels, find() no longer sees it), tells openers, waits until they are gone (I/O on their channels is served
  // until then), destroys it, then done on app_thread. Errors: ENODEV.
  void remove(std::string_view name, std::move_only_function<void(Result<void>)> done, Removal why = Removal::wanted);
  // What a removal still waits for, as a phrase ("opener NVMe-oF Target, 2 channels"); empty when no bdev of that name is being removed.
  std::string removal_waits_for(std::string_view name) const;
  // The name of who claims the bdev for writing; empty when nobody does.
  std::string claimed_by(const Bdev& bdev) const;
  // Calls `added` on app_thread, once, when a bdev answers to that name; at once when one does already. The token gives the wait up when it dies.
  std::shared_ptr<void> when_added(std::string name_or_uuid, std::function<void()> added);
  // A module that stacks by itself looks at every bdev that is added (while auto_examine() is on, and on examine()), by message on app_thread, and
  // calls `done` on app_thread when it has decided. Registered at start, never taken away.
  using Examiner = std::function<void(std::shared_ptr<Bdev> bdev, std::move_only_function<void()> done)>;
  void add_examiner(std::string module, Examiner examiner);
  // Has every examiner look at the bdev; while auto_examine() is off, also at one of that name that comes later. Errors: ENODEV.
  Result<void> examine(std::string_view name_or_uuid);
  std::vector<std::string> names_to_examine() const;  // those given while auto_examine() was off
  // `examined` on app_thread as soon as no examination is under way (bdevs that one brings about are examined first); never within the call.
  void when_examined(std::move_only_function<void()> examined);
  void set_auto_examine(bool on);
  bool auto_examine() const;
  // Told on app_thread about every bdev that came ("bdev_register"), went ("bdev_unregister") or changed size ("bdev_resize"), by name. One
  // listener: the notifications.
  void set_change_listener(std::function<void(std::string_view type, const std::string& name)> listener);
  // Told of each bdev that is being removed as lost, while all that was set on it can still be read. One listener: what keeps the configuration.
  void set_loss_listener(std::function<void(const Bdev& bdev)> listener);

 private:
  friend class Descriptor;
  friend class Bdev;
  Registry();
  void finish_removal(const std::shared_ptr<Bdev>& bdev);
  void changed(std::string_view type, const Bdev& bdev);
  void start_examination(const std::shared_ptr<Bdev>& bdev);
  void examination_over();
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
