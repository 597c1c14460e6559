// One declaration per JSON-RPC method: name, parameters, help and handler; decoding, schema, help and reference page all come from it.
// Owner: app_thread (declaring and calling). Left out: the wire (server.h), what methods do (X_rpc.cpp beside each module).
#pragma once

#include <json/json.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/task.h"

namespace catnap::rpc {

// JSON-RPC 2.0 section 5.1; everything else is a negative errno.
inline constexpr int parse_error = -32700;
inline constexpr int invalid_request = -32600;
inline constexpr int method_not_found = -32601;
inline constexpr int invalid_params = -32602;  // wrong form only: missing, unknown, duplicate, wrong type, out of range
inline constexpr int internal_error = -32603;
inline constexpr int invalid_state = -1;  // SPDK_JSONRPC_ERROR_INVALID_STATE's value: method not allowed before/after framework_start_init

struct RpcError {
  RpcError(int json_rpc_code, std::string text) : code(json_rpc_code), message(std::move(text)) {}
  RpcError(const Error& error) : code(-error.err), message(error.message) {}  // implicit: module errors become RPC errors here
  int code;
  std::string message;
};
template <typename T>
using RpcResult = std::expected<T, RpcError>;

enum class ParamType : std::uint8_t { string, boolean, integer, number, object, array_of_string, array_of_object, any };

// Chainable: Param{"block_size", ParamType::integer, "Bytes per block"}.required().range(512, 65536)
struct Param {
  Param(std::string param_name, ParamType param_type, std::string help_text)
      : name(std::move(param_name)), type(param_type), help(std::move(help_text)) {}

  std::string name;
  ParamType type;
  std::string help;
  bool is_required = false;
  std::optional<Json::Value> default_value;
  std::optional<std::int64_t> minimum;
  std::optional<std::uint64_t> maximum;
  std::vector<std::string> choices;  // strings only; matched without regard to case when ignore_case
  bool ignore_case = false;
  std::vector<std::string> aliases;       // old spellings that mean the same
  bool is_secret = false;                 // its value appears neither in errors nor in the log
  bool is_ignored = false;                // accepted from live callers, has no effect (said once in the log)
  bool does_something = false;            // a call with it, and not with its default, does more than answer
  std::optional<Json::Value> kept_value;  // what a state file keeps instead of the value in force (only when it is given at all)
  std::vector<Param> fields;              // of an object, or of each element of array_of_object; decoded by the same rules

  Param&& required() && {
    is_required = true;
    return std::move(*this);
  }
  Param&& or_default(Json::Value value) && {
    default_value = std::move(value);
    return std::move(*this);
  }
  Param&& range(std::int64_t low, std::uint64_t high) && {
    minimum = low;
    maximum = high;
    return std::move(*this);
  }
  Param&& one_of(std::vector<std::string> values, bool any_case = false) && {
    choices = std::move(values);
    ignore_case = any_case;
    return std::move(*this);
  }
  Param&& alias(std::string old_name) && {
    aliases.push_back(std::move(old_name));
    return std::move(*this);
  }
  Param&& secret() && {
    is_secret = true;
    return std::move(*this);
  }
  Param&& ignored() && {
    is_ignored = true;
    return std::move(*this);
  }
  // Of a method that only answers, unless this is given: not for callers who may only read.
  Param&& acts() && {
    does_something = true;
    return std::move(*this);
  }
  Param&& kept_as(Json::Value value) && {
    kept_value = std::move(value);
    return std::move(*this);
  }
  Param&& with_fields(std::vector<Param> members) && {
    fields = std::move(members);
    return std::move(*this);
  }
};

// Decoded, checked parameters: every present one has the declared type and bounds, defaults are filled in, aliases renamed.
class Params {
 public:
  explicit Params(Json::Value values) : values_(std::move(values)) {}
  bool has(std::string_view name) const;
  std::string string(std::string_view name) const;           // "" when absent
  bool boolean(std::string_view name) const;                 // false when absent
  std::uint64_t integer(std::string_view name) const;        // 0 when absent
  std::int64_t signed_integer(std::string_view name) const;  // 0 when absent
  double number(std::string_view name) const;
  const Json::Value& json(std::string_view name) const;  // null when absent
  Params object(std::string_view name) const;            // empty when absent
  std::vector<std::string> strings(std::string_view name) const;
  const Json::Value& all() const { return values_; }

 private:
  Json::Value values_;
};

// When a method may be called (SPDK's STARTUP and RUNTIME).
enum class Phase : std::uint8_t { startup_only, runtime_only, always };

// Which calls that still wait for what they need (server/pending_calls.h) a call takes back: deleting what is not there yet must mean that it does
// not come later. `methods`: their names, or beginnings of names followed by "*". `same`: pairs of parameters, of this call and of the waiting one
// ("namespace.nsid" goes into objects), that must agree, all of them; texts do so without regard to case. A first one that begins with "?" agrees
// with anything when the call does not give it. A method bdev_…_delete that declares none takes back every waiting bdev_… call of the same "name",
// and the namespaces that wait for that bdev.
struct TakeBack {
  TakeBack(std::vector<std::string> waiting_methods, std::vector<std::pair<std::string, std::string>> same_params)
      : methods(std::move(waiting_methods)), same(std::move(same_params)) {}
  std::vector<std::string> methods;
  std::vector<std::pair<std::string, std::string>> same;
  // What pairs cannot say; null: nothing. `own`, `waiting`: the parameters of both calls.
  std::function<bool(const Json::Value& own, const Json::Value& waiting)> also;
  // Only by a call that has succeeded: it has made, or set, what the other waits for.
  bool only_when_made = false;
};

// A method that has this parameter is kept in a state file only when it was called with true.
inline constexpr const char* persist_param_name = "persist";
inline Param persist_param() {
  return Param(persist_param_name, ParamType::boolean, "Keep it in the state file (--state) and in saved configurations").or_default(false);
}

using SyncHandler = std::function<RpcResult<Json::Value>(const Params&)>;
using TaskHandler = std::function<Task<RpcResult<Json::Value>>(Params)>;

struct Method {
  Method(std::string method_name, std::string help_text) : name(std::move(method_name)), help(std::move(help_text)) {}

