// See bdev_statistics_rpc.h. Result keys are SPDK's (schema/schema.yaml and lib/bdev/bdev_rpc.c of SPDK 26.09-pre); keys of our own come behind them.
#include "bdev/bdev_statistics_rpc.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "bdev/bdev.h"
#include "bdev/histogram.h"
#include "bdev/rpc_common.h"
#include "reactor/clock.h"
#include "rpc/listing.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

// SPDK's names for one kind of I/O. Literals, which jsoncpp need not copy: with a thousand bdevs that is most of what the call costs.
struct OpKeys {
  Op op;
  const char* bytes;  // null: not counted
  const char* ops;
  const char* latency;
  const char* max_latency;
  const char* min_latency;
};
constexpr OpKeys op_keys[] = {
    {Op::read, "bytes_read", "num_read_ops", "read_latency_ticks", "max_read_latency_ticks", "min_read_latency_ticks"},
    {Op::write, "bytes_written", "num_write_ops", "write_latency_ticks", "max_write_latency_ticks", "min_write_latency_ticks"},
    {Op::unmap, "bytes_unmapped", "num_unmap_ops", "unmap_latency_ticks", "max_unmap_latency_ticks", "min_unmap_latency_ticks"},
    {Op::copy, "bytes_copied", "num_copy_ops", "copy_latency_ticks", "max_copy_latency_ticks", "min_copy_latency_ticks"},
    {Op::flush, nullptr, "num_flush_ops", "flush_latency_ticks", "max_flush_latency_ticks", "min_flush_latency_ticks"},
    {Op::write_zeroes, "bytes_zeroed", "num_write_zeroes_ops", "write_zeroes_latency_ticks", "max_write_zeroes_latency_ticks",
     "min_write_zeroes_latency_ticks"},
    {Op::compare, "bytes_compared", "num_compare_ops", "compare_latency_ticks", "max_compare_latency_ticks", "min_compare_latency_ticks"},
    {Op::compare_and_write, nullptr, "num_compare_and_write_ops", "compare_and_write_latency_ticks", "max_compare_and_write_latency_ticks",
     "min_compare_and_write_latency_ticks"},
    {Op::verify, nullptr, "num_verify_ops", "verify_latency_ticks", "max_verify_latency_ticks", "min_verify_latency_ticks"},
};

