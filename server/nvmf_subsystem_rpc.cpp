// nvmf_create_subsystem, nvmf_delete_subsystem, nvmf_get_subsystems.
// Owner: app_thread. Left out: passthrough subsystems, NVM subsystem reset.
#include <fmt/format.h>

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "rpc/listing.h"
#include "server/ana.h"
#include "server/command_limits_rpc.h"
#include "server/names.h"
#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

std::vector<Param> create_params() {
  const SubsystemOptions defaults;
  std::vector<Param> params;
  params.push_back(nqn_param());
  params.push_back(tgt_name_param());
  params.push_back(Param("serial_number", ParamType::string, "At most 20 printable ASCII characters").or_default(defaults.serial_number));
  params.push_back(Param("model_number", ParamType::string, "At most 40 printable ASCII characters").or_default(defaults.model_number));
  params.push_back(Param("allow_any_host", ParamType::boolean, "Any host may connect, not only those of the list").or_default(false));
  params.push_back(Param("ana_reporting", ParamType::boolean, "Report asymmetric namespace access").or_default(false));
  params.push_back(
      Param("max_namespaces", ParamType::integer, "Most namespaces, and highest NSID; 0: 32").or_default(0).range(0, max_namespaces_limit));
  params.push_back(
      Param("min_cntlid", ParamType::integer, "Lowest controller id").or_default(defaults.min_cntlid).range(min_cntlid_limit, max_cntlid_limit));
  params.push_back(
      Param("max_cntlid", ParamType::integer, "Highest controller id").or_default(defaults.max_cntlid).range(min_cntlid_limit, max_cntlid_limit));
  params.push_back(Param("admin_label", ParamType::string, "4 to 256 printable ASCII characters, shown in extended discovery entries"));
  params.push_back(Param("passthrough", ParamType::boolean, "Only false: there are no NVMe bdevs to pass commands to"));
  for (Param& param : subsystem_command_params()) params.push_back(std::move(param));
  return params;
}

