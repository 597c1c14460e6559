// See nvme_path_rpc.h. Names and result keys are SPDK's (schema/schema.yaml, module/bdev/nvme of SPDK 26.09-pre).
// Owner: app_thread. Left out: what nvme_path_rpc.h names.
#include "bdev/nvme/nvme_path_rpc.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "bdev/nvme/module.h"
#include "bdev/nvme/nvme_rpc.h"
#include "bdev/rpc_common.h"
#include "reactor/ask_threads.h"
#include "reactor/runtime.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

// What one channel said.
struct ChannelPaths {
  std::string thread;
  std::string bdev;
  std::vector<PathReport> paths;
};
struct Collected {
  std::mutex mutex;  // the channels' threads write at the same time
  std::vector<ChannelPaths> channels;
};

// Asks all channels of a bdev; done when all have answered.
Promise<bool> collect_paths(const std::shared_ptr<NvmeBdev>& bdev, const std::shared_ptr<Collected>& collected) {
  Promise<bool> done;
  bdev->for_each_channel(
      [collected, name = bdev->name()](Channel& channel) {
        ChannelPaths entry{Thread::current()->name(), name, report_paths(channel)};
        const std::lock_guard lock(collected->mutex);
        collected->channels.push_back(std::move(entry));
      },
      [done] { done.set(true); });
  return done;
}

RpcResult<std::shared_ptr<NvmeBdev>> nvme_bdev_named(const std::string& name) {
  const auto found = Registry::instance().find(name);
  if (found == nullptr) return no_such_bdev(name);
  auto bdev = std::dynamic_pointer_cast<NvmeBdev>(found);
  if (bdev == nullptr) return another_kind(name, found->info().product_name, "NVMe disk");
  return bdev;
}

Json::Value transport_json(const std::string& address) {
  // "192.0.2.1:4420", "fe80::1%eth0:4420".
  const auto colon = address.rfind(':');
  Json::Value json(Json::objectValue);
  json["trtype"] = "TCP";
  json["traddr"] = address.substr(0, colon);
  json["trsvcid"] = address.substr(colon + 1);
  json["adrfam"] = address.find(':') == colon ? "IPv4" : "IPv6";
  return json;
}

Json::Value io_path_json(const std::string& bdev, const PathReport& path) {
  Json::Value json(Json::objectValue);
  json["bdev_name"] = bdev;
  json["cntlid"] = path.cntlid;
  json["current"] = path.current;
  json["connected"] = path.connected;
  json["accessible"] = path.accessible;
  json["transport"] = transport_json(path.name);
  return json;
}

Task<RpcResult<Json::Value>> get_io_paths(Params params) {
  std::vector<std::shared_ptr<NvmeBdev>> bdevs;
  if (params.has("name")) {
    auto bdev = nvme_bdev_named(params.string("name"));
    if (!bdev) co_return std::unexpected(bdev.error());
    bdevs.push_back(*bdev);
  } else {
    for (const auto& subsystem : NvmeModule::instance()->all()) {
      for (const auto& [nsid, bdev] : subsystem->bdevs()) bdevs.push_back(bdev);
    }
  }
  auto collected = std::make_shared<Collected>();
  for (const auto& bdev : bdevs) {
    const Promise<bool> asked = collect_paths(bdev, collected);
    const bool done = co_await asked;
    static_cast<void>(done);
  }
  std::map<std::string, Json::Value> by_thread;
  for (const ChannelPaths& channel : collected->channels) {
    Json::Value& paths = by_thread.try_emplace(channel.thread, Json::arrayValue).first->second;
    for (const PathReport& path : channel.paths) paths.append(io_path_json(channel.bdev, path));
  }
  Json::Value groups(Json::arrayValue);
  for (auto& [thread, paths] : by_thread) {
    Json::Value group(Json::objectValue);
    group["thread"] = thread;
    group["io_paths"] = std::move(paths);
    groups.append(std::move(group));
  }
  Json::Value result(Json::objectValue);
  result["poll_groups"] = std::move(groups);
  co_return result;
}

