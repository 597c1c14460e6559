// nvmf_subsystem_add_host, nvmf_subsystem_remove_host, nvmf_subsystem_allow_any_host, nvmf_subsystem_set_keys.
// Owner: app_thread. Left out: the keyring's own methods (keyring/keyring_rpc.h).
#include <fmt/format.h>

#include "rpc/turn.h"
#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

// A key of the keyring by the name in this parameter; null when it is not given. Errors: ENOKEY.
Result<keyring::KeyRef> key_of(const rpc::Params& params, const char* name) {
  if (params.string(name).empty()) return keyring::KeyRef();
  return keyring::Keyring::instance().borrow(params.string(name), fmt::format("{} of host '{}'", name, params.string("host")));
}

Task<Reply> add_host(rpc::Params params) {
  HostKeys keys;
  for (const auto& [name, to] :
       {std::pair{"psk", &keys.psk}, std::pair{"dhchap_key", &keys.dhchap_key}, std::pair{"dhchap_ctrlr_key", &keys.dhchap_ctrlr_key}}) {
    auto key = key_of(params, name);
    if (!key) co_return std::unexpected(rpc::RpcError(key.error()));
    *to = std::move(*key);
  }
  const std::string nqn = nqn_of(params);
  Target::Change change = target().add_host(nqn, params.string("host"), std::move(keys));
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

// Waits until the host's controllers are gone, which is when their I/O in flight is done: at most timeout_ms.
Task<Reply> remove_host(rpc::Params params) {
  rpc::Turn turn = rpc::Turn::current();
  const std::string nqn = nqn_of(params);
  const std::string host = params.string("host");
  const std::uint64_t given_ms = params.integer("timeout_ms");
  const std::uint64_t timeout_us = (given_ms == 0 ? default_host_removal_ms : given_ms) * 1000;
  Target::Change change = target().remove_host(nqn, host, timeout_us);
  if (!change) co_return std::unexpected(rpc::RpcError(change.error()));
  const std::uint64_t generation = *change;
  turn.give_up();  // the I/O of one host must not keep others from being configured
  Result<void> gone = co_await target().host_gone(generation, nqn, host, timeout_us);
  if (!gone) co_return std::unexpected(rpc::RpcError(gone.error()));
  co_return Reply(Json::Value(true));
}

Task<Reply> allow_any_host(rpc::Params params) {
  if (params.has("allow_any_host") == params.has("disable")) {
    co_return std::unexpected(rpc::RpcError(rpc::invalid_params, params.has("disable")
                                                                     ? "parameters 'allow_any_host' and 'disable' exclude each other"
                                                                     : "missing parameter 'allow_any_host'"));
  }
  const std::string nqn = nqn_of(params);
  const bool allow = params.has("disable") ? !params.boolean("disable") : params.boolean("allow_any_host");
  Target::Change change = target().set_allow_any_host(nqn, allow);
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

// Connections stay as they are; what authenticates from the commit on goes by these keys.
Task<Reply> set_keys(rpc::Params params) {
  auto key = key_of(params, "dhchap_key");
  if (!key) co_return std::unexpected(rpc::RpcError(key.error()));
  auto ctrlr_key = key_of(params, "dhchap_ctrlr_key");
  if (!ctrlr_key) co_return std::unexpected(rpc::RpcError(ctrlr_key.error()));
  const std::string nqn = nqn_of(params);
  Target::Change change = target().set_keys(nqn, params.string("host"), std::move(*key), std::move(*ctrlr_key));
  Reply reply = co_await reply_when_settled(change);
  co_return reply;
}

Param host_param() { return Param("host", ParamType::string, "NQN of the host").required(); }
Param host_key_param() {
  return Param("dhchap_key", ParamType::string,
               "Name of the key with which the host must authenticate itself (keyring_file_add_key); without it, it need not");
}
Param ctrlr_key_param() {
  return Param("dhchap_ctrlr_key", ParamType::string,
               "Name of the key with which controllers authenticate themselves to the host, if it asks for that");
}

}  // namespace

void register_nvmf_host_methods(rpc::MethodTable& table) {
  table.add(rpc::Method("nvmf_subsystem_add_host", "Allow a host to connect to a subsystem")
                .with({nqn_param(), host_param(), tgt_name_param(), Param("psk", ParamType::string, "Name of the key for TLS (keyring_file_add_key)"),
                       host_key_param(), ctrlr_key_param()})
                .mutates()
                .coroutine(add_host));
  table.add(rpc::Method("nvmf_subsystem_set_keys", "Change the keys with which a host authenticates itself from now on; connections stay")
                .with({nqn_param(), host_param(), tgt_name_param(), host_key_param(), ctrlr_key_param()})
                .mutates()
                .coroutine(set_keys));
  table.add(rpc::Method("nvmf_subsystem_remove_host", "Take a host from the list; its connections end after their I/O in flight")
                .with({nqn_param(), host_param(), tgt_name_param(),
                       Param("timeout_ms", ParamType::integer, "How long I/O in flight may take before connections are closed all the same; 0: 15 s")
                           .or_default(0)
                           .range(0, max_host_removal_ms)})
                .mutates()
                .takes_back_waiting({"nvmf_subsystem_add_host"}, {{"nqn", "nqn"}, {"host", "host"}})
                .coroutine(remove_host));
  table.add(rpc::Method("nvmf_subsystem_allow_any_host", "Allow every host, or only those of the list")
                .with({nqn_param(), Param("allow_any_host", ParamType::boolean, "True: every host may connect"),
                       Param("disable", ParamType::boolean, "Old spelling, with the opposite meaning"), tgt_name_param()})
                .mutates()
                .coroutine(allow_any_host));
}

}  // namespace catnap::server
