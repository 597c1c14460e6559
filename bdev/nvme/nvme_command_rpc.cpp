// See nvme_command_rpc.h. Names and result keys are SPDK's (schema/schema.yaml, module/bdev/nvme of SPDK 26.09-pre).
// Owner: app_thread. Left out: what nvme_command_rpc.h names.
#include "bdev/nvme/nvme_command_rpc.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "bdev/nvme/base64url.h"
#include "bdev/nvme/module.h"
#include "bdev/nvme/nvme_rpc.h"
#include "bdev/rpc_common.h"
#include "transport/nvme/log_page.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

// With timeout_ms 0: a call that waits for ever helps nobody.
constexpr std::uint64_t default_send_timeout_us = 60'000'000;

std::unexpected<RpcError> refuse(std::string why) { return std::unexpected(RpcError(-EINVAL, std::move(why))); }

// A controller of that name: the first that is connected, else the first.
RpcResult<std::shared_ptr<NvmeController>> controller_named(const std::string& name) {
  const auto subsystem = attached_as(name);
  if (!subsystem) return std::unexpected(subsystem.error());
  const auto& all = (*subsystem)->controllers();
  const auto ready = std::ranges::find_if(all, [](const auto& controller) { return controller->state() == NvmeController::State::ready; });
  return ready != all.end() ? *ready : all.front();
}

// --- bdev_nvme_send_cmd ---

struct Passthrough {
  AdminCommand command;
  bool admin = false;
  std::uint64_t timeout_us = 0;
};

RpcResult<std::vector<std::byte>> decoded(const Params& params, const char* name) {
  auto bytes = from_base64url(params.string(name));
  if (!bytes) return refuse(fmt::format("{} is not base64 in the URL safe alphabet", name));
  return std::move(*bytes);
}

// Commands that would take the connection out of the initiator's hands.
RpcResult<void> check_opcode(bool admin, std::uint8_t opcode) {
  if (opcode == static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics))
    return refuse("cmdbuf: Fabrics commands (opcode 0x7f) belong to the initiator");
  if (admin && opcode == static_cast<std::uint8_t>(nvme::AdminOpcode::async_event_request)) {
    return refuse("cmdbuf: Asynchronous Event Requests (opcode 0x0c) belong to the initiator");
  }
  return {};
}

std::unexpected<RpcError> too_much(std::uint64_t bytes, const NvmeController& controller) {
  return refuse(fmt::format("{} bytes of data are more than the controller takes at once, {}", bytes, controller.max_transfer_bytes()));
}

RpcResult<void> fill_data(const Params& params, const NvmeController& controller, AdminCommand& command) {
  const bool sends = params.string("data_direction") == "h2c";
  if (params.integer("metadata_len") != 0 || !params.string("metadata").empty()) {
    return std::unexpected(RpcError(-ENOTSUP, "metadata: namespaces with metadata of their own are not supported"));
  }
  if (sends && params.integer("data_len") != 0) return refuse("data_len belongs to data_direction c2h");
  if (!sends && params.has("data")) return refuse("data belongs to data_direction h2c");
  if (params.integer("data_len") > controller.max_transfer_bytes()) return too_much(params.integer("data_len"), controller);
  if (sends && params.has("data")) {
    auto data = decoded(params, "data");
    if (!data) return std::unexpected(data.error());
    command.data = std::move(*data);
  } else {
    command.data.resize(params.integer("data_len"));
  }
  const std::size_t bytes = command.data.size();
  if (bytes > controller.max_transfer_bytes()) return too_much(bytes, controller);
  if (bytes % 4 != 0) return refuse(fmt::format("{} bytes of data are not a multiple of 4", bytes));
  if (bytes > 0) command.direction = sends ? transport::DataDirection::host_to_controller : transport::DataDirection::controller_to_host;
  return {};
}

RpcResult<Passthrough> passthrough_of(const Params& params, const NvmeController& controller) {
  Passthrough passthrough;
  auto bytes = decoded(params, "cmdbuf");
  if (!bytes) return std::unexpected(bytes.error());
  if (bytes->size() != sizeof(nvme::SubmissionEntry)) {
    return refuse(fmt::format("cmdbuf has {} bytes, a command has {}", bytes->size(), sizeof(nvme::SubmissionEntry)));
  }
  std::memcpy(static_cast<void*>(&passthrough.command.sqe), bytes->data(), bytes->size());
  passthrough.admin = params.string("cmd_type") == "admin";
  auto allowed = check_opcode(passthrough.admin, passthrough.command.sqe.opcode);
  if (!allowed) return std::unexpected(allowed.error());
  if (passthrough.command.sqe.fuse() != nvme::Fuse::normal) return refuse("cmdbuf: halves of fused operations cannot be sent alone");
  auto filled = fill_data(params, controller, passthrough.command);
  if (!filled) return std::unexpected(filled.error());
  const std::uint64_t timeout_ms = params.integer("timeout_ms");
  passthrough.timeout_us = timeout_ms > 0 ? timeout_ms * 1000 : default_send_timeout_us;
  return passthrough;
}

