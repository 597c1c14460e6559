// What the modules' RPC files share: JSON of a bdev, adding and removing by call.
// Owner: app_thread. Left out: methods (bdev_rpc.cpp and each module's X_rpc.cpp).
#pragma once

#include <json/json.h>

#include <memory>
#include <optional>
#include <string>

#include "bdev/bdev.h"
#include "reactor/timed_answer.h"
#include "rpc/method.h"

namespace catnap::bdev {

// How long a delete call waits for openers and channels before it answers that the bdev is removed and what still holds it. Channels go within a
// few turns of their reactors; only I/O stuck in a device takes longer, and no caller gains from waiting on with it.
inline constexpr std::uint64_t remove_answer_us = 10'000'000;

// Latencies are counted in nanoseconds, so a "tick" is one.
inline constexpr std::uint64_t tick_rate_hz = 1'000'000'000;

Json::Value json_u64(std::uint64_t value);

// Parses JSON text that a module wrote; null when it is broken.
Json::Value parse_json(const std::string& text);

// Adds it and answers with its name, as every create method does.
rpc::RpcResult<Json::Value> add_and_answer(std::shared_ptr<Bdev> bdev);

// Removes a bdev of the module with that product name. -19 when there is none; -110 when it is removed but something still holds it (named).
Task<rpc::RpcResult<Json::Value>> remove_and_answer(std::string name, std::string product_name);

// For methods that every channel of a bdev has to hear of: `answer` is given when they have, taken_up() makes the reply of what came of it, -110 when
// threads did not answer in 5 s. `what` was set, in the words of an error ("the limits").
std::shared_ptr<TimedAnswer<bool>> take_up();
rpc::RpcResult<Json::Value> taken_up(const std::optional<bool>& in_time, std::string_view what, const Bdev& bdev);

// The parameters of protection information and metadata that SPDK's create methods have and these modules refuse unless they are off.
std::vector<rpc::Param> metadata_params();
Result<void> check_metadata_params(const rpc::Params& params);

// -19 naming it.
std::unexpected<rpc::RpcError> no_such_bdev(std::string_view name);
// -19 too: the bdev exists, but is not of the kind the method is for.
std::unexpected<rpc::RpcError> another_kind(std::string_view name, std::string_view is, std::string_view wanted);

}  // namespace catnap::bdev
