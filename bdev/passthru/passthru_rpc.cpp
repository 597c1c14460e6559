// bdev_passthru_create, bdev_passthru_delete: SPDK's names and parameters (schema/schema.yaml of SPDK 26.09-pre).
#include "bdev/passthru/passthru_rpc.h"

#include "bdev/passthru/passthru.h"
#include "bdev/stack/stack_rpc.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcResult;

RpcResult<Json::Value> create(const Params& params) {
  auto options = virtual_options<PassthruOptions>(params);
  if (!options) return std::unexpected(options.error());
  return create_virtual(PassthruBdev::recipe(std::move(*options)));
}

Task<RpcResult<Json::Value>> remove(Params params) { return delete_virtual(params.string("name"), PassthruBdev::product); }

}  // namespace

void register_bdev_passthru_methods(rpc::MethodTable& table) {
  table.add(Method("bdev_passthru_create", "Makes a bdev that hands all I/O to another one; when that is not there yet, as soon as it is")
                .with(virtual_params())
                .result("name of the bdev")
                .mutates()
                .handler(create));
  table.add(Method("bdev_passthru_delete", "Removes a passthru bdev; its base stays")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .coroutine(remove));
}

}  // namespace catnap::bdev
