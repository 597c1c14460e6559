// Texts about arrays: names of states, bdev_raid_get_bdevs's entry, the call that makes an array again. See raid.h.
#include <algorithm>

#include "bdev/json_text.h"
#include "bdev/raid/member_notes.h"
#include "bdev/raid/raid.h"
#include "bdev/raid/raid_bdev.h"

namespace catnap::bdev {
namespace {

constexpr const char* no_uuid = "00000000-0000-0000-0000-000000000000";

std::string progress_json(const RaidProgress& progress) {
  const std::uint64_t percent = progress.blocks_total == 0 ? 100 : progress.blocks_done * 100 / progress.blocks_total;
  JsonObject json;
  json.add("type", progress.type);
  if (!progress.target.empty()) json.add("target", progress.target);
  JsonObject done;
  done.add("blocks", progress.blocks_done).add("percent", percent);
  done.add("total_blocks", progress.blocks_total).add("copied_blocks", progress.blocks_copied);
  return json.add_raw("progress", done.text()).text();
}

std::string member_json(const RaidMember& member) {
  const bool used = member.present() && member.state != MemberState::failed;
  JsonObject json;
  json.add_raw("name", member.name.empty() ? "null" : json_quote(member.name));
  json.add("uuid", member.uuid.empty() ? no_uuid : member.uuid.c_str());
  json.add("is_configured", used);
  json.add("data_offset", member.data_offset_blocks);
  json.add("data_size", member.data_blocks);
  json.add("state", member_state_name(member.state));
  if (!member.reason.empty()) json.add("reason", member.reason);
  return json.text();
}

}  // namespace

std::string_view raid_kind_name(RaidKind kind) {
  switch (kind) {
    case RaidKind::raid0:
      return "raid0";
    case RaidKind::raid1:
      return "raid1";
    case RaidKind::concat:
      return "concat";
  }
  return "";
}

std::string_view raid_state_name(RaidState state) {
  switch (state) {
    case RaidState::configuring:
      return "configuring";
    case RaidState::online:
      return "online";
    case RaidState::offline:
      return "offline";
  }
  return "";
}

std::string_view member_state_name(MemberState state) {
  switch (state) {
    case MemberState::missing:
      return "missing";
    case MemberState::waiting:
      return "waiting";
    case MemberState::in_sync:
      return "in_sync";
    case MemberState::rebuilding:
      return "rebuilding";
    case MemberState::failed:
      return "failed";
  }
  return "";
}

// SPDK's keys (lib raid_bdev_write_info_json) in its order, then ours.
std::string RaidArray::info_json() const {
  // Those that hold all data; of an array that waits, those it is made of.
  const auto operational = std::ranges::count_if(members_, [this](const auto& each) {
    return state_ == RaidState::configuring ? !each->name.empty() && each->state != MemberState::failed : each->state == MemberState::in_sync;
  });
  JsonObject json;
  json.add("name", name()).add("uuid", uuid());
  json.add("strip_size_kb", options_.strip_size_kib);
  json.add("state", raid_state_name(state_));
  json.add("raid_level", raid_kind_name(options_.kind));
  json.add("superblock", options_.superblock);
  json.add("num_base_bdevs", std::uint64_t{members_.size()});
  json.add("num_base_bdevs_discovered", members_present());
  json.add("num_base_bdevs_operational", static_cast<std::uint64_t>(operational));
  if (const auto progress = level_->progress()) json.add_raw("process", progress_json(*progress));
  std::string list;
  for (const auto& each : members_) list += (list.empty() ? "" : ",") + member_json(*each);
  json.add_raw("base_bdevs_list", "[" + list + "]");
  if (const std::string kind = level_->bitmap_kind(); !kind.empty()) json.add("bitmap", kind);
  if (!waits_for_.empty()) json.add("waits_for", waits_for_);
  if (const std::string& problem = MemberNotes::instance().problem(); keeps_no_record() && !problem.empty()) json.add("record_problem", problem);
  for (const auto& [type, ended] : last_processes_) {
    JsonObject last;
    last.add("result", ended.first).add("blocks", ended.second.blocks_done).add("total_blocks", ended.second.blocks_total);
    json.add_raw("last_" + type, last.add("copied_blocks", ended.second.blocks_copied).text());
  }
  std::string text = json.text();
  const std::string more = level_->info_json();
  if (more.size() > 2) text = text.substr(0, text.size() - 1) + "," + more.substr(1);
  return text;
}

std::string RaidArray::config_json() const {
  std::string names;
  for (const auto& each : members_) names += (names.empty() ? "" : ",") + json_quote(each->name);
  JsonObject params;
  params.add("name", name()).add("uuid", uuid());
  if (options_.strip_size_kib != 0) params.add("strip_size_kb", options_.strip_size_kib);
  params.add("raid_level", raid_kind_name(options_.kind)).add_raw("base_bdevs", "[" + names + "]");
  if (options_.superblock) params.add("superblock", true);
  if (!options_.bitmap_file.empty()) {
    params.add("bitmap_file", options_.bitmap_file);
  } else if (!options_.bitmap_bdev.empty()) {
    params.add("bitmap_bdev", options_.bitmap_bdev);
  }
  std::string lacking;
  for (const auto& each : members_) {
    if (each->out_of_sync && !each->name.empty()) lacking += (lacking.empty() ? "" : ",") + json_quote(each->name);
  }
  // Whoever keeps notes has that from them: a configuration is as old as its last change.
  const bool noted = MemberNotes::instance().kept() && MemberNotes::instance().problem().empty();
  if (keeps_no_record() && !noted && !lacking.empty()) params.add_raw("out_of_sync", "[" + lacking + "]");
  if (options_.bitmap_region_kib != 0) params.add("bitmap_region_kb", options_.bitmap_region_kib);
  return config_call("bdev_raid_create", params);
}

}  // namespace catnap::bdev
