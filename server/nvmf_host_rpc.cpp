// nvmf_subsystem_add_host, nvmf_subsystem_remove_host, nvmf_subsystem_allow_any_host, nvmf_subsystem_set_keys.
// Owner: app_thread. Left out: the keyring's own methods (keyring/keyring_rpc.h).
#include <fmt/format.h>

#include "rpc/turn.h"
#include "server/auth_failures.h"
#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

// Each is a file that is read when the host connects; a rotation has two.
constexpr std::size_t max_host_psks = 4;

// A key of the keyring by the name in this parameter; null when it is not given. Errors: ENOKEY.
Result<keyring::KeyRef> key_of(const rpc::Params& params, const char* name) {
  if (params.string(name).empty()) return keyring::KeyRef();
  return keyring::Keyring::instance().borrow(params.string(name), fmt::format("{} of host '{}'", name, params.string("host")));
}

// The host's keys for TLS: psk, then further_psks. Errors: ENOKEY; further keys without a first.
rpc::RpcResult<std::vector<keyring::KeyRef>> psks_of(const rpc::Params& params) {
  std::vector<keyring::KeyRef> psks;
  auto first = key_of(params, "psk");
  if (!first) return std::unexpected(rpc::RpcError(first.error()));
  if (*first != nullptr) psks.push_back(std::move(*first));
  if (!params.has("further_psks")) return psks;
  const auto names = params.strings("further_psks");
  if (psks.empty() && !names.empty()) return std::unexpected(rpc::RpcError(rpc::invalid_params, "further_psks without psk: the first key is psk"));
  for (const std::string& name : names) {
    auto key = keyring::Keyring::instance().borrow(name, fmt::format("further_psks of host '{}'", params.string("host")));
    if (!key) return std::unexpected(rpc::RpcError(key.error()));
    psks.push_back(std::move(*key));
  }
  if (psks.size() > max_host_psks) {
    return std::unexpected(rpc::RpcError(rpc::invalid_params, fmt::format("{} TLS keys: a host has at most {}", psks.size(), max_host_psks)));
  }
  return psks;
}

Task<Reply> add_host(rpc::Params params) {
  HostKeys keys;
  for (const auto& [name, to] : {std::pair{"dhchap_key", &keys.dhchap_key}, std::pair{"dhchap_ctrlr_key", &keys.dhchap_ctrlr_key}}) {
    auto key = key_of(params, name);
    if (!key) co_return std::unexpected(rpc::RpcError(key.error()));
    *to = std::move(*key);
  }
  auto psks = psks_of(params);
  if (!psks) co_return std::unexpected(psks.error());
  keys.set_psks(*psks);
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
  std::optional<std::vector<keyring::KeyRef>> psks;
  if (params.has("psk") || params.has("further_psks")) {
    auto given = psks_of(params);
    if (!given) co_return std::unexpected(given.error());
    psks = std::move(*given);
  }
  const std::string nqn = nqn_of(params);
  Target::Change change = target().set_keys(nqn, params.string("host"), std::move(*key), std::move(*ctrlr_key), psks);
  Reply reply = co_await reply_when_settled(change);
  if (reply) AuthFailures::instance().forget_host(params.string("host"));
  co_return reply;
}

Param host_param() { return Param("host", ParamType::string, "NQN of the host").required(); }
Param psk_param() {
  return Param("psk", ParamType::string, "Name of the key with which the host secures its connections by TLS (keyring_file_add_key)");
}
Param further_psks_param() {
  return Param("further_psks", ParamType::array_of_string,
               "Names of keys that are valid as well, while the host changes from one to another (not in SPDK)");
}
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
                .with({nqn_param(), host_param(), tgt_name_param(), psk_param(), further_psks_param(), host_key_param(), ctrlr_key_param()})
                .mutates()
                .coroutine(add_host));
  table.add(rpc::Method("nvmf_subsystem_set_keys", "Change the keys with which a host authenticates itself from now on; connections stay")
                .with({nqn_param(), host_param(), tgt_name_param(), psk_param(), further_psks_param(), host_key_param(), ctrlr_key_param()})
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
