// What may stand in a create call, as far as it can be said without looking at members. See raid.h.
#include <fmt/core.h>

#include <algorithm>

#include "bdev/raid/raid.h"

namespace catnap::bdev {
namespace {

Result<void> check_members(const RaidOptions& options, bool discovered) {
  if (options.members.empty()) return fail(EINVAL, "Invalid argument: base_bdevs is empty, an array has at least one member");
  if (options.members.size() > max_raid_members) {
    return fail(EINVAL, fmt::format("Invalid argument: base_bdevs has {} names, at most {} are possible", options.members.size(), max_raid_members));
  }
  if (discovered) return {};  // names come with the members
  for (std::size_t i = 0; i < options.members.size(); ++i) {
    const std::string& name = options.members[i];
    if (name.empty() && options.kind != RaidKind::raid1) {
      return fail(EINVAL, fmt::format("Invalid argument: base_bdevs[{}] is empty, {} needs all its members", i, raid_kind_name(options.kind)));
    }
    if (name == options.name) return fail(EINVAL, fmt::format("Invalid argument: base_bdevs[{}] '{}' is the array itself", i, name));
    if (!name.empty() && std::ranges::count(options.members, name) > 1) {
      return fail(EINVAL, fmt::format("Invalid argument: base_bdevs names '{}' twice", name));
    }
  }
  if (std::ranges::all_of(options.members, &std::string::empty)) return fail(EINVAL, "Invalid argument: base_bdevs has empty names only");
  return {};
}

Result<void> check_strip(const RaidOptions& options) {
  const std::uint32_t strip = options.strip_size_kib;
  if (options.kind == RaidKind::raid1) {
    if (strip != 0) return fail(EINVAL, fmt::format("Invalid argument: strip_size_kb {}: raid1 has no strips, leave it out", strip));
    return {};
  }
  if (strip == 0) {
    return fail(EINVAL, fmt::format("Invalid argument: strip_size_kb 0: {} needs a strip size, a power of two", raid_kind_name(options.kind)));
  }
  if ((strip & (strip - 1)) != 0) return fail(EINVAL, fmt::format("Invalid argument: strip_size_kb {} is not a power of two", strip));
  return {};
}

Result<void> check_bitmap(const RaidOptions& options) {
  const bool wished = !options.bitmap_bdev.empty() || !options.bitmap_file.empty() || options.bitmap_region_kib != 0 || options.assume_clean;
  if (wished && options.kind != RaidKind::raid1) {
    return fail(EINVAL, fmt::format("Invalid argument: bitmap_bdev, bitmap_file, bitmap_region_kb and assume_clean are raid1's, not {}'s",
                                    raid_kind_name(options.kind)));
  }
  if (!options.bitmap_file.empty() && options.bitmap_bdev != raid_bitmap_bdev_name(options.name)) {
    return fail(EINVAL,
                fmt::format("Invalid argument: bitmap_file '{}' and bitmap_bdev '{}' exclude each other", options.bitmap_file, options.bitmap_bdev));
  }
  if (options.superblock && (!options.bitmap_bdev.empty() || !options.bitmap_file.empty())) {
    return fail(EINVAL, "Invalid argument: superblock keeps the bitmap on every member; bitmap_bdev and bitmap_file are for arrays without one");
  }
  if (!options.out_of_sync.empty() && (options.kind != RaidKind::raid1 || options.superblock || !options.bitmap_bdev.empty())) {
    return fail(EINVAL, "Invalid argument: out_of_sync is for raid1 without superblock and bitmap, which say so themselves");
  }
  for (const std::string& name : options.out_of_sync) {
    if (std::ranges::find(options.members, name) != options.members.end()) continue;
    return fail(EINVAL, fmt::format("Invalid argument: out_of_sync names '{}', which is not one of base_bdevs", name));
  }
  if (!options.out_of_sync.empty() && std::ranges::all_of(options.members, [&options](const std::string& name) {
        return name.empty() || std::ranges::find(options.out_of_sync, name) != options.out_of_sync.end();
      })) {
    return fail(EINVAL, "Invalid argument: out_of_sync names all of base_bdevs; one of them has to hold the data");
  }
  if (std::ranges::count(options.members, options.bitmap_bdev) > 0 && !options.bitmap_bdev.empty()) {
    return fail(EINVAL, fmt::format("Invalid argument: bitmap_bdev '{}' is one of base_bdevs", options.bitmap_bdev));
  }
  return {};
}

}  // namespace

std::string raid_bitmap_bdev_name(const std::string& array_name) { return array_name + "_bitmap"; }

Result<void> check_raid_options(const RaidOptions& options, bool discovered) {
  for (const auto& fits : {check_members(options, discovered), check_strip(options), check_bitmap(options)}) {
    if (!fits) return fits;
  }
  return {};
}

}  // namespace catnap::bdev
