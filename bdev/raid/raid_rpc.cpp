// bdev_raid_*: SPDK's names, parameters and result keys (schema/schema.yaml and module/bdev/raid of SPDK 26.09-pre), older spellings of live callers,
// and methods of our own (grow, bitmap, scrub, forced start).
#include "bdev/raid/raid_rpc.h"

#include <fmt/core.h>

#include <optional>
#include <utility>

#include "bdev/raid/bitmap_file_rpc.h"
#include "bdev/raid/raid_arrays.h"
#include "bdev/rpc_common.h"
#include "rpc/notifications.h"

namespace catnap::bdev {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

std::unexpected<RpcError> no_such_array(const std::string& name) {
  return std::unexpected(RpcError(-ENODEV, fmt::format("raid bdev {} not found", name)));  // SPDK's words
}

RpcResult<Json::Value> answer(const Result<void>& outcome) {
  if (!outcome) return std::unexpected(RpcError(outcome.error()));
  return Json::Value(true);
}

// A sequence that may wait for members' I/O, and a deadline, race for one promise. Empty: time is up, the sequence goes on.
struct Bounded {
  Bounded() : deadline([this] { end(std::nullopt); }) {}
  void end(std::optional<Result<void>> outcome) {
    if (!std::exchange(over, true)) promise.set(std::move(outcome));
  }
  Promise<std::optional<Result<void>>> promise;
  bool over = false;
  Timer deadline;
};

Task<RpcResult<Json::Value>> bounded(Task<Result<void>> task, std::string what) {
  auto race = std::make_shared<Bounded>();
  Thread::current()->arm_in_us(race->deadline, remove_answer_us);
  spawn<Result<void>>(std::move(task), [race](Result<void> outcome) { race->end(std::move(outcome)); });
  std::optional<Result<void>> outcome = co_await race->promise;
  race->deadline.disarm();
  if (!outcome.has_value()) {
    co_return std::unexpected(RpcError(-ETIMEDOUT, fmt::format("Timer expired: {} has begun, but still waits for I/O of its members", what)));
  }
  co_return answer(*outcome);
}

Result<RaidOptions> options_of(const Params& params) {
  RaidOptions options;
  options.name = params.string("name");
  const std::string level = params.string("raid_level");
  if (level == "raid5f" || level == "5f") return fail(ENOTSUP, fmt::format("Operation not supported: raid_level {}", level));
  options.kind = level == "raid0" || level == "0" ? RaidKind::raid0 : level == "concat" ? RaidKind::concat : RaidKind::raid1;
  options.strip_size_kib = static_cast<std::uint32_t>(params.integer("strip_size_kb"));
  options.members = params.strings("base_bdevs");
  options.superblock = params.boolean("superblock");
  options.bitmap_bdev = params.string("bitmap_bdev");
  options.bitmap_file = params.string("bitmap_file");
  if (!options.bitmap_file.empty() && options.bitmap_bdev.empty()) options.bitmap_bdev = raid_bitmap_bdev_name(options.name);
  options.bitmap_region_kib = static_cast<std::uint32_t>(params.integer("bitmap_region_kb"));
  options.assume_clean = params.boolean("assume_clean");
  options.out_of_sync = params.strings("out_of_sync");
  if (params.has("uuid") && !params.string("uuid").empty()) {
    auto uuid = parse_uuid(params.string("uuid"));
    if (!uuid) return std::unexpected(uuid.error());
    options.uuid = *uuid;
  }
  return options;
}

// With the bdev of its bitmap_file, which goes again when nothing comes of the array.
Task<Result<void>> create_with_bitmap(RaidOptions options) {
  const std::string name = options.name;
  const std::string path = options.bitmap_file;
  if (RaidArrays::instance().find(name) != nullptr || path.empty()) {
    Result<void> outcome = co_await RaidArrays::instance().create(std::move(options));
    co_return outcome;
  }
  Result<void> outcome = co_await open_bitmap_file(name, path);
  if (!outcome) co_return outcome;
  outcome = co_await RaidArrays::instance().create(std::move(options));
  if (!outcome) co_await close_bitmap_file(name);
  co_return outcome;
}

Task<Result<void>> remove_with_bitmap(std::string name, bool clear_superblock) {
  const auto array = RaidArrays::instance().find(name);
  const std::string of_file = array != nullptr && !array->options().bitmap_file.empty() ? array->name() : "";
  Result<void> outcome = co_await RaidArrays::instance().remove(std::move(name), clear_superblock);
  if (!of_file.empty()) co_await close_bitmap_file(of_file);
  co_return outcome;
}

Task<RpcResult<Json::Value>> create(Params params) {
  auto options = options_of(params);
  if (!options) co_return std::unexpected(RpcError(options.error()));
  if (auto fits = check_raid_options(*options, false); !fits) co_return std::unexpected(RpcError(fits.error()));
  std::string what = fmt::format("creating raid bdev '{}'", options->name);
  auto task = create_with_bitmap(std::move(*options));
  RpcResult<Json::Value> outcome = co_await bounded(std::move(task), std::move(what));
  co_return outcome;
}

Task<RpcResult<Json::Value>> remove(Params params) {
  std::string name = params.string("name");
  std::string what = fmt::format("removing raid bdev '{}'", name);
  auto task = remove_with_bitmap(std::move(name), params.boolean("clear_sb"));
  RpcResult<Json::Value> outcome = co_await bounded(std::move(task), std::move(what));
  co_return outcome;
}

RpcResult<Json::Value> get_bdevs(const Params& params) {
  const std::string category = params.string("category");
  Json::Value list(Json::arrayValue);
  for (const auto& array : RaidArrays::instance().all()) {
    if (category == "all" || category == raid_state_name(array->state())) list.append(parse_json(array->info_json()));
  }
  return list;
}

Task<RpcResult<Json::Value>> add_base_bdev(Params params) {
  const auto array = RaidArrays::instance().find(params.string("raid_bdev"));
  if (array == nullptr) co_return no_such_array(params.string("raid_bdev"));
  std::string bdev_name = params.string("base_bdev");
  std::string what = fmt::format("adding base bdev '{}' to raid bdev '{}'", bdev_name, array->name());
  auto task = array->add_member(std::move(bdev_name));
  RpcResult<Json::Value> outcome = co_await bounded(std::move(task), std::move(what));
  co_return outcome;
}

Task<RpcResult<Json::Value>> remove_base_bdev(Params params) {
  auto place = RaidArrays::instance().place_of(params.string("name"), params.string("raid_bdev"));
  if (!place) co_return std::unexpected(RpcError(place.error()));
  std::string what = fmt::format("removing base bdev '{}' from raid bdev '{}'", params.string("name"), place->first->name());
  auto task = place->first->remove_member(place->second);
  RpcResult<Json::Value> outcome = co_await bounded(std::move(task), std::move(what));
  co_return outcome;
}

// Longhorn names a base bdev that has grown; the array is asked for as well.
Task<RpcResult<Json::Value>> grow_base_bdev(Params params) {
  std::shared_ptr<RaidArray> array = RaidArrays::instance().find(params.string("raid_name"));
  if (array == nullptr && params.has("raid_name")) co_return no_such_array(params.string("raid_name"));
  if (params.has("base_name")) {
    auto place = RaidArrays::instance().place_of(params.string("base_name"), params.string("raid_name"));
    if (!place) co_return std::unexpected(RpcError(place.error()));
    array = place->first;
  }
  if (array == nullptr) co_return std::unexpected(RpcError(-EINVAL, "Invalid argument: one of raid_name and base_name is needed"));
  std::string what = fmt::format("growing raid bdev '{}'", array->name());
  auto task = array->grow();
  RpcResult<Json::Value> outcome = co_await bounded(std::move(task), std::move(what));
  co_return outcome;
}

Task<RpcResult<Json::Value>> start(Params params) {
  const auto array = RaidArrays::instance().find(params.string("name"));
  if (array == nullptr) co_return no_such_array(params.string("name"));
  if (array->state() == RaidState::online) {
    co_return std::unexpected(RpcError(-EEXIST, fmt::format("File exists: raid bdev '{}' is online already", array->name())));
  }
  std::string what = fmt::format("starting raid bdev '{}'", array->name());
  auto task = array->look_for_members(true);
  RpcResult<Json::Value> outcome = co_await bounded(std::move(task), std::move(what));
  if (outcome && array->state() != RaidState::online) {
    co_return std::unexpected(
        RpcError(-EAGAIN, fmt::format("Resource temporarily unavailable: raid bdev '{}' waits for {}", array->name(), array->waits_for())));
  }
  co_return outcome;
}

Task<RpcResult<Json::Value>> take_over(Params params) {
  std::string bdev_name = params.string("base_bdev");
  std::string what = fmt::format("taking over the array of base bdev '{}'", bdev_name);
  auto task = RaidArrays::instance().take_over(std::move(bdev_name));
  RpcResult<Json::Value> outcome = co_await bounded(std::move(task), std::move(what));
  co_return outcome;
}

RpcResult<Json::Value> set_options(const Params& params) {
  RaidSettings& settings = raid_settings();
  if (params.has("process_window_size_kb")) settings.process_window_size_kib = static_cast<std::uint32_t>(params.integer("process_window_size_kb"));
  if (params.has("process_max_bandwidth_mb_sec")) {
    settings.process_max_bandwidth_mib_sec = static_cast<std::uint32_t>(params.integer("process_max_bandwidth_mb_sec"));
  }
  for (const auto& array : RaidArrays::instance().all()) array->level().settings_changed();
  return Json::Value(true);
}

RpcResult<Json::Value> get_bitmap(const Params& params) {
  const auto array = RaidArrays::instance().find(params.string("name"));
  if (array == nullptr) return no_such_array(params.string("name"));
  auto bitmap = array->level().bitmap_json(params.boolean("ranges"));
  if (!bitmap) return std::unexpected(RpcError(bitmap.error()));
  return parse_json(*bitmap);
}

RpcResult<Json::Value> online_array(const Params& params, std::shared_ptr<RaidArray>& array) {
  array = RaidArrays::instance().find(params.string("name"));
  if (array == nullptr) return no_such_array(params.string("name"));
  if (array->state() == RaidState::online) return Json::Value(true);
  return std::unexpected(
      RpcError(-EAGAIN, fmt::format("Resource temporarily unavailable: raid bdev '{}' is {}", array->name(), raid_state_name(array->state()))));
}

RpcResult<Json::Value> start_scrub(const Params& params) {
  std::shared_ptr<RaidArray> array;
  if (auto online = online_array(params, array); !online) return online;
  ScrubOptions options;
  options.repair = params.boolean("repair");
  options.max_bandwidth_mib_sec = static_cast<std::uint32_t>(params.integer("max_bandwidth_mb_sec"));
  return answer(array->level().start_scrub(options));
}

RpcResult<Json::Value> stop_scrub(const Params& params) {
  std::shared_ptr<RaidArray> array;
  if (auto online = online_array(params, array); !online) return online;
  return answer(array->level().stop_scrub());
}

Param array_name() { return Param("name", ParamType::string, "Name or UUID of the array").required(); }

void register_create(rpc::MethodTable& table) {
  table.add(
      Method("bdev_raid_create", "Makes an array of bdevs; of those that are not there yet, as soon as they are")
          .with(
              {Param("name", ParamType::string, "Name of the array").required(),
               Param("strip_size_kb", ParamType::integer, "KiB of a strip, a power of two; raid0 and concat only").range(0, 1u << 21),
               Param("raid_level", ParamType::string, "Level").required().one_of({"raid0", "0", "raid1", "1", "raid5f", "5f", "concat"}),
               Param("base_bdevs", ParamType::array_of_string, "Names, aliases or UUIDs of the members, in order").required(),
               Param("uuid", ParamType::string, "UUID; made up without it"),
               Param("superblock", ParamType::boolean, "Keep a superblock (and raid1's bitmap) on every member, by which they are found again")
                   .or_default(false),
               Param("bitmap_bdev", ParamType::string, "raid1 without superblock: bdev that holds the write-intent bitmap"),
               Param("bitmap_file", ParamType::string, "raid1 without superblock: file that holds the write-intent bitmap"),
               Param("bitmap_region_kb", ParamType::integer, "raid1: KiB that one mark of the bitmap stands for, a power of two").range(0, 1u << 20),
               Param("assume_clean", ParamType::boolean, "raid1: the members are equal already, nothing is copied").or_default(false),
               Param("out_of_sync", ParamType::array_of_string,
                     "raid1 without superblock and bitmap: members that do not hold all data; they are not waited for, and are copied whole"),
               Param("io_unmap_limit", ParamType::integer, "Of a fork; not used").ignored()})
          .mutates()
          .coroutine(create));
}

void register_members(rpc::MethodTable& table) {
  table.add(Method("bdev_raid_add_base_bdev", "Takes a bdev into an empty slot of an array, or one whose member is missing or failed")
                .with({Param("raid_bdev", ParamType::string, "Name or UUID of the array").required(),
                       Param("base_bdev", ParamType::string, "Name, alias or UUID of the bdev").required()})
                .mutates()
                .coroutine(add_base_bdev));
  table.add(Method("bdev_raid_remove_base_bdev", "Takes a member out of its array")
                .with({Param("name", ParamType::string, "Name, alias or UUID of the member").required().alias("base_bdev"),
                       Param("raid_bdev", ParamType::string, "Name or UUID of the array; found without it")})
                .mutates()
                .coroutine(remove_base_bdev));
  table.add(Method("bdev_raid_grow_base_bdev", "Has an array grow after its members have")
                .with({Param("raid_name", ParamType::string, "Name or UUID of the array").alias("raid_bdev"),
                       Param("base_name", ParamType::string, "Name of a member that has grown").alias("base_bdev")})
                .mutates()
                .coroutine(grow_base_bdev));
}

void register_whole(rpc::MethodTable& table) {
  table.add(
      Method("bdev_raid_delete", "Removes an array; its members stay")
          .with({array_name(),
                 Param("clear_sb", ParamType::boolean, "Clear the superblocks on the members too, so that nothing finds it again").or_default(false)})
          .mutates()
          .coroutine(remove));
  table.add(Method("bdev_raid_start", "Starts an array without members that are missing, although they may hold newer data")
                .with({array_name()})
                .mutates()
                .coroutine(start));
  table.add(Method("bdev_raid_take_over", "Brings the array of another host here, whose superblock stands on a bdev; else such a bdev is left alone")
                .with({Param("base_bdev", ParamType::string, "Name, alias or UUID of one of its members").required()})
                .mutates()
                .coroutine(take_over));
  table.add(
      Method("bdev_raid_get_bdevs", "Lists arrays with their members and what is going on")
          .with({Param("category", ParamType::string, "Which: by state, or all").required().one_of({"all", "online", "configuring", "offline"})})
          .result("array of arrays")
          .handler(get_bdevs));
  table.add(Method("bdev_raid_set_options", "Sets how rebuild, resync and scrub of all arrays go, also of those under way")
                .with({Param("process_window_size_kb", ParamType::integer, "KiB of one step").range(1, 1u << 20),
                       Param("process_max_bandwidth_mb_sec", ParamType::integer, "MiB per second at most; 0: no limit").range(0, UINT32_MAX)})
                .in_phase(rpc::Phase::always)
                .mutates()
                .handler(set_options));
}

void register_bitmap_and_scrub(rpc::MethodTable& table) {
  table.add(Method("bdev_raid_get_bitmap", "Shows the write-intent bitmap of an array")
                .with({array_name(), Param("ranges", ParamType::boolean, "With the marked regions, as ranges").or_default(false)})
                .result("where it is kept, its region size, how many regions there are and how many are marked")
                .handler(get_bitmap));
  table.add(
      Method("bdev_raid_start_scrub", "Begins to compare all members of an array with each other")
          .with(
              {array_name(), Param("repair", ParamType::boolean, "Make members equal where they differ").or_default(false),
               Param("max_bandwidth_mb_sec", ParamType::integer, "MiB per second at most; 0: as the options say").range(0, UINT32_MAX).or_default(0)})
          .acts()
          .handler(start_scrub));
  table.add(Method("bdev_raid_stop_scrub", "Ends a scrub before it is through").with({array_name()}).acts().handler(stop_scrub));
}

Json::Value config_calls() {
  Json::Value calls(Json::arrayValue);
  const RaidSettings& settings = raid_settings();
  const RaidSettings usual;
  if (settings.process_window_size_kib != usual.process_window_size_kib ||
      settings.process_max_bandwidth_mib_sec != usual.process_max_bandwidth_mib_sec) {
    Json::Value call(Json::objectValue);
    call["method"] = "bdev_raid_set_options";
    call["params"]["process_window_size_kb"] = settings.process_window_size_kib;
    call["params"]["process_max_bandwidth_mb_sec"] = settings.process_max_bandwidth_mib_sec;
    calls.append(call);
  }
  for (const auto& call : RaidArrays::instance().config_calls()) calls.append(parse_json(call));
  if (RaidArrays::instance().all().empty()) return calls;
  // Namespaces come next in a configuration: by then arrays must be there, also those that are found by their superblocks.
  Json::Value wait(Json::objectValue);
  wait["method"] = "bdev_wait_for_examine";
  calls.append(wait);
  return calls;
}

}  // namespace

void register_bdev_raid_methods(rpc::MethodTable& table) {
  static_cast<void>(RaidArrays::instance());  // examines from now on
  register_create(table);
  register_members(table);
  register_whole(table);
  register_bitmap_and_scrub(table);
}

void register_bdev_raid_config(rpc::ConfigRegistry& registry) { registry.add("bdev", config_calls); }

void register_bdev_raid_notifications() {
  for (const char* type : {RaidArray::state_event, RaidArray::member_event, RaidArray::process_start_event, RaidArray::process_end_event}) {
    rpc::Notifications::instance().add_type(type);
  }
  RaidArray::set_listener([](std::string_view type, const std::string& context) { rpc::Notifications::instance().add(type, context); });
}

}  // namespace catnap::bdev
