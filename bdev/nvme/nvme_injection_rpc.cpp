// See nvme_injection_rpc.h. Names and parameters are SPDK's (schema/schema.yaml of SPDK 26.09-pre).
// Owner: app_thread. Left out: what nvme_injection_rpc.h names.
#include "bdev/nvme/nvme_injection_rpc.h"

#include <fmt/core.h>

#include <memory>
#include <utility>
#include <vector>

#include "bdev/nvme/error_injection.h"
#include "bdev/nvme/module.h"
#include "bdev/nvme/nvme_rpc.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

RpcResult<Json::Value> set_fault(const Params& params, const InjectedFault& fault, std::uint32_t count) {
  const auto subsystem = attached_as(params.string("name"));
  if (!subsystem) return std::unexpected(subsystem.error());
  const auto opcode = static_cast<std::uint8_t>(params.integer("opc"));
  const bool admin = params.string("cmd_type") == "admin";
  // All paths: which one a command takes is not the caller's choice.
  for (const auto& controller : (*subsystem)->controllers()) {
    ErrorInjections& injections = admin ? controller->admin_injections() : controller->hub()->injections();
    injections.set(opcode, fault, count);
  }
  return Json::Value(true);
}

RpcResult<Json::Value> add(const Params& params) {
  InjectedFault fault;
  fault.do_not_submit = params.boolean("do_not_submit");
  fault.timeout_us = params.integer("timeout_in_us");
  fault.status = nvme::Status(static_cast<nvme::StatusCodeType>(params.integer("sct")), static_cast<std::uint8_t>(params.integer("sc")));
  if (!fault.do_not_submit && fault.timeout_us != 0) {
    return std::unexpected(
        RpcError(-EINVAL, fmt::format("timeout_in_us {} needs do_not_submit: a command that is sent takes its own time", fault.timeout_us)));
  }
  if (!fault.do_not_submit && fault.status.is_success()) {
    return std::unexpected(RpcError(-EINVAL, "sct 0 and sc 0 are success: without do_not_submit nothing would happen"));
  }
  return set_fault(params, fault, static_cast<std::uint32_t>(params.integer("err_count")));
}

RpcResult<Json::Value> remove(const Params& params) { return set_fault(params, {}, 0); }

std::vector<Param> which() {
  std::vector<Param> params;
  params.push_back(Param("name", ParamType::string, "Name of the controller, as it was attached").required());
  params.push_back(Param("cmd_type", ParamType::string, "Which queue the commands go to").required().one_of({"admin", "io"}));
  params.push_back(Param("opc", ParamType::integer, "Opcode of the commands").required().range(0, 255));
  return params;
}

}  // namespace

void register_bdev_nvme_injection_methods(rpc::MethodTable& table) {
  std::vector<Param> params = which();
  params.push_back(Param("do_not_submit", ParamType::boolean, "The controller does not see the command").or_default(false));
  params.push_back(Param("timeout_in_us", ParamType::integer, "With do_not_submit: microseconds until the command ends")
                       .range(0, ErrorInjections::max_timeout_us)
                       .or_default(0));
  params.push_back(Param("err_count", ParamType::integer, "How many commands").range(1, 0xFFFF'FFFF).or_default(1));
  params.push_back(Param("sct", ParamType::integer, "Status code type they end with").range(0, 7).or_default(0));
  params.push_back(Param("sc", ParamType::integer, "Status code they end with").range(0, 255).or_default(0));
  table.add(Method("bdev_nvme_add_error_injection", "Has the next commands of an opcode end with a status, on all paths of a controller")
                .with(std::move(params))
                .mutates()
                .not_kept()
                .handler(add));
  table.add(Method("bdev_nvme_remove_error_injection", "Lets commands of an opcode be").with(which()).mutates().not_kept().handler(remove));
}

}  // namespace catnap::bdev