Task<Reply> create_subsystem(rpc::Params params) {
  if (params.boolean("passthrough")) co_return std::unexpected(rpc::RpcError(Error(ENOTSUP, "passthrough true is not supported")));
  SubsystemOptions options;
  options.nqn = params.string("nqn");
  options.serial_number = params.string("serial_number");
  options.model_number = params.string("model_number");
  options.admin_label = params.string("admin_label");
  options.allow_any_host = params.boolean("allow_any_host");
  options.ana_reporting = params.boolean("ana_reporting");
  options.max_namespaces = static_cast<std::uint32_t>(params.integer("max_namespaces"));
  options.min_cntlid = static_cast<std::uint16_t>(params.integer("min_cntlid"));
  options.max_cntlid = static_cast<std::uint16_t>(params.integer("max_cntlid"));
  if (const auto read = read_subsystem_commands(params, options); !read) co_return std::unexpected(read.error());
  Target::Change change = target().create_subsystem(options);
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Task<Reply> delete_subsystem(rpc::Params params) {
  std::string nqn = nqn_of(params);
  Target::Watch watch = target().watch_namespaces(nqn);
  Target::Change change = target().delete_subsystem(nqn);
  Reply reply = co_await reply_when_released(change, watch, nqn);
  co_return reply;
}

Json::Value namespace_json(const NamespaceConfig& config, bool with_ana) {
  Json::Value json(Json::objectValue);
  json["nsid"] = config.nsid;
  json["bdev_name"] = config.bdev->name();
  json["name"] = config.bdev->name();
  if (config.nguid != std::array<std::uint8_t, 16>{}) json["nguid"] = hex_text(config.nguid);
  if (config.eui64 != std::array<std::uint8_t, 8>{}) json["eui64"] = hex_text(config.eui64);
  json["uuid"] = uuid_text(config.uuid);
  if (with_ana) json["anagrpid"] = config.anagrpid;
  if (!config.ptpl_file.empty()) json["ptpl_file"] = config.ptpl_file;
  if (config.no_auto_visible) {
    json["no_auto_visible"] = true;
    json["hosts"] = hosts_json(config.visible_hosts);
  }
  return json;
}

// By listener, the groups that have namespaces; nvmf_subsystem_get_listeners shows all.
Json::Value used_ana_states_json(const SubsystemSnapshot& subsystem) {
  std::set<std::uint32_t> groups;
  for (const auto& [nsid, config] : subsystem.namespaces) groups.insert(ana_group_of(*config));
  Json::Value list(Json::arrayValue);
  for (const auto& listener : subsystem.listeners) {
    Json::Value entry(Json::objectValue);
    entry["address"] = address_json(listener.address);
    entry["ana_states"] = Json::Value(Json::arrayValue);
    for (const std::uint32_t group : groups) {
      Json::Value state(Json::objectValue);
      state["ana_group"] = group;
      state["ana_state"] = ana_state_name(ana_state_of(&listener, group));
      entry["ana_states"].append(std::move(state));
    }
    list.append(std::move(entry));
  }
  return list;
}

Json::Value subsystem_json(const SubsystemSnapshot& subsystem) {
  Json::Value json(Json::objectValue);
  json["nqn"] = subsystem.nqn;
  json["subtype"] = subsystem.discovery ? "Discovery" : "NVMe";
  json["listen_addresses"] = Json::Value(Json::arrayValue);
  for (const auto& listener : subsystem.listeners) json["listen_addresses"].append(address_json(listener.address));
  json["allow_any_host"] = subsystem.allow_any_host;
  json["hosts"] = hosts_json(subsystem.hosts);
  for (Json::Value& host : json["hosts"]) show_keys(subsystem.keys_of(host["nqn"].asString()), host);
  if (!subsystem.unique_nqn.empty()) json["unique_nqn"] = subsystem.unique_nqn;
  if (subsystem.discovery) return json;
  json["serial_number"] = subsystem.serial_number;
  json["model_number"] = subsystem.model_number;
  if (!subsystem.admin_label.empty()) json["admin_label"] = subsystem.admin_label;
  json["max_namespaces"] = subsystem.max_namespaces;
  json["min_cntlid"] = subsystem.min_cntlid;
  json["max_cntlid"] = subsystem.max_cntlid;
  json["ana_reporting"] = subsystem.ana_reporting;
  show_subsystem_commands(subsystem, json);
  if (subsystem.ana_reporting) json["ana_states"] = used_ana_states_json(subsystem);
  json["namespaces"] = Json::Value(Json::arrayValue);
  for (const auto& [nsid, config] : subsystem.namespaces) json["namespaces"].append(namespace_json(*config, subsystem.ana_reporting));
  return json;
}

Json::Value shown_subsystem(const std::shared_ptr<const SubsystemSnapshot>& subsystem) { return subsystem_json(*subsystem); }

Task<Reply> get_subsystems(rpc::Params params) {
  if (params.has("nqn")) {
    const auto found = target().find(nqn_of(params));
    if (!found) co_return std::unexpected(rpc::RpcError(found.error()));
    Json::Value one(Json::arrayValue);
    one.append(subsystem_json(**found));
    co_return one;
  }
  // The discovery subsystem first, as SPDK's clients are used to.
  std::vector<std::shared_ptr<const SubsystemSnapshot>> subsystems;
  for (const bool discovery : {true, false}) {
    for (const auto& [nqn, subsystem] : target().current().subsystems) {
      if (subsystem->discovery == discovery) subsystems.push_back(subsystem);
    }
  }
  auto list = rpc::list_in_slices(std::move(subsystems), &shown_subsystem);
  Json::Value shown = co_await std::move(list);
  co_return shown;
}

}  // namespace

void register_nvmf_subsystem_methods(rpc::MethodTable& table) {
  table.add(rpc::Method("nvmf_create_subsystem", "Make a subsystem").with(create_params()).mutates().coroutine(create_subsystem));
  table.add(rpc::Method("nvmf_delete_subsystem", "Remove a subsystem and end its controllers")
                .with({nqn_param(), tgt_name_param()})
                .mutates()
                .takes_back_waiting({"nvmf_*"}, {{"nqn", "nqn"}})
                .coroutine(delete_subsystem));
  table.add(rpc::Method("nvmf_get_subsystems", "Show subsystems, their listeners, hosts and namespaces")
                .with({Param("nqn", ParamType::string, "Only this one"), tgt_name_param()})
                .result("Array of subsystems")
                .coroutine(get_subsystems));
}

}  // namespace catnap::server
