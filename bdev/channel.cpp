// An I/O's way through the core while nothing unusual is going on: validation, the queue for a module that is out of resources, statistics, the
// recursion guard; and a channel's end. See bdev.h for the contract. Owner: the channel's thread.
// Left out: what makes an I/O wait (channel_guards.cpp), what the module does not take as it comes (channel_shapes.cpp), observers
// (channel_watch.cpp).
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "bdev/bdev.h"
#include "bdev/core_state.h"
#include "bdev/iov.h"
#include "bdev/parted_io.h"
#include "reactor/base/check.h"

namespace catnap::bdev {

thread_local std::uint32_t completion_depth = 0;

namespace {

// Queued I/Os tried in one go: with a module that completes inline, users that submit anew would otherwise keep the loop here for ever.
constexpr std::uint32_t retry_budget = 256;

void store_relaxed(std::atomic<std::uint64_t>& counter, std::uint64_t value) { counter.store(value, std::memory_order_relaxed); }
std::uint64_t load_relaxed(const std::atomic<std::uint64_t>& counter) { return counter.load(std::memory_order_relaxed); }
void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by) { store_relaxed(counter, load_relaxed(counter) + by); }

}  // namespace

void Counters::add(Op op, std::uint64_t bytes, std::uint64_t latency_ns, bool failed) {
  PerOp& counters = per_op_[static_cast<std::size_t>(op)];
  if (failed) {
    bump(counters.errors, 1);
    return;
  }
  bump(counters.ops, 1);
  bump(counters.bytes, bytes);
  bump(counters.latency_ns, latency_ns);
  if (latency_ns > load_relaxed(counters.max_latency_ns)) store_relaxed(counters.max_latency_ns, latency_ns);
  if (latency_ns < load_relaxed(counters.min_latency_ns)) store_relaxed(counters.min_latency_ns, latency_ns);
}

IoStats Counters::read() const {
  IoStats stats;
  for (std::size_t i = 0; i < op_count; ++i) {
    stats.ops[i] = load_relaxed(per_op_[i].ops);
    stats.bytes[i] = load_relaxed(per_op_[i].bytes);
    stats.latency_ns[i] = load_relaxed(per_op_[i].latency_ns);
    stats.max_latency_ns[i] = load_relaxed(per_op_[i].max_latency_ns);
    stats.min_latency_ns[i] = load_relaxed(per_op_[i].min_latency_ns);
    stats.errors[i] = load_relaxed(per_op_[i].errors);
  }
  return stats;
}

void Counters::clear() {
  for (PerOp& counters : per_op_) {
    for (auto* counter : {&counters.ops, &counters.bytes, &counters.latency_ns}) store_relaxed(*counter, 0);
  }
  clear_extremes();
  clear_errors();
}

void Counters::clear_extremes() {
  for (PerOp& counters : per_op_) {
    store_relaxed(counters.max_latency_ns, 0);
    store_relaxed(counters.min_latency_ns, IoStats::no_minimum);
  }
}

void Counters::clear_errors() {
  for (PerOp& counters : per_op_) store_relaxed(counters.errors, 0);
}

void Counters::follow(ResetCounts now) {
  const ResetCounts before{load_relaxed(seen)};
  if (before.all() != now.all()) {
    clear();
  } else {
    if (before.maxmin() != now.maxmin()) clear_extremes();
    if (before.error() != now.error()) clear_errors();
  }
  store_relaxed(seen, now.word);
}

Channel::Core::Core(Channel& channel)
    : hold(channel.thread(), "channels"),
      deferred_completions([&channel] { channel.run_deferred_completions(); }),
      starved_timer([&channel] { channel.retry_queued(); }),
      limit_timer([&channel] { channel.limits_due(); }),
      timeout_timer([&channel] { channel.look_for_timeouts(); }) {}

Channel::Channel(Bdev& bdev, Thread& thread) : bdev_(bdev), thread_(thread), core_(std::make_unique<Core>(*this)) {
  const BdevInfo& info = bdev.info();
  shapes_ = info.buffer_alignment > 1 || info.core_compares || info.core_writes_zeroes || info.max_io_blocks > 0 || info.max_segments > 0 ||
            info.max_unmap_blocks > 0 || info.max_write_zeroes_blocks > 0 || (info.split_at_boundary && info.optimal_io_boundary_blocks > 0);
}