  std::string name;
  std::string help;
  std::vector<Param> params;
  std::string result_help = "true";
  std::vector<std::string> aliases;  // deprecated method names
  Phase phase = Phase::runtime_only;
  // Changes configuration: calls of such methods run one after another, in order of arrival (all connections), and with --state the answer comes
  // when what is in force then is on disk (change_keeper.h).
  bool changes_state = false;
  bool is_kept = true;          // false: changes state, and the state file does not keep it
  bool does_something = false;  // changes no configuration, but does more than answer: a reset, a signal
  bool is_allowed = true;       // false: --rpcs-allowed does not list it (MethodTable::allow_only)
  std::vector<TakeBack> takes_back;
  std::vector<TakeBack> go_with_it;  // waiting calls that a waiting call of this method has with it when it is taken back
  SyncHandler sync;
  TaskHandler task;

  Method&& with(std::vector<Param> declared) && {
    params = std::move(declared);
    return std::move(*this);
  }
  Method&& result(std::string text) && {
    result_help = std::move(text);
    return std::move(*this);
  }
  Method&& alias(std::string old_name) && {
    aliases.push_back(std::move(old_name));
    return std::move(*this);
  }
  Method&& in_phase(Phase when) && {
    phase = when;
    return std::move(*this);
  }
  Method&& mutates() && {
    changes_state = true;
    return std::move(*this);
  }
  // Changes no configuration, and yet does something: such calls do not wait for one another, and callers who may only read may not make them.
  Method&& acts() && {
    does_something = true;
    return std::move(*this);
  }
  // Does a call with these parameters do more than answer?
  bool acts(const Json::Value& call_params) const;
  // Does a call with these parameters concern what is kept beyond the end of the process?
  bool keeps(const Json::Value& call_params) const {
    bool asks = false;
    for (const Param& param : params) asks = asks || param.name == persist_param_name;
    return changes_state && is_kept && (!asks || (call_params.isObject() && call_params[persist_param_name] == Json::Value(true)));
  }
  // For methods whose effect a restart shall not bring back, though saved configurations show it.
  Method&& not_kept() && {
    is_kept = false;
    return std::move(*this);
  }
  Method&& takes_back_waiting(std::vector<std::string> waiting_methods, std::vector<std::pair<std::string, std::string>> same_params) && {
    takes_back.emplace_back(std::move(waiting_methods), std::move(same_params));
    return std::move(*this);
  }
  // The same for pairs and something more.
  Method&& takes_back_waiting_if(std::vector<std::string> waiting_methods, std::function<bool(const Json::Value&, const Json::Value&)> also) && {
    takes_back.emplace_back(std::move(waiting_methods), std::vector<std::pair<std::string, std::string>>());
    takes_back.back().also = std::move(also);
    return std::move(*this);
  }
  // What a client makes or sets takes the place of what waits.
  Method&& supersedes_waiting(std::vector<std::string> waiting_methods, std::vector<std::pair<std::string, std::string>> same_params) && {
    takes_back.emplace_back(std::move(waiting_methods), std::move(same_params));
    takes_back.back().only_when_made = true;
    return std::move(*this);
  }
  // Taken back together: `same_params` has parameters of this method first.
  Method&& waits_with(std::vector<std::string> waiting_methods, std::vector<std::pair<std::string, std::string>> same_params) && {
    go_with_it.emplace_back(std::move(waiting_methods), std::move(same_params));
    return std::move(*this);
  }
  // Answers before it returns.
  Method&& handler(SyncHandler function) && {
    sync = std::move(function);
    return std::move(*this);
  }
  // A coroutine on app_thread.
  Method&& coroutine(TaskHandler function) && {
    task = std::move(function);
    return std::move(*this);
  }
};

// All methods of the process by name.
class MethodTable {
 public:
  // A second method of the same name is a broken invariant.
  void add(Method method);
  const Method* find(std::string_view name) const;  // by name or alias
  std::vector<const Method*> all() const;           // sorted by name

  // From now on clients may call only these: names, aliases, or beginnings of names followed by "*". Gives back the patterns that fit no method here.
  std::vector<std::string> allow_only(const std::vector<std::string>& patterns);

  // `params` as they may be logged: secret ones are named, not shown.
  static Json::Value without_secrets(const Method& method, const Json::Value& params);
  // Checks and decodes `params` (null, absent or object) against a declaration; -32602 with the parameter, the value and the reason.
  static RpcResult<Params> decode(const Method& method, const Json::Value& params);

 private:
  std::vector<std::unique_ptr<Method>> methods_;
};

}  // namespace catnap::rpc