void add_stats(Json::Value& json, const IoStats& stats) {
  const auto add = [&json](const char* key, std::uint64_t value) { json[Json::StaticString(key)] = json_u64(value); };
  for (const OpKeys& keys : op_keys) {
    const auto i = static_cast<std::size_t>(keys.op);
    if (keys.bytes != nullptr) add(keys.bytes, stats.bytes[i]);
    add(keys.ops, stats.ops[i]);
    add(keys.latency, stats.latency_ns[i]);
    add(keys.max_latency, stats.max_latency_ns[i]);
    add(keys.min_latency, stats.min_latency_ns[i] == IoStats::no_minimum ? 0 : stats.min_latency_ns[i]);
  }
  Json::Value errors(Json::objectValue);
  for (std::size_t i = 0; i < op_count; ++i) {
    if (stats.errors[i] > 0) errors[std::string(op_name(static_cast<Op>(i)))] = json_u64(stats.errors[i]);
  }
  json[Json::StaticString("errors")] = std::move(errors);
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

void reset(const std::vector<std::shared_ptr<Bdev>>& bdevs, const std::string& mode) {
  using StatsReset = Bdev::StatsReset;
  if (mode == "none") return;
  for (const auto& bdev : bdevs) {
    bdev->reset_stats(mode == "all" ? StatsReset::all : mode == "maxmin" ? StatsReset::maxmin : StatsReset::error);
  }
}

// SPDK's keys, in microseconds, while bdev_set_qd_sampling_period has set a period; and the highest depth since extremes were last reset.
void add_depth(Json::Value& json, const Bdev& bdev) {
  const Bdev::Depth depth = bdev.depth(Thread::current()->now_ns());
  if (depth.period_us == 0) return;
  json["queue_depth_polling_period"] = json_u64(depth.period_us);
  json["queue_depth"] = json_u64(depth.now);
  json["io_time"] = json_u64(depth.io_time_ns / ns_per_us);
  json["weighted_io_time"] = json_u64(depth.weighted_io_time_ns / ns_per_us);
  json["max_queue_depth"] = json_u64(depth.peak);
}

Json::Value shown_stats(const std::shared_ptr<Bdev>& bdev) {
  Json::Value entry(Json::objectValue);
  entry["name"] = bdev->name();
  add_stats(entry, bdev->stats());
  add_depth(entry, *bdev);
  return entry;
}

Task<RpcResult<Json::Value>> get_iostat(Params params) {
  const auto bdevs = bdevs_meant(params);
  if (!bdevs) co_return std::unexpected(bdevs.error());
  Json::Value json(Json::objectValue);
  json["tick_rate"] = json_u64(tick_rate_hz);
  json["ticks"] = json_u64(system_clock().now_ns());
  if (params.boolean("per_channel")) {
    if (bdevs->size() != 1 || !(params.has("names") || params.has("name") || params.has("uuid"))) {
      co_return std::unexpected(RpcError(-EINVAL, "Invalid argument: per_channel true needs exactly one bdev to be named"));
    }
    json["name"] = bdevs->front()->name();
    json["channels"] = Json::Value(Json::arrayValue);
    for (const auto& channel : bdevs->front()->channel_stats()) {
      Json::Value entry(Json::objectValue);
      entry["thread_id"] = json_u64(channel.thread_id);
      add_stats(entry, channel.stats);
      json["channels"].append(std::move(entry));
    }
  } else if (params.string("reset_mode") == "none") {
    auto all = rpc::list_in_slices(*bdevs, &shown_stats);
    Json::Value shown = co_await std::move(all);
    json["bdevs"] = std::move(shown);
  } else {
    // In one turn: what is counted between reading and resetting would be lost.
    Json::Value& all = json["bdevs"] = Json::Value(Json::arrayValue);
    for (const auto& bdev : *bdevs) all.append(shown_stats(bdev));
  }
  reset(*bdevs, params.string("reset_mode"));
  co_return json;
}

RpcResult<Json::Value> reset_iostat(const Params& params) {
  const auto bdevs = bdevs_meant(params);
  if (!bdevs) return std::unexpected(bdevs.error());
  reset(*bdevs, params.string("mode"));
  return Json::Value(true);
}

// RFC 4648 section 4.
std::string base64(const std::vector<std::uint64_t>& words) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  std::uint32_t bits = 0;
  int held = 0;
  for (const std::uint64_t word : words) {
    for (int byte = 0; byte < 8; ++byte) {  // little endian, as SPDK's clients unpack them
      bits = (bits << 8) | ((word >> (8 * byte)) & 0xFF);
      held += 8;
      while (held >= 6) {
        held -= 6;
        text += digits[(bits >> held) & 63];
      }
    }
  }
  if (held > 0) text += digits[(bits << (6 - held)) & 63];
  while (text.size() % 4 != 0) text += '=';
  return text;
}

RpcResult<HistogramShape> shape_of(const Params& params) {
  HistogramShape shape;
  shape.granularity = static_cast<std::uint32_t>(params.integer("granularity"));
  shape.min_ns = params.integer("min_nsec");
  shape.max_ns = params.integer("max_nsec");
  if (shape.min_ns >= shape.max_ns) {
    return std::unexpected(RpcError(-EINVAL, fmt::format("Invalid argument: max_nsec {} is not more than min_nsec {}", shape.max_ns, shape.min_ns)));
  }
  if (params.has("opc")) {
    for (std::size_t i = 0; i < op_count; ++i) {
      if (op_name(static_cast<Op>(i)) == params.string("opc")) shape.only = static_cast<Op>(i);
    }
    if (!shape.only) return std::unexpected(RpcError(-EINVAL, fmt::format("Invalid argument: opc '{}' is no I/O type", params.string("opc"))));
  }
  return shape;
}

