// Who changed what: one record of each call that changes state or does something, with its caller, parameters and result. Parameters that are
// declared secret are named, not shown (MethodTable::without_secrets). Owner: app_thread (opened by main() before it starts). Left out: calls that
// only ask; calls of configuration and state files, which stand there; taking away old files (logrotate, which asks for reopen() by SIGHUP).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "reactor/base/error.h"
#include "rpc/caller.h"

namespace catnap::server {

class AuditLog final : public rpc::CallObserver {
 public:
  // "log": lines of the log, with fields where it goes to the journal; "off": nothing; else the path of a file (made with mode 0600) that gets one
  // line of JSON per call. `future_owner`: who the process is about to become (--user); a file that is new becomes theirs, so that they can open it
  // again. Errors: what open says, naming the path.
  static Result<std::unique_ptr<AuditLog>> open(const std::string& where, std::optional<std::pair<uid_t, gid_t>> future_owner = std::nullopt);
  ~AuditLog() override;
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  // Its directory, when it is a file: where reopen() makes one. "": it is none.
  static std::string directory_of(const std::string& where);
  // The file of that name from now on, made anew when it was moved away. Says in the log what came of it; when it cannot be opened, records go on
  // into the one that is open.
  void reopen();
  bool is_file() const { return fd_ >= 0; }

  void answered(const rpc::CallRecord& record) override;

  // Bytes of one record's parameters; of longer ones the beginning is kept, and a mark that it is not all.
  static constexpr std::size_t max_params_bytes = 16 * 1024;
  static constexpr std::size_t max_params_bytes_in_log = 1000;

 private:
  AuditLog(bool to_log, std::string path, int fd) : to_log_(to_log), path_(std::move(path)), fd_(fd) {}
  static Result<int> open_file(const std::string& path);
  void write_log(const rpc::CallRecord& record) const;
  void write_file(const rpc::CallRecord& record);

  bool to_log_;
  std::string path_;
  int fd_;
  bool failed_ = false;  // said already
};

}  // namespace catnap::server
