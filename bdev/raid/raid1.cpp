// See raid1.h: shapes, starting and stopping, members. What is shown is in raid1_text.cpp.
#include "bdev/raid/raid1.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

#include "bdev/raid/bitmap_pages.h"
#include "bdev/raid/clean_stops.h"
#include "bdev/raid/member_notes.h"
#include "bdev/raid/raid1_marks.h"
#include "bdev/raid/raid1_scrub.h"
#include "bdev/raid/raid1_sync.h"
#include "bdev/raid/raid_host.h"
#include "reactor/base/log.h"

namespace catnap::bdev {

using raid1::BitmapPages;
using raid1::ChannelPort;
using raid1::Core;
using raid1::Record;

namespace {

// Writes whose blocks share one of these go one after another; a page is what most file systems write at least.
constexpr std::uint32_t overlap_unit_bytes = 4096;

std::uint64_t random_bits() {
  static auto* device = new std::random_device;
  return std::uint64_t{(*device)()} << 32 | (*device)();
}

}  // namespace

std::uint64_t raid1_default_region_bytes(std::uint64_t array_bytes) {
  return std::max(raid1_least_region_bytes, std::bit_ceil((array_bytes + raid1_most_regions - 1) / raid1_most_regions));
}

std::unique_ptr<RaidLevel> make_raid1_level(RaidArray& array) { return std::make_unique<Raid1Level>(array); }

// ---- channels

Raid1Channel::Raid1Channel(RaidBdev& bdev, Thread& thread, const std::shared_ptr<raid1::Core>& core)
    : RaidChannel(bdev, thread),
      ports_(lanes().size()),
      lane_(std::make_shared<raid1::Lane>(core, std::make_shared<raid1::ThreadExecutor>(thread), *this)) {
  lane_->open();
}

Raid1Channel::~Raid1Channel() { lane_->close(); }

void Raid1Channel::lane_attached(std::uint32_t slot) {
  ports_[slot].borrow(*lanes()[slot].channel.get());
  lane_->set_port(slot, &ports_[slot]);
}

void Raid1Channel::lane_detaching(std::uint32_t slot) {
  lane_->set_port(slot, nullptr);
  ports_[slot].close();
}

// ---- shape

Raid1Level::Raid1Level(RaidArray& array) : RaidLevel(array), ports_(array.members().size()) {}

Raid1Level::~Raid1Level() = default;

Record Raid1Level::record() const {
  if (array().options().superblock) return Record::members;
  return array().options().bitmap_bdev.empty() ? Record::memory : Record::external;
}

// Superblocks, bitmap with room for twice as many regions, then data at a whole MiB.
Raid1Level::Layout Raid1Level::lay_out(std::uint64_t member_blocks, std::uint32_t block_size) const {
  Layout layout;
  const std::uint64_t wished = std::uint64_t{array().options().bitmap_region_kib} << 10;
  layout.region_blocks = std::max<std::uint64_t>((wished != 0 ? wished : raid1_default_region_bytes(member_blocks * block_size)) / block_size, 1);
  if (record() == Record::memory) return layout;
  const std::uint64_t regions = (member_blocks + layout.region_blocks - 1) / layout.region_blocks;
  layout.bitmap_offset_blocks = superblock_area_bytes / block_size;
  layout.bitmap_blocks = static_cast<std::uint32_t>(2 * BitmapPages::pages_for(regions, block_size));
  if (record() == Record::external) return layout;
  constexpr std::uint64_t alignment_bytes = 1 << 20;
  const std::uint64_t alignment = alignment_bytes / block_size;
  layout.data_offset_blocks = (layout.bitmap_offset_blocks + layout.bitmap_blocks + alignment - 1) / alignment * alignment;
  return layout;
}

Result<void> Raid1Level::check_members(BdevInfo& info) const {
  const RaidMember* first = nullptr;
  for (const auto& member : array().members()) {
    if (!member->present() || member->state == MemberState::failed) continue;
    const BdevInfo& theirs = member->bdev().info();
    if (first == nullptr) {
      first = member.get();
      info.block_size = theirs.block_size;
      info.physical_block_size = theirs.physical_block_size;
    }
    if (theirs.block_size != info.block_size) {
      return fail(EINVAL, fmt::format("Invalid argument: base_bdev '{}' has blocks of {} bytes, '{}' of {}", member->name, theirs.block_size,
                                      first->name, info.block_size));
    }
    info.physical_block_size = std::max(info.physical_block_size, theirs.physical_block_size);
    info.optimal_io_boundary_blocks = std::max(info.optimal_io_boundary_blocks, theirs.optimal_io_boundary_blocks);
    info.write_cache |= theirs.write_cache;
    info.core_writes_zeroes |= !member->bdev().supports(Op::write_zeroes);
  }
  if (first == nullptr) return fail(EINVAL, fmt::format("Invalid argument: raid bdev '{}' has no member to take a shape from", array().name()));
  if (Descriptor* bitmap = array().bitmap_descriptor(); bitmap != nullptr && bitmap->bdev().block_size() != info.block_size) {
    return fail(EINVAL, fmt::format("Invalid argument: bitmap_bdev '{}' has blocks of {} bytes, members of {}", bitmap->bdev().name(),
                                    bitmap->bdev().block_size(), info.block_size));
  }
  if (record() != Record::memory && info.block_size > superblock_copy_bytes) {
    return fail(EINVAL, fmt::format("Invalid argument: superblock with blocks of {} bytes; at most {}", info.block_size, superblock_copy_bytes));
  }
  return {};
}

Result<void> Raid1Level::shape(BdevInfo& info) {
  if (auto fits = check_members(info); !fits) return fits;
  std::uint64_t least = ~std::uint64_t{0};
  for (const auto& member : array().members()) {
    if (member->present() && member->state != MemberState::failed) least = std::min(least, member->bdev().num_blocks());
  }
  Layout layout = layout_.region_blocks != 0 ? layout_ : lay_out(least, info.block_size);
  const std::uint64_t most = least > layout.data_offset_blocks ? least - layout.data_offset_blocks : 0;
  const std::uint64_t blocks = num_blocks_ != 0 ? num_blocks_ : most;
  Descriptor* bitmap = array().bitmap_descriptor();
  if (bitmap != nullptr && bitmap->bdev().num_blocks() < layout.bitmap_offset_blocks + layout.bitmap_blocks) {
    return fail(EINVAL, fmt::format("Invalid argument: bitmap_bdev '{}' has {} blocks, the bitmap needs {}", bitmap->bdev().name(),
                                    bitmap->bdev().num_blocks(), layout.bitmap_offset_blocks + layout.bitmap_blocks));
  }
  if (most == 0 || most < blocks) {
    return fail(EINVAL, fmt::format("Invalid argument: raid bdev '{}' needs members of {} blocks, the smallest has {}", array().name(),
                                    layout.data_offset_blocks + std::max<std::uint64_t>(blocks, 1), least));
  }
  for (const auto& member : array().members()) {
    member->data_offset_blocks = layout.data_offset_blocks;
    member->data_blocks = blocks;
  }
  info.num_blocks = blocks;
  info.core_compares = true;
  info.unmap_reads_zeroes = true;
  info.max_unmap_blocks = info.max_write_zeroes_blocks = raid1_zero_step_bytes / info.block_size;
  return {};
}

bool Raid1Level::unmaps(const Bdev& bdev) const { return bdev.supports(Op::unmap) && bdev.info().unmap_reads_zeroes; }

bool Raid1Level::supports(Op op) const { return op != Op::write_uncorrectable; }

// ---- starting

Result<ChannelPort*> Raid1Level::open_port(std::uint32_t slot) {
  auto channel = array().member(slot).bdev().get_channel();
  if (!channel) return std::unexpected(channel.error());
  close_port(slot);
  ports_[slot] = std::make_unique<ChannelPort>();
  ports_[slot]->open(std::move(*channel));
  return ports_[slot].get();
}

// What is under way through it ends by itself; who comes back to it is told that it is closed.
void Raid1Level::close_port(std::uint32_t slot) {
  if (ports_[slot] == nullptr) return;
  ports_[slot]->close();
  retired_.push_back(std::move(ports_[slot]));
}

Task<std::optional<FoundSuperblock>> Raid1Level::read_area(std::shared_ptr<ChannelPort> port, std::uint32_t block_size) {
  const Promise<bool> read;
  const auto runner = std::make_shared<raid1::MetaRunner>(block_size);
  const auto buffer = std::make_shared<raid1::MetaBuffer>(superblock_area_bytes);
  const raid1::MetaRunner::Done when_read = [read](Status status) { read.set(status == Status::ok); };
  const raid1::MetaRunner::Piece area(0, buffer->bytes());
  runner->read(*port, area, when_read);
  const bool good = co_await read;
  auto newest = newest_superblock(buffer->bytes());
  std::optional<FoundSuperblock> found;
  if (good && newest) found = std::move(*newest);
  co_return found;
}

Task<Result<void>> Raid1Level::read_superblocks() {
  found_.assign(array().members().size(), FoundMember());
  copies_.assign(array().members().size() + 1, 0);
  for (const auto& member : array().members()) {
    if (!member->present()) continue;
    found_[member->slot].present = true;
    if (record() != Record::members) continue;
    auto channel = member->bdev().get_channel();
    if (!channel) co_return std::unexpected(channel.error());
    const auto port = std::make_shared<ChannelPort>();
    port->open(std::move(*channel));
    std::optional<FoundSuperblock> newest = co_await read_area(port, member->bdev().block_size());
    if (!newest || newest->other_is_blank || newest->superblock.array_uuid != uuid_from_text(array().uuid())) continue;
    copies_[member->slot] = newest->copy;
    found_[member->slot].superblock = std::move(newest->superblock);
  }
  co_return Result<void>();
}

Task<Result<bool>> Raid1Level::ready(bool forced) {
  plan_.reset();
  Result<void> read = co_await read_superblocks();
  if (!read) co_return std::unexpected(read.error());
  const bool exists = array().discovered() || started_before_;
  if (record() == Record::members && exists) co_return follow_plan(plan_start(found_, forced));
  if (record() == Record::external) {
    Result<bool> known = co_await ready_external(forced);
    if (!known || plan_ || !array().waits_for().empty()) co_return known;
  }
  for (const auto& member : array().members()) {
    if (member->present() || member->name.empty() || member->out_of_sync || (forced && exists)) continue;
    array().set_waits_for(fmt::format("base bdev '{}'", member->name));
    co_return false;
  }
  co_return true;
}

// The bitmap_bdev knows the array by its name and shape: callers without superblocks make up another UUID each time.
Task<Result<bool>> Raid1Level::ready_external(bool forced) {
  Bdev& bdev = array().bitmap_descriptor()->bdev();
  auto channel = bdev.get_channel();
  if (!channel) co_return std::unexpected(channel.error());
  const auto port = std::make_shared<ChannelPort>();
  port->open(std::move(*channel));
  std::optional<FoundSuperblock> newest = co_await read_area(port, bdev.block_size());
  if (!newest) co_return true;
  if (newest->superblock.name != array().name() || newest->superblock.slots.size() != array().members().size()) {
    co_return fail(EEXIST, fmt::format("File exists: bitmap_bdev '{}' holds the bitmap of raid bdev '{}' with {} members", bdev.name(),
                                       newest->superblock.name, newest->superblock.slots.size()));
  }
  copies_.back() = newest->copy;
  co_return follow_plan(plan_start_external(newest->superblock, found_, forced));
}

Result<bool> Raid1Level::follow_plan(StartPlan plan) {
  if (plan.verdict == StartPlan::Verdict::refuse)
    return fail(EINVAL, fmt::format("Invalid argument: raid bdev '{}': {}", array().name(), plan.reason));
  if (plan.verdict == StartPlan::Verdict::wait) {
    array().set_waits_for(plan.reason);
    return false;
  }
  for (const std::uint32_t slot : plan.diverged) {
    const bool removed = plan.reference.slots[slot].state == SlotState::empty;
    array().set_member_state(slot, MemberState::failed,
                             removed ? "it was removed from this array" : "it has diverged: it went on without this array");
  }
  const Superblock& reference = plan.reference;
  layout_.region_blocks = reference.region_blocks;
  layout_.bitmap_offset_blocks = reference.bitmap_offset_blocks;
  layout_.bitmap_blocks = reference.bitmap_blocks;
  layout_.data_offset_blocks = reference.data_offset_blocks;
  num_blocks_ = reference.num_blocks;
  plan_ = std::move(plan);
  return true;
}

Superblock Raid1Level::identity(const BdevInfo& info) const {
  Superblock superblock;
  superblock.name = array().name();
  superblock.array_uuid = uuid_from_text(array().uuid());
  superblock.level = 1;
  superblock.block_size = info.block_size;
  superblock.num_blocks = info.num_blocks;
  superblock.data_offset_blocks = layout_.data_offset_blocks;
  superblock.bitmap_offset_blocks = layout_.bitmap_offset_blocks;
  superblock.bitmap_blocks = layout_.bitmap_blocks;
  superblock.region_blocks = layout_.region_blocks;
  return superblock;
}

// What a new array need not copy: somebody says so, there is nothing to copy, or, without any record on members, this very array was left whole.
bool Raid1Level::members_are_equal() const {
  const auto all = [this](bool (*holds)(const Bdev&)) {
    return std::ranges::all_of(array().members(), [holds](const auto& member) { return member->present() && holds(member->bdev()); });
  };
  const bool was_left_whole = record() == Record::memory && CleanStops::instance().take(array()) && all(outlives_the_process);
  return array().options().assume_clean || was_left_whole || all(promises_zeroes);
}

Task<Result<void>> Raid1Level::start(bool) {
  stopped_whole_ = false;
  const BdevInfo& info = array().bdev()->info();
  if (layout_.region_blocks == 0) {
    std::uint64_t least = ~std::uint64_t{0};
    for (const auto& member : array().members()) {
      if (member->present() && member->state != MemberState::failed) least = std::min(least, member->bdev().num_blocks());
    }
    layout_ = lay_out(least, info.block_size);
  }
  num_blocks_ = info.num_blocks;
  block_size_ = info.block_size;
  raid1::CoreOptions options;
  options.record = record();
  options.block_size = info.block_size;
  options.num_blocks = info.num_blocks;
  options.capacity_blocks = capacity_blocks();
  options.data_offset_blocks = layout_.data_offset_blocks;
  options.region_blocks = layout_.region_blocks;
  options.blocks_per_unit = std::max<std::uint32_t>(overlap_unit_bytes / info.block_size, 1);
  options.copy_bytes = raid_settings().process_window_size_kib << 10;
  options.host = raid_host();
  options.random = random_bits;
  options.keep = [](std::function<void()> kept) { MemberNotes::instance().keep(std::move(kept)); };
  executor_ = std::make_shared<raid1::ThreadExecutor>(*Thread::current());
  core_ = std::make_shared<Core>(executor_, options, array().members().size(), *this);
  for (const auto& member : array().members()) {
    if (!member->present() || member->state == MemberState::failed) continue;
    auto port = open_port(member->slot);
    if (!port) co_return std::unexpected(port.error());
    core_->set_port(member->slot, *port, is_remote(member->bdev()), unmaps(member->bdev()));
  }
  if (record() == Record::external) {
    auto channel = array().bitmap_descriptor()->bdev().get_channel();
    if (!channel) co_return std::unexpected(channel.error());
    external_ = std::make_unique<ChannelPort>();
    external_->open(std::move(*channel));
    core_->set_external_port(external_.get());
  }
  const Promise<Result<void>> begun;
  const Core::Done when_begun = [begun](Result<void> outcome) { begun.set(std::move(outcome)); };
  if (plan_) {
    core_->load(std::move(*plan_), copies_, when_begun);
  } else {
    core_->create(identity(info), members_are_equal(), when_begun);
  }
  plan_.reset();
  Result<void> outcome = co_await begun;
  if (outcome) {
    started_before_ = true;
    settings_changed();
  } else {
    co_await stop(false);
  }
  co_return outcome;
}

Task<void> Raid1Level::stop(bool) {
  if (core_ == nullptr) co_return;
  const Promise<bool> stopped;
  core_->stop([stopped] { stopped.set(true); });
  co_await stopped;
  stopped_whole_ = core_->stopped_whole();
  core_->abandon();
  core_.reset();
  for (std::uint32_t slot = 0; slot < ports_.size(); ++slot) close_port(slot);
  retired_.clear();
  external_.reset();
}

std::unique_ptr<RaidChannel> Raid1Level::make_channel(RaidBdev& bdev, Thread& thread) { return std::make_unique<Raid1Channel>(bdev, thread, core_); }

// ---- members

Task<bool> Raid1Level::member_lost(std::uint32_t slot) {
  const Promise<Result<void>> left;
  core_->leave_out(slot, SlotState::failed, "its bdev was removed", [left](Result<void> outcome) { left.set(std::move(outcome)); });
  Result<void> outcome = co_await left;
  core_->set_port(slot, nullptr, false, false);
  close_port(slot);
  co_return outcome.has_value();
}

Task<Result<void>> Raid1Level::member_arrived(std::uint32_t slot, bool new_member) {
  auto port = open_port(slot);
  if (!port) co_return std::unexpected(port.error());
  const Bdev& bdev = array().member(slot).bdev();
  core_->set_port(slot, *port, is_remote(bdev), unmaps(bdev));
  const Promise<Result<void>> taken;
  const Core::Done when_taken = [taken](Result<void> outcome) { taken.set(std::move(outcome)); };
  if (new_member) {
    core_->bring_in(slot, true, true, when_taken);
  } else {
    core_->take_back(slot, when_taken);
  }
  Result<void> outcome = co_await taken;
  if (!outcome) {
    core_->set_port(slot, nullptr, false, false);
    close_port(slot);
    co_return fail(outcome.error().err, fmt::format("Invalid argument: base_bdev '{}': {}", bdev.name(), outcome.error().message));
  }
  co_return outcome;
}

// Also where nobody does I/O: what it lost must not wait for the loss of the other one.
void Raid1Level::member_found_again(std::uint32_t slot) {
  raid1::FailureReport report;
  report.slot = slot;
  if (core_ != nullptr && core_->online()) core_->handle_failure(report, [] {});
}

// Who may go is judged when the changes before this one have been recorded: who has just got in sync is not counted before.
Task<Result<void>> Raid1Level::remove_member(std::uint32_t slot) {
  const Promise<Result<void>> left;
  core_->leave_out(slot, SlotState::empty, "it was removed", [left](Result<void> outcome) { left.set(std::move(outcome)); });
  Result<void> outcome = co_await left;
  if (!outcome) {
    co_return fail(EBUSY, fmt::format("Device or resource busy: base_bdev '{}' is the last member of raid bdev '{}' that holds all data",
                                      array().member(slot).name, array().name()));
  }
  core_->set_port(slot, nullptr, false, false);
  close_port(slot);
  co_return outcome;
}

// By the room that its bitmap has; without one, as much as with one.
std::uint64_t Raid1Level::capacity_blocks() const {
  if (layout_.bitmap_blocks == 0) return 2 * num_blocks_;
  return layout_.bitmap_blocks * BitmapPages::regions_per_page(block_size_) * layout_.region_blocks;
}

Task<Result<std::uint64_t>> Raid1Level::grow() {
  std::uint64_t least = ~std::uint64_t{0};
  for (const auto& member : array().members()) {
    if (!member->present() || member->state == MemberState::failed) {
      co_return fail(EBUSY, fmt::format("Device or resource busy: raid bdev '{}' grows when all its members are there; slot {} is {}", array().name(),
                                        member->slot, member_state_name(member->state)));
    }
    least = std::min(least, member->bdev().num_blocks());
  }
  const std::uint64_t blocks = least - std::min(least, layout_.data_offset_blocks);
  if (blocks <= num_blocks_) co_return num_blocks_;
  const Promise<Result<void>> grown;
  const raid1::Core::Done when_grown = [grown](Result<void> outcome) { grown.set(std::move(outcome)); };
  core_->grow(blocks, when_grown);
  Result<void> outcome = co_await grown;
  if (!outcome)
    co_return fail(outcome.error().err, fmt::format("No space left on device: raid bdev '{}': {}", array().name(), outcome.error().message));
  num_blocks_ = blocks;
  for (const auto& member : array().members()) member->data_blocks = blocks;
  co_return num_blocks_;
}

Task<void> Raid1Level::bitmap_lost() {
  if (external_ != nullptr) external_->close();
  if (core_ != nullptr) core_->freeze("the bdev with its bitmap was removed");
  co_return;
}

// As it was left, or it is not taken: what was recorded of members while it was away it cannot know.
Task<void> Raid1Level::bitmap_returned() {
  if (core_ == nullptr || record() != Record::external) co_return;
  Bdev& bdev = array().bitmap_descriptor()->bdev();
  const auto port = std::make_shared<ChannelPort>();
  auto channel = bdev.get_channel();
  auto kept_channel = bdev.get_channel();
  if (!channel || !kept_channel) co_return;  // it is on its way out again
  port->open(std::move(*channel));
  std::optional<FoundSuperblock> found = co_await read_area(port, bdev.block_size());
  if (core_ == nullptr) co_return;
  const Superblock& ours = core_->superblock();
  if (!found || found->superblock.array_uuid != ours.array_uuid || found->superblock.events > ours.events) {
    log_error("raid '{}': bdev '{}' does not hold its bitmap; writes fail until the one that does is back", array().name(), bdev.name());
    co_return;
  }
  retired_.push_back(std::move(external_));
  external_ = std::make_unique<ChannelPort>();
  external_->open(std::move(*kept_channel));
  core_->external_returned(external_.get(), found->copy);
}

Result<void> Raid1Level::start_scrub(const ScrubOptions& options) {
  if (core_ == nullptr) return fail(EAGAIN, fmt::format("Resource temporarily unavailable: raid bdev '{}' is not online", array().name()));
  const std::uint32_t limit = options.max_bandwidth_mib_sec != 0 ? options.max_bandwidth_mib_sec : raid_settings().process_max_bandwidth_mib_sec;
  auto started = core_->scrub().start(options.repair, std::uint64_t{limit} << 20);
  if (!started) return fail(started.error().err, fmt::format("Device or resource busy: raid bdev '{}': {}", array().name(), started.error().message));
  return started;
}

Result<void> Raid1Level::stop_scrub() {
  if (core_ == nullptr || !core_->scrub().running())
    return fail(ENOENT, fmt::format("No such entry: no scrub of raid bdev '{}' runs", array().name()));
  core_->scrub().stop();
  return {};
}

void Raid1Level::settings_changed() {
  if (core_ != nullptr) core_->sync().set_limit(std::uint64_t{raid_settings().process_max_bandwidth_mib_sec} << 20);
}

// ---- what the engine tells

void Raid1Level::slot_changed(std::uint32_t slot, SlotState state, const std::string& reason) {
  const bool present = array().member(slot).present();
  switch (state) {
    case SlotState::in_sync:
      return array().set_member_state(slot, MemberState::in_sync, reason);
    case SlotState::rebuilding:
      return array().set_member_state(slot, MemberState::rebuilding, reason);
    case SlotState::failed:
    case SlotState::blank:
    case SlotState::empty:
      return array().set_member_state(slot, present ? MemberState::failed : MemberState::missing, reason);
  }
}

void Raid1Level::process_changed(const char* type, bool running, const std::string& how) {
  if (running) {
    array().process_started(type);
  } else {
    array().process_ended(type, how, copied_so_far());
  }
}

}  // namespace catnap::bdev
