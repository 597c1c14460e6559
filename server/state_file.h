// The state file at start: one process has it, and what it says.
// Owner: main(), before any thread (the calls block). Left out: writing it (state_store.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "server/config_file.h"

namespace catnap::server {

class StateFile {
 public:
  // Takes PATH.lock, so that no second process writes over it; makes sure that the directory can be written and that what the file has is on disk;
  // reads it. Errors name the file: EBUSY (another process has it), EINVAL (no configuration, or a relative path made of nothing), what the system
  // says.
  static Result<StateFile> open(const std::string& path);
  StateFile(StateFile&& other) noexcept;
  StateFile& operator=(StateFile&&) = delete;
  ~StateFile();

  const std::string& path() const { return path_; }  // absolute; where a link led, if it was one
  // Nothing: there is no file yet.
  const std::optional<std::string>& text() const { return text_; }
  const std::vector<ConfigCall>& calls() const { return calls_; }
  // What the files beside it say of arrays (raid_files.h); the first is not on disk any more.
  const std::string& clean_stop() const { return clean_stop_; }
  const std::string& raid_notes() const { return raid_notes_; }

 private:
  StateFile(std::string path, int lock_fd) : path_(std::move(path)), lock_fd_(lock_fd) {}

  std::string path_;
  int lock_fd_;  // held as long as this lives; the file stays, as another process may have it open already
  std::optional<std::string> text_;
  std::string clean_stop_;
  std::string raid_notes_;
  std::vector<ConfigCall> calls_;
};

}  // namespace catnap::server
