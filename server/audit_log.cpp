// Writing records of calls. See audit_log.h.
// Owner: app_thread.
#include "server/audit_log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <utility>

#include "reactor/base/journal.h"
#include "reactor/base/log.h"
#include "rpc/json.h"

namespace catnap::server {
namespace {

std::string now_text() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z", fmt::gmtime(static_cast<std::time_t>(micros / 1'000'000)), micros % 1'000'000);
}

std::string result_text(const rpc::CallRecord& record) {
  if (record.outcome) return "ok";
  return fmt::format("error {}: {}", record.outcome.error().code, record.outcome.error().message);
}

Json::Value caller_json(const rpc::Caller& caller) {
  Json::Value json;
  json["kind"] = rpc::caller_kind_name(caller.kind);
  json["role"] = rpc::role_name(caller.role);
  if (caller.uid >= 0) {
    json["uid"] = static_cast<Json::Int64>(caller.uid);
    json["gid"] = static_cast<Json::Int64>(caller.gid);
    json["pid"] = static_cast<Json::Int64>(caller.pid);
  }
  if (caller.kind == rpc::CallerKind::http) {
    json["user"] = rpc::printable(caller.user);
    json["address"] = caller.address;
  }
  return json;
}

Json::Value record_json(const rpc::CallRecord& record) {
  Json::Value json;
  json["time"] = now_text();
  json["caller"] = caller_json(record.caller);
  json["method"] = rpc::printable(record.name);
  if (record.method != nullptr && record.method->name != record.name) json["alias_of"] = record.method->name;
  json["params"] = record.params;
  json["took_us"] = static_cast<Json::UInt64>(record.took_ns / 1000);
  if (record.outcome) {
    json["result"] = "ok";
  } else {
    json["result"]["code"] = record.outcome.error().code;
    json["result"]["message"] = record.outcome.error().message;
  }
  return json;
}

}  // namespace

Result<int> AuditLog::open_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (fd < 0) return fail(errno, fmt::format("--audit-log '{}': {}", path, errno_text(errno)));
  return fd;
}

Result<std::unique_ptr<AuditLog>> AuditLog::open(const std::string& where, std::optional<std::pair<uid_t, gid_t>> future_owner) {
  if (where == "log" || where == "off") return std::unique_ptr<AuditLog>(new AuditLog(where == "log", std::string(), -1));
  const auto fd = open_file(where);
  if (!fd) return std::unexpected(fd.error());
  struct stat info{};
  const bool ours_to_give = future_owner && ::fstat(*fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size == 0;
  if (ours_to_give && ::fchown(*fd, future_owner->first, future_owner->second) != 0) {
    const int err = errno;
    ::close(*fd);
    return fail(err, fmt::format("--audit-log '{}': it cannot be given to the user of --user: {}", where, errno_text(err)));
  }
  std::error_code ignored;
  return std::unique_ptr<AuditLog>(new AuditLog(false, std::filesystem::absolute(where, ignored).string(), *fd));
}

std::string AuditLog::directory_of(const std::string& where) {
  if (where == "log" || where == "off") return "";
  std::error_code ignored;
  return std::filesystem::absolute(where, ignored).parent_path().string();
}

void AuditLog::reopen() {
  if (!is_file()) return;
  const auto fd = open_file(path_);
  if (!fd) return log_error("the audit log goes on into the file that was open: {}", fd.error().message);
  ::close(std::exchange(fd_, *fd));
  failed_ = false;
  log_notice("the audit log is {} from now on", path_);
}

AuditLog::~AuditLog() {
  if (fd_ >= 0) ::close(fd_);
}

void AuditLog::answered(const rpc::CallRecord& record) {
  const bool of_a_file = record.caller.kind == rpc::CallerKind::config_file;
  if (!record.acts || of_a_file) return;
  if (to_log_) write_log(record);
  if (fd_ >= 0) write_file(record);
}

void AuditLog::write_log(const rpc::CallRecord& record) const {
  const std::string who = record.caller.text();
  const std::string method = rpc::printable(record.name);
  const std::string params = record.params.isNull() ? "" : rpc::json_excerpt(record.params, max_params_bytes_in_log);
  const std::string result = result_text(record);
  const std::string uid = fmt::format("{}", record.caller.uid);
  const std::string pid = fmt::format("{}", record.caller.pid);
  const std::string code = fmt::format("{}", record.outcome ? 0 : record.outcome.error().code);
  const std::array fields = {LogField{"CATNAP_AUDIT_METHOD", method}, LogField{"CATNAP_AUDIT_CALLER", who},    LogField{"CATNAP_AUDIT_UID", uid},
                             LogField{"CATNAP_AUDIT_PID", pid},       LogField{"CATNAP_AUDIT_PARAMS", params}, LogField{"CATNAP_AUDIT_CODE", code}};
  log_record(LogLevel::notice, fmt::format("audit: {}: {}{}{}: {}", who, method, params.empty() ? "" : " ", params, result), fields);
}

void AuditLog::write_file(const rpc::CallRecord& record) {
  Json::Value json = record_json(record);
  std::string line = rpc::json_to_text(json);
  if (line.size() > max_params_bytes) {
    json["params"] = Json::Value();
    json["params_beginning"] = rpc::json_excerpt(record.params, max_params_bytes);
    line = rpc::json_to_text(json);
  }
  line += '\n';
  // One write appends one line, whoever else writes.
  const ssize_t written = ::write(fd_, line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) {
    failed_ = false;
    return;
  }
  if (std::exchange(failed_, true)) return;
  log_error("audit log {}: {}: records are lost", path_, written < 0 ? errno_text(errno) : "the disk took a part of a line");
}

}  // namespace catnap::server
