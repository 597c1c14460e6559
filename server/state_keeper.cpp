// What --state keeps. See state_keeper.h.
// Owner: app_thread.
#include "server/state_keeper.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "rpc/json.h"

namespace catnap::server {
namespace {

bool says_not_there(const rpc::RpcError& error) { return error.code == -ENODEV || error.code == -ENOENT; }

}  // namespace

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
  if (gone && pending_.take_back(method, params, outcome.has_value()) && !outcome) outcome = Json::Value(true);
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