// By controller id, as SPDK has it, or by address, which stays what it is when the controller connects anew: saved configurations have that.
RpcResult<std::shared_ptr<NvmeController>> preferred_of(const Params& params, const NvmeSubsystem& subsystem) {
  if (params.has("cntlid") == params.has("traddr")) return std::unexpected(RpcError(-EINVAL, "either cntlid or traddr says which path"));
  if (params.has("cntlid")) {
    const auto cntlid = static_cast<std::uint16_t>(params.integer("cntlid"));
    if (auto found = subsystem.find_controller(cntlid)) return found;
    return std::unexpected(
        RpcError(-ENODEV, fmt::format("No such device: bdev '{}' has no path with controller id {}", params.string("name"), cntlid)));
  }
  const std::string port = params.has("trsvcid") ? params.string("trsvcid") : "4420";
  const auto& all = subsystem.controllers();
  const auto found = std::ranges::find_if(all, [&](const auto& controller) {
    const auto fits = [&](const TransportId& id) { return id.traddr == params.string("traddr") && id.trsvcid == port; };
    const auto others = controller->alternates();
    return fits(controller->id()) || std::ranges::any_of(others, fits);
  });
  if (found != all.end()) return *found;
  return std::unexpected(
      RpcError(-ENODEV, fmt::format("No such device: bdev '{}' has no path to {}:{}", params.string("name"), params.string("traddr"), port)));
}

Task<RpcResult<Json::Value>> set_preferred_path(Params params) {
  auto bdev = nvme_bdev_named(params.string("name"));
  if (!bdev) co_return std::unexpected(bdev.error());
  const auto subsystem = NvmeModule::instance()->subsystem_of((*bdev)->name());
  if (subsystem == nullptr) co_return no_such_bdev(params.string("name"));
  auto controller = preferred_of(params, *subsystem);
  if (!controller) co_return std::unexpected(controller.error());
  const Promise<bool> published;
  auto set = subsystem->set_preferred((*bdev)->name(), *controller, [published] { published.set(true); });
  if (!set) co_return std::unexpected(RpcError(set.error()));
  const bool done = co_await published;
  co_return Json::Value(done);
}

Task<RpcResult<Json::Value>> set_multipath_policy(Params params) {
  auto bdev = nvme_bdev_named(params.string("name"));
  if (!bdev) co_return std::unexpected(bdev.error());
  auto policy = multipath_policy_from_name(params.string("policy"));
  if (!policy) co_return std::unexpected(RpcError(policy.error()));
  std::optional<MultipathSelector> selector;
  if (params.has("selector")) {
    auto named = multipath_selector_from_name(params.string("selector"));
    if (!named) co_return std::unexpected(RpcError(named.error()));
    selector = *named;
  }
  std::optional<std::uint32_t> rr_min_io;
  if (params.has("rr_min_io")) rr_min_io = static_cast<std::uint32_t>(params.integer("rr_min_io"));
  auto options = make_multipath_options(*policy, selector, rr_min_io);
  if (!options) co_return std::unexpected(RpcError(options.error()));
  const auto subsystem = NvmeModule::instance()->subsystem_of((*bdev)->name());
  if (subsystem == nullptr) co_return no_such_bdev(params.string("name"));
  const Promise<bool> published;
  auto set = subsystem->set_multipath((*bdev)->name(), *options, [published] { published.set(true); });
  if (!set) co_return std::unexpected(RpcError(set.error()));
  const bool done = co_await published;
  co_return Json::Value(done);
}

void add(PathStats& to, const PathStats& stats) {
  to.bytes_read += stats.bytes_read;
  to.num_read_ops += stats.num_read_ops;
  to.bytes_written += stats.bytes_written;
  to.num_write_ops += stats.num_write_ops;
  to.bytes_unmapped += stats.bytes_unmapped;
  to.num_unmap_ops += stats.num_unmap_ops;
  to.read_latency_ns += stats.read_latency_ns;
  to.write_latency_ns += stats.write_latency_ns;
  to.unmap_latency_ns += stats.unmap_latency_ns;
}

Json::Value stat_json(const PathStats& stats) {
  Json::Value json(Json::objectValue);
  json["bytes_read"] = json_u64(stats.bytes_read);
  json["num_read_ops"] = json_u64(stats.num_read_ops);
  json["bytes_written"] = json_u64(stats.bytes_written);
  json["num_write_ops"] = json_u64(stats.num_write_ops);
  json["bytes_unmapped"] = json_u64(stats.bytes_unmapped);
  json["num_unmap_ops"] = json_u64(stats.num_unmap_ops);
  json["read_latency_ticks"] = json_u64(stats.read_latency_ns);
  json["write_latency_ticks"] = json_u64(stats.write_latency_ns);
  json["unmap_latency_ticks"] = json_u64(stats.unmap_latency_ns);
  return json;
}

