// bdev_aio_create, bdev_aio_delete, bdev_aio_rescan: SPDK's names and parameters (schema/schema.yaml of SPDK 26.09-pre).
#include "bdev/aio/aio_rpc.h"

#include <utility>

#include "bdev/aio/aio.h"
#include "bdev/file/file_rpc.h"
#include "bdev/rpc_common.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcResult;

Task<RpcResult<Json::Value>> create(Params params) {
  AioOptions options;
  options.name = params.string("name");
  options.filename = params.string("filename");
  options.block_size = static_cast<std::uint32_t>(params.integer("block_size"));
  options.uuid = params.string("uuid");
  options.readonly = params.boolean("readonly");
  options.fallocate = params.boolean("fallocate");
  MakeFileBdev make = [options](WorkerPool& workers) -> Result<std::shared_ptr<FileBdev>> { return AioBdev::create(options, workers); };
  return create_file_bdev(params.string("name"), std::move(make));
}

Task<RpcResult<Json::Value>> remove(Params params) { return remove_and_answer(params.string("name"), "AIO disk"); }

Task<RpcResult<Json::Value>> rescan(Params params) { return rescan_file_bdev(params.string("name"), "AIO disk"); }

}  // namespace

void register_bdev_aio_methods(rpc::MethodTable& table) {
  std::vector<Param> params;
  params.push_back(Param("name", ParamType::string, "Name of the new bdev").required());
  params.push_back(Param("filename", ParamType::string, "Path of a file or block device").required());
  params.push_back(Param("block_size", ParamType::integer, "Bytes per block; the device's or file system's without it").range(0, max_block_size));
  params.push_back(Param("readonly", ParamType::boolean, "Refuse writes").or_default(false));
  // SPDK's default is false, since its call blocks; ours runs on the worker pool.
  params.push_back(Param("fallocate", ParamType::boolean, "Offer unmap, and write zeroes without moving data").or_default(true));
  params.push_back(Param("uuid", ParamType::string, "UUID; made up without it"));
  params.push_back(Param("nowait", ParamType::boolean, "RWF_NOWAIT is used wherever the kernel takes it").ignored());
  table.add(Method("bdev_aio_create", "Makes a bdev upon a file or block device through libaio")
                .with(std::move(params))
                .result("name of the bdev")
                .mutates()
                .coroutine(create));
  table.add(Method("bdev_aio_delete", "Removes an aio bdev; its file stays")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .coroutine(remove));
  table.add(Method("bdev_aio_rescan", "Takes over the present size of the file or device")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .not_kept()  // a start looks anew in any case
                .coroutine(rescan));
}

}  // namespace catnap::bdev
