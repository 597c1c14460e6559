// Scheduler, governor and context-switch monitor (scheduler_rpc.h), with SPDK's method and key names (lib/event/app_rpc.c of SPDK 26.09-pre).
// Owner: app_thread. Left out: CPU frequencies, which are the kernel's.
#include "reactor/scheduler_rpc.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <expected>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "reactor/base/log.h"
#include "reactor/context_switches.h"
#include "reactor/scheduler.h"
#include "reactor/thread_rpc.h"

namespace catnap {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

// Bounds of the period: below 1 ms measuring would cost more than it can win, and moves would follow single commands.
constexpr std::uint64_t min_period_us = 1'000;
constexpr std::uint64_t max_period_us = 3'600'000'000;
// Bound of the periods that hysteresis takes.
constexpr std::uint64_t max_patience = 1000;
// How often the monitor looks, while it is on: poller_set_period tunes it.
constexpr std::uint64_t monitor_period_us = 1'000'000;

// Tells in the log what the kernel did with each reactor since the last look. While it is off there is no poller, so nothing wakes up for it.
class ContextSwitchMonitor {
 public:
  explicit ContextSwitchMonitor(Runtime& runtime) : runtime_(runtime) {}

  // app_thread does not exit while it has pollers.
  static std::shared_ptr<ContextSwitchMonitor> make(Runtime& runtime) {
    auto monitor = std::make_shared<ContextSwitchMonitor>(runtime);
    Thread& app = runtime.app_thread();
    app.run_or_send([&app, weak = std::weak_ptr(monitor)] {
      app.at_exit([weak] {
        if (const auto self = weak.lock()) self->enable(false);
      });
    });
    return monitor;
  }

  bool enabled() const { return poller_ != nullptr; }

  void enable(bool on) {
    if (on == enabled()) return;
    if (!on) {
      runtime_.app_thread().remove_poller(*std::exchange(poller_, nullptr));
      return;
    }
    for (const Reactor* reactor : runtime_.reactors()) last_[reactor] = context_switches(reactor->os_thread_id());
    poller_ = &runtime_.app_thread().add_poller("context_switch_monitor", [this] { return look(); }, monitor_period_us);
  }

 private:
  int look() {
    int told = 0;
    for (const Reactor* reactor : runtime_.reactors()) {
      const ContextSwitches now = context_switches(reactor->os_thread_id());
      const ContextSwitches before = std::exchange(last_[reactor], now);
      if (now.voluntary == before.voluntary && now.involuntary == before.involuntary) continue;
      log_notice("{}: {} voluntary and {} involuntary context switches since the last look", reactor->name(), now.voluntary - before.voluntary,
                 now.involuntary - before.involuntary);
      ++told;
    }
    return told;
  }

