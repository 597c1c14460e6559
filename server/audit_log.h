// Who changed what: one record of each call that changes state or does something, with its caller, parameters and result. Parameters that are
// declared secret are named, not shown (MethodTable::without_secrets). Owner: app_thread (opened by main() before it starts). Left out: calls that
// only ask; calls of configuration and state files, which stand there; rotation of a file (an appending writer: copytruncate, or a directory per
// day).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "reactor/base/error.h"
#include "rpc/caller.h"

namespace catnap::server {

class AuditLog final : public rpc::CallObserver {
 public:
  // "log": lines of the log, with fields where it goes to the journal; "off": nothing; else the path of a file (made with mode 0600) that gets one
  // line of JSON per call. Errors: what open says, naming the path.
  static Result<std::unique_ptr<AuditLog>> open(const std::string& where);
  ~AuditLog() override;

  void answered(const rpc::CallRecord& record) override;

  // Bytes of one record's parameters; of longer ones the beginning is kept, and a mark that it is not all.
  static constexpr std::size_t max_params_bytes = 16 * 1024;
  static constexpr std::size_t max_params_bytes_in_log = 1000;

 private:
  AuditLog(bool to_log, std::string path, int fd) : to_log_(to_log), path_(std::move(path)), fd_(fd) {}
  void write_log(const rpc::CallRecord& record) const;
  void write_file(const rpc::CallRecord& record);

  bool to_log_;
  std::string path_;
  int fd_;
  bool failed_ = false;  // said already
};

}  // namespace catnap::server
