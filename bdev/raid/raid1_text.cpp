// What bdev_raid_get_bdevs and bdev_raid_get_bitmap show of a raid1. See raid1.h.
// Owner: app_thread. Left out: what is common to all levels (raid_text.cpp).
#include <fmt/core.h>

#include "bdev/json_text.h"
#include "bdev/raid/raid1.h"
#include "bdev/raid/raid1_marks.h"
#include "bdev/raid/raid1_scrub.h"
#include "bdev/raid/raid1_sync.h"

namespace catnap::bdev {

using raid1::Record;

std::optional<RaidProgress> Raid1Level::progress() const {
  if (core_ == nullptr || !core_->sync().running()) return std::nullopt;
  return copied_so_far();
}

RaidProgress Raid1Level::copied_so_far() const {
  const raid1::Sync::Progress& copied = core_->sync().progress();
  RaidProgress shown;
  shown.type = core_->anyone_rebuilding() ? "rebuild" : "resync";
  for (const auto& member : array().members()) {
    if (member->state == MemberState::rebuilding) shown.target = member->name;
  }
  shown.blocks_done = copied.regions_done * layout_.region_blocks;
  shown.blocks_total = copied.regions_total * layout_.region_blocks;
  shown.blocks_copied = copied.blocks_copied;
  return shown;
}

std::string Raid1Level::bitmap_kind() const {
  switch (record()) {
    case Record::members:
      return "superblock";
    case Record::external:
      return array().options().bitmap_file.empty() ? "bdev" : "file";
    case Record::memory:
      break;
  }
  return "none";
}

Result<std::string> Raid1Level::bitmap_json(bool with_ranges) const {
  if (core_ == nullptr) return fail(EAGAIN, fmt::format("Resource temporarily unavailable: raid bdev '{}' is not online", array().name()));
  const raid1::Marks& marks = core_->marks();
  const std::uint64_t regions = core_->maps().regions;
  JsonObject shown;
  shown.add("kind", bitmap_kind());
  shown.add("region_size_kb", layout_.region_blocks * block_size_ / 1024);
  shown.add("regions", regions);
  shown.add("marked_regions", marks.count());
  shown.add("suspect_regions", core_->maps().suspect.count());
  shown.add("commits", marks.counts().commits);
  shown.add("regions_marked", marks.counts().regions_marked);
  shown.add("clears", marks.counts().clears);
  shown.add("regions_cleared", marks.counts().regions_cleared);
  if (!with_ranges) return shown.text();
  std::string ranges;
  for (std::uint64_t region = 0; region < regions; ++region) {
    if (!marks.is_set(region)) continue;
    const std::uint64_t first = region;
    while (region < regions && marks.is_set(region)) ++region;
    JsonObject range;
    range.add("offset_blocks", first * layout_.region_blocks);
    range.add("num_blocks", std::min((region - first) * layout_.region_blocks, num_blocks_ - first * layout_.region_blocks));
    ranges += (ranges.empty() ? "" : ",") + range.text();
  }
  shown.add_raw("ranges", "[" + ranges + "]");
  return shown.text();
}

std::string Raid1Level::info_json() const {
  JsonObject shown;
  if (core_ == nullptr) return shown.text();
  shown.add("repaired_reads", core_->repaired_reads());
  shown.add("unreadable_blocks", core_->sync().unreadable_blocks());
  const raid1::Scrub::Report& scrub = core_->scrub().report();
  JsonObject last;
  last.add("running", core_->scrub().running());
  last.add("finished", scrub.finished);
  last.add("repair", scrub.repair);
  last.add("blocks_compared", scrub.blocks_done);
  last.add("blocks_different", scrub.blocks_different);
  last.add("blocks_unreadable", scrub.blocks_unreadable);
  last.add("blocks_repaired", scrub.blocks_repaired);
  last.add("blocks_passed_over", scrub.blocks_passed_over);
  if (scrub.blocks_different > 0) last.add("first_different_block", scrub.first_different);
  if (core_->scrub().running() || scrub.blocks_done + scrub.blocks_passed_over > 0) shown.add_raw("scrub", last.text());
  if (core_->frozen()) shown.add("frozen", true);
  return shown.text();
}

}  // namespace catnap::bdev
