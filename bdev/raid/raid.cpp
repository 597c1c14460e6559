// See raid.h. An array's sequences; its texts are in raid_text.cpp.
#include "bdev/raid/raid.h"

#include <fmt/core.h>

#include <algorithm>

#include "bdev/raid/member_notes.h"
#include "bdev/raid/raid_bdev.h"
#include "bdev/raid/superblock_io.h"
#include "bdev/stack/virtual_bdev.h"
#include "reactor/base/log.h"

namespace catnap::bdev {
namespace {

RaidArray::Listener& listener() {
  static auto* the_listener = new RaidArray::Listener;
  return *the_listener;
}

}  // namespace

RaidSettings& raid_settings() {
  static RaidSettings settings;
  return settings;
}

Result<void> RaidLevel::fits(std::uint32_t slot) {
  BdevInfo info;
  if (auto shaped = shape(info); !shaped) return shaped;
  const Bdev& online = *array_.bdev();
  if (info.block_size != online.block_size() || info.num_blocks < online.num_blocks()) {
    const Bdev& bdev = array_.member(slot).bdev();
    return fail(EINVAL,
                fmt::format("Invalid argument: base_bdev '{}' of {} blocks of {} bytes is too small for raid bdev '{}' of {} blocks of {} bytes",
                            bdev.name(), bdev.num_blocks(), bdev.block_size(), array_.name(), online.num_blocks(), online.block_size()));
  }
  return {};
}

Task<void> RaidLevel::bitmap_lost() { co_return; }

Task<void> RaidLevel::bitmap_returned() { co_return; }

Result<std::string> RaidLevel::bitmap_json(bool) const {
  return fail(ENOTSUP, fmt::format("Operation not supported: {} keeps no bitmap", raid_kind_name(array_.options().kind)));
}

Result<void> RaidLevel::start_scrub(const ScrubOptions&) {
  return fail(ENOTSUP, fmt::format("Operation not supported: members of {} have nothing to be compared with", raid_kind_name(array_.options().kind)));
}

Result<void> RaidLevel::stop_scrub() { return start_scrub({}); }

// ---- turns

void RaidTurns::give() {
  if (waiting_.empty()) {
    taken_ = false;
    return;
  }
  Thread::current()->send([next = waiting_.front()] { next.resume(); });
  waiting_.pop_front();
}

// ---- making

Result<std::shared_ptr<RaidArray>> RaidArray::make(RaidOptions options, bool discovered) {
  BdevInfo probe;
  probe.name = options.name;
  probe.num_blocks = 1;
  if (auto fits = check_geometry(probe, ~std::uint64_t{0}); !fits) return std::unexpected(fits.error());
  if (auto fits = check_raid_options(options, discovered); !fits) return std::unexpected(fits.error());
  if (options.uuid.empty()) options.uuid = random_uuid();
  auto array = std::make_shared<RaidArray>(std::move(options), discovered);
  auto level = make_raid_level(*array);
  if (!level) return std::unexpected(level.error());
  array->level_ = std::move(*level);
  return array;
}

RaidArray::RaidArray(RaidOptions options, bool discovered)
    : options_(std::move(options)), discovered_(discovered), turns_(std::make_shared<RaidTurns>()) {
  for (const std::string& name : options_.members) {
    auto member = std::make_unique<RaidMember>();
    member->slot = static_cast<std::uint32_t>(members_.size());
    member->name = name;
    const bool said = std::ranges::find(options_.out_of_sync, name) != options_.out_of_sync.end();
    member->out_of_sync = keeps_no_record() && (said || MemberNotes::instance().lacks_data(options_.uuid, name));
    members_.push_back(std::move(member));
  }
}

RaidArray::~RaidArray() = default;

// ---- telling

void RaidArray::set_listener(Listener new_listener) { listener() = std::move(new_listener); }

void RaidArray::tell(std::string_view type, const std::string& context) const {
  if (listener()) listener()(type, context);
}

void RaidArray::set_state(RaidState state) {
  if (state_ == state) return;
  state_ = state;
  log_notice("raid '{}' is {}", name(), raid_state_name(state));
  tell(state_event, name());
}

void RaidArray::set_member_state(std::uint32_t slot, MemberState state, std::string reason) {
  RaidMember& changed = member(slot);
  const bool same = changed.state == state && changed.reason == reason;
  changed.state = state;
  changed.reason = std::move(reason);
  // Of an array that is being stopped nobody is left out, whoever goes first.
  if (keeps_no_record() && state_ == RaidState::online && bdev_ != nullptr && state != MemberState::waiting) {
    changed.out_of_sync = state != MemberState::in_sync;
  }
  if (same) return;
  const std::string text = fmt::format("raid '{}': member {} '{}' is {}{}{}", name(), slot, changed.name, member_state_name(state),
                                       changed.reason.empty() ? "" : ": ", changed.reason);
  if (state == MemberState::failed) {
    log_error("{}", text);
  } else {
    log_notice("{}", text);
  }
  tell(member_event, fmt::format("{}/{}", name(), changed.name.empty() ? fmt::format("{}", slot) : changed.name));
  if (state == MemberState::failed) look_at_association(slot);
}

void RaidArray::set_waits_for(std::string text) {
  if (waits_for_ == text) return;
  waits_for_ = std::move(text);
  if (!waits_for_.empty()) log_notice("raid '{}' waits for {}", name(), waits_for_);
}

void RaidArray::process_started(std::string_view type) {
  log_notice("raid '{}': {} started", name(), type);
  tell(process_start_event, fmt::format("{}/{}", name(), type));
}

void RaidArray::process_ended(std::string_view type, std::string_view how, RaidProgress last) {
  log_notice("raid '{}': {} {}, {} blocks copied", name(), type, how, last.blocks_copied);
  last_processes_.insert_or_assign(std::string(type), std::pair(std::string(how), std::move(last)));
  tell(process_end_event, fmt::format("{}/{}", name(), type));
}

std::uint32_t RaidArray::members_present() const {
  return static_cast<std::uint32_t>(std::ranges::count_if(members_, [](const auto& each) { return each->present(); }));
}

// ---- starting

Task<Result<void>> RaidArray::look_for_members(bool forced) {
  const auto self = shared_from_this();
  co_await turns_->take();
  const RaidTurns::Turn turn(turns_);
  if (removing_) co_return fail(ENODEV, fmt::format("No such device: raid bdev '{}' is being removed", name()));
  std::vector<std::uint32_t> opened;
  const bool had_bitmap = bitmap_ != nullptr || bdev_ == nullptr;
  Result<void> outcome = open_awaited(opened);
  if (bdev_ == nullptr) {
    if (outcome) outcome = co_await try_start(forced);
    if (!outcome) set_waits_for(outcome.error().message);
    if (!outcome || state_ != RaidState::online) co_return outcome;
    opened.clear();  // they are in; those that have to be copied are not
    outcome = open_awaited(opened);
  }
  if (!had_bitmap && bitmap_ != nullptr) co_await level_->bitmap_returned();
  if (state_ != RaidState::online) co_return outcome;  // going offline: looked at again when the bdev is gone
  for (const std::uint32_t slot : opened) {
    auto joined = co_await bring_in(slot, false);
    if (!joined && outcome) outcome = joined;
  }
  co_return outcome;
}

Task<Result<void>> RaidArray::try_start(bool forced) {
  if (members_present() == 0) {
    set_waits_for("its members");
    co_return Result<void>();
  }
  if (!options_.bitmap_bdev.empty() && bitmap_ == nullptr) {
    set_waits_for(fmt::format("bitmap bdev '{}'", options_.bitmap_bdev));
    co_return Result<void>();
  }
  BdevInfo info;
  auto shaped = level_->shape(info);
  if (!shaped) co_return shaped;
  waits_for_.clear();
  Result<bool> ready = co_await level_->ready(forced);
  if (!ready) co_return std::unexpected(ready.error());
  if (!*ready) co_return Result<void>();
  shaped = level_->shape(info);  // ready() may have put members aside
  if (!shaped) co_return shaped;
  info.name = options_.name;
  info.uuid = options_.uuid;
  info.product_name = product;
  bdev_ = std::make_shared<RaidBdev>(std::move(info), shared_from_this());
  Result<void> started = co_await bring_up(forced);
  if (!started) bdev_.reset();
  co_return started;
}

Task<Result<void>> RaidArray::bring_up(bool forced) {
  for (const auto& each : members_) {
    if (!each->present() || each->state == MemberState::failed) continue;
    bdev_->set_lane(each->slot);
  }
  Result<void> started = co_await level_->start(forced);
  if (!started) co_return started;
  for (const auto& each : members_) {
    if (each->present() && each->state == MemberState::waiting) set_member_state(each->slot, MemberState::in_sync);
  }
  Result<void> added = Registry::instance().add(bdev_);
  if (!added) {
    co_await level_->stop(false);
    for (const auto& each : members_) {
      if (each->present() && each->state != MemberState::failed) set_member_state(each->slot, MemberState::waiting);
    }
    co_return added;
  }
  waits_for_.clear();
  was_online_ = true;
  set_state(RaidState::online);
  co_return Result<void>();
}

// ---- the end

Task<void> RaidArray::bdev_gone() {
  const auto self = shared_from_this();
  {
    co_await turns_->take();
    const RaidTurns::Turn turn(turns_);
    co_await level_->stop(removing_);
    bdev_.reset();
    close_lost_members();
    for (const Promise<bool>& waiter : std::exchange(when_gone_, {})) waiter.set(true);
    // Else somebody removed it from below us (the end of the process): it does not come back by itself.
    if (removing_ || state_ != RaidState::offline) {
      set_state(RaidState::offline);
      co_return;
    }
  }
  spawn(look_for_members(false), std::move_only_function<void(Result<void>)>([](Result<void>) {}));
}

Task<Result<void>> RaidArray::remove(bool clear_superblock) {
  const auto self = shared_from_this();
  bool wait = false;
  Promise<bool> gone;
  {
    co_await turns_->take();
    const RaidTurns::Turn turn(turns_);
    if (removing_) co_return fail(EALREADY, fmt::format("Operation already in progress: raid bdev '{}' is being removed", name()));
    removing_ = true;
    if (bdev_ != nullptr) {
      wait = true;
      when_gone_.push_back(gone);
      if (Registry::instance().find(name()) == bdev_) Registry::instance().remove(name(), [](Result<void>) {});
    }
  }
  if (wait) co_await gone;
  co_await turns_->take();
  const RaidTurns::Turn turn(turns_);
  Result<void> outcome;
  for (const auto& each : members_) {
    if (!each->present()) continue;
    if (clear_superblock && options_.superblock) {
      Result<void> cleared = co_await clear_raid_superblock(each->bdev().shared_from_this());
      if (!cleared && outcome) outcome = cleared;
    }
    close_member(each->slot, MemberState::missing, "the array was deleted");
  }
  if (clear_superblock && bitmap_ != nullptr) {
    Result<void> cleared = co_await clear_raid_superblock(bitmap_->bdev().shared_from_this());
    if (!cleared && outcome) outcome = cleared;
  }
  bitmap_.reset();
  set_state(RaidState::offline);
  co_return outcome;
}

}  // namespace catnap::bdev