Task<RpcResult<Json::Value>> enable_histogram(Params params) {
  const auto bdev = Registry::instance().find(params.string("name"));
  if (bdev == nullptr) co_return no_such_bdev(params.string("name"));
  const RpcResult<HistogramShape> shape = shape_of(params);
  if (!shape) co_return std::unexpected(shape.error());
  const auto answer = take_up();
  bdev->set_histogram(params.boolean("enable") ? std::make_shared<const HistogramShape>(*shape) : nullptr, [answer] { answer->give(true); });
  const std::optional<bool> in_time = co_await answer->promise();
  co_return taken_up(in_time, "the histogram", *bdev);
}

// -19, or -14 (as SPDK) when it is not enabled.
RpcResult<std::unique_ptr<Histogram>> histogram_of(const Params& params) {
  const auto bdev = Registry::instance().find(params.string("name"));
  if (bdev == nullptr) return no_such_bdev(params.string("name"));
  auto histogram = bdev->histogram();
  if (histogram == nullptr) {
    return std::unexpected(RpcError(-EFAULT, fmt::format("Bad address: the histogram of bdev '{}' is not enabled", bdev->name())));
  }
  return histogram;
}

RpcResult<Json::Value> get_histogram(const Params& params) {
  const auto histogram = histogram_of(params);
  if (!histogram) return std::unexpected(histogram.error());
  const HistogramShape& shape = (*histogram)->shape();
  Json::Value json(Json::objectValue);
  json["histogram"] = base64((*histogram)->buckets());
  json["granularity"] = shape.granularity;
  json["min_range"] = shape.min_range();
  json["max_range"] = shape.max_range();
  json["tsc_rate"] = json_u64(tick_rate_hz);
  return json;
}

// How many I/Os took at most so long, for each border; and all, behind the last.
RpcResult<Json::Value> get_histogram_borders(const Params& params) {
  std::vector<std::uint64_t> borders_us;
  for (const Json::Value& border : params.json("borders")) {
    if (!border.isUInt64() || border.asUInt64() > ~std::uint64_t{0} / ns_per_us || (!borders_us.empty() && border.asUInt64() <= borders_us.back())) {
      return std::unexpected(
          RpcError(rpc::invalid_params, fmt::format("borders[{}] is not a number of microseconds above the one before it", borders_us.size())));
    }
    borders_us.push_back(border.asUInt64());
  }
  if (borders_us.empty()) return std::unexpected(RpcError(rpc::invalid_params, "borders is not an array of at least one number of microseconds"));
  const auto histogram = histogram_of(params);
  if (!histogram) return std::unexpected(histogram.error());
  const std::vector<std::uint64_t> buckets = (*histogram)->buckets();
  Json::Value counts(Json::arrayValue);
  std::size_t bucket = 0;
  std::uint64_t so_far = 0;
  for (const std::uint64_t border_us : borders_us) {
    while (bucket < buckets.size() && (*histogram)->end_of(bucket) <= border_us * ns_per_us + 1) so_far += buckets[bucket++];
    counts.append(json_u64(so_far));
  }
  while (bucket < buckets.size()) so_far += buckets[bucket++];
  counts.append(json_u64(so_far));
  Json::Value json(Json::objectValue);
  json["borders"] = params.json("borders");
  json["counts"] = counts;
  return json;
}

Task<RpcResult<Json::Value>> set_qd_sampling_period(Params params) {
  const auto bdev = Registry::instance().find(params.string("name"));
  if (bdev == nullptr) co_return no_such_bdev(params.string("name"));
  const auto answer = take_up();
  bdev->set_depth_period(params.integer("period"), [answer] { answer->give(true); });
  const std::optional<bool> in_time = co_await answer->promise();
  co_return taken_up(in_time, "the sampling period", *bdev);
}

