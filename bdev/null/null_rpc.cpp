// bdev_null_create, bdev_null_delete, bdev_null_resize: SPDK's names and parameters (schema/schema.yaml of SPDK 26.09-pre).
#include "bdev/null/null_rpc.h"

#include <fmt/core.h>

#include <utility>

#include "bdev/null/null.h"
#include "bdev/rpc_common.h"
#include "reactor/task.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

constexpr std::uint64_t mib_bytes = std::uint64_t{1} << 20;

RpcResult<Json::Value> create(const Params& params) {
  if (auto fits = check_metadata_params(params); !fits) return std::unexpected(RpcError(fits.error()));
  NullOptions options;
  options.name = params.string("name");
  options.block_size = static_cast<std::uint32_t>(params.integer("block_size"));
  options.physical_block_size = static_cast<std::uint32_t>(params.integer("physical_block_size"));
  options.num_blocks = params.integer("num_blocks");
  options.uuid = params.string("uuid");
  auto bdev = NullBdev::create(std::move(options));
  if (!bdev) return std::unexpected(RpcError(bdev.error()));
  return add_and_answer(std::move(*bdev));
}

Task<RpcResult<Json::Value>> remove(Params params) { return remove_and_answer(params.string("name"), "Null disk"); }

RpcResult<Json::Value> resize(const Params& params) {
  const auto bdev = std::dynamic_pointer_cast<NullBdev>(Registry::instance().find(params.string("name")));
  if (bdev == nullptr) return no_such_bdev(params.string("name"));
  const std::uint64_t new_size_mib = params.integer("new_size");
  const std::uint64_t blocks_a_mib = mib_bytes / bdev->block_size();
  if (new_size_mib > ~std::uint64_t{0} / blocks_a_mib) {
    return std::unexpected(RpcError(
        -EINVAL, fmt::format("Invalid argument: new_size {} MiB are more than 2^64 - 1 blocks of {} bytes", new_size_mib, bdev->block_size())));
  }
  auto resized = bdev->resize(new_size_mib * blocks_a_mib);
  if (!resized) return std::unexpected(RpcError(resized.error()));
  return Json::Value(true);
}

}  // namespace

void register_bdev_null_methods(rpc::MethodTable& table) {
  std::vector<Param> params;
  params.push_back(Param("name", ParamType::string, "Name of the new bdev").required());
  params.push_back(Param("block_size", ParamType::integer, "Bytes per block, a power of two").required().range(0, max_block_size));
  params.push_back(Param("num_blocks", ParamType::integer, "Number of blocks").required());
  params.push_back(Param("uuid", ParamType::string, "UUID; made up without it"));
  params.push_back(Param("physical_block_size", ParamType::integer, "Bytes; block_size without it").range(0, max_block_size));
  for (auto& param : metadata_params()) params.push_back(std::move(param));
  for (const char* hint : {"preferred_write_granularity", "preferred_write_alignment", "optimal_write_size", "preferred_unmap_granularity",
                           "preferred_unmap_alignment"}) {
    params.push_back(Param(hint, ParamType::integer, "A hint that a disk without contents has no use for").ignored());
  }
  table.add(Method("bdev_null_create", "Makes a bdev that forgets what is written and reads as zeroes")
                .with(std::move(params))
                .result("name of the bdev")
                .mutates()
                .handler(create));
  table.add(Method("bdev_null_delete", "Removes a null bdev")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .coroutine(remove));
  table.add(Method("bdev_null_resize", "Gives a null bdev another size; it cannot shrink while it is open")
                .with({Param("name", ParamType::string, "Name of the bdev").required(),
                       Param("new_size", ParamType::integer, "MiB").required().range(1, ~std::uint64_t{0})})
                .mutates()
                .handler(resize));
}

}  // namespace catnap::bdev
