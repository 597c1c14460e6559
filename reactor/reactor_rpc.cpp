// What the loops do with their time (reactor_rpc.h). Numbers of other OS threads are read as relaxed snapshots, so that a stuck reactor shows
// up in the answer instead of holding it up.
// Owner: app_thread. Left out: histories (callers take differences).
#include "reactor/reactor_rpc.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <sstream>

#include "reactor/context_switches.h"
#include "reactor/poller_rpc.h"
#include "reactor/scheduler_rpc.h"
#include "reactor/thread_rpc.h"
#include "reactor/wakeups_rpc.h"

namespace catnap {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

Json::Value number(std::uint64_t value) { return Json::Value(Json::UInt64(value)); }

// Times of one CPU since boot in USER_HZ units: the fields "user", "system" and "irq" + "softirq" of /proc/stat (proc(5)), as SPDK shows them.
struct CpuTimes {
  std::uint64_t user = 0, system = 0, irq = 0;
};

CpuTimes cpu_times(unsigned cpu) {
  std::ifstream stat("/proc/stat");
  const std::string label = fmt::format("cpu{}", cpu);
  for (std::string line; std::getline(stat, line);) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    if (name != label) continue;
    std::array<std::uint64_t, 7> fields{};  // user nice system idle iowait irq softirq
    for (std::uint64_t& field : fields) words >> field;
    return {fields[0], fields[2], fields[5] + fields[6]};
  }
  return {};
}

// A thread's idle time, with the sleep that its reactor is in: counters take that in only at its end, which may be hours away.
std::uint64_t idle_ns(const Thread& thread, const Thread::Stats& stats) {
  const Reactor* home = thread.reactor();
  return stats.idle_ns + (home != nullptr ? home->sleeping_for_ns() : 0);
}

Json::Value describe_thread(const Thread& thread) {
  const Thread::Stats stats = thread.stats();
  Json::Value entry(Json::objectValue);
  entry["name"] = thread.name();
  entry["id"] = number(thread.id());
  entry["cpumask"] = thread.cpumask().hex();
  entry["mode"] = std::string(thread_mode_name(thread.mode()));
  entry["elapsed"] = number(stats.busy_ns + idle_ns(thread, stats));
  return entry;
}

Json::Value describe_reactor(const Reactor& reactor) {
  const Reactor::Stats stats = reactor.stats();
  Json::Value entry(Json::objectValue);
  entry["name"] = reactor.name();
  entry["tid"] = reactor.os_thread_id();
  entry["busy"] = number(stats.busy_ns);
  entry["idle"] = number(stats.spin_ns + stats.sleep_ns);
  entry["in_interrupt"] = reactor.mode() != ReactorMode::poll;
  entry["mode"] = std::string(reactor_mode_name(reactor.mode()));
  entry["asleep"] = reactor.asleep();
  entry["awake_because"] = reactor.awake_because();
  entry["sleep_ns"] = number(stats.sleep_ns);
  entry["spin_us"] = number(stats.spin_ns / ns_per_us);
  entry["spin_budget_us"] = number(stats.spin_budget_ns / ns_per_us);
  entry["max_spin_us"] = number(reactor.max_spin_us());
  entry["spin_pays"] = stats.spin_pays;
  entry["spin_trials"] = number(stats.spin_trials);
  entry["turns"] = number(stats.turns);
  entry["sleeps"] = number(stats.sleeps);
  Json::Value wakeups(Json::objectValue);
  wakeups["fd"] = number(stats.wakeups_fd);
  wakeups["message"] = number(stats.wakeups_message);
  wakeups["timer"] = number(stats.wakeups_timer);
  wakeups["spurious"] = number(stats.wakeups_spurious);
  entry["wakeups"] = std::move(wakeups);
  const ContextSwitches switches = context_switches(reactor.os_thread_id());
  entry["context_switches"] = Json::Value(Json::objectValue);
  entry["context_switches"]["voluntary"] = number(switches.voluntary);
  entry["context_switches"]["involuntary"] = number(switches.involuntary);
  entry["stalls"] = number(stats.stalls);
  entry["last_stall"] = reactor.last_stall();
  entry["lw_threads"] = Json::Value(Json::arrayValue);
  for (const Thread* thread : reactor.threads()) entry["lw_threads"].append(describe_thread(*thread));
  return entry;
}

Json::Value get_reactors(Runtime& runtime) {
  const auto no_moves = Reactor::hold_moves();  // each thread stands in one list
  Json::Value reactors(Json::arrayValue);
  for (const Reactor* reactor : runtime.reactors()) {
    Json::Value entry = describe_reactor(*reactor);
    const CpuTimes times = cpu_times(reactor->lcore());
    entry["lcore"] = reactor->lcore();
    entry["usr"] = number(times.user);
    entry["sys"] = number(times.system);
    entry["irq"] = number(times.irq);
    reactors.append(std::move(entry));
  }
  Json::Value reply(Json::objectValue);
  reply["tick_rate"] = number(ns_per_s);
  reply["pid"] = ::getpid();
  reply["reactors"] = std::move(reactors);
  reply["control"] = describe_reactor(runtime.control());
  return reply;
}

