// See iobuf_rpc.h. SPDK's two pools of fixed counts become one bound: as many bytes as they would hold, shared out evenly to the reactors. Memory is
// taken only as it is needed.
#include "reactor/iobuf_rpc.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "reactor/ask_threads.h"
#include "reactor/buffer_pool.h"
#include "reactor/reactor.h"
#include "reactor/runtime.h"

namespace catnap {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

struct IobufOptions {
  std::uint64_t small_pool_count = 8192;  // the defaults are SPDK's
  std::uint64_t large_pool_count = 1024;
  std::uint64_t small_bufsize = 8192;  // bytes
  std::uint64_t large_bufsize = 135168;
};
// Set by the operator; none: each reactor's cap is as catnapd was started.
std::optional<IobufOptions>& chosen() {
  static std::optional<IobufOptions> options;
  return options;
}

// 1 TiB of buffers: far above any machine, far below what overflows.
constexpr std::uint64_t max_total_bytes = std::uint64_t{1} << 40;
constexpr std::uint64_t max_count = std::uint64_t{1} << 28;

Json::Value json_u64(std::uint64_t value) { return Json::Value(static_cast<Json::UInt64>(value)); }

struct LoopBuffers {
  LoopBuffers() = default;
  LoopBuffers(std::string reactor_name, BufferPool::Stats pool_stats, std::size_t pool_cap_bytes)
      : name(std::move(reactor_name)), stats(pool_stats), cap_bytes(pool_cap_bytes) {}
  std::string name;
  BufferPool::Stats stats;
  std::size_t cap_bytes = 0;
};

Task<RpcResult<Json::Value>> set_options(Params params) {
  IobufOptions wanted;
  wanted.small_pool_count = params.integer("small_pool_count");
  wanted.large_pool_count = params.integer("large_pool_count");
  wanted.small_bufsize = params.integer("small_bufsize");
  wanted.large_bufsize = params.integer("large_bufsize");
  const std::uint64_t total_bytes = wanted.small_pool_count * wanted.small_bufsize + wanted.large_pool_count * wanted.large_bufsize;
  const auto reactors = Runtime::instance()->reactors();
  const std::uint64_t share_bytes = total_bytes / std::max<std::size_t>(1, reactors.size());
  if (total_bytes > max_total_bytes || share_bytes < BufferPool::max_size_bytes) {
    co_return std::unexpected(
        RpcError(-EINVAL, fmt::format("Invalid argument: {} bytes of buffers are {} for each of {} reactors, not {} to {} in all", total_bytes,
                                      share_bytes, reactors.size(), std::uint64_t{BufferPool::max_size_bytes} * reactors.size(), max_total_bytes)));
  }
  chosen() = wanted;
  std::function<bool(Thread&)> set = [share_bytes](Thread& loop) {
    loop.reactor()->buffers().set_cap_bytes(share_bytes);
    return true;
  };
  auto loops = Runtime::instance()->loops();
  const auto answers = co_await ask_threads<bool>(std::move(loops), std::move(set));
  if (!answers.silent_threads.empty()) {
    co_return std::unexpected(RpcError(-ETIMEDOUT, fmt::format("Timer expired: reactor '{}' did not answer", answers.silent_threads.front())));
  }
  co_return Json::Value(true);
}

Task<RpcResult<Json::Value>> get_stats(Params) {
  std::function<LoopBuffers(Thread&)> ask = [](Thread& loop) {
    BufferPool& pool = loop.reactor()->buffers();
    return LoopBuffers(loop.reactor()->name(), pool.stats(), pool.cap_bytes());
  };
  auto loops = Runtime::instance()->loops();
  const auto answers = co_await ask_threads<LoopBuffers>(std::move(loops), std::move(ask));
  Json::Value list(Json::arrayValue);
  for (const LoopBuffers& loop : answers.of_loops) {
    Json::Value entry(Json::objectValue);
    entry["module"] = loop.name;
    // SPDK's keys. All buffers come from one pool of the reactor's own, whatever their size: they are shown as large ones.
    for (const char* name : {"small_pool", "large_pool"}) {
      const bool large = std::string_view(name) == "large_pool";
      Json::Value pool(Json::objectValue);
      pool["cache"] = json_u64(large ? loop.stats.gets - std::min(loop.stats.gets, loop.stats.waits) : 0);
      pool["main"] = 0;
      pool["retry"] = json_u64(large ? loop.stats.waits : 0);
      pool["cache_size"] = 0;
      entry[name] = std::move(pool);
    }
    entry["held_bytes"] = json_u64(loop.stats.held_bytes);
    entry["free_bytes"] = json_u64(loop.stats.free_bytes);
    entry["cap_bytes"] = json_u64(loop.cap_bytes);
    entry["waiting"] = json_u64(loop.stats.waiting);
    list.append(std::move(entry));
  }
  co_return list;
}

Json::Value options_json(const IobufOptions& options) {
  Json::Value json(Json::objectValue);
  json["small_pool_count"] = json_u64(options.small_pool_count);
  json["large_pool_count"] = json_u64(options.large_pool_count);
  json["small_bufsize"] = json_u64(options.small_bufsize);
  json["large_bufsize"] = json_u64(options.large_bufsize);
  return json;
}

}  // namespace

void register_iobuf_methods(rpc::MethodTable& table) {
  const Json::Value defaults = options_json(IobufOptions());
  table.add(
      Method("iobuf_set_options", "Bounds the memory of data buffers: as many bytes as these pools would hold, shared out to the reactors")
          .with(
              {Param("small_pool_count", ParamType::integer, "Number of small buffers").or_default(defaults["small_pool_count"]).range(0, max_count),
               Param("large_pool_count", ParamType::integer, "Number of large buffers").or_default(defaults["large_pool_count"]).range(0, max_count),
               Param("small_bufsize", ParamType::integer, "Bytes").or_default(defaults["small_bufsize"]).range(1, 1U << 30),
               Param("large_bufsize", ParamType::integer, "Bytes").or_default(defaults["large_bufsize"]).range(1, 1U << 30),
               Param("enable_numa", ParamType::boolean, "Every reactor's buffers are of its own node anyhow").ignored()})
          .in_phase(rpc::Phase::startup_only)
          .mutates()
          .coroutine(set_options));
  table.add(
      Method("iobuf_get_stats", "Shows the data buffers of every reactor")
          .result("array of {module: reactor, small_pool, large_pool: {cache, main, retry, cache_size}, held_bytes, free_bytes, cap_bytes, waiting}")
          .coroutine(get_stats));
}

void register_iobuf_config(rpc::ConfigRegistry& registry) {
  registry.add("iobuf", [] {
    Json::Value calls(Json::arrayValue);
    if (chosen()) {
      Json::Value call(Json::objectValue);
      call["method"] = "iobuf_set_options";
      call["params"] = options_json(*chosen());
      calls.append(std::move(call));
    }
    return calls;
  });
}

}  // namespace catnap
