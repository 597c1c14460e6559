// Who calls, and who is told: the identity that travels with each request from its transport to the dispatcher, and the record of a call that
// observers (audit log, metrics) get when it has been answered.
// Owner: none (values); observers are called on app_thread. Left out: finding the identity out (connection.cpp for the Unix socket), writing records.
#pragma once

#include <json/json.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "rpc/method.h"

namespace catnap::rpc {

// What a caller may do. read_only: calls that only answer; whatever changes state or does something else (Method::acts()) is refused with -EACCES.
enum class Role : std::uint8_t { read_only, admin };
const char* role_name(Role role);  // "read-only", "admin"

enum class CallerKind : std::uint8_t {
  config_file,  // the process itself reads a configuration: neither phases nor --rpcs-allowed bind it, and the state file does not wait for it
  process,      // the process itself for another reason
  unix_socket,
  http,
};
const char* caller_kind_name(CallerKind kind);  // "config-file", "process", "unix", "http"

struct Caller {
  explicit Caller(CallerKind what) : kind(what) {}

  CallerKind kind;
  Role role = Role::admin;
  // unix_socket: as the kernel knew them when it connected (SO_PEERCRED, unix(7)); -1 otherwise.
  pid_t pid = -1;
  std::int64_t uid = -1;
  std::int64_t gid = -1;
  // http: who authenticated, "" for nobody, and the address it came from.
  std::string user;
  std::string address;

  // For people: "uid 0 gid 0 pid 4711 (unix)", "'operator' at 127.0.0.1:51000 (http)", "config-file".
  std::string text() const;

  static std::shared_ptr<const Caller> config_file();
  static std::shared_ptr<const Caller> process();
};
using CallerPtr = std::shared_ptr<const Caller>;  // one per connection or authenticated request; never null

// One call that has been answered, or refused. The references live only during the call of the observer.
struct CallRecord {
  const Caller& caller;
  const std::string& name;    // as it was called: maybe an alias, maybe nothing that anybody knows (then any bytes: printable())
  const Method* method;       // null: unknown
  bool acts;                  // it would change state, or do something else than answer
  const Json::Value& params;  // as given, without secrets; null when !acts (what only asks is not worth the copy)
  const RpcResult<Json::Value>& outcome;
  std::uint64_t took_ns;  // from its arrival to its answer, the wait for its turn and for the state file included
};

class CallObserver {
 public:
  virtual ~CallObserver() = default;
  // Before the reply is sent. Must not call the dispatcher.
  virtual void answered(const CallRecord& record) = 0;
};

}  // namespace catnap::rpc
