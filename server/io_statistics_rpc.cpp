// nvmf_get_io_stats (io_statistics_rpc.h). Ours alone: SPDK has no counters by namespace or host.
// Owner: app_thread.
#include "server/io_statistics_rpc.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "reactor/clock.h"
#include "server/io_statistics.h"
#include "server/nvmf_common_rpc.h"

namespace catnap::server {
namespace {

constexpr const char* kinds[] = {"total", "namespaces", "hosts", "connections"};

Json::UInt64 number(std::uint64_t value) { return static_cast<Json::UInt64>(value); }

// Pairs of the end of a step in nanoseconds (exclusive; 0: it has none) and how many came in below it and above the one before, where there are some.
Json::Value histogram_json(const LatencyCounts& latencies) {
  Json::Value list(Json::arrayValue);
  for (std::size_t i = 0; i < latencies.counts.size(); ++i) {
    if (latencies.counts[i] == 0) continue;
    Json::Value step(Json::arrayValue);
    step.append(number(i + 1 == latencies.counts.size() ? 0 : LatencyHistogram::end_of(i)));
    step.append(number(latencies.counts[i]));
    list.append(std::move(step));
  }
  return list;
}

void add_sums(Json::Value& json, const IoSums& sums, bool histograms) {
  for (std::size_t i = 0; i < io_classes; ++i) {
    const IoSums::Class& of = sums.classes[i];
    Json::Value entry(Json::objectValue);
    entry["ios"] = number(of.totals.ios);
    entry["bytes"] = number(of.totals.bytes);
    entry["errors"] = number(of.totals.errors);
    entry["latency_ns"] = number(of.totals.latency_ns);
    if (histograms) entry["histogram"] = of.latencies != nullptr ? histogram_json(*of.latencies) : Json::Value(Json::arrayValue);
    json[io_class_name(static_cast<IoClass>(i))] = std::move(entry);
  }
}

const std::string& nqn_of_key(const IoStatistics::NamespaceKey& key) { return key.nqn; }
const std::string& nqn_of_key(const IoStatistics::HostKey& key) { return key.nqn; }
const std::string& nqn_of_key(const IoStatistics::ConnectionKey& key) { return key.host.nqn; }

// The entries of one kind; `nqn` "": of all subsystems. `describe(json, entry)` says whose they are.
template <typename Entries, typename Describe>
Json::Value list(const Entries& entries, const std::string& nqn, bool histograms, Describe describe) {
  Json::Value json(Json::arrayValue);
  for (const auto& entry : entries) {
    if (!nqn.empty() && nqn_of_key(entry.key) != nqn) continue;
    Json::Value one(Json::objectValue);
    one["nqn"] = nqn_of_key(entry.key);
    describe(one, entry);
    add_sums(one, entry.sum(histograms), histograms);
    json.append(std::move(one));
  }
  return json;
}

Reply get_io_stats(const IoStatistics& statistics, const rpc::Params& params) {
  std::string nqn;
  if (params.has("nqn")) {
    const auto subsystem = target().find(nqn_of(params));
    if (!subsystem) return std::unexpected(rpc::RpcError(subsystem.error()));
    nqn = (*subsystem)->nqn;
  }
  const std::vector<std::string> asked = params.strings("kinds");
  for (const std::string& kind : asked) {
    if (std::ranges::find(kinds, kind) == std::end(kinds)) {
      return std::unexpected(rpc::RpcError(rpc::invalid_params,
                                           fmt::format("Invalid parameters: kinds has '{}', there are total, namespaces, hosts, connections", kind)));
    }
  }
  const auto wanted = [&](std::string_view kind) { return asked.empty() || std::ranges::find(asked, kind) != asked.end(); };
  const bool histograms = params.boolean("histograms");
  Json::Value json(Json::objectValue);
  json["tick_rate"] = number(ns_per_s);
  json["ticks"] = number(system_clock().now_ns());
  if (wanted("total")) {
    IoSums sums;
    for (const auto& entry : statistics.namespaces()) {
      if (nqn.empty() || entry.key.nqn == nqn) sums.add(entry.sum(true));
    }
    Json::Value total(Json::objectValue);
    add_sums(total, sums, true);
    json["total"] = std::move(total);
  }
  if (wanted("namespaces")) {
    json["namespaces"] = list(statistics.namespaces(), nqn, histograms, [](Json::Value& one, const auto& entry) {
      one["nsid"] = entry.key.nsid;
      const SubsystemSnapshot* subsystem = target().current().find(entry.key.nqn);
      if (subsystem == nullptr || !subsystem->namespaces.contains(entry.key.nsid)) return;
      one["bdev_name"] = subsystem->namespaces.at(entry.key.nsid)->bdev_name;
    });
  }
  if (wanted("hosts")) {
    json["hosts"] = list(statistics.hosts(), nqn, histograms, [](Json::Value& one, const auto& entry) {
      one["hostnqn"] = entry.key.hostnqn;
      one["connections"] = number(entry.live.size());
    });
  }
  if (wanted("connections")) {
    json["connections"] = list(statistics.connections(), nqn, histograms, [](Json::Value& one, const auto& entry) {
      one["hostnqn"] = entry.key.host.hostnqn;
      one["cntlid"] = entry.key.cntlid;
      one["qid"] = entry.key.qid;
    });
  }
  return json;
}

}  // namespace

void register_io_statistics_methods(rpc::MethodTable& table, ControllerTable& controllers) {
  using rpc::Param;
  using rpc::ParamType;
  table.add(
      rpc::Method("nvmf_get_io_stats", "Show I/O of hosts by namespace, host and connection, counted since they are there")
          .with({Param("nqn", ParamType::string, "Only this subsystem"), tgt_name_param(),
                 Param("kinds", ParamType::array_of_string, "Which of total, namespaces, hosts, connections; all without it"),
                 Param("histograms", ParamType::boolean, "Latencies by size for each entry; the total has them anyway").or_default(false)})
          .result(
              "{tick_rate, ticks, total, namespaces: array of {nqn, nsid, bdev_name...}, hosts: array of {nqn, hostnqn, connections...}, "
              "connections: "
              "array of {nqn, hostnqn, cntlid, qid...}}, each with read, write and other: {ios, bytes, errors, latency_ns: sum, histogram: array of "
              "[nanoseconds that these took less than (0: any more), how many]}")
          .handler([&controllers](const rpc::Params& params) { return get_io_stats(controllers.io_statistics(), params); }));
}

}  // namespace catnap::server
