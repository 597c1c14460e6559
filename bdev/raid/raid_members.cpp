// How an array's members come and go: opening and closing, add, remove, loss, other sizes. See raid.h.
#include <fmt/core.h>

#include <algorithm>

#include "bdev/raid/raid.h"
#include "bdev/raid/raid_bdev.h"
#include "bdev/stack/virtual_bdev.h"
#include "reactor/base/log.h"

namespace catnap::bdev {
namespace {

bool answers_to(const Bdev& bdev, const std::string& name) { return !name.empty() && Registry::instance().find(name).get() == &bdev; }

}  // namespace

// ---- opening and closing members

bool RaidArray::awaits(const Bdev& bdev) const {
  if (removing_) return false;
  if (bitmap_ == nullptr && answers_to(bdev, options_.bitmap_bdev)) return true;
  return std::ranges::any_of(members_, [&bdev](const auto& each) { return !each->present() && answers_to(bdev, each->name); });
}

Result<void> RaidArray::open_member(std::uint32_t slot, const std::shared_ptr<Bdev>& bdev) {
  RaidMember& wanted = member(slot);
  if (auto fits = check_stack_level(*bdev); !fits) return fits;
  auto opened = Registry::instance().open(bdev->name(), opener, Claim::exclusive, [weak = weak_from_this(), slot](Event event) {
    if (const auto alive = weak.lock()) alive->member_event_for(slot, event);
  });
  if (!opened) return std::unexpected(opened.error());
  wanted.descriptor = std::move(*opened);
  wanted.name = bdev->name();
  wanted.uuid = bdev->info().uuid;
  wanted.associations = Associations(*bdev);
  wanted.associations_known = wanted.associations.count();
  wanted.association_watch = wanted.associations.watch([weak = weak_from_this(), slot] {
    if (const auto alive = weak.lock()) spawn(alive->take_back(slot));
  });
  set_member_state(slot, MemberState::waiting);
  return {};
}

void RaidArray::close_member(std::uint32_t slot, MemberState state, std::string reason) {
  member(slot).association_watch.reset();
  member(slot).associations = {};
  member(slot).descriptor.reset();
  set_member_state(slot, state, std::move(reason));
}

Result<void> RaidArray::open_bitmap() {
  if (options_.bitmap_bdev.empty() || bitmap_ != nullptr) return {};
  if (Registry::instance().find(options_.bitmap_bdev) == nullptr) return {};
  auto opened = Registry::instance().open(options_.bitmap_bdev, opener, Claim::exclusive, [weak = weak_from_this()](Event event) {
    if (const auto alive = weak.lock(); alive != nullptr && event == Event::removed) spawn(alive->lose_bitmap());
  });
  if (!opened) return std::unexpected(opened.error());
  bitmap_ = std::move(*opened);
  return {};
}

// All that can be opened; the first error is given back, whatever else could be.
Result<void> RaidArray::open_awaited(std::vector<std::uint32_t>& opened) {
  Result<void> outcome = open_bitmap();
  for (const auto& each : members_) {
    if (each->present() || each->name.empty()) continue;
    if (each->out_of_sync && bdev_ == nullptr) continue;  // first those that hold the data
    const auto there = Registry::instance().find(each->name);
    if (there == nullptr) continue;
    // It was here with another UUID: another disk, whose blocks are not the array's.
    if (!each->uuid.empty() && each->uuid != there->info().uuid) {
      set_member_state(each->slot, MemberState::missing,
                       fmt::format("bdev '{}' has UUID {}, the member had {}; bdev_raid_add_base_bdev takes it in as new", each->name,
                                   there->info().uuid, each->uuid));
      continue;
    }
    auto fits = open_member(each->slot, there);
    if (fits) {
      opened.push_back(each->slot);
    } else if (outcome) {
      outcome = fits;
    }
  }
  return outcome;
}

// ---- members coming and going

Task<Result<void>> RaidArray::bring_in(std::uint32_t slot, bool new_member) {
  Result<void> outcome = level_->fits(slot);
  if (outcome) outcome = co_await bdev_->attach_lane(slot);
  if (outcome) {
    outcome = co_await level_->member_arrived(slot, new_member);
    if (!outcome) co_await bdev_->detach_lane(slot);
  }
  if (!outcome) close_member(slot, MemberState::missing, outcome.error().message);
  co_return outcome;
}

Task<Result<void>> RaidArray::member_found(std::uint32_t slot, std::string bdev_name) {
  const auto self = shared_from_this();
  {
    co_await turns_->take();
    const RaidTurns::Turn turn(turns_);
    if (removing_ || slot >= members_.size() || member(slot).present()) co_return Result<void>();
    const auto found = Registry::instance().find(bdev_name);
    if (found == nullptr) co_return Result<void>();
    auto opened = open_member(slot, found);
    if (!opened) co_return opened;
    if (bdev_ != nullptr && state_ == RaidState::online) {
      opened = co_await bring_in(slot, false);
      co_return opened;
    }
  }
  Result<void> outcome = co_await look_for_members(false);
  co_return outcome;
}

Task<Result<void>> RaidArray::add_member(std::string bdev_name) {
  const auto self = shared_from_this();
  {
    co_await turns_->take();
    const RaidTurns::Turn turn(turns_);
    const auto found = Registry::instance().find(bdev_name);
    if (found == nullptr) co_return fail(ENODEV, fmt::format("No such device: there is no bdev '{}'", bdev_name));
    auto slot = slot_for(*found);
    if (!slot) co_return std::unexpected(slot.error());
    RaidMember& place = member(*slot);
    if (place.present() && &place.bdev() != found.get()) close_member(*slot, MemberState::missing, "");
    const bool online = bdev_ != nullptr && state_ == RaidState::online;
    place.name = found->name();
    if (!place.present() && (online || !place.out_of_sync)) {
      auto opened = open_member(*slot, found);
      if (!opened) co_return opened;
    }
    if (online) {
      Result<void> joined = co_await bring_in(*slot, true);
      co_return joined;
    }
  }
  Result<void> outcome = co_await look_for_members(false);
  co_return outcome;
}

// The slot that is that bdev's already (failed or missing), an empty one, or one whose member is missing or failed.
Result<std::uint32_t> RaidArray::slot_for(const Bdev& bdev) const {
  const RaidMember* best = nullptr;
  int best_rank = 0;
  for (const auto& each : members_) {
    const bool its_own = each->present() ? &each->bdev() == &bdev : each->name == bdev.name();
    const bool used = each->present() && each->state != MemberState::failed;
    if (its_own && used) return fail(EEXIST, fmt::format("File exists: bdev '{}' is a member of raid bdev '{}' already", bdev.name(), name()));
    const int rank = used ? 0 : its_own ? 4 : each->name.empty() ? 3 : !each->present() ? 2 : 1;
    if (rank > best_rank) {
      best = each.get();
      best_rank = rank;
    }
  }
  if (best == nullptr) return fail(EINVAL, fmt::format("Invalid argument: raid bdev '{}' has no empty slot for base_bdev '{}'", name(), bdev.name()));
  return best->slot;
}

Task<Result<void>> RaidArray::remove_member(std::uint32_t slot) {
  const auto self = shared_from_this();
  co_await turns_->take();
  const RaidTurns::Turn turn(turns_);
  RaidMember& leaving = member(slot);
  if (bdev_ != nullptr) {
    Result<void> allowed = co_await level_->remove_member(slot);
    if (!allowed) co_return allowed;
    co_await bdev_->detach_lane(slot);
  }
  close_member(slot, MemberState::missing, "");
  leaving.name.clear();
  leaving.uuid.clear();
  leaving.out_of_sync = false;
  co_return Result<void>();
}

void RaidArray::member_event_for(std::uint32_t slot, Event event) {
  if (event == Event::resized) {
    spawn(follow_size(slot));
  } else {
    spawn(lose_member(slot));
  }
}

Task<void> RaidArray::lose_member(std::uint32_t slot) {
  const auto self = shared_from_this();
  co_await turns_->take();
  const RaidTurns::Turn turn(turns_);
  if (!member(slot).present()) co_return;
  const std::string reason = fmt::format("bdev '{}' was removed", member(slot).bdev().name());
  if (bdev_ != nullptr && state_ == RaidState::online) {
    const bool goes_on = co_await level_->member_lost(slot);
    if (!goes_on) {
      take_offline(reason);
      set_member_state(slot, MemberState::missing, reason);
      co_return;
    }
  }
  if (bdev_ != nullptr && state_ == RaidState::offline) {
    set_member_state(slot, MemberState::missing, reason);
    co_return;
  }
  if (bdev_ != nullptr) co_await bdev_->detach_lane(slot);
  close_member(slot, MemberState::missing, reason);
}

// Users of an array that goes offline keep their channels a while, and what they do is served as far as members do. Then these members go too.
void RaidArray::close_lost_members() {
  for (const auto& each : members_) {
    if (each->present() && Registry::instance().find(each->name).get() != &each->bdev()) close_member(each->slot, MemberState::missing, each->reason);
  }
}

void RaidArray::member_dropped(std::uint32_t slot) { spawn(close_dropped(slot)); }

Task<void> RaidArray::close_dropped(std::uint32_t slot) {
  const auto self = shared_from_this();
  co_await turns_->take();
  const RaidTurns::Turn turn(turns_);
  if (!member(slot).present() || member(slot).state != MemberState::failed || bdev_ == nullptr) co_return;
  co_await bdev_->detach_lane(slot);
}

// It may have been found again before it was left out.
void RaidArray::look_at_association(std::uint32_t slot) {
  if (!member(slot).present()) return;
  if (member(slot).associations.count() != member(slot).associations_known) spawn(take_back(slot));
}

// A member that was left out and has been found again below us: as if it had come back.
Task<void> RaidArray::take_back(std::uint32_t slot) {
  const auto self = shared_from_this();
  co_await turns_->take();
  const RaidTurns::Turn turn(turns_);
  RaidMember& found = member(slot);
  if (!found.present() || bdev_ == nullptr || state_ != RaidState::online) co_return;
  found.associations_known = found.associations.count();
  if (found.state != MemberState::failed) {
    level_->member_found_again(slot);
    co_return;
  }
  Result<void> outcome = co_await bdev_->attach_lane(slot);
  if (outcome) {
    outcome = co_await level_->member_arrived(slot, false);
    if (!outcome) co_await bdev_->detach_lane(slot);
  }
  if (!outcome) set_member_state(slot, MemberState::failed, outcome.error().message);
}

Task<void> RaidArray::lose_bitmap() {
  const auto self = shared_from_this();
  co_await turns_->take();
  const RaidTurns::Turn turn(turns_);
  if (bdev_ != nullptr) co_await level_->bitmap_lost();
  bitmap_.reset();
}

void RaidArray::take_offline(std::string reason) {
  if (bdev_ == nullptr || state_ != RaidState::online) return;
  set_state(RaidState::offline);
  set_waits_for(fmt::format("its members: {}", reason));
  for (const auto& each : members_) {
    if (each->present() && each->state == MemberState::in_sync) set_member_state(each->slot, MemberState::waiting);
  }
  if (Registry::instance().find(name()) == bdev_) Registry::instance().remove(name(), [](Result<void>) {}, Removal::lost);
}

Task<void> RaidArray::follow_size(std::uint32_t slot) {
  const auto self = shared_from_this();
  co_await turns_->take();
  const RaidTurns::Turn turn(turns_);
  if (bdev_ == nullptr || state_ != RaidState::online || !member(slot).present()) co_return;
  if (member(slot).bdev().num_blocks() < member(slot).data_offset_blocks + member(slot).data_blocks) {
    log_error("raid '{}': member {} '{}' shrank to {} blocks, the array uses {}", name(), slot, member(slot).name, member(slot).bdev().num_blocks(),
              member(slot).data_offset_blocks + member(slot).data_blocks);
    co_return;
  }
  if (!level_->grows_by_itself()) co_return;
  Result<std::uint64_t> size = co_await level_->grow();
  if (size) bdev_->publish_size(*size);
}

Task<Result<void>> RaidArray::grow() {
  const auto self = shared_from_this();
  co_await turns_->take();
  const RaidTurns::Turn turn(turns_);
  if (bdev_ == nullptr || state_ != RaidState::online) {
    co_return fail(EAGAIN, fmt::format("Resource temporarily unavailable: raid bdev '{}' is {}", name(), raid_state_name(state_)));
  }
  Result<std::uint64_t> size = co_await level_->grow();
  if (!size) co_return std::unexpected(size.error());
  bdev_->publish_size(*size);
  co_return Result<void>();
}

}  // namespace catnap::bdev