Channel::~Channel() {
  CATNAP_CHECK(in_flight_ == 0 && core_->queue.empty() && core_->limited.empty() && core_->held.empty());
  std::free(core_->reserve);
}

IoStats Channel::stats() const {
  IoStats stats = core_->counters.read();
  apply_resets(stats, ResetCounts{load_relaxed(core_->counters.seen)}, ResetCounts{load_relaxed(bdev_.state_->stats_resets)});
  return stats;
}

Status Channel::validate(const BdevIo& io) const {
  if (!bdev_.supports(io.op)) return Status::not_supported;
  if (io.op == Op::flush || io.op == Op::reset) return Status::ok;
  if (io.num_blocks == 0) return Status::invalid;
  const std::uint64_t size = bdev_.num_blocks();
  if (io.offset_blocks >= size || io.num_blocks > size - io.offset_blocks) return Status::out_of_range;
  switch (io.op) {
    case Op::read:
      if (io.accepts_lease && io.iov == nullptr && bdev_.info().lends_reads) return Status::ok;
      [[fallthrough]];
    case Op::write:
    case Op::compare:
    case Op::compare_and_write: {
      if (io.borrowed && io.op != Op::write && io.op != Op::compare) return Status::invalid;
      const std::uint64_t bytes = io.num_blocks * bdev_.block_size() * (io.op == Op::compare_and_write ? 2 : 1);
      return io.iov != nullptr && iov_bytes(io.iov, io.iov_count) == bytes ? Status::ok : Status::invalid;
    }
    case Op::copy:
      return io.source_offset_blocks < size && io.num_blocks <= size - io.source_offset_blocks ? Status::ok : Status::out_of_range;
    default:
      return Status::ok;
  }
}

void Channel::enter(BdevIo& io) {
  if (in_flight_ == table_size_) [[unlikely]] {
    grow_table();
  }
  io.table_index = static_cast<std::uint32_t>(in_flight_);
  table_[in_flight_++] = &io;
}

void Channel::leave(BdevIo& io) {
  BdevIo* last = table_[--in_flight_];
  table_[io.table_index] = last;
  last->table_index = io.table_index;
}

// Doubles, so that it comes to an end with the most I/Os that were ever in flight.
void Channel::grow_table() {
  const std::uint64_t size = std::max<std::uint64_t>(64, 2 * table_size_);
  auto table = std::make_unique<BdevIo*[]>(size);
  std::copy_n(table_.get(), table_size_, table.get());
  table_ = std::move(table);
  table_size_ = size;
}

void Channel::submit(BdevIo& io) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  io.channel = this;
  io.next = nullptr;
  io.parted = nullptr;
  io.retries = 0;
  io.notes = 0;
  io.phase = Phase::outside;
  if (io.op == Op::read) io.lease = {};
  io.start_ns = thread_.now_ns();
  enter(io);
  if (guards_ != 0) [[unlikely]] {
    submit_guarded(io);
    return;
  }
  const Status fitness = validate(io);
  if (fitness != Status::ok) {
    finish(io, fitness);
    return;
  }
  io.phase = Phase::admitted;
  dispatch(io);
}

// To the module, in one piece or in parts.
void Channel::dispatch(BdevIo& io) {
  if (shapes_ || io.op >= Op::reset) {
    dispatch_shaped(io);
  } else {
    execute_now(io);
  }
}

void Channel::execute_now(BdevIo& io) {
  ++executing_;
  execute(io);
}

void Channel::queue_back(BdevIo& io) {
  keep_copy(io);
  core_->queue.push_back(io);
}

void Channel::queue_front(BdevIo& io) {
  if (io.retries < 255) ++io.retries;
  keep_copy(io);
  core_->queue.push_front(io);
  set_guard(guard_queue, true);
  if (executing_ == 0 && !core_->retrying) thread_.arm_in_us(core_->starved_timer, starved_retry_us);
}