  Runtime& runtime_;
  Poller* poller_ = nullptr;
  std::map<const Reactor*, ContextSwitches> last_;
};

Json::Value number(std::uint64_t value) { return Json::Value(Json::UInt64(value)); }

Json::Value get_scheduler(const Scheduler& scheduler) {
  Json::Value reply(Json::objectValue);
  reply["scheduler_name"] = scheduler.dynamic() ? "dynamic" : "static";
  reply["scheduler_period"] = number(scheduler.period_us());
  reply["isolated_core_mask"] = scheduler.isolated_cores().hex();
  reply["scheduling_core"] = scheduler.scheduling_core();
  if (!scheduler.dynamic()) return reply;
  const DynamicOptions& options = scheduler.options();
  reply["load_limit"] = options.load_limit;
  reply["core_limit"] = options.core_limit;
  reply["core_busy"] = options.core_busy;
  reply["idle_periods"] = options.idle_periods;
  reply["move_gain"] = options.move_gain;
  reply["settle_periods"] = options.settle_periods;
  reply["measuring"] = scheduler.active();
  reply["moves"] = number(scheduler.moves());
  return reply;
}

struct Mapping {
  Mapping(Thread* mapped, Reactor* where) : thread(mapped), reactor(where) {}
  Thread* thread;
  Reactor* reactor;
};

// Why a thread cannot go to a CPU, and which of the two the reason is about.
struct NoMapping {
  bool cpu = false;
  std::string why;
};

// `which`: id or name of a thread.
std::expected<Mapping, NoMapping> find_mapping(const Runtime& runtime, std::string_view which, unsigned cpu) {
  const auto threads = runtime.threads();
  const auto thread = std::ranges::find_if(threads, [&](const Thread* one) { return std::to_string(one->id()) == which || one->name() == which; });
  if (thread == threads.end()) return std::unexpected(NoMapping{false, fmt::format("there is no thread {}", which)});
  if ((*thread)->reactor() == &runtime.control())
    return std::unexpected(NoMapping{false, fmt::format("thread {} runs on the control thread", which)});
  Reactor* const reactor = runtime.reactor_on(cpu);
  if (reactor == nullptr) return std::unexpected(NoMapping{true, fmt::format("no reactor runs on CPU {}", cpu)});
  if (!(*thread)->cpumask().has(cpu))
    return std::unexpected(NoMapping{true, fmt::format("thread {} may only run on 0x{}", which, (*thread)->cpumask().hex())});
  return Mapping{*thread, reactor};
}

// "1:0,2:1": thread ids, or names, and CPUs.
Result<std::vector<Mapping>> parse_mappings(const Runtime& runtime, std::string_view text) {
  std::vector<Mapping> mappings;
  const auto bad = [&](std::string_view pair, const std::string& why) {
    return fail(EINVAL, fmt::format("parameter 'mappings': '{}': {}", pair, why));
  };
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), pair.size() + 1));
    const auto colon = pair.rfind(':');
    if (colon == std::string_view::npos || colon == 0) return bad(pair, "not THREAD_ID:CPU");
    const std::string_view which = pair.substr(0, colon);
    unsigned cpu = 0;
    const auto end = std::from_chars(pair.data() + colon + 1, pair.data() + pair.size(), cpu);
    if (end.ec != std::errc() || end.ptr != pair.data() + pair.size()) return bad(pair, "not THREAD_ID:CPU");
    const auto mapping = find_mapping(runtime, which, cpu);
    if (!mapping) return bad(pair, mapping.error().why);
    mappings.push_back(*mapping);
  }
  return mappings;
}

DynamicOptions dynamic_options(const Scheduler& scheduler, const Params& params) {
  DynamicOptions options = scheduler.options();
  const auto take = [&](const char* name, unsigned& option) {
    if (params.has(name)) option = static_cast<unsigned>(params.integer(name));
  };
  take("load_limit", options.load_limit);
  take("core_limit", options.core_limit);
  take("core_busy", options.core_busy);
  take("idle_periods", options.idle_periods);
  take("move_gain", options.move_gain);
  take("settle_periods", options.settle_periods);
  return options;
}

Task<RpcResult<Json::Value>> set_scheduler(Runtime* runtime, std::shared_ptr<Scheduler> scheduler, std::shared_ptr<KeptSettings> kept,
                                           Params params) {
  const std::string name = params.string("name");
  if (name == "gscheduler")
    co_return std::unexpected<RpcError>(std::in_place, -EOPNOTSUPP,
                                        "parameter 'name': 'gscheduler' sets CPU frequencies, which are left to the kernel here");
  const std::string text = params.string("mappings");
  if (name != "static" && !text.empty())
    co_return std::unexpected<RpcError>(std::in_place, -EINVAL, fmt::format("parameter 'mappings': '{}': only static takes them", text));
  const auto mappings = parse_mappings(*runtime, text);
  if (!mappings) co_return std::unexpected<RpcError>(std::in_place, mappings.error());
  const std::uint64_t period_us = params.has("period") ? params.integer("period") : scheduler->period_us();
  if (name == "dynamic") {
    scheduler->use_dynamic(period_us, dynamic_options(*scheduler, params));
    kept->homes.clear();
    co_return RpcResult<Json::Value>(Json::Value(true));
  }
  scheduler->use_static();
  scheduler->set_period_us(period_us);
  for (const Mapping& mapping : *mappings) {
    Result<void> moved = co_await move_thread(mapping.thread, mapping.reactor);
    if (!moved) co_return std::unexpected<RpcError>(std::in_place, moved.error());
    kept->homes[mapping.thread->name()] = mapping.reactor->lcore();
  }
  co_return RpcResult<Json::Value>(Json::Value(true));
}

RpcResult<Json::Value> set_options(Scheduler& scheduler, const Params& params) {
  CpuMask isolated = scheduler.isolated_cores();
  if (params.has("isolated_core_mask")) {
    const std::string text = params.string("isolated_core_mask");
    // Elsewhere a mask without a CPU is a mistake; here it says "none any more".
    const bool none = text == "0" || text == "0x0" || text == "[]";
    auto parsed = none ? Result<CpuMask>(CpuMask()) : CpuMask::parse(text);
    if (!parsed) return std::unexpected<RpcError>(std::in_place, -EINVAL, fmt::format("parameter 'isolated_core_mask': {}", parsed.error().message));
    isolated = *parsed;
  }
  const auto core = params.has("scheduling_core") ? static_cast<unsigned>(params.integer("scheduling_core")) : scheduler.scheduling_core();
  if (auto set = scheduler.set_cores(core, isolated); !set) return std::unexpected<RpcError>(std::in_place, set.error());
  return Json::Value(true);
}

