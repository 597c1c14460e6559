// nvmf_ns_add_host, nvmf_ns_remove_host, nvmf_ns_visible: which hosts see a namespace that was added with no_auto_visible.
// Owner: app_thread. Left out: who may connect at all (nvmf_host_rpc.cpp).
#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

Task<Reply> set_visible(std::string nqn, std::uint32_t nsid, std::string host, bool visible) {
  Target::Change change = target().set_namespace_visible(nqn, nsid, host, visible);
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Task<Reply> add_host(rpc::Params params) {
  return set_visible(nqn_of(params), static_cast<std::uint32_t>(params.integer("nsid")), params.string("host"), true);
}

Task<Reply> remove_host(rpc::Params params) {
  return set_visible(nqn_of(params), static_cast<std::uint32_t>(params.integer("nsid")), params.string("host"), false);
}

Task<Reply> either(rpc::Params params) {
  return set_visible(nqn_of(params), static_cast<std::uint32_t>(params.integer("nsid")), params.string("host"), params.boolean("visible"));
}

std::vector<Param> params_of() {
  std::vector<Param> params;
  params.push_back(nqn_param());
  params.push_back(Param("nsid", ParamType::integer, "Namespace id, of a namespace added with no_auto_visible").required().range(1, max_nsid));
  params.push_back(Param("host", ParamType::string, "NQN of the host").required());
  params.push_back(tgt_name_param());
  return params;
}

}  // namespace

void register_nvmf_visibility_methods(rpc::MethodTable& table) {
  table.add(rpc::Method("nvmf_ns_add_host", "Show a namespace to a host, connected or not").with(params_of()).mutates().coroutine(add_host));
  table.add(rpc::Method("nvmf_ns_remove_host", "Hide a namespace from a host")
                .with(params_of())
                .mutates()
                .takes_back_waiting({"nvmf_ns_add_host"}, {{"nqn", "nqn"}, {"nsid", "nsid"}, {"host", "host"}})
                .coroutine(remove_host));
  std::vector<Param> with_choice = params_of();
  with_choice.push_back(Param("visible", ParamType::boolean, "True: show, false: hide").required());
  table.add(rpc::Method("nvmf_ns_visible", "nvmf_ns_add_host and nvmf_ns_remove_host in one, as ceph-nvmeof's SPDK has it")
                .with(std::move(with_choice))
                .mutates()
                .coroutine(either));
}

}  // namespace catnap::server
