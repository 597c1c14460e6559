// Names and status of I/O, a bdev's channels and statistics. See bdev.h for the contract.
// Owner: see bdev.h. Left out: the list of all bdevs (registry.cpp), the I/O path (channel.cpp).
#include "bdev/bdev.h"

#include <fmt/core.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "bdev/core_state.h"
#include "reactor/base/check.h"

namespace catnap::bdev {

std::string_view op_name(Op op) {
  switch (op) {
    case Op::read:
      return "read";
    case Op::write:
      return "write";
    case Op::flush:
      return "flush";
    case Op::unmap:
      return "unmap";
    case Op::write_zeroes:
      return "write_zeroes";
    case Op::compare:
      return "compare";
    case Op::reset:
      return "reset";
    case Op::compare_and_write:
      return "compare_and_write";
    case Op::copy:
      return "copy";
    case Op::verify:
      return "verify";
    case Op::write_uncorrectable:
      return "write_uncorrectable";
  }
  return "unknown";
}

std::string_view status_name(Status status) {
  switch (status) {
    case Status::ok:
      return "ok";
    case Status::no_memory:
      return "no_memory";
    case Status::out_of_range:
      return "out_of_range";
    case Status::not_supported:
      return "not_supported";
    case Status::compare_failed:
      return "compare_failed";
    case Status::write_error:
      return "write_error";
    case Status::read_error:
      return "read_error";
    case Status::no_space:
      return "no_space";
    case Status::removed:
      return "removed";
    case Status::aborted:
      return "aborted";
    case Status::invalid:
      return "invalid";
    case Status::media_error:
      return "media_error";
  }
  return "unknown";
}

Status status_from_errno(int errno_value, Op op) {
  switch (errno_value) {
    case 0:
      return Status::ok;
    case ENOMEM:
      return Status::no_memory;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Status::no_space;
    case EOPNOTSUPP:
    case ENOSYS:
      return Status::not_supported;
    case ENODEV:
    case ENXIO:
    case ESHUTDOWN:
      return Status::removed;
    case ECANCELED:
      return Status::aborted;
    default:
      return op == Op::read || op == Op::compare || op == Op::verify ? Status::read_error : Status::write_error;
  }
}

ResetCounts ResetCounts::after(Bdev::StatsReset what) const {
  const auto field = [](std::uint64_t value, std::uint64_t mask) { return (value + 1) & mask; };
  switch (what) {
    case Bdev::StatsReset::all:
      return {(word & ~std::uint64_t{0xFFFFFF}) | field(all(), 0xFFFFFF)};
    case Bdev::StatsReset::maxmin:
      return {(word & ~(std::uint64_t{0xFFFFF} << 24)) | (field(maxmin(), 0xFFFFF) << 24)};
    case Bdev::StatsReset::error:
      return {(word & 0xFFFFFFFFFFF) | (field(error(), 0xFFFFF) << 44)};
  }
  return *this;
}

void apply_resets(IoStats& stats, ResetCounts seen, ResetCounts now) {
  if (seen.all() != now.all()) {
    stats = {};
    return;
  }
  for (std::size_t i = 0; i < op_count; ++i) {
    if (seen.maxmin() != now.maxmin()) {
      stats.max_latency_ns[i] = 0;
      stats.min_latency_ns[i] = IoStats::no_minimum;
    }
    if (seen.error() != now.error()) stats.errors[i] = 0;
  }
}

void merge(IoStats& to, const IoStats& from) {
  for (std::size_t i = 0; i < op_count; ++i) {
    to.min_latency_ns[i] = std::min(to.min_latency_ns[i], from.min_latency_ns[i]);
    to.max_latency_ns[i] = std::max(to.max_latency_ns[i], from.max_latency_ns[i]);
    to.ops[i] += from.ops[i];
    to.bytes[i] += from.bytes[i];
    to.latency_ns[i] += from.latency_ns[i];
    to.errors[i] += from.errors[i];
  }
}

Bdev::Bdev(BdevInfo info) : info_(std::move(info)), num_blocks_(info_.num_blocks), state_(std::make_unique<State>(*this)) {}

Bdev::~Bdev() { CATNAP_CHECK(state_->channels.empty() && state_->descriptors.empty()); }

Result<ChannelRef> Bdev::get_channel() {
  Thread* thread = Thread::current();
  CATNAP_CHECK(thread != nullptr);
  State& state = *state_;
  if (Channel* channel = channel_of_current_thread(); channel != nullptr) return ChannelRef(channel);
  if (state.removed.load(std::memory_order_acquire)) return fail(ENODEV, fmt::format("No such device: bdev '{}' is being removed", name()));
  auto created = create_channel(*thread);
  if (!created) return std::unexpected(created.error());
  Channel* channel = created->get();
  channel->core_->keep_alive = shared_from_this();
  {
    const std::lock_guard lock(state.mutex);
    if (!state.removed.load(std::memory_order_relaxed)) {
      welcome(*channel);
      state.channels.push_back(created->release());
      return ChannelRef(channel);
    }
  }
  return fail(ENODEV, fmt::format("No such device: bdev '{}' is being removed", name()));
}

// What the others were told when it was decided.
void Bdev::welcome(Channel& channel) {
  const State& state = *state_;
  Channel::Core& core = *channel.core_;
  core.counters.seen.store(state.stats_resets.load(std::memory_order_relaxed), std::memory_order_relaxed);
  core.buckets = state.buckets;
  channel.set_guard(guard_limited, state.buckets != nullptr);
  for (const auto& hold : state.ranges) {
    if (hold->installed) core.ranges.push_back(hold);
  }
  channel.set_guard(guard_ranges, !core.ranges.empty());
  channel.set_guard(guard_frozen, state.frozen);
  channel.adopt_watch_locked();
}

Channel* Bdev::channel_of_current_thread() {
  const Thread* thread = Thread::current();
  const std::lock_guard lock(state_->mutex);
  const auto found = std::ranges::find_if(state_->channels, [thread](const Channel* channel) { return &channel->thread() == thread; });
  return found != state_->channels.end() ? *found : nullptr;
}

std::vector<Thread*> Bdev::channel_threads_locked() const {
  std::vector<Thread*> threads;
  for (const Channel* channel : state_->channels) threads.push_back(&channel->thread());
  return threads;
}

void Bdev::for_each_channel(std::function<void(Channel&)> visit, std::move_only_function<void()> done) {
  struct Round {
    std::shared_ptr<Bdev> bdev;
    std::function<void(Channel&)> visit;
    std::move_only_function<void()> done;
    Thread* origin = Thread::current();
    std::optional<Thread::Hold> hold;  // the origin does not exit before this is over
    std::atomic<std::size_t> left{1};

    static void over(const std::shared_ptr<Round>& round) {
      if (round->left.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
      round->origin->run_or_send([round] {
        if (round->done) round->done();
        round->hold.reset();
      });
    }
  };
  auto round = std::make_shared<Round>();
  round->bdev = shared_from_this();
  if (round->origin != nullptr) round->hold.emplace(*round->origin, "for-each operations");
  round->visit = std::move(visit);
  round->done = std::move(done);
  std::vector<Thread*> threads;
  {
    const std::lock_guard lock(state_->mutex);
    threads = channel_threads_locked();
  }
  round->left.fetch_add(threads.size(), std::memory_order_relaxed);
  for (Thread* thread : threads) {
    auto here = [round] {
      if (Channel* channel = round->bdev->channel_of_current_thread(); channel != nullptr) round->visit(*channel);
      Round::over(round);
    };
    if (!thread->run_or_send(std::move(here))) Round::over(round);
  }
  Round::over(round);
}

void Bdev::end_channel(Channel& channel) {
  State& state = *state_;
  {
    const std::lock_guard lock(state.mutex);
    std::erase(state.channels, &channel);
    ++state.ending_channels;
    const ResetCounts resets{state.stats_resets.load(std::memory_order_relaxed)};
    apply_resets(state.past, state.past_seen, resets);
    state.past_seen = resets;
    merge(state.past, channel.stats());
    const Channel::Core& core = *channel.core_;
    state.past_timed_out += core.timed_out.load(std::memory_order_relaxed);
    state.past_weighted_ns += core.depth.weighted_ns.load(std::memory_order_relaxed);
    if (core.histogram != nullptr && state.past_histogram != nullptr && core.histogram->same_shape(*state.past_histogram)) {
      state.past_histogram->add(*core.histogram);
    }
  }
  delete &channel;
  bool last = false;
  {
    const std::lock_guard lock(state.mutex);
    --state.ending_channels;
    last = state.channels.empty() && state.ending_channels == 0 && state.removed.load(std::memory_order_relaxed);
  }
  if (last) state.app_thread->send([bdev = shared_from_this()] { Registry::instance().finish_removal(bdev); });
}

IoStats Bdev::stats() const {
  const State& state = *state_;
  const std::lock_guard lock(state.mutex);
  IoStats sum = state.past;
  apply_resets(sum, state.past_seen, ResetCounts{state.stats_resets.load(std::memory_order_relaxed)});
  for (const Channel* channel : state.channels) merge(sum, channel->stats());
  return sum;
}

std::vector<Bdev::ChannelStats> Bdev::channel_stats() const {
  const State& state = *state_;
  const std::lock_guard lock(state.mutex);
  std::vector<ChannelStats> all;
  for (const Channel* channel : state.channels)
    all.push_back({channel->thread().id(), channel->stats(), channel->references_.load(std::memory_order_relaxed)});
  return all;
}

void Bdev::reset_stats(StatsReset what) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  const ResetCounts before{state.stats_resets.load(std::memory_order_relaxed)};
  state.stats_resets.store(before.after(what).word, std::memory_order_relaxed);
  if (what == StatsReset::error) return;
  for (Channel* channel : state.channels) {
    DepthIntegral& depth = channel->core_->depth;
    depth.peak.store(depth.depth.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
}

void Bdev::set_rate_limits(const RateLimits& limits, std::move_only_function<void()> taken_up) {
  State& state = *state_;
  state.limits = limits;
  std::shared_ptr<RateBuckets> buckets;
  {
    const std::lock_guard lock(state.mutex);
    if (limits.any()) buckets = std::make_shared<RateBuckets>(limits, Thread::current()->now_ns(), state.buckets.get());
    state.buckets = buckets;
  }
  limited_.store(limits.any(), std::memory_order_relaxed);
  for_each_channel([buckets](Channel& channel) { channel.apply_limits(buckets); }, std::move(taken_up));
}

RateLimits Bdev::rate_limits() const { return state_->limits; }

RangeLocks& Bdev::range_locks() { return state_->range_locks; }

void Bdev::set_num_blocks(std::uint64_t num_blocks) {
  if (num_blocks_.exchange(num_blocks, std::memory_order_relaxed) == num_blocks) return;
  for (Descriptor* descriptor : state_->descriptors) descriptor->notify(Event::resized);
  Registry::instance().changed("bdev_resize", *this);
}

bool Bdev::is_open() const { return !state_->descriptors.empty(); }

std::string random_uuid() {
  std::array<unsigned char, 16> bytes{};
  CATNAP_CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));  // cannot be short or fail up to 256 bytes
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0F) | 0x40);
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3F) | 0x80);
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

Result<std::string> parse_uuid(std::string_view text) {
  bool fits = text.size() == 36;
  std::string lower;
  for (std::size_t i = 0; fits && i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    fits = (i == 8 || i == 13 || i == 18 || i == 23) ? c == '-' : std::isxdigit(c) != 0;
    lower += static_cast<char>(std::tolower(c));
  }
  if (!fits) return fail(EINVAL, fmt::format("uuid '{}' is not of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", text));
  return lower;
}

}  // namespace catnap::bdev