// The command's sequence, which outlives the call when that has waited long enough.
Task<Result<AdminAnswer>> run(std::shared_ptr<NvmeController> controller, bool admin, AdminCommand command) {
  if (admin) {
    auto answer = co_await controller->admin(std::move(command));
    co_return answer;
  }
  auto answer = co_await controller->io(std::move(command));
  co_return answer;
}

struct Waiting {
  Promise<bool> over;
  bool settled = false;
  std::optional<Result<AdminAnswer>> answer;
  void settle() {
    if (!std::exchange(settled, true)) over.set(true);
  }
};

Task<RpcResult<Json::Value>> send_cmd(Params params) {
  auto controller = controller_named(params.string("name"));
  if (!controller) co_return std::unexpected(controller.error());
  auto passthrough = passthrough_of(params, **controller);
  if (!passthrough) co_return std::unexpected(passthrough.error());
  auto waiting = std::make_shared<Waiting>();
  Timer patience([waiting] { waiting->settle(); });
  Thread::current()->arm_in_us(patience, passthrough->timeout_us);
  spawn<Result<AdminAnswer>>(run(*controller, passthrough->admin, std::move(passthrough->command)), [waiting](Result<AdminAnswer> answer) {
    waiting->answer = std::move(answer);
    waiting->settle();
  });
  const Promise<bool> over = waiting->over;
  const bool settled = co_await over;
  static_cast<void>(settled);
  if (!waiting->answer) co_return std::unexpected(RpcError(-ETIMEDOUT, fmt::format("no answer within {} ms", passthrough->timeout_us / 1000)));
  if (!*waiting->answer) co_return std::unexpected(RpcError(waiting->answer->error()));
  const AdminAnswer& answer = **waiting->answer;
  Json::Value result(Json::objectValue);
  result["cpl"] = to_base64url(std::as_bytes(std::span<const nvme::CompletionEntry, 1>(&answer.cqe, 1)));
  if (params.string("data_direction") == "c2h" && !answer.data.empty()) result["data"] = to_base64url(answer.data);
  co_return result;
}

// --- bdev_nvme_get_controller_health_info ---

template <std::size_t size>
std::string trimmed(const std::array<char, size>& field) {
  std::string text(field.data(), strnlen(field.data(), size));
  for (char& c : text) {
    if (c < 0x20 || c > 0x7E) c = '?';
  }
  text.erase(text.find_last_not_of(' ') + 1);
  text.erase(0, std::min(text.find_first_not_of(' '), text.size()));
  return text;
}

// A number while 64 bits hold it, which no counter of this world exceeds; else its digits.
Json::Value counter_json(const nvme::Counter128& counter) {
  if (counter.high == 0U) return json_u64(counter.low);
  return Json::Value(fmt::format("{:#x}{:016x}", std::uint64_t{counter.high}, std::uint64_t{counter.low}));
}

std::int64_t celsius(std::uint16_t kelvin) { return std::int64_t{kelvin} - 273; }

Json::Value health_json(const NvmeController& controller, const nvme::SmartLog& log) {
  const nvme::IdentifyController& data = controller.data();
  Json::Value json(Json::objectValue);
  json["model_number"] = trimmed(data.mn);
  json["serial_number"] = trimmed(data.sn);
  json["firmware_revision"] = trimmed(data.fr);
  json["traddr"] = controller.id().traddr;
  json["critical_warning"] = log.critical_warning;
  json["temperature_celsius"] = Json::Int64(celsius(log.composite_temperature_k));
  json["available_spare_percentage"] = log.available_spare;
  json["available_spare_threshold_percentage"] = log.available_spare_threshold;
  json["percentage_used"] = log.percentage_used;
  json["data_units_read"] = counter_json(log.data_units_read);
  json["data_units_written"] = counter_json(log.data_units_written);
  json["host_read_commands"] = counter_json(log.host_read_commands);
  json["host_write_commands"] = counter_json(log.host_write_commands);
  json["controller_busy_time"] = counter_json(log.controller_busy_minutes);
  json["power_cycles"] = counter_json(log.power_cycles);
  json["power_on_hours"] = counter_json(log.power_on_hours);
  json["unsafe_shutdowns"] = counter_json(log.unsafe_shutdowns);
  json["media_errors"] = counter_json(log.media_errors);
  json["num_err_log_entries"] = counter_json(log.error_log_entries);
  json["warning_temperature_time_minutes"] = std::uint32_t{log.warning_temperature_minutes};
  json["critical_composite_temperature_time_minutes"] = std::uint32_t{log.critical_temperature_minutes};
  // SPDK repeats the key temperature_sensor_celsius for each sensor that there is; an object can have it once.
  Json::Value sensors(Json::arrayValue);
  for (const std::uint16_t kelvin : log.temperature_sensors_k) {
    if (kelvin != 0) sensors.append(Json::Int64(celsius(kelvin)));
  }
  if (!sensors.empty()) json["temperature_sensor_celsius"] = sensors[0];
  json["temperature_sensors_celsius"] = std::move(sensors);
  return json;
}

