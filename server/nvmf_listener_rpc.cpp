// nvmf_subsystem_add_listener, nvmf_subsystem_remove_listener, nvmf_subsystem_get_listeners.
// Owner: app_thread. Left out: TLS itself (transport/tls), changing ANA states (nvmf_ana_rpc.cpp).
#include <fmt/format.h>

#include "server/ana.h"
#include "server/names.h"
#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

Task<Reply> add_listener(rpc::Params params) {
  const std::string nqn = nqn_of(params);
  const ListenAddress address = listen_address(params);
  const AnaState ana_state = ana_state_named(params.string("ana_state")).value_or(AnaState::optimized);
  const auto concatenation = concatenation_named(params.string("secure_concatenation"));
  Target::Change change = target().add_listener(nqn, address, ana_state, params.boolean("secure_channel"), concatenation);
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

Reply get_listeners(const rpc::Params& params) {
  const auto found = target().find(nqn_of(params));
  if (!found) return std::unexpected(rpc::RpcError(found.error()));
  Json::Value list(Json::arrayValue);
  for (const auto& listener : (*found)->listeners) {
    Json::Value entry(Json::objectValue);
    entry["address"] = address_json(listener.address);
    entry["secure_channel"] = listener.secure_channel;
    entry["secure_concatenation"] = concatenation_name(listener.concatenation);
    if ((*found)->ana_reporting) entry["ana_states"] = ana_states_json(**found, listener);
    list.append(std::move(entry));
  }
  return list;
}

}  // namespace

void register_nvmf_listener_methods(rpc::MethodTable& table) {
  table.add(rpc::Method("nvmf_subsystem_add_listener", "Let a subsystem be reached at an address")
                .with({nqn_param(), listen_address_param(), tgt_name_param(),
                       Param("secure_channel", ParamType::boolean, "Only by TLS 1.3, with the psk of a host of the list; without it, only cleartext"),
                       Param("secure_concatenation", ParamType::string,
                             "TLS with keys that hosts make by authenticating in cleartext first; required: nothing else (not in SPDK)")
                           .one_of({"none", "allowed", "required"}),
                       // Who is the active path after a restart is for the control plane to say.
                       ana_state_param().kept_as(ana_state_name(AnaState::inaccessible)),
                       Param("sock_impl", ParamType::any, "No effect: there is one socket implementation").ignored(),
                       Param("numa_id", ParamType::any, "No effect: an option of vfio-user").ignored()})
                .mutates()
                .coroutine(add_listener));
  table.add(rpc::Method("nvmf_subsystem_remove_listener", "Take an address from a subsystem; its connections there end")
                .with({nqn_param(), listen_address_param(), tgt_name_param()})
                .mutates()
                .takes_back_waiting(
                    {"nvmf_subsystem_add_listener", "nvmf_subsystem_listener_set_ana_state"},
                    {{"nqn", "nqn"}, {"listen_address.traddr", "listen_address.traddr"}, {"listen_address.trsvcid", "listen_address.trsvcid"}})
                .coroutine(remove_listener));
  table.add(rpc::Method("nvmf_subsystem_get_listeners", "Show where a subsystem can be reached")
                .with({nqn_param(), tgt_name_param()})
                .result("Array of listeners; ana_states with ana_reporting")
                .handler(get_listeners));
}

}  // namespace catnap::server
