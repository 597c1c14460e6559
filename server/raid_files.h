// Two files beside the state file that know what arrays without superblock and bitmap cannot say themselves:
//   FILE.clean  which of them the last process has left whole (bdev/raid/clean_stops.h); there only while no process has the state file
//   FILE.raid   which of their members do not hold all data (bdev/raid/member_notes.h); there as long as there are any
// Owner: RaidNotesFile belongs to app_thread; the functions block: at start before any thread, at the end on the worker pool. Left out: what their
// lines mean.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/timer.h"
#include "reactor/worker_pool.h"

namespace catnap::server {

// What FILE.clean says, and takes it away, durably: "" where there is none, it cannot be read, or it would be found again after a crash.
std::string take_clean_stop(const std::string& state_path);
// "": makes none.
Result<void> leave_clean_stop(const std::string& state_path, std::string_view text);

// What FILE.raid says; "": there is none. Errors: what the system says: without it a member that lacks data could be taken for one that has all.
Result<std::string> read_raid_notes(const std::string& state_path);

// Keeps FILE.raid. Texts that come while one is being written share the next write: the last one counts. What cannot be written is tried again, as
// long as it cannot: a disk that is full may have room again.
class RaidNotesFile {
 public:
  using Told = std::function<void(const Result<void>& written)>;
  static constexpr std::uint64_t retry_us = 10'000'000;

  // `told` hears of every write, also of those that are tried again.
  RaidNotesFile(Thread& app_thread, WorkerPool& workers, std::string state_path, Told told)
      : app_thread_(app_thread), workers_(workers), state_path_(std::move(state_path)), told_(std::move(told)), again_([this] { write(); }) {}
  ~RaidNotesFile() { *alive_ = false; }
  RaidNotesFile(const RaidNotesFile&) = delete;
  RaidNotesFile& operator=(const RaidNotesFile&) = delete;

  // `kept` when that, or what came after it, is on disk, or cannot be (`told` knows: then a crash may bring such a member back as a good one).
  void keep(std::string text, std::function<void()> kept);

 private:
  void write();

  Thread& app_thread_;
  WorkerPool& workers_;
  const std::string state_path_;
  const Told told_;
  std::string text_;
  std::vector<std::function<void()>> waiting_;
  bool writing_ = false;
  bool failing_ = false;
  Timer again_;                                                 // while it cannot be written
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // results of workers come as messages, maybe after the end
};

}  // namespace catnap::server