Task<RpcResult<Json::Value>> get_path_iostat(Params params) {
  auto bdev = nvme_bdev_named(params.string("name"));
  if (!bdev) co_return std::unexpected(bdev.error());
  if (!NvmeModule::instance()->options().io_path_stat) {
    co_return std::unexpected(RpcError(-EPERM, "paths are not counted: enable io_path_stat with bdev_nvme_set_options first"));
  }
  auto collected = std::make_shared<Collected>();
  const Promise<bool> asked = collect_paths(*bdev, collected);
  const bool done = co_await asked;
  static_cast<void>(done);
  // In the order of the published paths; what a path that went has counted goes with it.
  Json::Value stats(Json::arrayValue);
  const auto published = (*bdev)->paths();
  for (const PathEntry& path : published->paths) {
    PathStats sum;
    for (const ChannelPaths& channel : collected->channels) {
      for (const PathReport& report : channel.paths) {
        if (report.cntlid == path.cntlid && report.name == path.name) add(sum, report.stats);
      }
    }
    Json::Value entry(Json::objectValue);
    const auto controller = path.hub->controller();
    entry["trid"] = controller != nullptr ? transport_id_json(controller->id()) : transport_json(path.name);
    entry["stat"] = stat_json(sum);
    stats.append(std::move(entry));
  }
  Json::Value result(Json::objectValue);
  result["name"] = (*bdev)->name();
  result["tick_rate"] = json_u64(tick_rate_hz);
  result["stats"] = std::move(stats);
  co_return result;
}

// Sums over the queue pairs of a thread.
struct ThreadTransport {
  tcp::HostQueueStats stats;
  std::uint64_t outstanding = 0;
  std::uint64_t queue_pairs = 0;
};

void add(ThreadTransport& to, const tcp::HostQueueStats& stats, std::uint64_t outstanding) {
  to.stats.receive_calls += stats.receive_calls;
  to.stats.polls += stats.polls;
  to.stats.idle_polls += stats.idle_polls;
  to.stats.requests += stats.requests;
  to.stats.queued_requests += stats.queued_requests;
  to.stats.bytes_received += stats.bytes_received;
  to.stats.bytes_sent += stats.bytes_sent;
  to.outstanding += outstanding;
  ++to.queue_pairs;
}

Json::Value transport_statistics_json(const ThreadTransport& transport) {
  Json::Value json(Json::objectValue);
  json["trname"] = "TCP";
  json["polls"] = json_u64(transport.stats.polls);
  json["idle_polls"] = json_u64(transport.stats.idle_polls);
  json["socket_completions"] = json_u64(transport.stats.receive_calls);
  json["nvme_completions"] = json_u64(transport.stats.requests - std::min(transport.outstanding, transport.stats.requests));
  json["queued_requests"] = json_u64(transport.stats.queued_requests);
  json["submitted_requests"] = json_u64(transport.stats.requests);
  json["queue_pairs"] = json_u64(transport.queue_pairs);
  json["bytes_received"] = json_u64(transport.stats.bytes_received);
  json["bytes_sent"] = json_u64(transport.stats.bytes_sent);
  return json;
}

Task<RpcResult<Json::Value>> get_transport_statistics(Params) {
  // Weak: a port must not end on this thread because it was the last to know it.
  using Ports = std::map<Thread*, std::vector<std::weak_ptr<IoPort>>>;
  auto ports = std::make_shared<Ports>();
  ThreadTransport admin;
  for (const auto& subsystem : NvmeModule::instance()->all()) {
    for (const auto& controller : subsystem->controllers()) {
      const Association* association = controller->association();
      if (association != nullptr) add(admin, association->queue_stats(), association->outstanding());
      for (auto&& port : controller->hub()->ports()) (*ports)[&port->thread()].push_back(port);
    }
  }
  std::vector<Thread*> threads;
  for (const auto& [thread, list] : *ports) {
    if (thread != Thread::current()) threads.push_back(thread);
  }
  std::function<ThreadTransport(Thread&)> ask = [ports](Thread& thread) {
    ThreadTransport sum;
    for (const auto& weak : ports->at(&thread)) {
      const auto port = weak.lock();
      if (port != nullptr && port->queue() != nullptr) add(sum, port->queue()->stats(), port->queue()->outstanding());
    }
    return sum;
  };
  std::map<std::string, ThreadTransport> by_name;
  if (ports->contains(Thread::current())) {
    const ThreadTransport own = ask(*Thread::current());
    add(admin, own.stats, own.outstanding);
    admin.queue_pairs += own.queue_pairs - 1;
  }
  by_name[Thread::current()->name()] = admin;
  std::map<std::uint64_t, std::string> names;
  for (const Thread* thread : threads) names[thread->id()] = thread->name();
  auto answers = co_await ask_threads<ThreadTransport>(threads, ask);
  for (auto& [id, answer] : answers.by_id) by_name[names[id]] = answer;
  Json::Value groups(Json::arrayValue);
  for (const auto& [name, transport] : by_name) {
    Json::Value group(Json::objectValue);
    group["thread"] = name;
    group["transports"] = Json::Value(Json::arrayValue);
    group["transports"].append(transport_statistics_json(transport));
    groups.append(std::move(group));
  }
  Json::Value result(Json::objectValue);
  result["tick_rate"] = json_u64(tick_rate_hz);
  result["poll_groups"] = std::move(groups);
  co_return result;
}

