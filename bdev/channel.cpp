// The core's half of an I/O: validation, the queue of those the module had no resources for, statistics, the recursion guard, a channel's end.
// See bdev.h for the contract. Owner: the channel's thread.
#include <algorithm>
#include <cstdlib>

#include "bdev/bdev.h"
#include "bdev/core_state.h"
#include "bdev/iov.h"
#include "bdev/staged_io.h"
#include "reactor/base/check.h"

namespace catnap::bdev {
namespace {

// Completions on this OS thread's stack now: lightweight threads do not switch within a callback, so the stack is the OS thread's.
thread_local std::uint32_t completion_depth = 0;

// Queued I/Os tried in one go: with a module that completes inline, users that submit anew would otherwise keep the loop here for ever.
constexpr std::uint32_t retry_budget = 256;

bool carries_data(Op op) { return op == Op::read || op == Op::write || op == Op::compare; }

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
  const bool first = load_relaxed(counters.ops) == 0;
  bump(counters.ops, 1);
  bump(counters.bytes, bytes);
  bump(counters.latency_ns, latency_ns);
  if (latency_ns > load_relaxed(counters.max_latency_ns)) store_relaxed(counters.max_latency_ns, latency_ns);
  if (first || latency_ns < load_relaxed(counters.min_latency_ns)) store_relaxed(counters.min_latency_ns, latency_ns);
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
    for (auto* counter :
         {&counters.ops, &counters.bytes, &counters.latency_ns, &counters.max_latency_ns, &counters.min_latency_ns, &counters.errors}) {
      store_relaxed(*counter, 0);
    }
  }
}

Channel::Channel(Bdev& bdev, Thread& thread) : bdev_(bdev), thread_(thread), core_(std::make_unique<Core>(*this)) {}

Channel::~Channel() {
  CATNAP_CHECK(in_flight_ == 0 && queued_first_ == nullptr);
  std::free(core_->reserve);
}

IoStats Channel::stats() const {
  if (core_->counters.generation.load(std::memory_order_relaxed) != bdev_.state_->stats_generation.load(std::memory_order_relaxed)) return {};
  return core_->counters.read();
}

Status Channel::validate(const BdevIo& io) const {
  if (!bdev_.supports(io.op)) return Status::not_supported;
  if (io.op == Op::flush || io.op == Op::reset) return Status::ok;
  if (io.num_blocks == 0) return Status::invalid;
  const std::uint64_t size = bdev_.num_blocks();
  if (io.offset_blocks >= size || io.num_blocks > size - io.offset_blocks) return Status::out_of_range;
  if (!carries_data(io.op)) return Status::ok;
  if (io.op == Op::read && io.accepts_lease && io.iov == nullptr && bdev_.info().lends_reads) return Status::ok;
  if (io.iov == nullptr || iov_bytes(io.iov, io.iov_count) != io.num_blocks * bdev_.block_size()) return Status::invalid;
  return Status::ok;
}

bool Channel::needs_staging(const BdevIo& io) const {
  const BdevInfo& info = bdev_.info();
  if (io.op == Op::compare) return info.core_compares;
  if (io.op == Op::write_zeroes) return info.core_writes_zeroes;
  if (info.buffer_alignment <= 1 || !carries_data(io.op)) return false;
  const std::uintptr_t mask = info.buffer_alignment - 1;
  return std::any_of(io.iov, io.iov + io.iov_count,
                     [mask](const iovec& piece) { return ((reinterpret_cast<std::uintptr_t>(piece.iov_base) | piece.iov_len) & mask) != 0; });
}

void Channel::submit(BdevIo& io) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  io.channel = this;
  io.next = nullptr;
  io.staged = nullptr;
  io.retries = 0;
  io.lease = {};
  io.start_ns = thread_.now_ns();
  ++in_flight_;
  const Status fitness = validate(io);
  if (fitness != Status::ok) {
    finish(io, fitness);
  } else if (queued_first_ != nullptr) {
    queue_back(io);  // no overtaking
  } else {
    dispatch(io);
  }
}

void Channel::dispatch(BdevIo& io) {
  if (io.staged == nullptr && needs_staging(io)) {
    stage(io);
    return;
  }
  ++executing_;
  execute(io);
}

void Channel::stage(BdevIo& io) {
  auto staged = StagedIo::create(*this, io);
  if (staged == nullptr) {
    queue_front(io);
    return;
  }
  staged.release()->run();  // frees itself with its last part
}

void Channel::execute_by_writing_zeroes(BdevIo& io) {
  --executing_;  // from here on its parts are
  stage(io);
}

void Channel::queue_back(BdevIo& io) {
  io.next = nullptr;
  (queued_last_ != nullptr ? queued_last_->next : queued_first_) = &io;
  queued_last_ = &io;
}

void Channel::queue_front(BdevIo& io) {
  if (io.retries < 255) ++io.retries;
  io.next = queued_first_;
  queued_first_ = &io;
  if (queued_last_ == nullptr) queued_last_ = &io;
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
  for (std::uint32_t tried = 0; queued_first_ != nullptr && tried < retry_budget; ++tried) {
    BdevIo* io = queued_first_;
    queued_first_ = io->next;
    if (queued_first_ == nullptr) queued_last_ = nullptr;
    io->next = nullptr;
    core.freed_meanwhile = false;
    dispatch(*io);
    if (queued_first_ == io && !core.freed_meanwhile) break;  // it came back: nothing is free
  }
  core.retrying = false;
  if (queued_first_ != nullptr && executing_ == 0) thread_.arm_in_us(core.starved_timer, starved_retry_us);
}

void Channel::complete(BdevIo& io, Status status) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  --executing_;
  if (status == Status::no_memory) {
    queue_front(io);
    return;
  }
  if (io.staged != nullptr) {
    io.staged->part_done(status);
  } else {
    finish(io, status);
  }
  if (queued_first_ != nullptr) retry_queued();
}

void Channel::account(const BdevIo& io, Status status) {
  Core& core = *core_;
  const std::uint64_t generation = bdev_.state_->stats_generation.load(std::memory_order_relaxed);
  if (core.counters.generation.load(std::memory_order_relaxed) != generation) {
    core.counters.clear();
    core.counters.generation.store(generation, std::memory_order_relaxed);
  }
  const std::uint64_t now_ns = thread_.now_ns();
  core.counters.add(io.op, io.num_blocks * bdev_.block_size(), now_ns > io.start_ns ? now_ns - io.start_ns : 0, status != Status::ok);
}

void Channel::finish(BdevIo& io, Status status) {
  io.status = status;
  account(io, status);
  if (completion_depth < max_completion_depth && core_->done_first == nullptr) {
    call_done(io);
    return;
  }
  io.next = nullptr;
  (core_->done_last != nullptr ? core_->done_last->next : core_->done_first) = &io;
  core_->done_last = &io;
  thread_.make_ready(core_->deferred_completions);
}

void Channel::call_done(BdevIo& io) {
  --in_flight_;
  ++completion_depth;
  io.done(io);
  --completion_depth;
  end_if_unused();
}

void Channel::run_deferred_completions() {
  BdevIo* io = core_->done_first;
  core_->done_first = core_->done_last = nullptr;
  while (io != nullptr) {
    BdevIo* next = io->next;
    call_done(*io);
    io = next;
  }
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