void add_call(Json::Value& calls, const char* method, Json::Value params) {
  Json::Value call(Json::objectValue);
  call["method"] = method;
  call["params"] = std::move(params);
  calls.append(std::move(call));
}

Task<RpcResult<Json::Value>> move_named_thread(Runtime* runtime, std::shared_ptr<Scheduler> scheduler, std::shared_ptr<KeptSettings> kept,
                                               Params params) {
  if (params.has("id") == params.has("name"))
    co_return std::unexpected<RpcError>(std::in_place, rpc::invalid_params, "Invalid parameters: 'id' and 'name': give one of them, and only one");
  const char* const named_by = params.has("id") ? "id" : "name";
  const std::string which = params.has("id") ? std::to_string(static_cast<std::int64_t>(params.integer("id"))) : params.string("name");
  if (scheduler->dynamic())
    co_return std::unexpected<RpcError>(std::in_place, -EBUSY, "the dynamic scheduler places threads; framework_set_scheduler static first");
  const auto mapping = find_mapping(*runtime, which, static_cast<unsigned>(params.integer("lcore")));
  if (!mapping)
    co_return std::unexpected<RpcError>(std::in_place, -EINVAL,
                                        fmt::format("parameter '{}': {}", mapping.error().cpu ? "lcore" : named_by, mapping.error().why));
  Thread* const thread = mapping->thread;
  Reactor* const reactor = mapping->reactor;
  Result<void> moved = co_await move_thread(thread, reactor);
  if (!moved) co_return std::unexpected<RpcError>(std::in_place, moved.error());
  kept->homes[thread->name()] = reactor->lcore();
  co_return RpcResult<Json::Value>(Json::Value(true));
}

// Not as "mappings" of framework_set_scheduler: a configuration is loaded from before the threads are there.
void add_home_calls(Json::Value& calls, const Runtime& runtime, const KeptSettings& kept) {
  for (const Thread* thread : runtime.threads()) {
    const auto home = kept.homes.find(thread->name());
    if (home == kept.homes.end()) continue;
    Json::Value params(Json::objectValue);
    params["name"] = thread->name();
    params["lcore"] = home->second;
    add_call(calls, "thread_move", std::move(params));
  }
}

Json::Value config_calls(const Runtime& runtime, const Scheduler& scheduler, const KeptSettings& kept) {
  Json::Value calls = thread_config_calls(runtime, kept);
  const auto reactors = runtime.reactors();
  const bool first_core = reactors.empty() || scheduler.scheduling_core() == reactors.front()->lcore();
  if (!first_core || !scheduler.isolated_cores().empty()) {
    Json::Value params(Json::objectValue);
    params["scheduling_core"] = scheduler.scheduling_core();
    if (!scheduler.isolated_cores().empty()) params["isolated_core_mask"] = scheduler.isolated_cores().hex();
    add_call(calls, "scheduler_set_options", std::move(params));
  }
  Json::Value params(Json::objectValue);
  params["name"] = scheduler.dynamic() ? "dynamic" : "static";
  params["period"] = number(scheduler.period_us());
  if (scheduler.dynamic()) {
    const DynamicOptions& options = scheduler.options();
    params["load_limit"] = options.load_limit;
    params["core_limit"] = options.core_limit;
    params["core_busy"] = options.core_busy;
    params["idle_periods"] = options.idle_periods;
    params["move_gain"] = options.move_gain;
    params["settle_periods"] = options.settle_periods;
  }
  if (scheduler.dynamic() || scheduler.period_us() != Scheduler::default_period_us) add_call(calls, "framework_set_scheduler", std::move(params));
  if (!scheduler.dynamic()) add_home_calls(calls, runtime, kept);
  return calls;
}

// Without a governor SPDK's answer is empty, and clients ask for governor_name to know; the sentence is for people.
Json::Value get_governor() {
  Json::Value reply(Json::objectValue);
  reply["note"] = "there is no governor: CPU frequencies are left to the kernel";
  return reply;
}

