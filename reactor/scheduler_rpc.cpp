// Scheduler, governor and context-switch monitor (scheduler_rpc.h), with SPDK's method and key names (lib/event/app_rpc.c of SPDK 26.09-pre).
// Owner: app_thread. Left out: moving threads between reactors; CPU frequencies, which are the kernel's.
#include "reactor/scheduler_rpc.h"

#include <fmt/format.h>

#include <map>
#include <memory>
#include <utility>

#include "reactor/base/log.h"
#include "reactor/context_switches.h"

namespace catnap {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

// SPDK's default on the first set.
constexpr std::uint64_t default_period_us = 1'000'000;
constexpr std::uint64_t max_period_us = 3'600'000'000;
// How often the monitor looks, while it is on: poller_set_period tunes it.
constexpr std::uint64_t monitor_period_us = 1'000'000;

struct SchedulerState {
  std::uint64_t period_us = default_period_us;
};

// Tells in the log what the kernel did with each reactor since the last look. While it is off there is no poller, so nothing wakes up for it.
class ContextSwitchMonitor {
 public:
  explicit ContextSwitchMonitor(Runtime& runtime) : runtime_(runtime) {}

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

Json::Value get_scheduler(const Runtime& runtime, const SchedulerState& state) {
  Json::Value reply(Json::objectValue);
  reply["scheduler_name"] = "static";
  reply["scheduler_period"] = number(state.period_us);
  reply["isolated_core_mask"] = CpuMask().hex();
  const auto reactors = runtime.reactors();
  reply["scheduling_core"] = reactors.empty() ? 0U : reactors.front()->lcore();
  return reply;
}

RpcResult<Json::Value> set_scheduler(SchedulerState& state, const Params& params) {
  const std::string name = params.string("name");
  if (name != "static")
    return std::unexpected<RpcError>(
        std::in_place, -EOPNOTSUPP,
        fmt::format("parameter 'name': scheduler '{}' is not there yet; threads stay where they were made ('static')", name));
  if (!params.string("mappings").empty())
    return std::unexpected<RpcError>(
        std::in_place, -EOPNOTSUPP, fmt::format("parameter 'mappings': '{}': threads cannot be moved to other cores yet", params.string("mappings")));
  if (params.has("period")) state.period_us = params.integer("period");
  return Json::Value(true);
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

Param percent(const char* name, const char* help) { return Param(name, ParamType::integer, help).range(0, 100); }

}  // namespace

void register_scheduler_methods(rpc::MethodTable& table, Runtime& runtime) {
  auto state = std::make_shared<SchedulerState>();
  auto monitor = std::make_shared<ContextSwitchMonitor>(runtime);
  table.add(Method("framework_get_scheduler", "Which scheduler places threads on reactors")
                .in_phase(rpc::Phase::always)
                .result("{scheduler_name, scheduler_period, isolated_core_mask, scheduling_core}")
                .handler([&runtime, state](const Params&) -> RpcResult<Json::Value> { return get_scheduler(runtime, *state); }));
  table.add(
      Method("framework_set_scheduler", "Chooses the scheduler that places threads on reactors")
          .in_phase(rpc::Phase::always)
          .with({Param("name", ParamType::string, "static: threads stay where they were made").required().one_of({"static", "dynamic", "gscheduler"}),
                 Param("period", ParamType::integer, "Microseconds between decisions; static takes none").range(1, max_period_us),
                 percent("load_limit", "Load of a thread in percent from which dynamic moves it; of no use to static"),
                 percent("core_limit", "Load of a core in percent from which dynamic takes it for full; of no use to static"),
                 percent("core_busy", "Load of a core in percent from which dynamic empties it; of no use to static"),
                 Param("mappings", ParamType::string, "thread:core pairs, separated by commas")})
          .mutates()
          .handler([state](const Params& params) { return set_scheduler(*state, params); }));
  table.add(Method("framework_get_governor", "What governs CPU frequencies: nothing here, so no governor_name")
                .result("{} without a governor, with a note for people")
                .handler([](const Params&) -> RpcResult<Json::Value> { return get_governor(); }));
  table.add(Method("framework_monitor_context_switch", "Logs context switches of reactors every second; says whether it does")
                .with({Param("enabled", ParamType::boolean, "Switch on or off; only asks when absent")})
                .result("{enabled}")
                .mutates()
                .handler([monitor](const Params& params) -> RpcResult<Json::Value> { return monitor_context_switch(*monitor, params); }));
}

}  // namespace catnap
