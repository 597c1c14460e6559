// Which arrays without any record of their own (raid1 without superblock and bitmap) the last process has left whole. Whoever keeps a state file
// keeps this beside it, and takes it away, durably, before an array is made: so an array of the state file that is not in here was stopped uncleanly.
// Owner: app_thread. Left out: files (server/raid_files.h), what "whole" means (Raid1Level::stopped_whole()).
#pragma once

#include <set>
#include <string>

namespace catnap::bdev {

class RaidArray;

class CleanStops {
 public:
  static CleanStops& instance();

  // What collect() gave at the end of the last process, once, before any array is made; "": nothing is known. What does not parse counts as that.
  void load(const std::string& text);
  // Whether that array, with these very members, was left whole. Said once: what becomes of it from now on is not known before the next stop.
  bool take(const RaidArray& array);
  // One line per array that has been stopped and is whole. At the end of the process, when no bdev is left.
  static std::string collect();

 private:
  static std::string line_of(const RaidArray& array);

  std::set<std::string> whole_;
};

}  // namespace catnap::bdev
