// What the nvmf_* methods have in common. See nvmf_common_rpc.h.
// Owner: app_thread.
#include "server/nvmf_common_rpc.h"

#include "reactor/base/check.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {

using rpc::Param;
using rpc::ParamType;

void register_nvmf_rpc_methods(rpc::MethodTable& table) {
  register_nvmf_transport_methods(table);
  register_nvmf_subsystem_methods(table);
  register_nvmf_namespace_methods(table);
  register_nvmf_listener_methods(table);
  register_nvmf_ana_methods(table);
  register_nvmf_host_methods(table);
  register_nvmf_visibility_methods(table);
  register_nvmf_referral_methods(table);
  register_nvmf_target_methods(table);
  register_nvmf_config_methods(table);
}

Param nqn_param() { return Param("nqn", ParamType::string, "NQN of the subsystem").required(); }

Param tgt_name_param() { return Param("tgt_name", ParamType::string, "Name of the target; there is one, nvmf_tgt").one_of({target_name}); }

Param listen_address_param() {
  return Param("listen_address", ParamType::object, "Where to listen")
      .required()
      .with_fields({Param("trtype", ParamType::string, "Transport type: TCP, in any case").required(),
                    Param("adrfam", ParamType::string, "IPv4 or IPv6, in any case; without it told from traddr"),
                    Param("traddr", ParamType::string, "IP address in numbers").required(),
                    Param("trsvcid", ParamType::string, "TCP port, 1 to 65535; always needed with TCP")});
}

ListenAddress listen_address(const rpc::Params& params, const char* member) {
  const rpc::Params given = params.object(member);
  ListenAddress address;
  address.trtype = given.string("trtype");
  address.adrfam = given.string("adrfam");
  address.traddr = given.string("traddr");
  address.trsvcid = given.string("trsvcid");
  return address;
}

Json::Value hosts_json(const std::vector<std::string>& hosts) {
  Json::Value list(Json::arrayValue);
  for (const std::string& host : hosts) {
    Json::Value entry(Json::objectValue);
    entry["nqn"] = host;
    list.append(std::move(entry));
  }
  return list;
}

void show_keys(const HostKeys* keys, Json::Value& to) {
  if (keys == nullptr) return;
  if (keys->psk != nullptr) to["psk"] = keys->psk->name();
  for (const auto& key : keys->further_psks) to["further_psks"].append(key->name());
  if (keys->dhchap_key != nullptr) to["dhchap_key"] = keys->dhchap_key->name();
  if (keys->dhchap_ctrlr_key != nullptr) to["dhchap_ctrlr_key"] = keys->dhchap_ctrlr_key->name();
}

Json::Value address_json(const ListenAddress& address) {
  Json::Value json(Json::objectValue);
  json["trtype"] = address.trtype;
  json["adrfam"] = address.adrfam;
  json["traddr"] = address.traddr;
  json["trsvcid"] = address.trsvcid;
  return json;
}

std::string nqn_of(const rpc::Params& params) {
  std::string nqn = params.string("nqn");
  const SubsystemSnapshot* found = nqn == "discovery" ? nullptr : target().current().find(nqn);
  return nqn == "discovery" || (found != nullptr && found->discovery) ? std::string(discovery_nqn) : nqn;
}

Target& target() {
  CATNAP_CHECK(Target::instance() != nullptr);
  return *Target::instance();
}

Task<Reply> reply_when_settled(Target::Change change) {
  if (!change) co_return std::unexpected(rpc::RpcError(change.error()));
  const std::uint64_t generation = *change;
  Result<void> settled = co_await target().settled(generation);
  if (!settled) co_return std::unexpected(rpc::RpcError(settled.error()));
  co_return Reply(Json::Value(true));
}

Task<Reply> reply_when_released(Target::Change change, Target::Watch released, std::string ended_nqn) {
  if (!change) co_return std::unexpected(rpc::RpcError(change.error()));
  const std::uint64_t generation = *change;
  Result<void> settled = co_await target().settled_and_released(generation, released, ended_nqn);
  if (!settled) co_return std::unexpected(rpc::RpcError(settled.error()));
  co_return Reply(Json::Value(true));
}

}  // namespace catnap::server
