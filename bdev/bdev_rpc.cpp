// See bdev_rpc.h. Result keys are SPDK's (schema/schema.yaml and lib/bdev/bdev_rpc.c of SPDK 26.09-pre), read by rpc.py, Longhorn and others;
// keys of our own come behind them.
#include "bdev/bdev_rpc.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "bdev/bdev.h"
#include "bdev/bdev_policy_rpc.h"
#include "bdev/bdev_statistics_rpc.h"
#include "bdev/rpc_common.h"
#include "reactor/clock.h"
#include "reactor/runtime.h"
#include "reactor/task.h"
#include "reactor/timed_answer.h"
#include "rpc/listing.h"
#include "rpc/notifications.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

Json::Value supported_io_types(const Bdev& bdev) {
  Json::Value types(Json::objectValue);
  for (const Op op : {Op::read, Op::write, Op::unmap, Op::flush, Op::reset, Op::write_zeroes, Op::compare, Op::compare_and_write, Op::copy,
                      Op::verify, Op::write_uncorrectable}) {
    types[std::string(op_name(op))] = bdev.supports(op);
  }
  types["abort"] = true;  // the core takes back what has not reached the medium
  // SPDK's other types: clients look some of them up without asking whether they are there.
  for (const char* absent : {"nvme_admin", "nvme_io", "nvme_io_md", "zcopy", "get_zone_info", "zone_management", "zone_append", "seek_hole",
                             "seek_data", "nvme_iov_md", "nvme_nssr"}) {
    types[absent] = false;
  }
  return types;
}

Json::Value bdev_to_json(const Bdev& bdev) {
  const BdevInfo& info = bdev.info();
  Json::Value json(Json::objectValue);
  json["name"] = info.name;
  json["aliases"] = Json::Value(Json::arrayValue);
  for (const auto& alias : info.aliases) json["aliases"].append(alias);
  if (info.uuid != info.name) json["aliases"].append(info.uuid);  // SPDK makes the UUID an alias of every bdev
  json["product_name"] = info.product_name;
  json["block_size"] = info.block_size;
  json["num_blocks"] = json_u64(bdev.num_blocks());
  json["uuid"] = info.uuid;
  json["assigned_rate_limits"] = rate_limits_json(bdev);
  const std::string holder = Registry::instance().claimed_by(bdev);
  json["claimed"] = !holder.empty();
  if (!holder.empty()) json["claim_type"] = "exclusive_write";
  json["zoned"] = false;
  json["supported_io_types"] = supported_io_types(bdev);
  json["memory_domains"] = Json::Value(Json::arrayValue);
  const Json::Value specific = parse_json(bdev.driver_specific_json());
  json["driver_specific"] = specific.isObject() ? specific : Json::Value(Json::objectValue);
  json["physical_block_size"] = info.physical_block_size;
  json["write_cache"] = info.write_cache;
  if (!holder.empty()) json["claimed_by"] = holder;
  json["timeout_us"] = json_u64(bdev.timeout_us());
  return json;
}

Json::Value shown_bdev(const std::shared_ptr<Bdev>& bdev) { return bdev_to_json(*bdev); }

Task<RpcResult<Json::Value>> get_bdevs(Params params) {
  if (!params.has("name")) {
    auto all = rpc::list_in_slices(Registry::instance().all(), &shown_bdev);
    Json::Value shown = co_await std::move(all);
    co_return shown;
  }
  Json::Value list(Json::arrayValue);
  const std::string name = params.string("name");
  const std::uint64_t timeout_ms = params.integer("timeout");
  auto bdev = Registry::instance().find(name);
  if (bdev == nullptr && timeout_ms > 0) {
    const auto answer = TimedAnswer<bool>::within_us(timeout_ms * 1000);
    const auto waiting = Registry::instance().when_added(name, [answer] { answer->give(true); });
    const std::optional<bool> appeared = co_await answer->promise();
    if (appeared.has_value()) bdev = Registry::instance().find(name);
  }
  if (bdev == nullptr) co_return no_such_bdev(name);
  list.append(bdev_to_json(*bdev));
  co_return list;
}

// One day: far above any attach, far below what overflows.
constexpr std::uint64_t max_timeout_ms = 86'400'000;

// SPDK's keys; the channels of bdevs are named as there. Other modules have no channels.
Json::Value get_io_channels() {
  Json::Value reply(Json::objectValue);
  reply["tick_rate"] = json_u64(tick_rate_hz);
  reply["threads"] = Json::Value(Json::arrayValue);
  for (const Thread* thread : Runtime::instance()->threads()) {
    Json::Value entry(Json::objectValue);
    entry["name"] = thread->name();
    entry["id"] = json_u64(thread->id());
    entry["io_channels"] = Json::Value(Json::arrayValue);
    for (const auto& bdev : Registry::instance().all()) {
      for (const Bdev::ChannelStats& channel : bdev->channel_stats()) {
        if (channel.thread_id != thread->id()) continue;
        Json::Value one(Json::objectValue);
        one["name"] = "bdev_" + bdev->name();
        one["ref"] = channel.references;
        entry["io_channels"].append(std::move(one));
      }
    }
    reply["threads"].append(std::move(entry));
  }
  return reply;
}

