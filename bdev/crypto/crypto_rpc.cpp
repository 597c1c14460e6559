// accel_crypto_key_create, accel_crypto_key_destroy, accel_crypto_keys_get, bdev_crypto_create, bdev_crypto_delete: SPDK's names and parameters
// (schema/schema.yaml of SPDK 26.09-pre). key_file, by which a key can be part of a configuration without being in it, is ours.
#include "bdev/crypto/crypto_rpc.h"

#include <fmt/core.h>

#include "bdev/crypto/crypto.h"
#include "bdev/stack/stack_rpc.h"
#include "reactor/base/log.h"
#include "reactor/runtime.h"
#include "reactor/worker_pool.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

using MadeKey = Result<std::shared_ptr<const CryptoKey>>;

// On a worker.
MadeKey key_from_file(const std::string& name, const std::string& path) {
  auto text = read_key_file(path);
  if (!text) return std::unexpected(text.error());
  auto key = CryptoKey::create(name, text->key, text->key2);
  if (!key) return fail(key.error().err, fmt::format("{} (key_file '{}')", key.error().message, path));
  return key;
}

Promise<MadeKey> reading_key(const std::string& name, const std::string& path) {
  auto work = [name, path] { return key_from_file(name, path); };
  return call_blocking<MadeKey>(Runtime::instance()->workers(), std::move(work));
}

RpcResult<void> check_key_params(const Params& params) {
  if (params.string("cipher") != "AES_XTS") {
    return std::unexpected(RpcError(-ENOTSUP, fmt::format("Operation not supported: cipher {}, only AES_XTS is", params.string("cipher"))));
  }
  if (params.string("tweak_mode") != "SIMPLE_LBA") {
    return std::unexpected(
        RpcError(-ENOTSUP, fmt::format("Operation not supported: tweak_mode {}, only SIMPLE_LBA is", params.string("tweak_mode"))));
  }
  const bool from_file = params.has("key_file");
  if (from_file == params.has("key") || (from_file && params.has("key2"))) {
    return std::unexpected(RpcError(-EINVAL, "Invalid argument: give key and key2, or key_file"));
  }
  if (!from_file && !params.has("key2")) return std::unexpected(RpcError(-EINVAL, "Invalid argument: key2 is missing, AES_XTS takes two keys"));
  return {};
}

Task<RpcResult<Json::Value>> create_key(Params params) {
  auto fit = check_key_params(params);
  if (!fit) co_return std::unexpected(fit.error());
  const std::string name = params.string("name");
  const std::string path = params.string("key_file");
  MadeKey key = fail(EINVAL, "");
  if (params.has("key_file")) {
    const Promise<MadeKey> reading = reading_key(name, path);
    key = co_await reading;
  } else {
    key = CryptoKey::create(name, params.string("key"), params.string("key2"));
  }
  if (!key) co_return std::unexpected(RpcError(key.error()));
  std::const_pointer_cast<CryptoKey>(*key)->set_path(path);
  auto added = CryptoKeys::instance().add(std::move(*key));
  if (!added) co_return std::unexpected(RpcError(added.error()));
  VirtualBdevs::instance().retry();  // crypto bdevs may wait for it
  if (path.empty()) log_notice("crypto key '{}' was given as text: no file has it, and a restart ends it (key_file is kept)", name);
  co_return Json::Value(true);
}

RpcResult<Json::Value> destroy_key(const Params& params) {
  auto removed = CryptoKeys::instance().remove(params.string("key_name"));
  if (!removed) return std::unexpected(RpcError(removed.error()));
  return Json::Value(true);
}

RpcResult<Json::Value> get_keys(const Params& params) {
  Json::Value list(Json::arrayValue);
  for (const auto& key : CryptoKeys::instance().all()) {
    if (params.has("key_name") && params.string("key_name") != key->name()) continue;
    Json::Value entry(Json::objectValue);
    entry["name"] = key->name();
    entry["cipher"] = "AES_XTS";
    entry["tweak_mode"] = "SIMPLE_LBA";
    entry["key_bits"] = key->bits();
    if (!key->path().empty()) entry["key_file"] = key->path();
    entry["kept"] = !key->path().empty();
    list.append(entry);
  }
  if (list.empty() && params.has("key_name")) {
    return std::unexpected(RpcError(-ENOENT, fmt::format("No such file or directory: there is no key '{}'", params.string("key_name"))));
  }
  return list;
}

