// The state file (--state): what is in force is on disk before a change is answered. Each write replaces the whole file (durable_file.h) on the
// worker pool; changes that end while one is under way share the next, so one sync serves all who wait.
//
// A full disk must refuse a change before it is made: prepare() makes the file that the next write will use, and has the file system set more room
// aside for it than the state can need after the change. So a write afterwards can only fail as a failing disk does; then the change is in force and
// its caller is told that it is not kept, and no further change is let in before the state could be written.
//
// Owner: app_thread; FileSteps are called on workers, one at a time for each file. Left out: what the state is (state_text.h), reading it
// (state_file.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/worker_pool.h"
#include "server/durable_file.h"
#include "server/state_text.h"

namespace catnap::server {

class StateStore {
 public:
  using Done = std::move_only_function<void(Result<void>)>;
  // What is in force, at this moment, as the file has it.
  using Take = std::function<StatePieces()>;

  // What one change may add to the file besides its own parameters, written out: a subsystem with all its options is below 1 KiB.
  static constexpr std::size_t room_per_change = 16 * 1024;
  // How much longer than in the request a parameter can stand in the file: escaped (six for one), twice (a bdev and its policies).
  static constexpr std::size_t room_per_request_byte = 16;

  struct Status {
    std::uint64_t writes = 0;   // of the file
    std::uint64_t changes = 0;  // answered after their state was on disk
    std::size_t bytes = 0;
    std::optional<Error> fault;  // of the last write; nothing when the file has what is in force
  };

  // `durable_text`: what the file has now, known to be on disk; nothing when there is no file. `files` outlives the workers' work.
  StateStore(Thread& app_thread, WorkerPool& workers, FileSteps& files, std::string path, std::optional<std::string> durable_text, Take take);
  ~StateStore();
  StateStore(const StateStore&) = delete;
  StateStore& operator=(const StateStore&) = delete;

  // May a change be made whose request has so many bytes?
  void prepare(std::size_t request_bytes, Done done);
  // From here until made() what is in force may have the half of a change, and no write takes it. Others that were prepared have made theirs.
  void begins(bool prepared);
  void made();
  // A change that was prepared has ended, maybe while another is half made: calls `done` when what it has changed is on disk, without a write when
  // nothing differs from what is there.
  void settle(Done done);
  // The same without a prepared change.
  void keep(Done done);

  // The process ends, and what is in force is taken apart: no write begins any more, and what waits for one gets ECANCELED. A write under way ends.
  void end();

  const std::string& path() const { return path_; }
  const Status& status() const { return status_; }

 private:
  struct Written;
  std::string spare_path(std::size_t which) const { return path_ + (which == 0 ? ".new" : ".new2"); }
  void reserve(std::size_t bytes, Done done);
  void write_if_wanted();
  void written(Written outcome, std::vector<Done> waited);
  static Written write(FileSteps& files, const std::string& path, const std::string& spare, const StatePieces& state,
                       const std::optional<std::string>& durable_text);

  Thread& app_thread_;
  WorkerPool& workers_;
  FileSteps& files_;
  const std::string path_;
  const Take take_;
  Status status_;

  std::optional<std::string> durable_text_;  // nothing: unknown, or no file. While writing_, the worker has it
  std::optional<StatePieces> taken_;         // what was in force when the change under way began, if somebody waits for that or may come to
  std::vector<Done> waiters_;
  bool half_made_ = false;
  bool ended_ = false;
  bool writing_ = false;
  bool reserving_ = false;
  std::size_t spare_ = 0;           // which name the next write uses; the other one may be under way
  std::size_t reserved_bytes_ = 0;  // set aside for it
  std::size_t promised_bytes_ = 0;  // what changes since the last write may have added
  std::size_t unsettled_ = 0;       // changes that were prepared and have not ended
  std::shared_ptr<bool> alive_;     // results of workers come as messages, maybe after the end
};

}  // namespace catnap::server
