// nvmf_subsystem_add_ns, nvmf_subsystem_remove_ns.
// Owner: app_thread. Left out: visibility per host after creation, ANA groups changed later (nvmf_ana_rpc.cpp).
#include <fmt/format.h>

#include <filesystem>

#include "reactor/runtime.h"
#include "server/names.h"
#include "server/nvmf_common_rpc.h"
#include "server/nvmf_rpc.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

Param namespace_param() {
  return Param("namespace", ParamType::object, "The namespace")
      .required()
      .with_fields(
          {Param("bdev_name", ParamType::string, "Name, alias or UUID of the bdev").required(),
           Param("nsid", ParamType::integer, "Namespace id; without it the lowest free one").range(1, max_nsid),
           Param("uuid", ParamType::string, "UUID of the namespace; without it the bdev's"),
           Param("nguid", ParamType::string, "NGUID, 16 bytes in hexadecimal; without it the bdev's UUID"),
           Param("eui64", ParamType::string, "EUI-64, 8 bytes in hexadecimal"),
           Param("anagrpid", ParamType::integer, "ANA group; without it the NSID").range(1, max_namespaces_limit),
           Param("no_auto_visible", ParamType::boolean, "Hosts do not see the namespace by themselves").or_default(false),
           Param("ptpl_file", ParamType::string, "File that keeps the namespace's reservations through power loss; without it they are lost"),
           Param("hide_metadata", ParamType::any, "No effect: there are no bdevs with metadata").ignored()});
}

rpc::RpcResult<NamespaceOptions> namespace_options(const rpc::Params& given) {
  NamespaceOptions options;
  options.bdev_name = given.string("bdev_name");
  options.nsid = static_cast<std::uint32_t>(given.integer("nsid"));
  options.anagrpid = static_cast<std::uint32_t>(given.integer("anagrpid"));
  options.no_auto_visible = given.boolean("no_auto_visible");
  // A saved configuration must mean the same file whatever directory the process starts in.
  if (!given.string("ptpl_file").empty()) options.ptpl_file = std::filesystem::absolute(given.string("ptpl_file")).lexically_normal().string();
  if (given.has("uuid")) {
    const auto uuid = parse_uuid(given.string("uuid"));
    if (!uuid) return std::unexpected(rpc::RpcError(rpc::invalid_params, uuid.error().message));
    if (*uuid != std::array<std::uint8_t, 16>{}) options.uuid = *uuid;
  }
  if (given.has("nguid")) {
    std::array<std::uint8_t, 16> nguid{};
    const auto parsed = parse_hex_bytes("nguid", given.string("nguid"), nguid);
    if (!parsed) return std::unexpected(rpc::RpcError(rpc::invalid_params, parsed.error().message));
    options.nguid = nguid;
  }
  if (given.has("eui64")) {
    std::array<std::uint8_t, 8> eui64{};
    const auto parsed = parse_hex_bytes("eui64", given.string("eui64"), eui64);
    if (!parsed) return std::unexpected(rpc::RpcError(rpc::invalid_params, parsed.error().message));
    options.eui64 = eui64;
  }
  return options;
}

Task<Reply> add_ns(rpc::Params params) {
  const rpc::Params given = params.object("namespace");
  auto options = namespace_options(given);
  if (!options) co_return std::unexpected(options.error());
  const std::string nqn = nqn_of(params);
  if (!options->ptpl_file.empty()) {
    using Loaded = Result<std::optional<PtplImage>>;
    Promise<Loaded> reading = call_blocking<Loaded>(Runtime::instance()->workers(), [path = options->ptpl_file] { return load_ptpl(path); });
    Loaded loaded = co_await reading;
    if (!loaded) co_return std::unexpected(rpc::RpcError(Error(loaded.error().err, "ptpl_file " + loaded.error().message)));
    options->restored = std::move(*loaded);
  }
  const auto added = target().add_namespace(nqn, *options);
  if (!added) co_return std::unexpected(rpc::RpcError(added.error()));
  const std::uint64_t generation = added->generation;
  Result<void> settled = co_await target().settled(generation);
  if (!settled) co_return std::unexpected(rpc::RpcError(settled.error()));
  co_return Reply(Json::Value(added->nsid));
}

Task<Reply> remove_ns(rpc::Params params) {
  const std::string nqn = nqn_of(params);
  const auto nsid = static_cast<std::uint32_t>(params.integer("nsid"));
  Target::Watch watch = target().watch_namespace(nqn, nsid);
  Target::Change change = target().remove_namespace(nqn, nsid);
  std::string no_controllers_end;
  Reply reply = co_await reply_when_released(change, watch, no_controllers_end);
  co_return reply;
}

}  // namespace

void register_nvmf_namespace_methods(rpc::MethodTable& table) {
  table.add(rpc::Method("nvmf_subsystem_add_ns", "Add a bdev to a subsystem as a namespace")
                .with({nqn_param(), namespace_param(), tgt_name_param()})
                .result("The namespace id")
                .mutates()
                .supersedes_waiting({"nvmf_subsystem_add_ns"}, {{"nqn", "nqn"}, {"namespace.nsid", "namespace.nsid"}})
                .supersedes_waiting({"nvmf_subsystem_add_ns"}, {{"nqn", "nqn"}, {"namespace.bdev_name", "namespace.bdev_name"}})
                .waits_with({"nvmf_ns_*", "nvmf_subsystem_set_ns_ana_group"}, {{"nqn", "nqn"}, {"namespace.nsid", "nsid"}})
                .coroutine(add_ns));
  table.add(rpc::Method("nvmf_subsystem_remove_ns", "Remove a namespace from a subsystem")
                .with({nqn_param(), Param("nsid", ParamType::integer, "Namespace id").required().range(1, max_nsid), tgt_name_param()})
                .mutates()
                .takes_back_waiting({"nvmf_subsystem_add_ns"}, {{"nqn", "nqn"}, {"nsid", "namespace.nsid"}})
                .takes_back_waiting({"nvmf_ns_*", "nvmf_subsystem_set_ns_ana_group"}, {{"nqn", "nqn"}, {"nsid", "nsid"}})
                .coroutine(remove_ns));
}

}  // namespace catnap::server
