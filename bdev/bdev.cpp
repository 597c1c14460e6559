// Names and status of I/O, a bdev's channels and statistics. See bdev.h for the contract.
// Owner: see bdev.h. Left out: the list of all bdevs (registry.cpp), the I/O path (channel.cpp).
#include "bdev/bdev.h"

#include <fmt/core.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cctype>

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

void merge(IoStats& to, const IoStats& from) {
  for (std::size_t i = 0; i < op_count; ++i) {
    if (from.ops[i] > 0) {
      to.min_latency_ns[i] = to.ops[i] > 0 ? std::min(to.min_latency_ns[i], from.min_latency_ns[i]) : from.min_latency_ns[i];
      to.max_latency_ns[i] = std::max(to.max_latency_ns[i], from.max_latency_ns[i]);
    }
    to.ops[i] += from.ops[i];
    to.bytes[i] += from.bytes[i];
    to.latency_ns[i] += from.latency_ns[i];
    to.errors[i] += from.errors[i];
  }
}

Bdev::Bdev(BdevInfo info) : info_(std::move(info)), num_blocks_(info_.num_blocks), state_(std::make_unique<State>()) {}

Bdev::~Bdev() { CATNAP_CHECK(state_->channels.empty() && state_->descriptors.empty()); }

Result<ChannelRef> Bdev::get_channel() {
  Thread* thread = Thread::current();
  CATNAP_CHECK(thread != nullptr);
  State& state = *state_;
  {
    const std::lock_guard lock(state.mutex);
    const auto found = std::ranges::find_if(state.channels, [thread](const Channel* channel) { return &channel->thread() == thread; });
    if (found != state.channels.end()) return ChannelRef(*found);
  }
  if (state.removed.load(std::memory_order_acquire)) return fail(ENODEV, fmt::format("No such device: bdev '{}' is being removed", name()));
  auto created = create_channel(*thread);
  if (!created) return std::unexpected(created.error());
  Channel* channel = created->get();
  channel->core_->keep_alive = shared_from_this();
  channel->core_->counters.generation.store(state.stats_generation.load(std::memory_order_relaxed), std::memory_order_relaxed);
  {
    const std::lock_guard lock(state.mutex);
    if (!state.removed.load(std::memory_order_relaxed)) {
      state.channels.push_back(created->release());
      return ChannelRef(channel);
    }
  }
  return fail(ENODEV, fmt::format("No such device: bdev '{}' is being removed", name()));
}

void Bdev::end_channel(Channel& channel) {
  State& state = *state_;
  {
    const std::lock_guard lock(state.mutex);
    std::erase(state.channels, &channel);
    ++state.ending_channels;
    const std::uint64_t generation = state.stats_generation.load(std::memory_order_relaxed);
    if (state.past_generation != generation) state.past = {};
    state.past_generation = generation;
    merge(state.past, channel.stats());
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
  IoStats sum;
  if (state.past_generation == state.stats_generation.load(std::memory_order_relaxed)) sum = state.past;
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

void Bdev::reset_stats() {
  const std::lock_guard lock(state_->mutex);
  state_->stats_generation.fetch_add(1, std::memory_order_relaxed);
}

void Bdev::set_num_blocks(std::uint64_t num_blocks) {
  if (num_blocks_.exchange(num_blocks, std::memory_order_relaxed) == num_blocks) return;
  for (Descriptor* descriptor : state_->descriptors) descriptor->notify(Event::resized);
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
