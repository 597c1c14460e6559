// Runs calls (dispatcher.h).
// Owner: app_thread. Left out: who sent them.
#include "rpc/dispatcher.h"

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <set>
#include <utility>

#include "reactor/base/log.h"
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

RpcResult<Params> Dispatcher::admit(const std::string& name, const Json::Value& params, Origin origin) const {
  const Method* method = methods_.find(name);
  if (method == nullptr) return refuse(method_not_found, fmt::format("Method not found: '{}'", printable(name)));
  if (method->name != name) warn_deprecated_once(name, method->name);
  if (origin == Origin::client && !lifecycle_.allows(method->phase)) {
    return refuse(invalid_state, phase_refusal(name, method->phase, lifecycle_.state()));
  }
  return MethodTable::decode(*method, params);
}

void Dispatcher::submit(const std::string& name, Json::Value params, Reply reply, Origin origin) {
  if (log_rpc.enabled()) {
    const Method* method = methods_.find(name);
    log_debug(log_rpc, "{} {}", printable(name), json_excerpt(method != nullptr ? MethodTable::without_secrets(*method, params) : params, 1000));
  }
  auto admitted = admit(name, params, origin);
  if (!admitted) {
    reply(std::unexpected(std::move(admitted.error())));
    return;
  }
  const Method& method = *methods_.find(name);
  if (!method.changes_state) {
    run(method, std::move(*admitted), std::move(reply));
    return;
  }
  changes_.emplace_back(method, std::move(*admitted), std::move(reply));
  run_queued();
}

void Dispatcher::run_queued() {
  if (draining_) return;  // a change that ended at once: the loop below goes on with the next
  draining_ = true;
  while (!changing_ && !changes_.empty()) {
    Pending next = std::move(changes_.front());
    changes_.pop_front();
    changing_ = true;
    const auto held = std::make_shared<std::function<void()>>([this] {
      changing_ = false;
      run_queued();
    });
    const Turn::Held outer = std::exchange(Turn::starting(), held);
    run(next.method, std::move(next.params), [this, held, reply = std::move(next.reply)](RpcResult<Json::Value> outcome) mutable {
      if (std::exchange(*held, nullptr) != nullptr) changing_ = false;  // else it has given its turn up, and another may have it
      reply(std::move(outcome));
      run_queued();
    });
    Turn::starting() = outer;
  }
  draining_ = false;
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
