// Which members of arrays without any record of their own (raid1 without superblock and bitmap) do not hold all data, for whoever keeps that beyond
// the end of the process, beside the state file. Kept durably before anything is answered that such a member lacks, so that it has no say after a
// crash. Owner: app_thread. Left out: files (server/raid_files.h); when it is asked (RaidArray, raid1_core.cpp).
#pragma once

#include <functional>
#include <set>
#include <string>

#include "reactor/base/error.h"

namespace catnap::bdev {

class RaidArray;

class MemberNotes {
 public:
  // Makes a text durable, and calls back when it is, or cannot be.
  using Keeper = std::function<void(std::string text, std::function<void()> kept)>;

  static MemberNotes& instance();

  // Without one nothing is kept. `text`: what it was given last, also by an earlier process.
  void begin(Keeper keeper, const std::string& text);
  bool kept() const { return static_cast<bool>(keeper_); }
  // A member of that array, by name, lacked data when its array was last there.
  bool lacks_data(const std::string& array_uuid, const std::string& member_name) const;
  // What is so now, of all arrays there are, and what was of those that are not there yet; `done` at once when nobody keeps it.
  void keep(std::function<void()> done);
  // What has become of the last text: of each one that was given, and again when one that could not be kept is tried once more.
  void outcome(const Result<void>& kept);
  // Why what is so now is not kept: then a crash may bring a member back that lacks data. Empty: it is.
  const std::string& problem() const { return problem_; }
  // The array was deleted: the next one with that UUID is another.
  void forget(const std::string& array_uuid);

 private:
  std::string text() const;

  Keeper keeper_;
  std::string problem_;
  std::set<std::string> of_before_;  // lines
};

}  // namespace catnap::bdev
