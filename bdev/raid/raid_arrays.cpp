// See raid_arrays.h.
#include "bdev/raid/raid_arrays.h"

#include <fmt/core.h>

#include <algorithm>

#include "bdev/raid/member_notes.h"
#include "bdev/raid/raid_bdev.h"
#include "bdev/raid/raid_host.h"
#include "bdev/raid/superblock_io.h"
#include "reactor/base/log.h"

namespace catnap::bdev {

RaidArrays::RaidArrays() {
  Registry::instance().add_examiner(
      "raid", [this](std::shared_ptr<Bdev> bdev, std::move_only_function<void()> done) { spawn(examine(std::move(bdev)), std::move(done)); });
}

// Never destroyed, as the Registry.
RaidArrays& RaidArrays::instance() {
  static auto* all = new RaidArrays;
  return *all;
}

std::shared_ptr<RaidArray> RaidArrays::find(std::string_view name_or_uuid) const {
  const auto uuid = parse_uuid(name_or_uuid);
  for (const auto& array : arrays_) {
    if (array->name() == name_or_uuid || (uuid && array->uuid() == *uuid)) return array;
  }
  return nullptr;
}

Task<Result<void>> RaidArrays::create(RaidOptions options) {
  for (const std::string& id : {options.name, options.uuid}) {
    if (id.empty()) continue;
    if (find(id) != nullptr) co_return fail(EEXIST, fmt::format("File exists: there is a raid bdev '{}' already", id));
    if (Registry::instance().find(id) != nullptr) co_return fail(EEXIST, fmt::format("File exists: there is a bdev '{}' already", id));
  }
  if (std::ranges::any_of(leaving_, [&options](const auto& each) { return each->name() == options.name; })) {
    co_return fail(EEXIST, fmt::format("File exists: raid bdev '{}' is being removed", options.name));
  }
  auto made = RaidArray::make(std::move(options), false);
  if (!made) co_return std::unexpected(made.error());
  const std::shared_ptr<RaidArray> array = *made;
  arrays_.push_back(array);
  Result<void> outcome = co_await array->look_for_members(false);
  if (!outcome) {
    std::erase(arrays_, array);
    Result<void> removed = co_await array->remove(false);
    if (!removed) log_warning("raid '{}': {}", array->name(), removed.error().message);
  }
  co_return outcome;
}

Task<Result<void>> RaidArrays::remove(std::string name, bool clear_superblock) {
  const auto array = find(name);
  if (array == nullptr) co_return fail(ENODEV, fmt::format("raid bdev {} not found", name));
  std::erase(arrays_, array);
  std::erase(taken_over_, array->uuid());
  leaving_.push_back(array);
  Result<void> outcome = co_await array->remove(clear_superblock);
  std::erase(leaving_, array);
  MemberNotes::instance().forget(array->uuid());
  co_return outcome;
}

Result<std::pair<std::shared_ptr<RaidArray>, std::uint32_t>> RaidArrays::place_of(const std::string& bdev_name, const std::string& array_name) const {
  const auto bdev = Registry::instance().find(bdev_name);
  const std::string& name = bdev != nullptr ? bdev->name() : bdev_name;
  for (const auto& array : arrays_) {
    if (!array_name.empty() && find(array_name) != array) continue;
    for (const auto& member : array->members()) {
      if (!member->name.empty() && (member->name == name || member->uuid == bdev_name)) return std::pair(array, member->slot);
    }
  }
  return fail(ENODEV, array_name.empty() ? fmt::format("No such device: bdev '{}' is not a member of any raid bdev", bdev_name)
                                         : fmt::format("No such device: bdev '{}' is not a member of raid bdev '{}'", bdev_name, array_name));
}

std::vector<std::string> RaidArrays::config_calls() const {
  std::vector<std::string> calls;
  for (const auto& array : arrays_) {
    if (!array->is_on_disk()) calls.push_back(array->config_json());
  }
  return calls;
}

Task<void> RaidArrays::examine(std::shared_ptr<Bdev> bdev) {
  for (const auto& array : std::vector(arrays_)) {
    if (!array->awaits(*bdev)) continue;
    Result<void> outcome = co_await array->look_for_members(false);
    if (!outcome) log_warning("raid '{}': {}", array->name(), outcome.error().message);
  }
  if (!Registry::instance().claimed_by(*bdev).empty() || Registry::instance().find(bdev->name()) != bdev) co_return;
  Result<std::optional<Superblock>> found = co_await read_raid_superblock(bdev);
  if (!found) {
    log_warning("raid: superblock of bdev '{}': {}", bdev->name(), found.error().message);
    co_return;
  }
  // Meanwhile somebody may have taken it, or it went.
  if (!found->has_value() || !Registry::instance().claimed_by(*bdev).empty() || Registry::instance().find(bdev->name()) != bdev) co_return;
  co_await adopt(std::move(bdev), std::move(**found));
}

// From now on also members that come later: as if the array had been made here.
Task<Result<void>> RaidArrays::take_over(std::string bdev_name) {
  const auto bdev = Registry::instance().find(bdev_name);
  if (bdev == nullptr) co_return fail(ENODEV, fmt::format("No such device: there is no bdev '{}'", bdev_name));
  Result<std::optional<Superblock>> found = co_await read_raid_superblock(bdev);
  if (!found) co_return std::unexpected(found.error());
  if (!found->has_value()) co_return fail(ENOENT, fmt::format("No such entry: bdev '{}' has no superblock of a raid bdev", bdev_name));
  const std::string uuid = uuid_text((*found)->array_uuid);
  if (find(uuid) != nullptr) co_return fail(EEXIST, fmt::format("File exists: raid bdev '{}' is here already", find(uuid)->name()));
  if (!Registry::instance().claimed_by(*bdev).empty()) {
    co_return fail(EBUSY, fmt::format("Device or resource busy: bdev '{}' is claimed by {}", bdev_name, Registry::instance().claimed_by(*bdev)));
  }
  taken_over_.push_back(uuid);
  for (const auto& each : Registry::instance().all()) co_await examine(each);
  if (find(uuid) == nullptr)
    co_return fail(EINVAL, fmt::format("Invalid argument: bdev '{}': its array cannot be brought here, see the log", bdev_name));
  co_return Result<void>();
}

Task<void> RaidArrays::adopt(std::shared_ptr<Bdev> bdev, Superblock superblock) {
  const std::string uuid = uuid_text(superblock.array_uuid);
  const auto is_leaving = [&uuid](const auto& each) { return each->uuid() == uuid; };
  if (std::ranges::any_of(leaving_, is_leaving)) co_return;
  auto array = find(uuid);
  if (array == nullptr) {
    // Who turned examination off names what is to be looked at.
    const bool asked_for = !Registry::instance().auto_examine() || std::ranges::find(taken_over_, uuid) != taken_over_.end();
    if (!asked_for && !is_our_array(superblock, is_remote(*bdev))) {
      log_notice("raid: bdev '{}' is a member of array '{}' of another host ({}) and is left alone; bdev_raid_take_over brings the array here",
                 bdev->name(), superblock.name, uuid_text(superblock.host));
      co_return;
    }
    if (!asked_for && raid_host() != Uuid{} && superblock.host != Uuid{} && superblock.host != raid_host()) {
      log_warning(
          "raid: array '{}' on bdev '{}' was assembled by another host ({}) last, and is assembled here now; if that host still has it, delete "
          "the array here (bdev_raid_delete), and turn examination off (bdev_set_options --no-auto-examine) where disks are only passed on",
          superblock.name, bdev->name(), uuid_text(superblock.host));
    }
    if (find(superblock.name) != nullptr || Registry::instance().find(superblock.name) != nullptr) {
      log_error("raid: bdev '{}' is a member of array '{}' with UUID {}, but that name is taken", bdev->name(), superblock.name, uuid);
      co_return;
    }
    RaidOptions options;
    options.name = superblock.name;
    options.uuid = uuid;
    options.kind = superblock.level == 0 ? RaidKind::raid0 : superblock.level == 1 ? RaidKind::raid1 : RaidKind::concat;
    options.strip_size_kib = superblock.strip_size_kib;
    options.superblock = true;
    options.members.resize(superblock.slots.size());
    auto made = RaidArray::make(std::move(options), true);
    if (!made) {
      log_error("raid: superblock of bdev '{}': {}", bdev->name(), made.error().message);
      co_return;
    }
    array = *made;
    arrays_.push_back(array);
  }
  if (!array->options().superblock || superblock.this_slot >= array->members().size()) co_return;
  if (array->member(superblock.this_slot).present()) {
    log_warning("raid '{}': bdev '{}' says that it is slot {}, which is taken", array->name(), bdev->name(), superblock.this_slot);
    co_return;
  }
  Result<void> outcome = co_await array->member_found(superblock.this_slot, bdev->name());
  if (!outcome) log_warning("raid '{}': {}", array->name(), outcome.error().message);
}

}  // namespace catnap::bdev
