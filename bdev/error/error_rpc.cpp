// bdev_error_create, bdev_error_delete, bdev_error_inject_error, bdev_error_resume_pending: SPDK's names and parameters (schema/schema.yaml of SPDK
// 26.09-pre); a range of blocks, and more kinds of I/O, are ours.
#include "bdev/error/error_rpc.h"

#include <fmt/core.h>

#include <array>
#include <vector>

#include "bdev/error/error.h"
#include "bdev/rpc_common.h"
#include "bdev/stack/stack_rpc.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

// Everything that carries data or changes some; a reset is what ends the trouble.
constexpr std::array injectable = {Op::read, Op::write, Op::unmap, Op::flush, Op::write_zeroes, Op::compare, Op::compare_and_write,
                                   Op::copy, Op::verify};

// NVMe status (type, code) that a bdev can end with: NVMe Base 2.0c figure 94 and NVM Command Set 1.0c figure 26.
struct NvmeFailure {
  std::uint32_t type;
  std::uint32_t code;
  Status status;
};
constexpr std::array<NvmeFailure, 9> nvme_failures = {{{0, 0x01, Status::not_supported},
                                                       {0, 0x02, Status::invalid},
                                                       {0, 0x07, Status::aborted},
                                                       {0, 0x80, Status::out_of_range},
                                                       {0, 0x81, Status::no_space},
                                                       {2, 0x80, Status::write_error},
                                                       {2, 0x81, Status::read_error},
                                                       {2, 0x85, Status::compare_failed},
                                                       {3, 0x00, Status::removed}}};

std::unexpected<RpcError> refuse(std::string text) { return std::unexpected(RpcError(-EINVAL, "Invalid argument: " + std::move(text))); }

RpcResult<Json::Value> create(const Params& params) {
  auto uuid = uuid_param(params);
  if (!uuid) return std::unexpected(RpcError(uuid.error()));
  ErrorOptions options;
  options.base_name = params.string("base_name");
  options.uuid = *uuid;
  auto created = create_virtual(ErrorBdev::recipe(std::move(options)));
  if (!created) return created;
  return Json::Value(true);  // as SPDK; the name follows from the base's
}

Task<RpcResult<Json::Value>> remove(Params params) { return delete_virtual(params.string("name"), ErrorBdev::product); }

RpcResult<std::shared_ptr<ErrorBdev>> error_bdev(const std::string& name) {
  const auto found = Registry::instance().find(name);
  auto bdev = std::dynamic_pointer_cast<ErrorBdev>(found);
  if (bdev == nullptr && found != nullptr) return another_kind(name, found->info().product_name, ErrorBdev::product);
  if (bdev == nullptr) return no_such_bdev(name);
  return bdev;
}

RpcResult<Status> failure_status(std::uint64_t type, std::uint64_t code) {
  std::string known;
  for (const NvmeFailure& failure : nvme_failures) {
    if (failure.type == type && failure.code == code) return failure.status;
    known += fmt::format("{}{}/{:#04x}", known.empty() ? "" : ", ", failure.type, failure.code);
  }
  return refuse(fmt::format("nvme_sct {} with nvme_sc {:#04x} is not a status that a bdev ends with; these are {}", type, code, known));
}

// Which parameters make sense together; what SPDK takes and lets go unused is refused by name.
RpcResult<Injection> injection_of(const Params& params) {
  const std::string error = params.string("error_type");
  const bool with_status = params.integer("nvme_sct") != 0 || params.integer("nvme_sc") != 0;
  Injection injection;
  if (error == "nvme_failure") {
    if (!with_status) return refuse("nvme_sct 0 and nvme_sc 0 are success: error_type nvme_failure needs another status");
    const auto status = failure_status(params.integer("nvme_sct"), params.integer("nvme_sc"));
    if (!status) return std::unexpected(status.error());
    injection.status = *status;
  } else if (with_status) {
    return refuse(fmt::format("nvme_sct and nvme_sc belong to error_type nvme_failure, not {}", error));
  }
  if (error == "pending") injection.fault = Fault::pending;
  if (error == "nomem") injection.fault = Fault::nomem;
  if (error == "corrupt_data") {
    injection.fault = Fault::corrupt_data;
    const std::string op = params.string("io_type");
    if (op != "read" && op != "write" && op != "all" && op != "clear") {
      return refuse(fmt::format("error_type corrupt_data with io_type {}: only reads and writes carry data that can be changed", op));
    }
    if (params.integer("corrupt_value") == 0 && op != "clear") return refuse("corrupt_value 0 changes nothing, it must be from 1 to 255");
  }
  injection.count = static_cast<std::uint32_t>(params.integer("num"));
  injection.queue_depth = params.integer("queue_depth");
  injection.corrupt_offset_bytes = params.integer("corrupt_offset");
  injection.corrupt_value = static_cast<std::uint8_t>(params.integer("corrupt_value"));
  injection.offset_blocks = params.integer("offset_blocks");
  injection.num_blocks = params.integer("num_blocks");
  if (injection.num_blocks == 0 && injection.offset_blocks != 0) return refuse("offset_blocks without num_blocks names no blocks");
  if (injection.offset_blocks + injection.num_blocks < injection.num_blocks) {
    return refuse(fmt::format("offset_blocks {} and num_blocks {} end beyond any bdev", injection.offset_blocks, injection.num_blocks));
  }
  return injection;
}

