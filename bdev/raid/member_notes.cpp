// See member_notes.h. A line: the array's UUID, a blank, the member's name as a JSON string.
#include "bdev/raid/member_notes.h"

#include <fmt/core.h>

#include <algorithm>

#include "bdev/json_text.h"
#include "bdev/raid/raid_arrays.h"

namespace catnap::bdev {
namespace {

std::string line_of(const std::string& array_uuid, const std::string& member_name) {
  return fmt::format("{} {}", array_uuid, json_quote(member_name));
}

}  // namespace

MemberNotes& MemberNotes::instance() {
  static auto* notes = new MemberNotes;
  return *notes;
}

void MemberNotes::begin(Keeper keeper, const std::string& text) {
  keeper_ = std::move(keeper);
  problem_.clear();
  of_before_.clear();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) of_before_.insert(text.substr(at, end - at));
    at = end + 1;
  }
}

bool MemberNotes::lacks_data(const std::string& array_uuid, const std::string& member_name) const {
  return of_before_.contains(line_of(array_uuid, member_name));
}

std::string MemberNotes::text() const {
  std::set<std::string> lines;
  for (const std::string& line : of_before_) {
    if (RaidArrays::instance().find(line.substr(0, line.find(' '))) == nullptr) lines.insert(line);
  }
  for (const auto& array : RaidArrays::instance().all()) {
    if (!array->keeps_no_record()) continue;
    for (const auto& member : array->members()) {
      if (member->out_of_sync && !member->name.empty()) lines.insert(line_of(array->uuid(), member->name));
    }
  }
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

void MemberNotes::keep(std::function<void()> done) {
  if (!keeper_) return done();
  keeper_(text(), std::move(done));
}

void MemberNotes::outcome(const Result<void>& kept) { problem_ = kept ? std::string() : kept.error().message; }

void MemberNotes::forget(const std::string& array_uuid) {
  const bool known = std::erase_if(of_before_, [&array_uuid](const std::string& line) { return line.starts_with(array_uuid + " "); }) > 0;
  if (known) keep([] {});
}

}  // namespace catnap::bdev