Task<RpcResult<Json::Value>> health_info(Params params) {
  auto found = controller_named(params.string("name"));
  if (!found) co_return std::unexpected(found.error());
  const auto controller = *found;
  constexpr std::uint32_t dwords = sizeof(nvme::SmartLog) / 4 - 1;
  AdminCommand command;
  command.sqe.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::get_log_page);
  command.sqe.nsid = nvme::broadcast_nsid;
  command.sqe.cdw10 = static_cast<std::uint32_t>(nvme::LogPage::smart) | dwords << 16;
  command.direction = transport::DataDirection::controller_to_host;
  command.data.resize(sizeof(nvme::SmartLog));
  auto answer = co_await controller->admin(std::move(command));
  if (!answer) co_return std::unexpected(RpcError(answer.error()));
  if (!answer->status().is_success()) {
    co_return std::unexpected(
        RpcError(-EIO, fmt::format("{}: the health log is refused: {}", controller->id().text(), status_text(answer->status()))));
  }
  nvme::SmartLog log;
  std::memcpy(static_cast<void*>(&log), answer->data.data(), sizeof(log));
  co_return health_json(*controller, log);
}

// --- refused in words ---

RpcResult<Json::Value> apply_firmware(const Params&) {
  return std::unexpected(
      RpcError(-ENOTSUP, "firmware belongs to PCIe drives, which this initiator does not have: apply it on the machine that has the drive"));
}

Param controller_name() { return Param("name", ParamType::string, "Name of the controller, as it was attached").required(); }

}  // namespace

void register_bdev_nvme_command_methods(rpc::MethodTable& table) {
  std::vector<Param> params;
  params.push_back(controller_name());
  params.push_back(Param("cmd_type", ParamType::string, "Which queue it goes to").required().one_of({"admin", "io"}));
  params.push_back(Param("data_direction", ParamType::string, "h2c: data is sent; c2h: data_len bytes come back").required().one_of({"h2c", "c2h"}));
  params.push_back(
      Param("cmdbuf", ParamType::string, "The command's 64 bytes, base64 in the URL safe alphabet; CID and data pointer are filled in").required());
  params.push_back(Param("data", ParamType::string, "Data to send, base64 in the URL safe alphabet"));
  params.push_back(Param("metadata", ParamType::string, "Refused: there is no metadata"));
  params.push_back(Param("data_len", ParamType::integer, "Bytes of data that come back").range(0, 0xFFFF'FFFF).or_default(0));
  params.push_back(Param("metadata_len", ParamType::integer, "Refused unless 0").range(0, 0xFFFF'FFFF).or_default(0));
  params.push_back(Param("timeout_ms", ParamType::integer, "How long the answer is waited for; 0: 60000").range(0, 0xFFFF'FFFF).or_default(0));
  table.add(Method("bdev_nvme_send_cmd", "Sends a command to a controller, as it is; the caller answers for what it does")
                .with(std::move(params))
                .result("{\"cpl\": 16 bytes of completion, \"data\"}, both base64 in the URL safe alphabet")
                .acts()
                .coroutine(send_cmd));
  table.add(Method("bdev_nvme_get_controller_health_info", "Shows the health log (SMART) of a controller")
                .with({controller_name()})
                .coroutine(health_info));
  table.add(Method("bdev_nvme_apply_firmware", "Refused in words: NVMe/TCP controllers get their firmware elsewhere")
                .with({Param("filename", ParamType::string, "File with the firmware").required(),
                       Param("bdev_name", ParamType::string, "Name of the bdev").required()})
                .acts()
                .handler(apply_firmware));
}

}  // namespace catnap::bdev
