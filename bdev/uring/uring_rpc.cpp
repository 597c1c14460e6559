// bdev_uring_create, bdev_uring_delete, bdev_uring_rescan: SPDK's names and parameters (schema/schema.yaml of SPDK 26.09-pre).
#include "bdev/uring/uring_rpc.h"

#include <utility>

#include "bdev/file/file_rpc.h"
#include "bdev/rpc_common.h"
#include "bdev/uring/uring.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcResult;

Task<RpcResult<Json::Value>> create(Params params) {
  UringOptions options;
  options.name = params.string("name");
  options.filename = params.string("filename");
  options.block_size = static_cast<std::uint32_t>(params.integer("block_size"));
  options.uuid = params.string("uuid");
  options.readonly = params.boolean("readonly");
  MakeFileBdev make = [options](WorkerPool& workers) -> Result<std::shared_ptr<FileBdev>> { return UringBdev::create(options, workers); };
  return create_file_bdev(params.string("name"), std::move(make));
}

Task<RpcResult<Json::Value>> remove(Params params) { return remove_and_answer(params.string("name"), "URING bdev"); }

Task<RpcResult<Json::Value>> rescan(Params params) { return rescan_file_bdev(params.string("name"), "URING bdev"); }

}  // namespace

void register_bdev_uring_methods(rpc::MethodTable& table) {
  std::vector<Param> params;
  params.push_back(Param("filename", ParamType::string, "Path of a file or block device").required());
  params.push_back(Param("name", ParamType::string, "Name of the new bdev").required());
  params.push_back(Param("block_size", ParamType::integer, "Bytes per block; the device's or file system's without it").range(0, max_block_size));
  params.push_back(Param("uuid", ParamType::string, "UUID; made up without it"));
  params.push_back(Param("readonly", ParamType::boolean, "Refuse writes").or_default(false));
  table.add(Method("bdev_uring_create", "Makes a bdev upon a file or block device through io_uring")
                .with(std::move(params))
                .result("name of the bdev")
                .mutates()
                .coroutine(create));
  table.add(Method("bdev_uring_delete", "Removes a uring bdev; its file stays")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .coroutine(remove));
  table.add(Method("bdev_uring_rescan", "Takes over the present size of the file or device")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .not_kept()  // a start looks anew in any case
                .coroutine(rescan));
}

}  // namespace catnap::bdev
