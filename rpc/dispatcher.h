// From a method name and raw parameters to a reply: may this caller call it (phase, role, --rpcs-allowed), decoding, and the order of calls.
// Owner: app_thread. Left out: the wire (server.h), HTTP.
#pragma once

#include <json/json.h>

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reactor/task.h"
#include "rpc/caller.h"
#include "rpc/change_keeper.h"
#include "rpc/lifecycle.h"
#include "rpc/method.h"

namespace catnap::rpc {

// Short for Caller::process() and Caller::config_file().
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
  // The same for somebody else, with the caller's role.
  void submit_from(const CallerPtr& caller, const std::string& method, Json::Value params, Reply reply);
  // The same for a call that may be unwanted by the time its turn comes: `still_wanted` is asked then, and when it says no the reply is -ECANCELED.
  void submit_if(const std::string& method, Json::Value params, std::function<bool()> still_wanted, Reply reply, Origin origin);
  // The same for coroutines: `auto reply = co_await dispatcher.call("bdev_null_create", params, Origin::config_file);`
  // A state-changing method must not wait for another one through this: it would wait for itself.
  Task<RpcResult<Json::Value>> call(std::string method, Json::Value params, Origin origin);

  // From now on changes made by clients are kept by it; null: by nobody. Calls of configuration files pass it by.
  void set_keeper(ChangeKeeper* keeper) { keeper_ = keeper; }

  // Told of each call when it is answered or refused, as long as the dispatcher lives; configuration files' calls too.
  void observe(CallObserver& observer) { observers_.push_back(&observer); }

  // The process ends: changes that wait for their turn, and all further calls, are refused with -ECANCELED.
  void end();

  // Methods that other servers have and this one has not: the sentence for the error (-EOPNOTSUPP), "" for names that nobody knows.
  using ExplainUnknown = std::function<std::string(std::string_view method)>;
  void explain_unknown(ExplainUnknown explain) { explain_unknown_ = std::move(explain); }

  const MethodTable& methods() const { return methods_; }
  const Lifecycle& lifecycle() const { return lifecycle_; }

 private:
  struct Pending {
    Pending(const Method& called, Params checked, Reply answer, bool is_client)
        : method(called), params(std::move(checked)), reply(std::move(answer)), from_client(is_client) {}
    const Method& method;
    Params params;
    Reply reply;
    bool from_client;                    // anybody but a configuration file
    std::function<bool()> still_wanted;  // null: always
  };

  RpcResult<Params> admit(const std::string& name, const Json::Value& params, const Caller& caller) const;
  void queue(const CallerPtr& caller, const std::string& name, Json::Value params, std::function<bool()> still_wanted, Reply reply);
  Reply watched(const CallerPtr& caller, const std::string& name, const Json::Value& params, Reply reply);
  void run_queued();
  void prepare(Pending next);
  void run_change(Pending next, bool keep);
  void turn_is_over();
  static void run(const Method& method, Params params, Reply reply);

  const MethodTable& methods_;
  const Lifecycle& lifecycle_;
  ChangeKeeper* keeper_ = nullptr;
  ExplainUnknown explain_unknown_;
  std::vector<CallObserver*> observers_;
  std::deque<Pending> changes_;
  bool changing_ = false;
  bool draining_ = false;
  bool ended_ = false;
};

}  // namespace catnap::rpc