Json::Value monitor_context_switch(ContextSwitchMonitor& monitor, const Params& params) {
  if (params.has("enabled")) monitor.enable(params.boolean("enabled"));
  Json::Value reply(Json::objectValue);
  reply["enabled"] = monitor.enabled();
  return reply;
}

Param percent(const char* name, const char* help) { return Param(name, ParamType::integer, help).range(1, 100); }

}  // namespace

void register_scheduler_methods(rpc::MethodTable& table, Runtime& runtime, rpc::ConfigRegistry* registry, std::shared_ptr<KeptSettings> kept) {
  auto scheduler = Scheduler::make(runtime);
  auto monitor = ContextSwitchMonitor::make(runtime);
  if (registry != nullptr) registry->add("scheduler", [&runtime, scheduler, kept] { return config_calls(runtime, *scheduler, *kept); });
  table.add(Method("framework_get_scheduler", "Which scheduler places threads on reactors, and how")
                .in_phase(rpc::Phase::always)
                .result("{scheduler_name, scheduler_period, isolated_core_mask, scheduling_core; of dynamic also its options, measuring, moves}")
                .handler([scheduler](const Params&) -> RpcResult<Json::Value> { return get_scheduler(*scheduler); }));
  table.add(
      Method("framework_set_scheduler", "Chooses the scheduler that places threads on reactors")
          .in_phase(rpc::Phase::always)
          .with({Param("name", ParamType::string, "static: threads stay where they are; dynamic: they move by load")
                     .required()
                     .one_of({"static", "dynamic", "gscheduler"}),
                 Param("period", ParamType::integer, "Microseconds between decisions, while something is busy").range(min_period_us, max_period_us),
                 percent("load_limit", "Load of a thread in percent of a CPU from which it is busy (dynamic, default 20)"),
                 percent("core_limit", "Load of a core in percent from which it is full (dynamic, default 80)"),
                 percent("core_busy", "Load of a core in percent from which threads leave it (dynamic, default 95)"),
                 Param("idle_periods", ParamType::integer, "Periods below half of load_limit after which a thread is idle (dynamic, default 2)")
                     .range(1, max_patience),
                 percent("move_gain", "Percentage points by which a move must lower the larger of two loads (dynamic, default 10)"),
                 Param("settle_periods", ParamType::integer, "Periods for which a moved thread stays (dynamic, default 2)").range(1, max_patience),
                 Param("mappings", ParamType::string,
                       "THREAD:CPU pairs, separated by commas, of ids or names: moves these threads once (static only)")})
          .mutates()
          .coroutine([&runtime, scheduler, kept](Params params) { return set_scheduler(&runtime, scheduler, kept, std::move(params)); }));
  table.add(Method("thread_move", "Moves a thread, with its live connections, to a reactor that it may run on")
                .with({Param("lcore", ParamType::integer, "CPU of the reactor").required().range(0, CpuMask::max_cpus - 1),
                       Param("id", ParamType::integer, "Id of the thread, as thread_get_stats shows it"),
                       Param("name", ParamType::string, "Name of the thread instead")})
                .mutates()
                .coroutine([&runtime, scheduler, kept](Params params) { return move_named_thread(&runtime, scheduler, kept, std::move(params)); }));
  table.add(Method("scheduler_set_options", "Cores that the dynamic scheduler treats in a special way")
                .alias("framework_scheduler_set_options")
                .in_phase(rpc::Phase::always)
                .with({Param("scheduling_core", ParamType::integer, "CPU of the reactor on which idle threads gather; the first one at start")
                           .range(0, CpuMask::max_cpus - 1),
                       Param("isolated_core_mask", ParamType::string, "CPUs of reactors that keep their threads and get no others; \"0\": none")})
                .mutates()
                .handler([scheduler](const Params& params) { return set_options(*scheduler, params); }));
  table.add(Method("framework_get_governor", "What governs CPU frequencies: nothing here, so no governor_name")
                .result("{} without a governor, with a note for people")
                .handler([](const Params&) -> RpcResult<Json::Value> { return get_governor(); }));
  table.add(Method("framework_monitor_context_switch", "Logs context switches of reactors every second; says whether it does")
                .with({Param("enabled", ParamType::boolean, "Switch on or off; only asks when absent")})
                .result("{enabled}")
                .mutates()
                .not_kept()  // a look at something, not configuration
                .handler([monitor](const Params& params) -> RpcResult<Json::Value> { return monitor_context_switch(*monitor, params); }));
}

}  // namespace catnap
