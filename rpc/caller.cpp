// Names and texts of callers (caller.h).
// Owner: none.
#include "rpc/caller.h"

#include <fmt/format.h>

#include "rpc/json.h"

namespace catnap::rpc {

const char* role_name(Role role) { return role == Role::admin ? "admin" : "read-only"; }

const char* caller_kind_name(CallerKind kind) {
  switch (kind) {
    case CallerKind::config_file:
      return "config-file";
    case CallerKind::process:
      return "process";
    case CallerKind::unix_socket:
      return "unix";
    case CallerKind::http:
      return "http";
  }
  return "process";
}

std::string Caller::text() const {
  switch (kind) {
    case CallerKind::unix_socket:
      return fmt::format("uid {} gid {} pid {} (unix)", uid, gid, pid);
    case CallerKind::http:
      return fmt::format("{} at {} (http)", user.empty() ? std::string("nobody") : "'" + printable(user) + "'", address);
    case CallerKind::config_file:
    case CallerKind::process:
      return caller_kind_name(kind);
  }
  return "";
}

CallerPtr Caller::config_file() {
  static const CallerPtr itself = std::make_shared<const Caller>(CallerKind::config_file);
  return itself;
}

CallerPtr Caller::process() {
  static const CallerPtr itself = std::make_shared<const Caller>(CallerKind::process);
  return itself;
}

}  // namespace catnap::rpc