RpcResult<Json::Value> set_options(const Params& params) {
  Registry::instance().set_auto_examine(params.boolean("bdev_auto_examine"));
  return Json::Value(true);
}

RpcResult<Json::Value> examine(const Params& params) {
  if (auto started = Registry::instance().examine(params.string("name")); !started) return std::unexpected(RpcError(started.error()));
  return Json::Value(true);
}

Task<RpcResult<Json::Value>> wait_for_examine(Params params) {
  (void)params;
  auto examined = std::make_shared<Promise<bool>>();
  Registry::instance().when_examined([examined] { examined->set(true); });
  co_await *examined;
  co_return Json::Value(true);
}

Json::Value call(const char* method, Json::Value params) {
  Json::Value json(Json::objectValue);
  json["method"] = method;
  json["params"] = std::move(params);
  return json;
}

}  // namespace

void register_bdev_methods(rpc::MethodTable& table) {
  table.add(Method("bdev_get_bdevs", "Shows all bdevs, or one")
                .with({Param("name", ParamType::string, "Name, alias or UUID; all bdevs without it"),
                       Param("timeout", ParamType::integer, "Milliseconds to wait for a bdev of that name to appear")
                           .range(0, max_timeout_ms)
                           .or_default(0)
                           .alias("timeout_ms")})
                .result("array of bdevs")
                .coroutine(get_bdevs));
  table.add(
      Method("bdev_set_options", "Options of the block layer")
          .with({Param("bdev_auto_examine", ParamType::boolean, "Whether modules that stack by themselves look at every new bdev").or_default(true),
                 Param("bdev_io_pool_size", ParamType::integer, "No effect: I/Os live in their users' memory").ignored(),
                 Param("bdev_io_cache_size", ParamType::integer, "No effect: I/Os live in their users' memory").ignored(),
                 Param("iobuf_small_cache_size", ParamType::integer, "No effect: every reactor has a pool of its own").ignored(),
                 Param("iobuf_large_cache_size", ParamType::integer, "No effect: every reactor has a pool of its own").ignored()})
          .in_phase(rpc::Phase::startup_only)
          .mutates()
          .handler(set_options));
  table.add(Method("bdev_examine",
                   "Has the modules that stack by themselves look at a bdev; while bdev_auto_examine is false, also at one that comes later")
                .with({Param("name", ParamType::string, "Name, alias or UUID").required()})
                .mutates()
                .handler(examine));
  table.add(
      Method("bdev_wait_for_examine", "Answers when every bdev has been examined by every module that stacks by itself").coroutine(wait_for_examine));
  register_bdev_statistics_methods(table);
  register_bdev_policy_methods(table);
  table.add(Method("thread_get_io_channels", "Block device channels of every thread, with how many users each has there")
                .result("{tick_rate, threads: [{name, id, io_channels: [{name, ref}]}]}")
                .handler([](const Params&) -> RpcResult<Json::Value> { return get_io_channels(); }));
}

void register_bdev_config(rpc::ConfigRegistry& registry) {
  registry.add_telling("bdev", [](rpc::ConfigRegistry::Listener& listener) {
    if (!Registry::instance().auto_examine()) {
      Json::Value options(Json::objectValue);
      options["bdev_auto_examine"] = false;
      listener.call(call("bdev_set_options", options));
      for (const auto& name : Registry::instance().names_to_examine()) {
        Json::Value params(Json::objectValue);
        params["name"] = name;
        listener.call(call("bdev_examine", params));
      }
    }
    for (const auto& bdev : Registry::instance().all()) {
      const std::string creation = bdev->config_json();
      if (!creation.empty()) listener.text(creation);
    }
  });
}

void register_bdev_policy_config(rpc::ConfigRegistry& registry) {
  registry.add("bdev", [] {
    Json::Value calls(Json::arrayValue);
    for (const auto& bdev : Registry::instance().all()) append_policies(calls, *bdev);
    return calls;
  });
}

void register_bdev_notifications() {
  for (const char* type : {"bdev_register", "bdev_unregister", "bdev_resize"}) rpc::Notifications::instance().add_type(type);
  Registry::instance().set_change_listener([](std::string_view type, const std::string& name) { rpc::Notifications::instance().add(type, name); });
}

}  // namespace catnap::bdev
