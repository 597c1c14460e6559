// From a method name and raw parameters to a reply: phase check, decoding, and the order of calls.
// Owner: app_thread. Left out: the wire (server.h), HTTP.
#pragma once

#include <json/json.h>

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "reactor/task.h"
#include "rpc/change_keeper.h"
#include "rpc/lifecycle.h"
#include "rpc/method.h"

namespace catnap::rpc {

// Who calls: a configuration file is read while initialising, so the phases do not bind it.
enum class Origin : std::uint8_t { client, config_file };

class Dispatcher {
 public:
  using Reply = std::move_only_function<void(RpcResult<Json::Value>)>;

  Dispatcher(const MethodTable& methods, const Lifecycle& lifecycle) : methods_(methods), lifecycle_(lifecycle) {}
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // Calls `reply` exactly once, now or later. Methods that change state wait for one another, in order of arrival (unless one
  // gives its turn up: turn.h); others start at once.
  void submit(const std::string& method, Json::Value params, Reply reply, Origin origin = Origin::client);
  // The same for a call that may be unwanted by the time its turn comes: `still_wanted` is asked then, and when it says no the reply is -ECANCELED.
  void submit_if(const std::string& method, Json::Value params, std::function<bool()> still_wanted, Reply reply, Origin origin);
  // The same for coroutines: `auto reply = co_await dispatcher.call("bdev_null_create", params, Origin::config_file);`
  // A state-changing method must not wait for another one through this: it would wait for itself.
  Task<RpcResult<Json::Value>> call(std::string method, Json::Value params, Origin origin);

  // From now on changes made by clients are kept by it; null: by nobody. Calls of configuration files pass it by.
  void set_keeper(ChangeKeeper* keeper) { keeper_ = keeper; }

  // Methods that other servers have and this one has not: the sentence for the error (-EOPNOTSUPP), "" for names that nobody knows.
  using ExplainUnknown = std::function<std::string(std::string_view method)>;
  void explain_unknown(ExplainUnknown explain) { explain_unknown_ = std::move(explain); }

  const MethodTable& methods() const { return methods_; }
  const Lifecycle& lifecycle() const { return lifecycle_; }

 private:
  struct Pending {
    Pending(const Method& called, Params checked, Reply answer, Origin from)
        : method(called), params(std::move(checked)), reply(std::move(answer)), origin(from) {}
    const Method& method;
    Params params;
    Reply reply;
    Origin origin;
    std::function<bool()> still_wanted;  // null: always
  };

  RpcResult<Params> admit(const std::string& name, const Json::Value& params, Origin origin) const;
  void queue(const std::string& name, Json::Value params, std::function<bool()> still_wanted, Reply reply, Origin origin);
  void run_queued();
  void prepare(Pending next);
  void run_change(Pending next, bool keep);
  static void run(const Method& method, Params params, Reply reply);

  const MethodTable& methods_;
  const Lifecycle& lifecycle_;
  ChangeKeeper* keeper_ = nullptr;
  ExplainUnknown explain_unknown_;
  std::deque<Pending> changes_;
  bool changing_ = false;
  bool draining_ = false;
};

}  // namespace catnap::rpc