void Channel::retry_queued() {
  Core& core = *core_;
  if (core.retrying) {
    core.freed_meanwhile = true;
    return;
  }
  core.retrying = true;
  core.starved_timer.disarm();
  for (std::uint32_t tried = 0; !core.queue.empty() && tried < retry_budget; ++tried) {
    BdevIo* io = core.queue.pop_front();
    core.freed_meanwhile = false;
    if (io->phase == Phase::part) {
      execute_now(*io);
    } else {
      dispatch(*io);
    }
    if (core.queue.front() == io && !core.freed_meanwhile) break;  // it came back: nothing is free
  }
  core.retrying = false;
  set_guard(guard_queue, !core.queue.empty());
  if (!core.queue.empty() && executing_ == 0) thread_.arm_in_us(core.starved_timer, starved_retry_us);
}

void Channel::complete(BdevIo& io, Status status) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  --executing_;
  if (status == Status::no_memory) {
    queue_front(io);
    return;
  }
  end(io, status);
  if ((guards_ & guard_queue) != 0) [[unlikely]] {
    retry_queued();
  }
}

void Channel::end(BdevIo& io, Status status) {
  if (io.phase == Phase::part) {
    if (io.notes != 0) release_notes(io);
    io.parted->part_done(io, status);
  } else {
    finish(io, status);
  }
}

void Channel::account(const BdevIo& io, Status status) {
  Counters& counters = core_->counters;
  const std::uint64_t resets = bdev_.state_->stats_resets.load(std::memory_order_relaxed);
  if (counters.seen.load(std::memory_order_relaxed) != resets) counters.follow(ResetCounts{resets});
  const std::uint64_t now_ns = thread_.now_ns();
  counters.add(io.op, io.num_blocks * bdev_.block_size(), now_ns > io.start_ns ? now_ns - io.start_ns : 0, status != Status::ok);
}

void Channel::finish(BdevIo& io, Status status) {
  io.status = status;
  account(io, status);
  if ((observers_ | io.notes) != 0) [[unlikely]] {
    if (observers_ != 0) observe_finish(io, status);
    io.phase = Phase::outside;  // before its lock goes: the next one's must not wait for this I/O
    if (io.notes != 0) release_notes(io);
  }
  io.phase = Phase::outside;
  if (completion_depth < max_completion_depth && core_->done.empty()) {
    call_done(io);
    return;
  }
  core_->done.push_back(io);
  thread_.make_ready(core_->deferred_completions);
}

void Channel::call_done(BdevIo& io) {
  leave(io);
  ++completion_depth;
  io.done(io);
  --completion_depth;
  end_if_unused();
}

void Channel::run_deferred_completions() {
  for (IoList done = core_->done.take(); !done.empty();) call_done(*done.pop_front());
}

void Channel::drop_reference() {
  CATNAP_DCHECK(Thread::current() == &thread_);
  --references_;
  end_if_unused();
}

// The end comes by a message: the last reference, or the last I/O, often goes while the module's own functions are on the stack.
void Channel::end_if_unused() {
  if (references_ > 0 || in_flight_ > 0 || ending_) return;
  ending_ = true;
  auto end = [this] {
    ending_ = false;
    if (references_ > 0 || in_flight_ > 0) return;
    const std::shared_ptr<Bdev> bdev = core_->keep_alive;
    bdev->end_channel(*this);
  };
  if (!thread_.send(end)) end();
}

ChannelRef::ChannelRef(Channel* channel) : channel_(channel) {
  if (channel_ != nullptr) channel_->add_reference();
}

ChannelRef::ChannelRef(ChannelRef&& other) noexcept : channel_(std::exchange(other.channel_, nullptr)) {}

ChannelRef& ChannelRef::operator=(ChannelRef&& other) noexcept {
  if (this != &other) {
    if (channel_ != nullptr) channel_->drop_reference();
    channel_ = std::exchange(other.channel_, nullptr);
  }
  return *this;
}

ChannelRef::~ChannelRef() {
  if (channel_ != nullptr) channel_->drop_reference();
}

}  // namespace catnap::bdev
