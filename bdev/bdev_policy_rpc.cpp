// See bdev_policy_rpc.h.
#include "bdev/bdev_policy_rpc.h"

#include <fmt/core.h>

#include <memory>
#include <utility>

#include "bdev/rpc_common.h"
#include "reactor/task.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

struct Limit {
  const char* name;
  const char* help;
  std::uint64_t RateLimits::* value;
};
constexpr Limit limits[] = {
    {"rw_ios_per_sec", "Reads and writes per second, any number; 0: no limit", &RateLimits::rw_ios_per_sec},
    {"rw_mbytes_per_sec", "MiB read and written per second, any number; 0: no limit", &RateLimits::rw_mbytes_per_sec},
    {"r_mbytes_per_sec", "MiB read per second, any number; 0: no limit", &RateLimits::r_mbytes_per_sec},
    {"w_mbytes_per_sec", "MiB written per second, any number; 0: no limit", &RateLimits::w_mbytes_per_sec},
};
// An hour: an I/O that may take longer than that is not waited for with a time-out.
constexpr std::uint64_t max_timeout_us = 3'600'000'000;

Task<RpcResult<Json::Value>> set_qos_limit(Params params) {
  const auto bdev = Registry::instance().find(params.string("name"));
  if (bdev == nullptr) co_return no_such_bdev(params.string("name"));
  RateLimits wanted = bdev->rate_limits();
  bool named = false;
  for (const Limit& limit : limits) {
    if (!params.has(limit.name)) continue;
    named = true;
    wanted.*limit.value = params.integer(limit.name);
  }
  if (!named) {
    co_return std::unexpected(
        RpcError(-EINVAL, "Invalid argument: none of rw_ios_per_sec, rw_mbytes_per_sec, r_mbytes_per_sec and w_mbytes_per_sec is given"));
  }
  const auto answer = take_up();
  bdev->set_rate_limits(wanted, [answer] { answer->give(true); });
  const std::optional<bool> in_time = co_await answer->promise();
  co_return taken_up(in_time, "the limits", *bdev);
}

Task<RpcResult<Json::Value>> set_timeout(Params params) {
  const auto bdev = Registry::instance().find(params.string("name"));
  if (bdev == nullptr) co_return no_such_bdev(params.string("name"));
  const auto answer = take_up();
  bdev->set_timeout(params.integer("timeout_us"), [answer] { answer->give(true); });
  const std::optional<bool> in_time = co_await answer->promise();
  co_return taken_up(in_time, "the time-out", *bdev);
}

RpcResult<Json::Value> get_timeouts(const Params& params) {
  Json::Value json(Json::arrayValue);
  auto bdevs = Registry::instance().all();
  if (params.has("name")) {
    const auto bdev = Registry::instance().find(params.string("name"));
    if (bdev == nullptr) return no_such_bdev(params.string("name"));
    bdevs = {bdev};
  }
  for (const auto& bdev : bdevs) {
    Json::Value entry(Json::objectValue);
    entry["name"] = bdev->name();
    entry["timeout_us"] = json_u64(bdev->timeout_us());
    entry["timed_out_ios"] = json_u64(bdev->timed_out_ios());
    json.append(entry);
  }
  return json;
}

Json::Value named_params(const Bdev& bdev) {
  Json::Value params(Json::objectValue);
  params["name"] = bdev.name();
  return params;
}

void append(Json::Value& calls, const char* method, Json::Value params) {
  Json::Value call(Json::objectValue);
  call["method"] = method;
  call["params"] = std::move(params);
  calls.append(std::move(call));
}

}  // namespace

Json::Value rate_limits_json(const Bdev& bdev) {
  const RateLimits assigned = bdev.rate_limits();
  Json::Value json(Json::objectValue);
  for (const Limit& limit : limits) json[limit.name] = json_u64(assigned.*limit.value);
  return json;
}

void append_policies(Json::Value& calls, const Bdev& bdev) {
  if (bdev.rate_limits().any()) {
    Json::Value params = named_params(bdev);
    const Json::Value assigned = rate_limits_json(bdev);
    for (const auto& name : assigned.getMemberNames()) params[name] = assigned[name];
    append(calls, "bdev_set_qos_limit", std::move(params));
  }
  if (bdev.timeout_us() > 0) {
    Json::Value params = named_params(bdev);
    params["timeout_us"] = json_u64(bdev.timeout_us());
    append(calls, "bdev_set_timeout", std::move(params));
  }
  if (const Bdev::Depth depth = bdev.depth(0); depth.period_us > 0) {
    Json::Value params = named_params(bdev);
    params["period"] = json_u64(depth.period_us);
    append(calls, "bdev_set_qd_sampling_period", std::move(params));
  }
}

void register_bdev_policy_methods(rpc::MethodTable& table) {
  std::vector<Param> params;
  params.push_back(Param("name", ParamType::string, "Name, alias or UUID").required());
  for (const Limit& limit : limits) params.push_back(Param(limit.name, ParamType::integer, limit.help).range(0, ~std::uint64_t{0}));
  table.add(Method("bdev_set_qos_limit", "Limits a bdev's rates, over all connections; limits that are not named stay as they are")
                .with(std::move(params))
                .mutates()
                .supersedes_waiting({"bdev_set_qos_limit"}, {{"name", "name"}})
                .coroutine(set_qos_limit));
  table.add(Method("bdev_set_timeout", "Has I/Os reported in the log, and counted, that are not answered in time; they are left alone")
                .with({Param("name", ParamType::string, "Name, alias or UUID").required(),
                       Param("timeout_us", ParamType::integer, "Microseconds; 0: no time-out").required().range(0, max_timeout_us)})
                .mutates()
                .supersedes_waiting({"bdev_set_timeout"}, {{"name", "name"}})
                .coroutine(set_timeout));
  table.add(Method("bdev_get_timeouts", "Shows time-outs of bdevs, and how many I/Os were not answered in time")
                .with({Param("name", ParamType::string, "Name, alias or UUID; all bdevs without it")})
                .result("array of {name, timeout_us, timed_out_ios}")
                .handler(get_timeouts));
}

}  // namespace catnap::bdev
