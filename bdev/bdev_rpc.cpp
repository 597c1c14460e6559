// See bdev_rpc.h. Result keys are SPDK's (schema/schema.yaml and lib/bdev/bdev_rpc.c of SPDK 26.09-pre), read by rpc.py, Longhorn and others;
// keys of our own come behind them.
#include "bdev/bdev_rpc.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "bdev/bdev.h"
#include "bdev/rpc_common.h"
#include "reactor/clock.h"
#include "reactor/runtime.h"
#include "reactor/task.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

// Latencies are counted in nanoseconds, so a "tick" is one.
constexpr std::uint64_t tick_rate_hz = ns_per_s;

Json::Value json_u64(std::uint64_t value) { return Json::Value(static_cast<Json::UInt64>(value)); }

Json::Value supported_io_types(const Bdev& bdev) {
  Json::Value types(Json::objectValue);
  for (const Op op : {Op::read, Op::write, Op::unmap, Op::flush, Op::reset, Op::write_zeroes, Op::compare}) {
    types[std::string(op_name(op))] = bdev.supports(op);
  }
  // SPDK's other types: clients look some of them up without asking whether they are there.
  for (const char* absent : {"nvme_admin", "nvme_io", "nvme_io_md", "zcopy", "get_zone_info", "zone_management", "zone_append", "compare_and_write",
                             "abort", "seek_hole", "seek_data", "copy", "nvme_iov_md", "nvme_nssr", "write_uncorrectable"}) {
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
  Json::Value limits(Json::objectValue);
  for (const char* limit : {"rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec"}) limits[limit] = 0;
  json["assigned_rate_limits"] = limits;
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
  return json;
}

// The wait for a bdev and its deadline race for one promise.
struct AppearRace {
  AppearRace() : deadline([this] { answer(false); }) {}
  void answer(bool appeared) {
    if (std::exchange(answered, true)) return;
    promise.set(appeared);
  }
  Promise<bool> promise;
  bool answered = false;
  Timer deadline;
};

Task<RpcResult<Json::Value>> get_bdevs(Params params) {
  Json::Value list(Json::arrayValue);
  if (!params.has("name")) {
    for (const auto& bdev : Registry::instance().all()) list.append(bdev_to_json(*bdev));
    co_return list;
  }
  const std::string name = params.string("name");
  const std::uint64_t timeout_ms = params.integer("timeout");
  auto bdev = Registry::instance().find(name);
  if (bdev == nullptr && timeout_ms > 0) {
    auto race = std::make_shared<AppearRace>();
    Thread::current()->arm_in_us(race->deadline, timeout_ms * 1000);
    const auto waiting = Registry::instance().when_added(name, [race] { race->answer(true); });
    const bool appeared = co_await race->promise;
    race->deadline.disarm();
    if (appeared) bdev = Registry::instance().find(name);
  }
  if (bdev == nullptr) co_return no_such_bdev(name);
  list.append(bdev_to_json(*bdev));
  co_return list;
}

void add_op(Json::Value& json, const IoStats& stats, Op op, const char* bytes_key, const std::string& word) {
  const auto i = static_cast<std::size_t>(op);
  if (bytes_key != nullptr) json[bytes_key] = json_u64(stats.bytes[i]);
  json["num_" + word + "_ops"] = json_u64(stats.ops[i]);
  json[word + "_latency_ticks"] = json_u64(stats.latency_ns[i]);
  json["max_" + word + "_latency_ticks"] = json_u64(stats.max_latency_ns[i]);
  json["min_" + word + "_latency_ticks"] = json_u64(stats.min_latency_ns[i]);
}

void add_stats(Json::Value& json, const IoStats& stats) {
  add_op(json, stats, Op::read, "bytes_read", "read");
  add_op(json, stats, Op::write, "bytes_written", "write");
  add_op(json, stats, Op::unmap, "bytes_unmapped", "unmap");
  // No copy operation yet: SPDK's keys all the same, for clients that read them.
  for (const char* key : {"bytes_copied", "num_copy_ops", "copy_latency_ticks", "max_copy_latency_ticks", "min_copy_latency_ticks"}) json[key] = 0;
  add_op(json, stats, Op::flush, nullptr, "flush");
  add_op(json, stats, Op::write_zeroes, "bytes_zeroed", "write_zeroes");
  add_op(json, stats, Op::compare, "bytes_compared", "compare");
  Json::Value errors(Json::objectValue);
  for (std::size_t i = 0; i < op_count; ++i) {
    if (stats.errors[i] > 0) errors[std::string(op_name(static_cast<Op>(i)))] = json_u64(stats.errors[i]);
  }
  json["errors"] = errors;
}

// Whom the call is about: "names", the older "name", or "uuid"; all bdevs without any. -19 naming the first that is not there.
RpcResult<std::vector<std::shared_ptr<Bdev>>> bdevs_meant(const Params& params) {
  std::vector<std::string> wanted = params.strings("names");
  if (params.has("name")) wanted.push_back(params.string("name"));
  if (params.has("uuid")) wanted.push_back(params.string("uuid"));
  if (wanted.empty() && !params.has("names")) return Registry::instance().all();
  std::vector<std::shared_ptr<Bdev>> found;
  for (const auto& name : wanted) {
    auto bdev = Registry::instance().find(name);
    if (bdev == nullptr) return no_such_bdev(name);
    if (std::ranges::find(found, bdev) == found.end()) found.push_back(std::move(bdev));
  }
  return found;
}

RpcResult<Json::Value> get_iostat(const Params& params) {
  const auto bdevs = bdevs_meant(params);
  if (!bdevs) return std::unexpected(bdevs.error());
  Json::Value json(Json::objectValue);
  json["tick_rate"] = json_u64(tick_rate_hz);
  json["ticks"] = json_u64(system_clock().now_ns());
  if (params.boolean("per_channel")) {
    if (bdevs->size() != 1 || !(params.has("names") || params.has("name") || params.has("uuid"))) {
      return std::unexpected(RpcError(-EINVAL, "Invalid argument: per_channel true needs exactly one bdev to be named"));
    }
    json["name"] = bdevs->front()->name();
    json["channels"] = Json::Value(Json::arrayValue);
    for (const auto& channel : bdevs->front()->channel_stats()) {
      Json::Value entry(Json::objectValue);
      entry["thread_id"] = json_u64(channel.thread_id);
      add_stats(entry, channel.stats);
      json["channels"].append(entry);
    }
  } else {
    json["bdevs"] = Json::Value(Json::arrayValue);
    for (const auto& bdev : *bdevs) {
      Json::Value entry(Json::objectValue);
      entry["name"] = bdev->name();
      add_stats(entry, bdev->stats());
      json["bdevs"].append(entry);
    }
  }
  if (params.string("reset_mode") == "all") {
    for (const auto& bdev : *bdevs) bdev->reset_stats();
  }
  return json;
}

RpcResult<Json::Value> reset_iostat(const Params& params) {
  const auto bdevs = bdevs_meant(params);
  if (!bdevs) return std::unexpected(bdevs.error());
  if (params.string("mode") == "all") {
    for (const auto& bdev : *bdevs) bdev->reset_stats();
  }
  return Json::Value(true);
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
  table.add(Method("bdev_get_iostat", "Shows I/O counters since creation or the last reset; latencies in ticks, of which tick_rate make a second")
                .with({Param("names", ParamType::array_of_string, "Names, aliases or UUIDs; all bdevs without it"),
                       Param("name", ParamType::string, "One name, as older clients send it"), Param("uuid", ParamType::string, "One UUID"),
                       Param("per_channel", ParamType::boolean, "One entry per channel of the one bdev named").or_default(false),
                       Param("reset_mode", ParamType::string, "What to set to zero after reading").one_of({"all", "none"}).or_default("none")})
                .result("object with tick_rate, ticks and bdevs, or name and channels")
                .handler(get_iostat));
  table.add(Method("bdev_reset_iostat", "Sets I/O counters to zero, for everybody who reads them")
                .with({Param("name", ParamType::string, "Name, alias or UUID; all bdevs without it"),
                       Param("mode", ParamType::string, "What to set to zero").one_of({"all", "none"}).or_default("all")})
                .handler(reset_iostat));
  table.add(Method("bdev_wait_for_examine", "Answers when every bdev has been examined by every module that stacks by itself; none does so far")
                .handler([](const Params&) -> RpcResult<Json::Value> { return Json::Value(true); }));
  table.add(Method("thread_get_io_channels", "Block device channels of every thread, with how many users each has there")
                .result("{tick_rate, threads: [{name, id, io_channels: [{name, ref}]}]}")
                .handler([](const Params&) -> RpcResult<Json::Value> { return get_io_channels(); }));
}

void register_bdev_config(rpc::ConfigRegistry& registry) {
  registry.add("bdev", [] {
    Json::Value calls(Json::arrayValue);
    for (const auto& bdev : Registry::instance().all()) {
      Json::Value call = parse_json(bdev->config_json());
      if (call.isObject()) calls.append(std::move(call));  // virtual bdevs show themselves (bdev/stack/stack_rpc.h)
    }
    return calls;
  });
}

}  // namespace catnap::bdev