Json::Value call_json(const char* method, Json::Value params) {
  Json::Value call(Json::objectValue);
  call["method"] = method;
  call["params"] = std::move(params);
  return call;
}

Param bdev_name(const char* help = "Name of the bdev") { return Param("name", ParamType::string, help).required(); }

}  // namespace

// What was chosen for single bdevs, also while one is away. For what discovery attaches later there is nothing to say it to yet.
std::vector<Json::Value> nvme_path_calls(const NvmeSubsystem& subsystem, const NvmeController* only) {
  std::vector<Json::Value> calls;
  for (const std::uint32_t nsid : subsystem.chosen_namespaces()) {
    Json::Value params(Json::objectValue);
    params["name"] = subsystem.bdev_name(nsid);
    if (const auto multipath = subsystem.chosen_multipath(nsid); multipath && only == nullptr) {
      Json::Value policy = params;
      policy["policy"] = std::string(multipath_policy_name(multipath->policy));
      if (multipath->policy == MultipathPolicy::active_active) {
        policy["selector"] = std::string(multipath_selector_name(multipath->selector));
        if (multipath->selector == MultipathSelector::round_robin) policy["rr_min_io"] = multipath->rr_min_io;
      }
      calls.push_back(call_json("bdev_nvme_set_multipath_policy", std::move(policy)));
    }
    const auto controller = subsystem.preferred(nsid);
    if (controller != nullptr && (only == nullptr || only == controller.get())) {
      params["traddr"] = controller->id().traddr;
      params["trsvcid"] = controller->id().trsvcid;
      calls.push_back(call_json("bdev_nvme_set_preferred_path", std::move(params)));
    }
  }
  return calls;
}

void register_bdev_nvme_path_methods(rpc::MethodTable& table) {
  table.add(Method("bdev_nvme_get_io_paths", "Shows the paths of NVMe bdevs on each thread that uses them")
                .with({Param("name", ParamType::string, "Name of the bdev; all without it")})
                .result("{\"poll_groups\": [{\"thread\", \"io_paths\": [{\"bdev_name\", \"cntlid\", \"current\", \"connected\", \"accessible\", "
                        "\"transport\"}]}]}")
                .coroutine(get_io_paths));
  table.add(Method("bdev_nvme_set_preferred_path", "Has I/O of a bdev take the path over one controller while that path works")
                .with({bdev_name(), Param("cntlid", ParamType::integer, "Controller id of the path").range(0, 0xFFFF),
                       Param("traddr", ParamType::string, "Address of the path, instead of cntlid (ours)"),
                       Param("trsvcid", ParamType::string, "Port of that address; 4420 without it")})
                .mutates()
                .coroutine(set_preferred_path));
  table.add(
      Method("bdev_nvme_set_multipath_policy", "Sets how the paths of a bdev share its I/O")
          .with({bdev_name(),
                 Param("policy", ParamType::string, "One path while it works, or all at once").required().one_of({"active_passive", "active_active"}),
                 Param("selector", ParamType::string, "How active_active chooses; round_robin without it").one_of({"round_robin", "queue_depth"}),
                 Param("rr_min_io", ParamType::integer, "round_robin: I/Os per path and turn; 1 without it").range(1, 0xFFFF'FFFF)})
          .mutates()
          .coroutine(set_multipath_policy));
  table.add(
      Method("bdev_nvme_get_path_iostat", "Shows what went over each path of a bdev, if paths are counted (io_path_stat of bdev_nvme_set_options)")
          .with({bdev_name()})
          .result("{\"name\", \"tick_rate\", \"stats\": [{\"trid\", \"stat\"}]}")
          .coroutine(get_path_iostat));
  table.add(Method("bdev_nvme_get_transport_statistics", "Shows what the initiator's queue pairs did, per thread; app_thread has the admin queues")
                .result("{\"tick_rate\", \"poll_groups\": [{\"thread\", \"transports\": [{\"trname\", \"polls\", \"idle_polls\", "
                        "\"socket_completions\", \"nvme_completions\", \"queued_requests\", \"submitted_requests\"}]}]}")
                .coroutine(get_transport_statistics));
}

}  // namespace catnap::bdev
