// Two files beside the state file that know what arrays without superblock and bitmap cannot say themselves:
//   FILE.clean  which of them the last process has left whole (bdev/raid/clean_stops.h); there only while no process has the state file
//   FILE.raid   which of their members do not hold all data (bdev/raid/member_notes.h); there as long as there are any
// Owner: RaidNotesFile belongs to app_thread; the functions block: at start before any thread, at the end on the worker pool. Left out: what their
// lines mean.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/worker_pool.h"

namespace catnap::server {

// What FILE.clean says, and takes it away, durably: "" where there is none, it cannot be read, or it would be found again after a crash.
std::string take_clean_stop(const std::string& state_path);
// "": makes none.
Result<void> leave_clean_stop(const std::string& state_path, std::string_view text);

// What FILE.raid says; "": there is none. Errors: what the system says: without it a member that lacks data could be taken for one that has all.
Result<std::string> read_raid_notes(const std::string& state_path);

// Keeps FILE.raid. Texts that come while one is being written share the next write: the last one counts.
class RaidNotesFile {
 public:
  RaidNotesFile(Thread& app_thread, WorkerPool& workers, std::string state_path)
      : app_thread_(app_thread), workers_(workers), state_path_(std::move(state_path)) {}
  ~RaidNotesFile() { *alive_ = false; }
  RaidNotesFile(const RaidNotesFile&) = delete;
  RaidNotesFile& operator=(const RaidNotesFile&) = delete;

  // `kept` when that, or what came after it, is on disk, or cannot be (the log says so: then a crash may bring such a member back as a good one).
  void keep(std::string text, std::function<void()> kept);

 private:
  void write();

  Thread& app_thread_;
  WorkerPool& workers_;
  const std::string state_path_;
  std::string text_;
  std::vector<std::function<void()>> waiting_;
  bool writing_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // results of workers come as messages, maybe after the end
};

}  // namespace catnap::server
