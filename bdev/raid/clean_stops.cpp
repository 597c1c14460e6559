// See clean_stops.h.
#include "bdev/raid/clean_stops.h"

#include "bdev/json_text.h"
#include "bdev/raid/raid_arrays.h"

namespace catnap::bdev {

CleanStops& CleanStops::instance() {
  static auto* stops = new CleanStops;
  return *stops;
}

// Its create call, and who its members are: a member of the same name and another UUID is another disk.
std::string CleanStops::line_of(const RaidArray& array) {
  std::string uuids;
  for (const auto& member : array.members()) uuids += (uuids.empty() ? "" : ",") + json_quote(member->uuid);
  return JsonObject().add_raw("array", array.config_json()).add_raw("member_uuids", "[" + uuids + "]").text();
}

void CleanStops::load(const std::string& text) {
  whole_.clear();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) whole_.insert(text.substr(at, end - at));
    at = end + 1;
  }
}

bool CleanStops::take(const RaidArray& array) { return whole_.erase(line_of(array)) > 0; }

std::string CleanStops::collect() {
  std::string text;
  for (const auto& array : RaidArrays::instance().all()) {
    if (array->bdev() == nullptr && array->level().stopped_whole()) text += line_of(*array) + "\n";
  }
  return text;
}

}  // namespace catnap::bdev
