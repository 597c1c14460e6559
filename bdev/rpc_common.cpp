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

// Empty: time is up.
using RemoveOutcome = std::optional<Result<void>>;

// The removal and the deadline race for one promise; the loser finds it taken.
struct RemoveRace {
  RemoveRace() : deadline([this] { answer(std::nullopt); }) {}
  void answer(RemoveOutcome outcome) {
    if (std::exchange(answered, true)) return;
    promise.set(std::move(outcome));
  }
  Promise<RemoveOutcome> promise;
  bool answered = false;
  Timer deadline;
};

}  // namespace

Task<RpcResult<Json::Value>> remove_and_answer(std::string name, std::string product_name) {
  const auto bdev = Registry::instance().find(name);
  if (bdev == nullptr) co_return no_such_bdev(name);
  if (bdev->info().product_name != product_name) co_return another_kind(name, bdev->info().product_name, product_name);
  const std::string true_name = bdev->name();
  auto race = std::make_shared<RemoveRace>();
  Thread::current()->arm_in_us(race->deadline, remove_answer_us);
  Registry::instance().remove(true_name, [race](Result<void> removed) { race->answer(std::move(removed)); });
  RemoveOutcome outcome = co_await race->promise;
  race->deadline.disarm();
  if (!outcome.has_value()) {
    co_return std::unexpected(RpcError(-ETIMEDOUT, fmt::format("Timer expired: bdev '{}' is removed, but still waits for {}", true_name,
                                                               Registry::instance().removal_waits_for(true_name))));
  }
  if (!*outcome) co_return std::unexpected(RpcError(outcome->error()));
  co_return Json::Value(true);
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
