// Keys of controllers: the parameters dhchap_key and dhchap_ctrlr_key, and bdev_nvme_set_keys (SPDK 26.09-pre, schema/schema.yaml). See nvme_rpc.h.
// Owner: app_thread. Left out: the keyring's methods (keyring/keyring_rpc.h).
#include <fmt/core.h>

#include <utility>

#include "bdev/nvme/module.h"
#include "bdev/nvme/nvme_rpc.h"
#include "rpc/turn.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

Result<keyring::KeyRef> key_of(const Params& params, const char* name, const std::string& user) {
  if (params.string(name).empty()) return keyring::KeyRef();
  return keyring::Keyring::instance().borrow(params.string(name), fmt::format("{} of '{}'", name, user));
}

// Authenticating takes what the other side takes; other calls need not wait for it.
Task<RpcResult<Json::Value>> set_keys(Params params) {
  auto turn = rpc::Turn::current();
  const std::string name = params.string("name");
  const auto subsystem = attached_as(name);
  if (!subsystem) co_return std::unexpected(subsystem.error());
  ControllerOptions keys;
  const auto taken = take_keys(params, name, keys);
  if (!taken) co_return std::unexpected(RpcError(taken.error()));
  const auto controllers = (*subsystem)->controllers();
  turn.give_up();
  Result<void> worst;
  for (const auto& controller : controllers) {
    auto outcome = co_await controller->set_keys(keys.dhchap_key, keys.dhchap_ctrlr_key);
    if (!outcome && worst) worst = outcome;
  }
  if (!worst) co_return std::unexpected(RpcError(worst.error()));
  co_return Json::Value(true);
}

}  // namespace

std::vector<Param> dhchap_key_params() {
  return {Param("dhchap_key", ParamType::string, "Name of the key with which this host authenticates itself (keyring_file_add_key)"),
          Param("dhchap_ctrlr_key", ParamType::string, "Name of the key with which the controller must authenticate itself")};
}

Result<void> take_keys(const Params& params, const std::string& user, ControllerOptions& options) {
  auto key = key_of(params, "dhchap_key", user);
  if (!key) return std::unexpected(key.error());
  auto ctrlr_key = key_of(params, "dhchap_ctrlr_key", user);
  if (!ctrlr_key) return std::unexpected(ctrlr_key.error());
  options.dhchap_key = std::move(*key);
  options.dhchap_ctrlr_key = std::move(*ctrlr_key);
  return check_keys(options.dhchap_key, options.dhchap_ctrlr_key);
}

std::vector<Param> psk_params() {
  return {Param("psk", ParamType::string, "Name of the key for TLS: all connections are secured with it (keyring_file_add_key)"),
          Param("psk_identity_version", ParamType::integer,
                "0 or 1: the form of the TLS identity; without it 1, and 0 where the controller refuses that (not in SPDK)")
              .range(0, 1),
          Param("secure_concatenation", ParamType::boolean,
                "TLS with a key that is made by authenticating with dhchap_key first, anew for each association; instead of psk (not in SPDK)")};
}

Result<void> take_psk(const Params& params, const std::string& user, ControllerOptions& options) {
  auto psk = key_of(params, "psk", user);
  if (!psk) return std::unexpected(psk.error());
  options.psk = std::move(*psk);
  options.concatenate = params.boolean("secure_concatenation");
  if (options.concatenate && (options.psk != nullptr || options.dhchap_key == nullptr)) {
    return fail(EINVAL, options.psk != nullptr
                            ? "Invalid argument: secure_concatenation makes keys for TLS itself: leave psk out"
                            : "Invalid argument: secure_concatenation makes keys for TLS by authenticating: it needs a dhchap_key");
  }
  if (params.has("psk_identity_version")) options.psk_identity_version = static_cast<std::uint8_t>(params.integer("psk_identity_version"));
  return {};
}

void show_keys(const ControllerOptions& options, Json::Value& to) {
  if (options.psk != nullptr) to["psk"] = options.psk->name();
  if (options.psk_identity_version) to["psk_identity_version"] = *options.psk_identity_version;
  if (options.concatenate) to["secure_concatenation"] = true;
  if (options.dhchap_key != nullptr) to["dhchap_key"] = options.dhchap_key->name();
  if (options.dhchap_ctrlr_key != nullptr) to["dhchap_ctrlr_key"] = options.dhchap_ctrlr_key->name();
}

void register_bdev_nvme_key_methods(rpc::MethodTable& table) {
  std::vector<Param> params = {Param("name", ParamType::string, "Name of the controller, as it was attached").required()};
  for (auto& param : dhchap_key_params()) params.push_back(std::move(param));
  table.add(
      Method("bdev_nvme_set_keys", "Changes the keys of a controller and authenticates its live connections with them; without keys it clears them")
          .with(std::move(params))
          .mutates()
          .coroutine(set_keys));
}

}  // namespace catnap::bdev
