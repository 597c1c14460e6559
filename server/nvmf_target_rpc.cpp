// nvmf_create_target, nvmf_delete_target, nvmf_get_targets, nvmf_set_crdt, and the methods that are refused with a sentence: mDNS.
// Owner: app_thread. Left out: a second target. SPDK makes one without poll groups, so that it never serves anything, and no control plane asks.
#include <fmt/format.h>

#include <array>

#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

Reply create_target(const rpc::Params& params) {
  const std::string name = params.string("name");
  if (name == target_name) return std::unexpected(rpc::RpcError(Error(EEXIST, fmt::format("Target already exists.: '{}'", name))));
  return std::unexpected(rpc::RpcError(
      Error(ENOTSUP, fmt::format("name '{}': there is one target in a process, '{}'; start another catnapd for another target", name, target_name))));
}

Reply delete_target(const rpc::Params& params) {
  const std::string name = params.string("name");
  if (name == target_name)
    return std::unexpected(rpc::RpcError(Error(ENOTSUP, fmt::format("name '{}': the target lives as long as the process (SIGTERM ends it)", name))));
  return std::unexpected(rpc::RpcError(
      Error(ENODEV, fmt::format("The specified target doesn't exist, cannot delete it.: name '{}'; there is '{}'", name, target_name))));
}

Reply get_targets(const rpc::Params&) {
  Json::Value names(Json::arrayValue);
  names.append(target_name);
  return names;
}

Reply set_crdt(const rpc::Params& params) {
  std::array<std::uint16_t, 3> delays{};
  for (std::size_t i = 0; i < delays.size(); ++i) delays[i] = static_cast<std::uint16_t>(params.integer(fmt::format("crdt{}", i + 1)));
  target().set_crdt(delays);
  return Json::Value(true);
}

Reply no_mdns(const rpc::Params&) {
  return std::unexpected(rpc::RpcError(Error(
      ENOTSUP, "mDNS is not supported: name the discovery service to hosts (nvme discover -a), or announce it with a responder of the system")));
}

Param crdt_param(const char* name) { return Param(name, ParamType::integer, "Units of 100 ms").or_default(0).range(0, 0xFFFF); }

}  // namespace

void register_nvmf_target_methods(rpc::MethodTable& table) {
  table.add(rpc::Method("nvmf_create_target", "Refused: there is one target in a process")
                .with({Param("name", ParamType::string, "Name of the target").required(),
                       Param("max_subsystems", ParamType::integer, "Most subsystems").range(1, max_subsystems_limit),
                       Param("discovery_filter", ParamType::any, "As in nvmf_set_config"),
                       Param("dup_host_policy", ParamType::string, "As in nvmf_set_config").one_of({"allow", "restrict_per_listener"})})
                .result("Name of the target")
                .mutates()
                .handler(create_target));
  table.add(rpc::Method("nvmf_delete_target", "Refused: the target lives as long as the process")
                .with({Param("name", ParamType::string, "Name of the target").required()})
                .mutates()
                .handler(delete_target));
  table.add(rpc::Method("nvmf_get_targets", "Show the names of the targets: there is one").result("Array of names").handler(get_targets));
  table.add(rpc::Method("nvmf_set_crdt", "Set the Command Retry Delay Times that hosts are told, before the target is initialised")
                .with({crdt_param("crdt1"), crdt_param("crdt2"), crdt_param("crdt3")})
                .in_phase(rpc::Phase::startup_only)
                .mutates()
                .handler(set_crdt));
  for (const char* name : {"nvmf_publish_mdns_prr", "nvmf_stop_mdns_prr"}) {
    table.add(rpc::Method(name, "Not supported: there is no mDNS").with({tgt_name_param()}).acts().handler(no_mdns));
  }
}

}  // namespace catnap::server
