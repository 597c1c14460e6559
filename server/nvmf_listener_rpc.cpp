// nvmf_subsystem_add_listener, nvmf_subsystem_remove_listener, nvmf_subsystem_get_listeners.
// Owner: app_thread. Left out: TLS (secure_channel), changing ANA states.
#include <fmt/format.h>

#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

const char* ana_state_name(AnaState state) {
  switch (state) {
    case AnaState::optimized:
      return "optimized";
    case AnaState::non_optimized:
      return "non_optimized";
    case AnaState::inaccessible:
      return "inaccessible";
    case AnaState::persistent_loss:
      return "persistent_loss";
    case AnaState::change:
      return "change";
  }
  return "unknown";
}

Task<Reply> add_listener(rpc::Params params) {
  if (params.boolean("secure_channel")) {
    co_return std::unexpected(rpc::RpcError(Error(ENOTSUP, "secure_channel true is not supported: connections are plain TCP")));
  }
  const std::string nqn = nqn_of(params);
  const ListenAddress address = listen_address(params);
  Target::Change change = target().add_listener(nqn, address);
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Task<Reply> remove_listener(rpc::Params params) {
  const std::string nqn = nqn_of(params);
  const ListenAddress address = listen_address(params);
  Target::Change change = target().remove_listener(nqn, address);
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Json::Value ana_states_json(const SubsystemSnapshot& subsystem, const SubsystemSnapshot::ListenerEntry& listener) {
  Json::Value states(Json::arrayValue);
  for (std::uint32_t group = 1; group <= subsystem.max_namespaces; ++group) {
    const auto state = listener.ana_states.find(group);
    Json::Value entry(Json::objectValue);
    entry["ana_group"] = group;
    entry["ana_state"] = ana_state_name(state == listener.ana_states.end() ? AnaState::optimized : state->second);
    states.append(std::move(entry));
  }
  return states;
}

Reply get_listeners(const rpc::Params& params) {
  const auto found = target().find(nqn_of(params));
  if (!found) return std::unexpected(rpc::RpcError(found.error()));
  Json::Value list(Json::arrayValue);
  for (const auto& listener : (*found)->listeners) {
    Json::Value entry(Json::objectValue);
    entry["address"] = address_json(listener.address);
    if ((*found)->ana_reporting) entry["ana_states"] = ana_states_json(**found, listener);
    list.append(std::move(entry));
  }
  return list;
}

}  // namespace

void register_nvmf_listener_methods(rpc::MethodTable& table) {
  table.add(rpc::Method("nvmf_subsystem_add_listener", "Let a subsystem be reached at an address")
                .with({nqn_param(), listen_address_param(), tgt_name_param(),
                       Param("secure_channel", ParamType::boolean, "Only false: TLS is not supported"),
                       Param("ana_state", ParamType::string, "ANA state of all groups at this listener").one_of({"optimized"}),
                       Param("sock_impl", ParamType::any, "No effect: there is one socket implementation").ignored(),
                       Param("numa_id", ParamType::any, "No effect: an option of vfio-user").ignored()})
                .mutates()
                .coroutine(add_listener));
  table.add(rpc::Method("nvmf_subsystem_remove_listener", "Take an address from a subsystem; its connections there end")
                .with({nqn_param(), listen_address_param(), tgt_name_param()})
                .mutates()
                .coroutine(remove_listener));
  table.add(rpc::Method("nvmf_subsystem_get_listeners", "Show where a subsystem can be reached")
                .with({nqn_param(), tgt_name_param()})
                .result("Array of listeners; ana_states with ana_reporting")
                .handler(get_listeners));
}

}  // namespace catnap::server
