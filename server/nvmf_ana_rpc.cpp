// nvmf_subsystem_listener_set_ana_state, nvmf_subsystem_set_ns_ana_group, and ANA states as other methods show and save them.
// Owner: app_thread. Left out: the state of a new listener (nvmf_listener_rpc.cpp).
#include <fmt/format.h>

#include "server/ana.h"
#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

Task<Reply> set_ana_state(rpc::Params params) {
  const std::string nqn = nqn_of(params);
  const ListenAddress address = listen_address(params);
  const auto state = ana_state_named(params.string("ana_state"));
  if (!state) co_return std::unexpected(rpc::RpcError(rpc::invalid_params, "ana_state '" + params.string("ana_state") + "' is none"));
  std::optional<std::uint32_t> group;
  if (params.has("anagrpid")) group = static_cast<std::uint32_t>(params.integer("anagrpid"));
  Target::Change change = target().set_ana_state(nqn, address, *state, group);
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Task<Reply> set_ns_ana_group(rpc::Params params) {
  const std::string nqn = nqn_of(params);
  const auto nsid = static_cast<std::uint32_t>(params.integer("nsid"));
  const auto group = static_cast<std::uint32_t>(params.integer("anagrpid"));
  Target::Change change = target().set_namespace_ana_group(nqn, nsid, group);
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

}  // namespace

rpc::Param ana_state_param() {
  return Param("ana_state", ParamType::string, "ANA state").one_of({"optimized", "non_optimized", "inaccessible", "persistent_loss", "change"});
}

Json::Value ana_states_json(const SubsystemSnapshot& subsystem, const SubsystemSnapshot::ListenerEntry& listener) {
  Json::Value states(Json::arrayValue);
  for (std::uint32_t group = 1; group <= subsystem.max_namespaces; ++group) {
    Json::Value entry(Json::objectValue);
    entry["ana_group"] = group;
    entry["ana_state"] = ana_state_name(ana_state_of(&listener, group));
    states.append(std::move(entry));
  }
  return states;
}

void append_ana_calls(const SubsystemSnapshot& subsystem, const SubsystemSnapshot::ListenerEntry& listener, Json::Value& calls) {
  for (const auto& [group, state] : listener.ana_states) {
    Json::Value params(Json::objectValue);
    params["nqn"] = subsystem.nqn;
    params["listen_address"] = address_json(listener.address);
    params["anagrpid"] = group;
    params["ana_state"] = ana_state_name(state);
    Json::Value call(Json::objectValue);
    call["method"] = "nvmf_subsystem_listener_set_ana_state";
    call["params"] = std::move(params);
    calls.append(std::move(call));
  }
}

void register_nvmf_ana_methods(rpc::MethodTable& table) {
  table.add(rpc::Method("nvmf_subsystem_listener_set_ana_state", "Set the ANA state of one group, or of all, at a listener")
                .with({nqn_param(), listen_address_param(), ana_state_param().required(),
                       Param("anagrpid", ParamType::integer, "ANA group; without it all").range(1, max_namespaces_limit), tgt_name_param()})
                .mutates()
                .not_kept()  // and so a full disk is no reason to refuse a switch-over
                .coroutine(set_ana_state));
  table.add(rpc::Method("nvmf_subsystem_set_ns_ana_group", "Move a namespace to another ANA group")
                .with({nqn_param(), Param("nsid", ParamType::integer, "Namespace id").required().range(1, max_nsid),
                       Param("anagrpid", ParamType::integer, "ANA group").required().range(1, max_namespaces_limit),
                       Param("transit_anagrpid", ParamType::any, "No effect: a namespace is never without a group").ignored(), tgt_name_param()})
                .mutates()
                .coroutine(set_ns_ana_group));
}

}  // namespace catnap::server
