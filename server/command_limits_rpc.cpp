// See command_limits_rpc.h.
// Owner: app_thread. Left out: the commands.
#include "server/command_limits_rpc.h"

#include <fmt/format.h>

#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "server/io_limits.h"
#include "transport/nvme/identify.h"

namespace catnap::server {
namespace {

using rpc::Param;
using rpc::ParamType;

struct NamedBit {
  const char* name;
  std::uint16_t bit;
};
// SPDK's names of what its target can take away, and ours of what only we have.
constexpr NamedBit oncs_names[] = {
    {"nvmcmps", nvme::oncs_compare},      {"nvmwusv", nvme::oncs_write_uncorrectable}, {"nvmdsmsv", nvme::oncs_dataset_management},
    {"nvmwzsv", nvme::oncs_write_zeroes}, {"reservs", nvme::oncs_reservations},        {"nvmvfys", nvme::oncs_verify},
    {"nvmcpys", nvme::oncs_copy},
};
constexpr NamedBit fuses_names[] = {{"fcws", nvme::fuses_compare_and_write}};

constexpr std::int64_t max_kas_100ms = 36'000;              // an hour: beyond it a lost host would be noticed by nobody
constexpr std::int64_t max_min_kato_ms = 3'600'000;         // the same
constexpr std::int64_t max_wzsl = 31;                       // 2^31 pages are 8 TiB, more than any one Write Zeroes can say
constexpr std::int64_t smallest_discard_block_bytes = 512;  // what max_discard_size_kib counts its blocks in

rpc::RpcError wrong(std::string text) { return {rpc::invalid_params, std::move(text)}; }

rpc::RpcResult<std::uint16_t> bits_of(const rpc::Params& params, const char* param, std::span<const NamedBit> names) {
  std::uint16_t bits = 0;
  for (const std::string& wanted : params.strings(param)) {
    std::uint16_t found = 0;
    std::string known = "all";
    for (const NamedBit& each : names) {
      if (wanted == each.name || wanted == "all") found = static_cast<std::uint16_t>(found | each.bit);
      known += fmt::format(", {}", each.name);
    }
    if (found == 0) return std::unexpected(wrong(fmt::format("{} '{}' is not one of {}", param, wanted, known)));
    bits = static_cast<std::uint16_t>(bits | found);
  }
  return bits;
}

Json::Value names_of(std::uint16_t bits, std::span<const NamedBit> names) {
  Json::Value list(Json::arrayValue);
  for (const NamedBit& each : names) {
    if ((bits & each.bit) != 0) list.append(each.name);
  }
  return list;
}

}  // namespace

std::vector<Param> transport_command_params() {
  const transport::TransportLimits defaults;
  std::vector<Param> params;
  params.push_back(Param("kas", ParamType::integer, "Granularity of keep-alive times in units of 100 ms")
                       .or_default(defaults.keep_alive_granularity_100ms)
                       .range(1, max_kas_100ms));
  params.push_back(Param("min_kato", ParamType::integer, "Least keep-alive time in ms; a shorter one is taken as this")
                       .or_default(defaults.min_kato_ms)
                       .range(0, max_min_kato_ms));
  params.push_back(Param("masked_oncs", ParamType::array_of_string,
                         "Optional commands that hosts are not offered: all, nvmcmps, nvmwusv, nvmdsmsv, nvmwzsv, reservs, nvmvfys, nvmcpys"));
  params.push_back(Param("masked_fuses", ParamType::array_of_string, "Fused operations that hosts are not offered: all, fcws"));
  return params;
}

rpc::RpcResult<void> read_transport_commands(const rpc::Params& params, transport::TransportLimits& limits) {
  limits.keep_alive_granularity_100ms = static_cast<std::uint16_t>(params.integer("kas"));
  limits.min_kato_ms = static_cast<std::uint32_t>(params.integer("min_kato"));
  const auto oncs = bits_of(params, "masked_oncs", oncs_names);
  if (!oncs) return std::unexpected(oncs.error());
  const auto fuses = bits_of(params, "masked_fuses", fuses_names);
  if (!fuses) return std::unexpected(fuses.error());
  limits.masked_oncs = *oncs;
  limits.masked_fuses = *fuses;
  return {};
}

void show_transport_commands(const transport::TransportLimits& limits, Json::Value& json) {
  json["kas"] = limits.keep_alive_granularity_100ms;
  json["min_kato"] = limits.min_kato_ms;
  json["masked_oncs"] = names_of(limits.masked_oncs, oncs_names);
  json["masked_fuses"] = names_of(limits.masked_fuses, fuses_names);
}

std::vector<Param> subsystem_command_params() {
  std::vector<Param> params;
  params.push_back(
      Param("dmrsl", ParamType::integer, "Blocks of a Dataset Management range that are processed; 0: all").or_default(0).range(0, 0xFFFFFFFF));
  params.push_back(
      Param("wzsl", ParamType::integer, "Largest Write Zeroes as a power of two of 4 KiB; 0: no limit").or_default(0).range(0, max_wzsl));
  params.push_back(Param("max_discard_size_kib", ParamType::integer, "As dmrsl, in KiB of 512-byte blocks").range(0, 0x7FFFFFFF));
  params.push_back(
      Param("max_write_zeroes_size_kib", ParamType::integer, "As wzsl, in KiB: a power of two from 4 on; 0: no limit").range(0, 0xFFFFFFFF));
  params.push_back(Param("enable_nssr", ParamType::boolean, "Hosts may reset the whole subsystem (property NSSR)").or_default(false));
  return params;
}

rpc::RpcResult<void> read_subsystem_commands(const rpc::Params& params, SubsystemOptions& options) {
  options.dmrsl_blocks = static_cast<std::uint32_t>(params.integer("dmrsl"));
  options.wzsl = static_cast<std::uint8_t>(params.integer("wzsl"));
  options.enable_nssr = params.boolean("enable_nssr");
  if (params.has("max_discard_size_kib")) {
    if (options.dmrsl_blocks != 0) return std::unexpected(wrong("max_discard_size_kib and dmrsl are two names of one limit: give one of them"));
    options.dmrsl_blocks = static_cast<std::uint32_t>(params.integer("max_discard_size_kib") * 1024 / smallest_discard_block_bytes);
  }
  if (params.has("max_write_zeroes_size_kib")) {
    if (options.wzsl != 0) return std::unexpected(wrong("max_write_zeroes_size_kib and wzsl are two names of one limit: give one of them"));
    const auto kib = static_cast<std::uint64_t>(params.integer("max_write_zeroes_size_kib"));
    constexpr std::uint64_t page_kib = identify_page_bytes / 1024;
    // 2^0 pages would read as "no limit".
    if (kib != 0 && (!std::has_single_bit(kib) || kib <= page_kib)) {
      return std::unexpected(wrong(fmt::format("max_write_zeroes_size_kib {} is neither 0 nor a power of two above {}", kib, page_kib)));
    }
    options.wzsl = kib == 0 ? std::uint8_t{0} : static_cast<std::uint8_t>(std::countr_zero(kib / page_kib));
  }
  return {};
}

void show_subsystem_commands(const SubsystemSnapshot& subsystem, Json::Value& json) {
  if (subsystem.dmrsl_blocks != 0) json["dmrsl"] = subsystem.dmrsl_blocks;
  if (subsystem.wzsl != 0) json["wzsl"] = subsystem.wzsl;
  if (subsystem.enable_nssr) json["enable_nssr"] = true;
}

}  // namespace catnap::server