RpcResult<Json::Value> inject(const Params& params) {
  const auto bdev = error_bdev(params.string("name"));
  if (!bdev) return std::unexpected(bdev.error());
  const auto injection = injection_of(params);
  if (!injection) return std::unexpected(injection.error());
  const std::string wanted = params.string("io_type");
  if (wanted == "clear") {
    (*bdev)->injections().clear();
    return Json::Value(true);
  }
  for (const Op op : injectable) {
    if (injection->fault == Fault::corrupt_data && op != Op::read && op != Op::write) continue;
    if (wanted == "all" || wanted == op_name(op)) (*bdev)->injections().set(op, *injection);
  }
  return Json::Value(true);
}

Task<RpcResult<Json::Value>> resume(Params params) {
  const auto bdev = error_bdev(params.string("name"));
  if (!bdev) co_return std::unexpected(bdev.error());
  Promise<bool> resumed;
  (*bdev)->resume_pending([resumed] { resumed.set(true); });
  const bool done = co_await resumed;
  co_return Json::Value(done);
}

std::vector<std::string> io_types() {
  std::vector<std::string> types = {"clear", "all"};
  for (const Op op : injectable) types.emplace_back(op_name(op));
  return types;
}

Param bytes_or_blocks(const char* name, const char* help) { return Param(name, ParamType::integer, help).or_default(0); }

}  // namespace

void register_bdev_error_methods(rpc::MethodTable& table) {
  table.add(Method("bdev_error_create", "Makes a bdev EE_... that fails as it is told; when the one below is not there yet, as soon as it is")
                .with({Param("base_name", ParamType::string, "Name, alias or UUID of the bdev below").required(),
                       Param("uuid", ParamType::string, "UUID; made from the base's without it")})
                .mutates()
                .handler(create));
  table.add(Method("bdev_error_delete", "Removes an error bdev; its base stays")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .coroutine(remove));
  std::vector<Param> params;
  params.push_back(Param("name", ParamType::string, "Name of the bdev").required());
  params.push_back(Param("io_type", ParamType::string, "What it meets; clear takes all injections away").required().one_of(io_types()));
  params.push_back(Param("error_type", ParamType::string, "What happens to it")
                       .required()
                       .one_of({"failure", "nvme_failure", "pending", "corrupt_data", "nomem"}));
  params.push_back(Param("num", ParamType::integer, "How many I/Os; 0 takes the injection away").range(0, 0xFFFF'FFFF).or_default(1));
  params.push_back(bytes_or_blocks("queue_depth", "Other I/Os of its channel in flight, from which on it happens"));
  params.push_back(bytes_or_blocks("corrupt_offset", "Byte of the I/O that is changed"));
  params.push_back(Param("corrupt_value", ParamType::integer, "What that byte is combined with by XOR").range(0, 255).or_default(0));
  params.push_back(Param("nvme_sct", ParamType::integer, "Status code type of nvme_failure").range(0, 7).or_default(0));
  params.push_back(Param("nvme_sc", ParamType::integer, "Status code of nvme_failure").range(0, 255).or_default(0));
  params.push_back(bytes_or_blocks("offset_blocks", "First block that must be touched"));
  params.push_back(bytes_or_blocks("num_blocks", "Blocks from there; all blocks without it"));
  table.add(Method("bdev_error_inject_error", "Sets what the next I/Os of an error bdev meet")
                .with(std::move(params))
                .mutates()
                .not_kept()
                .handler(inject));
  table.add(Method("bdev_error_resume_pending", "Lets I/O that error_type pending holds back go on")
                .with({Param("name", ParamType::string, "Name of the bdev").required()})
                .mutates()
                .not_kept()
                .coroutine(resume));
}

}  // namespace catnap::bdev
