// See rpc_common.h.
#include "bdev/rpc_common.h"

#include <fmt/core.h>

#include <optional>

#include "reactor/task.h"

namespace catnap::bdev {

using rpc::Param;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

Json::Value json_u64(std::uint64_t value) { return Json::Value(static_cast<Json::UInt64>(value)); }

Json::Value parse_json(const std::string& text) {
  Json::Value value;
  const std::unique_ptr<Json::CharReader> reader(Json::CharReaderBuilder().newCharReader());
  try {
    if (!reader->parse(text.data(), text.data() + text.size(), &value, nullptr)) return {};
  } catch (const Json::Exception&) {
    return {};
  }
  return value;
}

std::unexpected<RpcError> no_such_bdev(std::string_view name) {
  return std::unexpected(RpcError(-ENODEV, fmt::format("No such device: there is no bdev '{}'", name)));
}

std::unexpected<RpcError> another_kind(std::string_view name, std::string_view is, std::string_view wanted) {
  return std::unexpected(RpcError(-ENODEV, fmt::format("No such device: bdev '{}' is a {}, not a {}", name, is, wanted)));
}

RpcResult<Json::Value> add_and_answer(std::shared_ptr<Bdev> bdev) {
  const std::string name = bdev->name();
  if (auto added = Registry::instance().add(std::move(bdev)); !added) return std::unexpected(RpcError(added.error()));
  return Json::Value(name);
}

namespace {

// Longest wait for the threads of a bdev's channels. They answer between two callbacks.
constexpr std::uint64_t take_up_us = 5'000'000;

}  // namespace

Task<RpcResult<Json::Value>> remove_and_answer(std::string name, std::string product_name) {
  const auto bdev = Registry::instance().find(name);
  if (bdev == nullptr) co_return no_such_bdev(name);
  if (bdev->info().product_name != product_name) co_return another_kind(name, bdev->info().product_name, product_name);
  const std::string true_name = bdev->name();
  const auto answer = TimedAnswer<Result<void>>::within_us(remove_answer_us);
  Registry::instance().remove(true_name, [answer](Result<void> removed) { answer->give(std::move(removed)); });
  const std::optional<Result<void>> outcome = co_await answer->promise();
  if (!outcome.has_value()) {
    co_return std::unexpected(RpcError(-ETIMEDOUT, fmt::format("Timer expired: bdev '{}' is removed, but still waits for {}", true_name,
                                                               Registry::instance().removal_waits_for(true_name))));
  }
  if (!*outcome) co_return std::unexpected(RpcError(outcome->error()));
  co_return Json::Value(true);
}

std::shared_ptr<TimedAnswer<bool>> take_up() { return TimedAnswer<bool>::within_us(take_up_us); }

RpcResult<Json::Value> taken_up(const std::optional<bool>& in_time, std::string_view what, const Bdev& bdev) {
  if (in_time.has_value()) return Json::Value(true);
  return std::unexpected(RpcError(-ETIMEDOUT, fmt::format("Timer expired: {} of bdev '{}' {} set, but not all of its threads go by that yet", what,
                                                          bdev.name(), what.ends_with('s') ? "are" : "is")));
}

std::vector<Param> metadata_params() {
  std::vector<Param> params;
  params.push_back(Param("md_size", ParamType::integer, "Metadata bytes per block; only 0").or_default(0));
  params.push_back(Param("dif_type", ParamType::integer, "Protection information type; only 0").or_default(0));
  params.push_back(Param("dif_is_head_of_md", ParamType::boolean, "Protection information in front of the metadata; only false").or_default(false));
  params.push_back(Param("dif_pi_format", ParamType::integer, "Protection information format; only 0").or_default(0));
  return params;
}

Result<void> check_metadata_params(const rpc::Params& params) {
  for (const char* field : {"md_size", "dif_type", "dif_pi_format"}) {
    if (params.signed_integer(field) != 0) {
      return fail(ENOTSUP,
                  fmt::format("{} {}: metadata and protection information are not supported, only 0 is", field, params.signed_integer(field)));
    }
  }
  if (params.boolean("dif_is_head_of_md")) return fail(ENOTSUP, "dif_is_head_of_md true: protection information is not supported");
  return {};
}

}  // namespace catnap::bdev
