// What --state keeps. See state_keeper.h.
// Owner: app_thread.
#include "server/state_keeper.h"

#include <fmt/format.h>

#include <string>
#include <unordered_map>
#include <utility>

#include "rpc/json.h"

namespace catnap::server {
namespace {

bool says_not_there(const rpc::RpcError& error) { return error.code == -ENODEV || error.code == -ENOENT; }

void put_kept_values(const std::vector<rpc::Param>& declared, Json::Value& params) {
  if (!params.isObject()) return;
  for (const rpc::Param& param : declared) {
    if (param.kept_value && params.isMember(param.name)) params[param.name] = *param.kept_value;
  }
}

}  // namespace

Json::Value kept_state(const rpc::MethodTable& methods, Json::Value config) {
  // Thousands of calls of a few methods.
  std::unordered_map<std::string, const rpc::Method*> known;
  const auto find = [&](const std::string& name) {
    const auto [found, is_new] = known.try_emplace(name, nullptr);
    if (is_new) found->second = methods.find(name);
    return found->second;
  };
  for (Json::Value& subsystem : config["subsystems"]) {
    Json::Value kept(Json::arrayValue);
    for (Json::Value& call : subsystem["config"]) {
      const rpc::Method* method = find(call["method"].asString());
      if (method != nullptr && method->changes_state && !method->keeps(call.get("params", Json::Value()))) continue;
      if (method != nullptr && call.isMember("params")) put_kept_values(method->params, call["params"]);
      kept.append(std::move(call));
    }
    subsystem["config"] = std::move(kept);
  }
  return config;
}

void StateKeeper::prepare(const rpc::Method& method, const rpc::Params& params, Prepared prepared) {
  store_.prepare(rpc::json_to_text(params.all()).size(), [&method, prepared = std::move(prepared)](Result<void> room) mutable {
    if (!room)
      room = fail(room.error().err, fmt::format("{} is refused, as the state file cannot be written: {}", method.name, room.error().message));
    prepared(std::move(room));
  });
}

void StateKeeper::settle(const rpc::Method& method, const rpc::Params& params, rpc::RpcResult<Json::Value> outcome, Answer answer) {
  const bool gone = outcome.has_value() || says_not_there(outcome.error());
  // Deleting what was only awaited has done what its caller wants.
  if (gone && pending_.take_back(method, params) && !outcome) outcome = Json::Value(true);
  if (outcome) pending_.look_again();
  store_.settle([&method, outcome = std::move(outcome), answer = std::move(answer)](Result<void> kept) mutable {
    if (kept) {
      answer(std::move(outcome));
      return;
    }
    const std::string made = outcome ? std::string("is in force") : "failed (" + outcome.error().message + ")";
    answer(std::unexpected<rpc::RpcError>(
        std::in_place, -kept.error().err,
        fmt::format("{} {}, but the state file could not be written: {}. A restart loses it unless a later change is kept", method.name, made,
                    kept.error().message)));
  });
}

}  // namespace catnap::server
