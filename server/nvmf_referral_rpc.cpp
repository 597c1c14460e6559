// nvmf_discovery_add_referral, nvmf_discovery_remove_referral, nvmf_discovery_get_referrals, and which hosts see a referral.
// Owner: app_thread. Left out: following referrals, which hosts do.
#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

Param address_param() {
  return Param("address", ParamType::object, "Where the other discovery service is")
      .required()
      .with_fields({Param("trtype", ParamType::string, "Transport type: TCP or RDMA, in any case").required(),
                    Param("adrfam", ParamType::string, "IPv4 or IPv6, in any case; without it told from traddr"),
                    Param("traddr", ParamType::string, "IP address in numbers").required(),
                    Param("trsvcid", ParamType::string, "Port, 1 to 65535; always needed")});
}

Param subnqn_param() {
  return Param("subnqn", ParamType::string, "What is there: without it a discovery service under the well-known NQN; another NQN: an NVM subsystem");
}

ListenAddress address_of(const rpc::Params& params) { return listen_address(params, "address"); }

Task<Reply> add_referral(rpc::Params params) {
  Referral referral;
  referral.address = address_of(params);
  referral.subnqn = params.string("subnqn");
  referral.secure_channel = params.boolean("secure_channel");
  referral.hosts = params.strings("hosts");
  referral.allow_any_host = params.has("allow_any_host") ? params.boolean("allow_any_host") : referral.hosts.empty();
  Target::Change change = target().add_referral(referral);
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Task<Reply> remove_referral(rpc::Params params) {
  const ListenAddress address = address_of(params);
  Target::Change change = target().remove_referral(address, params.string("subnqn"));
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Task<Reply> add_host(rpc::Params params) {
  const ListenAddress address = address_of(params);
  Target::Change change = target().set_referral_host(address, params.string("subnqn"), params.string("host"), true);
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Task<Reply> remove_host(rpc::Params params) {
  const ListenAddress address = address_of(params);
  Target::Change change = target().set_referral_host(address, params.string("subnqn"), params.string("host"), false);
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Task<Reply> allow_any_host(rpc::Params params) {
  const ListenAddress address = address_of(params);
  Target::Change change = target().set_referral_allow_any_host(address, params.string("subnqn"), params.boolean("allow_any_host"));
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Reply get_referrals(const rpc::Params&) {
  Json::Value list(Json::arrayValue);
  for (const Referral& referral : target().current().referrals) {
    Json::Value entry(Json::objectValue);
    entry["address"] = address_json(referral.address);
    entry["secure_channel"] = referral.secure_channel;
    entry["subnqn"] = referral.subnqn;
    entry["allow_any_host"] = referral.allow_any_host;
    entry["hosts"] = hosts_json(referral.hosts);
    list.append(std::move(entry));
  }
  return list;
}

std::vector<Param> place_params() {
  std::vector<Param> params;
  params.push_back(address_param());
  params.push_back(subnqn_param());
  params.push_back(tgt_name_param());
  return params;
}

std::vector<Param> place_params_and(Param more) {
  std::vector<Param> params = place_params();
  params.push_back(std::move(more));
  return params;
}

Param host_param() { return Param("host", ParamType::string, "NQN of the host").required(); }

}  // namespace

void register_nvmf_referral_methods(rpc::MethodTable& table) {
  std::vector<Param> add = place_params_and(Param("secure_channel", ParamType::boolean, "The service there wants TLS"));
  add.push_back(Param("allow_any_host", ParamType::boolean, "Every host sees the referral; without it true, unless there are hosts"));
  add.push_back(Param("hosts", ParamType::array_of_string, "NQNs of the hosts that see it"));
  table.add(rpc::Method("nvmf_discovery_add_referral", "Lead hosts to another discovery service; the same once more changes nothing")
                .with(std::move(add))
                .mutates()
                .coroutine(add_referral));
  table.add(rpc::Method("nvmf_discovery_remove_referral", "Take a referral away")
                .with(place_params())
                .mutates()
                .takes_back_waiting({"nvmf_discovery_*"},
                                    {{"address.traddr", "address.traddr"}, {"address.trsvcid", "address.trsvcid"}, {"subnqn", "subnqn"}})
                .coroutine(remove_referral));
  table.add(
      rpc::Method("nvmf_discovery_get_referrals", "Show referrals").with({tgt_name_param()}).result("Array of referrals").handler(get_referrals));
  table.add(rpc::Method("nvmf_discovery_referral_add_host", "Show a referral to a host (not in SPDK)")
                .with(place_params_and(host_param()))
                .mutates()
                .coroutine(add_host));
  table.add(rpc::Method("nvmf_discovery_referral_remove_host", "Take a host from those who see a referral (not in SPDK)")
                .with(place_params_and(host_param()))
                .mutates()
                .coroutine(remove_host));
  table.add(rpc::Method("nvmf_discovery_referral_allow_any_host", "Show a referral to every host, or to those of its list (not in SPDK)")
                .with(place_params_and(Param("allow_any_host", ParamType::boolean, "True: every host").required()))
                .mutates()
                .coroutine(allow_any_host));
}

}  // namespace catnap::server