Json::Value get_thread_stats(Runtime& runtime) {
  Json::Value threads(Json::arrayValue);
  for (const Thread* thread : runtime.threads()) {
    const Thread::Stats stats = thread->stats();
    const Thread::PollerCounts pollers = thread->poller_counts();
    Json::Value entry(Json::objectValue);
    entry["name"] = thread->name();
    entry["id"] = number(thread->id());
    entry["cpumask"] = thread->cpumask().hex();
    entry["mode"] = std::string(thread_mode_name(thread->mode()));
    entry["reactor"] = thread->reactor()->name();
    entry["busy"] = number(stats.busy_ns);
    entry["idle"] = number(idle_ns(*thread, stats));
    entry["active_pollers_count"] = pollers.active;
    entry["timed_pollers_count"] = pollers.timed;
    entry["paused_pollers_count"] = pollers.paused;
    entry["messages"] = number(stats.messages);
    entry["timers"] = number(stats.timers);
    entry["fd_events"] = number(stats.fd_events);
    threads.append(std::move(entry));
  }
  Json::Value reply(Json::objectValue);
  reply["tick_rate"] = number(ns_per_s);
  reply["threads"] = std::move(threads);
  reply["dropped_messages"] = number(Thread::dropped_messages());
  return reply;
}

RpcError no_reactor(std::uint64_t lcore) { return {-ENODEV, fmt::format("parameter 'lcore': no reactor runs on CPU {}", lcore)}; }

// The reactors that `lcore` names: all without it. Empty: there is none on that CPU.
std::vector<Reactor*> chosen(Runtime& runtime, const Params& params) {
  std::vector<Reactor*> list = runtime.reactors();
  if (params.has("lcore")) std::erase_if(list, [&](const Reactor* reactor) { return reactor->lcore() != params.integer("lcore"); });
  return list;
}

RpcResult<Json::Value> set_mode(Runtime& runtime, KeptSettings& kept, const Params& params, ReactorMode mode) {
  const auto reactors = chosen(runtime, params);
  if (reactors.empty()) return std::unexpected(no_reactor(params.integer("lcore")));
  for (Reactor* reactor : reactors) {
    reactor->set_mode(mode);
    if (params.boolean(rpc::persist_param_name)) kept.reactor_modes[reactor->lcore()] = mode;
  }
  return Json::Value(true);
}

RpcResult<Json::Value> set_named_mode(Runtime& runtime, KeptSettings& kept, const Params& params) {
  const auto mode = reactor_mode_from_name(params.string("mode"));
  if (!mode) return std::unexpected<RpcError>(std::in_place, rpc::internal_error, "a declared mode is unknown to the reactor");
  return set_mode(runtime, kept, params, *mode);
}

RpcResult<Json::Value> set_adaptive_options(Runtime& runtime, const Params& params) {
  const auto reactors = chosen(runtime, params);
  if (reactors.empty()) return std::unexpected(no_reactor(params.integer("lcore")));
  for (Reactor* reactor : reactors) reactor->set_max_spin_us(params.integer("max_spin_us"));
  return Json::Value(true);
}

Param lcore_param(const char* help) { return Param("lcore", ParamType::integer, help).range(0, CpuMask::max_cpus - 1); }

}  // namespace

void register_reactor_methods(rpc::MethodTable& table, Runtime& runtime, rpc::ConfigRegistry* registry) {
  const auto kept = std::make_shared<KeptSettings>();
  table.add(Method("framework_get_reactors", "Reactors, where their time goes, what wakes them, and the threads on them")
                .result("{tick_rate, pid, reactors: [{lcore, tid, busy, idle, irq, sys, in_interrupt, mode, awake_because, wakeups, "
                        "context_switches, stalls, lw_threads}], control}")
                .handler([&runtime](const Params&) -> RpcResult<Json::Value> { return get_reactors(runtime); }));
  table.add(Method("thread_get_stats", "Lightweight threads: time busy and idle in ticks, and their pollers by kind")
                .result("{tick_rate, threads: [{name, id, cpumask, mode, reactor, busy, idle, active_pollers_count, timed_pollers_count, "
                        "paused_pollers_count, messages, timers, fd_events}], dropped_messages: sent to threads that had ended}")
                .handler([&runtime](const Params&) -> RpcResult<Json::Value> { return get_thread_stats(runtime); }));
  table.add(
      Method("reactor_set_mode", "Changes how reactors wait for work, at once and under load")
          .with({Param("mode", ParamType::string, "adaptive: look for a self-tuned while, then sleep; interrupt: sleep at once; poll: never sleep")
                     .required()
                     .one_of({"adaptive", "interrupt", "poll"}),
                 lcore_param("CPU of the reactor to change; all when absent"), rpc::persist_param()})
          .mutates()
          .handler([&runtime, kept](const Params& params) { return set_named_mode(runtime, *kept, params); }));
  table.add(Method("reactor_set_interrupt_mode", "Puts one reactor into interrupt mode, or into poll mode")
                .with({lcore_param("CPU of the reactor to change").required(),
                       Param("disable_interrupt", ParamType::boolean, "true: poll; false: interrupt").required(), rpc::persist_param()})
                .mutates()
                .handler([&runtime, kept](const Params& params) {
                  return set_mode(runtime, *kept, params, params.boolean("disable_interrupt") ? ReactorMode::poll : ReactorMode::interrupt);
                }));
  table.add(Method("framework_set_adaptive_options", "Bounds how long adaptive reactors look for work before they sleep")
                .with({Param("max_spin_us", ParamType::integer, "Longest look in microseconds; 0: none, as in interrupt mode")
                           .required()
                           .range(0, Reactor::longest_max_spin_us),
                       lcore_param("CPU of the reactor to change; all when absent")})
                .mutates()
                .handler([&runtime](const Params& params) { return set_adaptive_options(runtime, params); }));
  register_wakeups_methods(table, runtime);
  register_poller_methods(table, runtime);
  register_thread_methods(table, runtime, kept);
  register_scheduler_methods(table, runtime, registry, kept);
}

}  // namespace catnap