RpcResult<Json::Value> create(const Params& params) {
  auto options = virtual_options<CryptoOptions>(params);
  if (!options) return std::unexpected(options.error());
  options->key_name = params.string("key_name");
  for (const char* old : {"key", "key2"}) {
    if (!params.has(old)) continue;
    return std::unexpected(RpcError(-EINVAL, fmt::format("Invalid argument: {} belongs to accel_crypto_key_create, here is key_name", old)));
  }
  if (options->key_name.empty()) return std::unexpected(RpcError(-EINVAL, "Invalid argument: key_name '' is empty"));
  return create_virtual(CryptoBdev::recipe(std::move(*options)));
}

Task<RpcResult<Json::Value>> remove(Params params) { return delete_virtual(params.string("name"), CryptoBdev::product); }

void register_key_methods(rpc::MethodTable& table) {
  table.add(
      Method("accel_crypto_key_create", "Keeps a key under a name, for crypto bdevs; it is never shown")
          .with({Param("name", ParamType::string, "Name of the key").required(),
                 Param("cipher", ParamType::string, "Only AES_XTS").required().one_of({"AES_XTS", "AES_CBC"}),
                 Param("key", ParamType::string,
                       "First half, 32 or 64 hexadecimal digits; given so it is in no file, and has to be given again after a restart: see key_file")
                     .secret(),
                 Param("key2", ParamType::string, "Second half, as long as the first and different").secret(),
                 Param("key_file", ParamType::string,
                       "File with both halves, a line each, that only its owner can read; also read when a "
                       "saved configuration is loaded"),
                 Param("tweak_mode", ParamType::string, "Only SIMPLE_LBA")
                     .one_of({"SIMPLE_LBA", "JOIN_NEG_LBA_WITH_LBA", "INCR_512_FULL_LBA", "INCR_512_UPPER_LBA"})
                     .or_default("SIMPLE_LBA")})
          .mutates()
          .coroutine(create_key));
  table.add(Method("accel_crypto_key_destroy", "Forgets a key that no bdev uses")
                .with({Param("key_name", ParamType::string, "Name of the key").required()})
                .mutates()
                .takes_back_waiting({"accel_crypto_key_create"}, {{"key_name", "name"}})
                .handler(destroy_key));
  table.add(Method("accel_crypto_keys_get", "Shows which keys there are, not what they are")
                .with({Param("key_name", ParamType::string, "Only this one")})
                .result("array of {name, cipher, tweak_mode, key_bits, key_file, kept: a saved configuration has it}")
                .handler(get_keys));
}

}  // namespace

void register_bdev_crypto_methods(rpc::MethodTable& table) {
  register_key_methods(table);
  std::vector<Param> params = virtual_params();
  params.push_back(Param("key_name", ParamType::string, "Name of a key; when there is none yet, the bdev comes with it"));
  params.push_back(Param("crypto_pmd", ParamType::string, "Of SPDK's past: the device driver").ignored());
  params.push_back(Param("cipher", ParamType::string, "Of SPDK's past: the key says it").ignored());
  // Refused rather than ignored: who gives a key here expects it to be used.
  params.push_back(Param("key", ParamType::string, "Of SPDK's past, refused: see accel_crypto_key_create").secret());
  params.push_back(Param("key2", ParamType::string, "Of SPDK's past, refused: see accel_crypto_key_create").secret());
  table.add(Method("bdev_crypto_create", "Makes a bdev that encrypts what it keeps on another one; when that is not there yet, as soon as it is")
                .with(std::move(params))
                .result("name of the bdev")
                .mutates()
                .handler(create));
  table.add(Method("bdev_crypto_delete", "Removes a crypto bdev; its base stays, with what is encrypted on it")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .coroutine(remove));
}

void register_crypto_key_config(rpc::ConfigRegistry& registry) {
  registry.add("accel", [] {
    Json::Value calls(Json::arrayValue);
    for (const auto& key : CryptoKeys::instance().all()) {
      if (key->path().empty()) continue;
      Json::Value call(Json::objectValue);
      call["method"] = "accel_crypto_key_create";
      call["params"]["name"] = key->name();
      call["params"]["cipher"] = "AES_XTS";
      call["params"]["key_file"] = key->path();
      calls.append(call);
    }
    return calls;
  });
}

}  // namespace catnap::bdev