void add_histogram_methods(rpc::MethodTable& table) {
  const HistogramShape defaults;
  table.add(Method("bdev_enable_histogram", "Counts latencies of a bdev's I/Os by size from now on, or no more")
                .with({Param("name", ParamType::string, "Name, alias or UUID").required(),
                       Param("enable", ParamType::boolean, "true: count, from zero; false: no more").required(),
                       Param("opc", ParamType::string, "Only I/Os of this type (read, write...); all without it"),
                       Param("granularity", ParamType::integer, "Each power of two of nanoseconds has 2^granularity buckets")
                           .range(1, max_histogram_granularity)
                           .or_default(defaults.granularity),
                       Param("min_nsec", ParamType::integer, "Shorter ones count in the first bucket")
                           .range(0, ~std::uint64_t{0})
                           .or_default(json_u64(defaults.min_ns)),
                       Param("max_nsec", ParamType::integer, "Longer ones count in the last bucket")
                           .range(0, ~std::uint64_t{0})
                           .or_default(json_u64(defaults.max_ns))})
                .mutates()
                .not_kept()  // a measurement
                .coroutine(enable_histogram));
  table.add(Method("bdev_get_histogram", "Shows a bdev's latency histogram")
                .with({Param("name", ParamType::string, "Name, alias or UUID").required()})
                .result("{histogram: base64 of 64-bit little-endian counts, granularity, min_range, max_range, tsc_rate}")
                .handler(get_histogram));
  table.add(Method("bdev_get_histogram_borders", "Shows how many I/Os of a bdev's histogram took at most so long")
                .with({Param("name", ParamType::string, "Name, alias or UUID").required(),
                       Param("borders", ParamType::any, "Array of microseconds, rising").required()})
                .result("{borders, counts: of each border, and of all I/Os}")
                .handler(get_histogram_borders));
}

}  // namespace

void register_bdev_statistics_methods(rpc::MethodTable& table) {
  table.add(Method("bdev_get_iostat", "Shows I/O counters since creation or the last reset; latencies in ticks, of which tick_rate make a second")
                .with({Param("names", ParamType::array_of_string, "Names, aliases or UUIDs; all bdevs without it"),
                       Param("name", ParamType::string, "One name, as older clients send it"), Param("uuid", ParamType::string, "One UUID"),
                       Param("per_channel", ParamType::boolean, "One entry per channel of the one bdev named").or_default(false),
                       Param("reset_mode", ParamType::string, "What to set to zero after reading")
                           .one_of({"all", "maxmin", "error", "none"})
                           .or_default("none")
                           .acts()})
                .result("object with tick_rate, ticks and bdevs, or name and channels")
                .coroutine(get_iostat));
  table.add(Method("bdev_reset_iostat", "Sets I/O counters to zero, for everybody who reads them")
                .with({Param("name", ParamType::string, "Name, alias or UUID; all bdevs without it"),
                       Param("mode", ParamType::string, "What to set to zero: everything, longest and shortest latencies, or error counts")
                           .one_of({"all", "maxmin", "error", "none"})
                           .or_default("all")})
                .acts()
                .handler(reset_iostat));
  table.add(Method("bdev_set_qd_sampling_period", "Keeps the queue depth of a bdev over time, shown by bdev_get_iostat; nothing is woken up for it")
                .with({Param("name", ParamType::string, "Name, alias or UUID").required(),
                       Param("period", ParamType::integer, "Microseconds, shown again as they are: every change of the depth counts; 0: off")
                           .required()
                           .range(0, ~std::uint64_t{0})})
                .mutates()
                .supersedes_waiting({"bdev_set_qd_sampling_period"}, {{"name", "name"}})
                .coroutine(set_qd_sampling_period));
  add_histogram_methods(table);
}

}  // namespace catnap::bdev
