// bdev_malloc_create, bdev_malloc_delete: SPDK's names and parameters (schema/schema.yaml of SPDK 26.09-pre).
#include "bdev/malloc/malloc_rpc.h"

#include <fmt/core.h>
#include <unistd.h>

#include <utility>

#include "bdev/malloc/malloc.h"
#include "bdev/rpc_common.h"
#include "reactor/runtime.h"
#include "reactor/task.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

// Linux has at most 1024 nodes (CONFIG_NODES_SHIFT 10).
constexpr std::uint64_t max_numa_node = 1023;

// Malloc0, Malloc1, …: the first that is free, counting on from the last one given.
std::string next_default_name() {
  static std::uint64_t next = 0;
  for (;;) {
    std::string name = fmt::format("Malloc{}", next++);
    if (Registry::instance().find(name) == nullptr && Registry::instance().removal_waits_for(name).empty()) return name;
  }
}

RpcResult<Json::Value> create(const Params& params) {
  if (auto fits = check_metadata_params(params); !fits) return std::unexpected(RpcError(fits.error()));
  if (params.boolean("md_interleave")) return std::unexpected(RpcError(-ENOTSUP, "md_interleave true: metadata is not supported"));
  MallocOptions options;
  options.name = params.has("name") ? params.string("name") : next_default_name();
  if (Registry::instance().find(options.name) != nullptr) {  // said before address space is taken
    return std::unexpected(RpcError(-EEXIST, fmt::format("File exists: there is a bdev '{}' already", options.name)));
  }
  options.block_size = static_cast<std::uint32_t>(params.integer("block_size"));
  options.physical_block_size = static_cast<std::uint32_t>(params.integer("physical_block_size"));
  options.num_blocks = params.integer("num_blocks");
  options.optimal_io_boundary_blocks = static_cast<std::uint32_t>(params.integer("optimal_io_boundary"));
  options.uuid = params.string("uuid");
  if (params.has("numa_id") && params.signed_integer("numa_id") >= 0) {
    options.numa_node = static_cast<unsigned>(params.integer("numa_id"));
    if (access(fmt::format("/sys/devices/system/node/node{}", *options.numa_node).c_str(), F_OK) != 0) {
      return std::unexpected(RpcError(-EINVAL, fmt::format("Invalid argument: numa_id {}: this machine has no such NUMA node", *options.numa_node)));
    }
  }
  Runtime* runtime = Runtime::instance();
  auto bdev = MallocBdev::create(std::move(options), runtime != nullptr ? &runtime->workers() : nullptr);
  if (!bdev) return std::unexpected(RpcError(bdev.error()));
  return add_and_answer(std::move(*bdev));
}

Task<RpcResult<Json::Value>> remove(Params params) { return remove_and_answer(params.string("name"), "Malloc disk"); }

}  // namespace

void register_bdev_malloc_methods(rpc::MethodTable& table) {
  std::vector<Param> params;
  params.push_back(Param("name", ParamType::string, "Name of the new bdev; MallocN without it"));
  params.push_back(Param("block_size", ParamType::integer, "Bytes per block, a power of two").required().range(0, max_block_size));
  params.push_back(Param("num_blocks", ParamType::integer, "Number of blocks").required());
  params.push_back(Param("uuid", ParamType::string, "UUID; made up without it"));
  params.push_back(Param("physical_block_size", ParamType::integer, "Bytes; block_size without it").range(0, max_block_size));
  params.push_back(Param("optimal_io_boundary", ParamType::integer, "Blocks; shown to hosts, and I/O that crosses such a boundary is cut there")
                       .range(0, 0xFFFF'FFFF)
                       .or_default(0));
  params.push_back(Param("md_interleave", ParamType::boolean, "Metadata within the blocks; only false").or_default(false));
  for (auto& param : metadata_params()) params.push_back(std::move(param));
  params.push_back(Param("numa_id", ParamType::integer, "NUMA node that the memory should be of; -1, or without it: the node that first writes it")
                       .range(-1, max_numa_node));
  table.add(Method("bdev_malloc_create", "Makes a bdev in memory, which is taken only as it is written")
                .with(std::move(params))
                .result("name of the bdev")
                .mutates()
                .handler(create));
  table.add(Method("bdev_malloc_delete", "Removes a malloc bdev and gives its memory back")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .coroutine(remove));
}

}  // namespace catnap::bdev
