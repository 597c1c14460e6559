// Runs calls (dispatcher.h).
// Owner: app_thread. Left out: who sent them.
#include "rpc/dispatcher.h"

#include <fmt/format.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <set>
#include <utility>

#include "reactor/base/log.h"
#include "reactor/clock.h"
#include "rpc/json.h"
#include "rpc/turn.h"

namespace catnap::rpc {
namespace {

LogFlag log_rpc{"rpc"};

std::unexpected<RpcError> refuse(int code, std::string message) { return std::unexpected<RpcError>(std::in_place, code, std::move(message)); }

std::string phase_refusal(const std::string& name, Phase phase, Lifecycle::State state) {
  if (phase == Phase::startup_only) {
    return fmt::format(
        "{} may only be called before the framework is initialized: start catnapd with --wait-for-rpc and call it before "
        "framework_start_init",
        name);
  }
  return fmt::format(
      "{} may only be called after the framework is initialized{}", name,
      state == Lifecycle::State::initialising ? ", which is under way (framework_wait_init waits for it)" : " by framework_start_init");
}

void warn_deprecated_once(const std::string& called, const std::string& name) {
  static std::set<std::string> said;  // app_thread only
  if (said.insert(called).second) log_warning("method {} is a deprecated name of {}", called, name);
}

}  // namespace

RpcResult<Params> Dispatcher::admit(const std::string& name, const Json::Value& params, const Caller& caller) const {
  if (ended_) return refuse(-ECANCELED, "Operation canceled: the process is ending");
  const Method* method = methods_.find(name);
  const bool from_client = caller.kind != CallerKind::config_file;
  const std::string elsewhere = method == nullptr && explain_unknown_ ? explain_unknown_(name) : std::string();
  if (!elsewhere.empty()) return refuse(-EOPNOTSUPP, elsewhere);
  if (method == nullptr) return refuse(method_not_found, fmt::format("Method not found: '{}'", printable(name)));
  if (method->name != name) warn_deprecated_once(name, method->name);
  if (from_client && !method->is_allowed) return refuse(-EACCES, fmt::format("Permission denied: --rpcs-allowed does not list {}", method->name));
  if (caller.role == Role::read_only && (method->changes_state || method->does_something)) {
    return refuse(-EACCES, fmt::format("Permission denied: {} is not among the calls that only read, and this caller may only read", method->name));
  }
  if (from_client && !lifecycle_.allows(method->phase)) {
    return refuse(invalid_state, phase_refusal(name, method->phase, lifecycle_.state()));
  }
  RpcResult<Params> decoded = MethodTable::decode(*method, params);
  if (decoded && caller.role == Role::read_only && method->acts(decoded->all())) {
    return refuse(-EACCES,
                  fmt::format("Permission denied: with these parameters {} does more than read, and this caller may only read", method->name));
  }
  return decoded;
}

void Dispatcher::submit(const std::string& name, Json::Value params, Reply reply, Origin origin) {
  queue(origin == Origin::client ? Caller::process() : Caller::config_file(), name, std::move(params), nullptr, std::move(reply));
}

void Dispatcher::submit_from(const CallerPtr& caller, const std::string& name, Json::Value params, Reply reply) {
  queue(caller, name, std::move(params), nullptr, std::move(reply));
}

void Dispatcher::submit_if(const std::string& name, Json::Value params, std::function<bool()> still_wanted, Reply reply, Origin origin) {
  queue(origin == Origin::client ? Caller::process() : Caller::config_file(), name, std::move(params), std::move(still_wanted), std::move(reply));
}

void Dispatcher::end() {
  ended_ = true;
  for (Pending& waiting : std::exchange(changes_, {})) {
    waiting.reply(std::unexpected<RpcError>(std::in_place, -ECANCELED, "Operation canceled: the process is ending"));
  }
}

// The reply that tells the observers first.
Dispatcher::Reply Dispatcher::watched(const CallerPtr& caller, const std::string& name, const Json::Value& params, Reply reply) {
  const Method* method = methods_.find(name);
  const bool acts = method != nullptr && method->acts(params);
  Json::Value shown = acts ? MethodTable::without_secrets(*method, params) : Json::Value();
  const std::uint64_t began_ns = system_clock().now_ns();
  return [this, caller, name, method, acts, shown = std::move(shown), began_ns, reply = std::move(reply)](RpcResult<Json::Value> outcome) mutable {
    const CallRecord record{*caller, name, method, acts, shown, outcome, system_clock().now_ns() - began_ns};
    for (CallObserver* observer : observers_) observer->answered(record);
    reply(std::move(outcome));
  };
}

void Dispatcher::queue(const CallerPtr& caller, const std::string& name, Json::Value params, std::function<bool()> still_wanted, Reply reply) {
  if (log_rpc.enabled()) {
    const Method* method = methods_.find(name);
    log_debug(log_rpc, "{}: {} {}", caller->text(), printable(name),
              json_excerpt(method != nullptr ? MethodTable::without_secrets(*method, params) : params, 1000));
  }
  if (!observers_.empty()) reply = watched(caller, name, params, std::move(reply));
  auto admitted = admit(name, params, *caller);
  if (!admitted) {
    reply(std::unexpected(std::move(admitted.error())));
    return;
  }
  const Method& method = *methods_.find(name);
  if (!method.changes_state) {
    run(method, std::move(*admitted), std::move(reply));
    return;
  }
  changes_.emplace_back(method, std::move(*admitted), std::move(reply), caller->kind != CallerKind::config_file);
  changes_.back().still_wanted = std::move(still_wanted);
  run_queued();
}

void Dispatcher::run_queued() {
  if (draining_) return;  // a change that ended at once: the loop below goes on with the next
  draining_ = true;
  while (!changing_ && !changes_.empty()) {
    Pending next = std::move(changes_.front());
    changes_.pop_front();
    if (next.still_wanted && !next.still_wanted()) {
      next.reply(std::unexpected<RpcError>(std::in_place, -ECANCELED, "no longer wanted"));
      continue;
    }
    changing_ = true;
    if (keeper_ != nullptr && next.from_client && next.method.keeps(next.params.all())) {
      prepare(std::move(next));
    } else {
      run_change(std::move(next), false);
    }
  }
  draining_ = false;
}

void Dispatcher::prepare(Pending next) {
  const Method& method = next.method;
  const Params params = next.params;
  keeper_->prepare(method, params, [this, next = std::move(next)](Result<void> prepared) mutable {
    if (prepared && ended_) prepared = fail(ECANCELED, "Operation canceled: the process is ending");
    if (prepared) {
      run_change(std::move(next), true);
    } else {
      changing_ = false;
      next.reply(std::unexpected<RpcError>(std::in_place, prepared.error()));
    }
    run_queued();
  });
}

void Dispatcher::run_change(Pending next, bool keep) {
  if (keeper_ != nullptr) keeper_->begins(keep);
  const auto held = std::make_shared<std::function<void()>>([this] {
    turn_is_over();
    run_queued();
  });
  const Turn::Held outer = std::exchange(Turn::starting(), held);
  const Method& method = next.method;
  Params given = keep ? next.params : Params(Json::Value());
  run(method, std::move(next.params),
      [this, &method, keep, held, given = std::move(given), reply = std::move(next.reply)](RpcResult<Json::Value> outcome) mutable {
        if (std::exchange(*held, nullptr) != nullptr) turn_is_over();  // else it has given its turn up, and another may have it
        if (keep) {
          keeper_->settle(method, given, std::move(outcome), std::move(reply));
        } else {
          reply(std::move(outcome));
        }
        run_queued();
      });
  Turn::starting() = outer;
}

void Dispatcher::turn_is_over() {
  changing_ = false;
  if (keeper_ != nullptr) keeper_->made();
}

void Dispatcher::run(const Method& method, Params params, Reply reply) {
  if (method.sync) {
    reply(method.sync(params));
    return;
  }
  spawn<RpcResult<Json::Value>>(method.task(std::move(params)), std::move(reply));
}

Task<RpcResult<Json::Value>> Dispatcher::call(std::string method, Json::Value params, Origin origin) {
  Promise<RpcResult<Json::Value>> answer;
  submit(method, std::move(params), [answer](RpcResult<Json::Value> outcome) { answer.set(std::move(outcome)); }, origin);
  RpcResult<Json::Value> outcome = co_await answer;
  co_return outcome;
}

}  // namespace catnap::rpc
