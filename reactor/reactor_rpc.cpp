// What the loops do with their time (reactor_rpc.h). Numbers of other OS threads are read as relaxed snapshots, so that a stuck reactor shows
// up in the answer instead of holding it up.
// Owner: app_thread. Left out: histories (callers take differences).
#include "reactor/reactor_rpc.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>

#include "reactor/task.h"
#include "reactor/timer.h"

namespace catnap {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

// How long thread_get_pollers waits for threads to list theirs: far above a turn that does not block, far below any caller's patience.
constexpr std::uint64_t poller_answer_us = 500'000;

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
  entry["turns"] = number(stats.turns);
  entry["sleeps"] = number(stats.sleeps);
  Json::Value wakeups(Json::objectValue);
  wakeups["fd"] = number(stats.wakeups_fd);
  wakeups["message"] = number(stats.wakeups_message);
  wakeups["timer"] = number(stats.wakeups_timer);
  wakeups["spurious"] = number(stats.wakeups_spurious);
  entry["wakeups"] = std::move(wakeups);
  entry["lw_threads"] = Json::Value(Json::arrayValue);
  for (const Thread* thread : reactor.threads()) entry["lw_threads"].append(describe_thread(*thread));
  return entry;
}

Json::Value get_reactors(Runtime& runtime) {
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
  return reply;
}

// On the thread that owns them: a poller's counters are its own.
Json::Value describe_pollers(const Thread& thread) {
  Json::Value entry(Json::objectValue);
  entry["name"] = thread.name();
  entry["id"] = number(thread.id());
  for (const char* list : {"active_pollers", "timed_pollers", "paused_pollers"}) entry[list] = Json::Value(Json::arrayValue);
  for (const Poller* poller : thread.pollers()) {
    Json::Value one(Json::objectValue);
    one["name"] = poller->name();
    one["id"] = number(poller->id());
    one["state"] = poller->paused() ? "paused" : "waiting";
    one["run_count"] = number(poller->run_count());
    one["busy_count"] = number(poller->busy_count());
    if (poller->period_us() > 0) one["period_ticks"] = number(poller->period_us() * ns_per_us);
    entry[poller->paused() ? "paused_pollers" : poller->period_us() == 0 ? "active_pollers" : "timed_pollers"].append(std::move(one));
  }
  return entry;
}

// Answers of all threads, or of those that answered in time.
struct PollerLists {
  std::map<std::uint64_t, Json::Value> by_id;
  std::size_t asked = 0;
  bool over = false;
  Promise<bool> done;

  void end() {
    if (!std::exchange(over, true)) done.set(true);
  }
};

Task<RpcResult<Json::Value>> get_pollers(Runtime* runtime) {
  auto lists = std::make_shared<PollerLists>();
  Thread* home = Thread::current();
  const std::vector<Thread*> threads = runtime->threads();
  lists->asked = threads.size();
  for (Thread* thread : threads) {
    thread->send([lists, thread, home] {
      home->send([lists, id = thread->id(), entry = describe_pollers(*thread)]() mutable {
        lists->by_id.emplace(id, std::move(entry));
        if (lists->by_id.size() == lists->asked) lists->end();
      });
    });
  }
  Timer patience([lists] { lists->end(); });
  home->arm_in_us(patience, poller_answer_us);
  const bool ended = co_await lists->done;
  static_cast<void>(ended);
  Json::Value answered(Json::arrayValue);
  for (auto& [id, entry] : lists->by_id) answered.append(entry);
  Json::Value reply(Json::objectValue);
  reply["tick_rate"] = number(ns_per_s);
  reply["threads"] = std::move(answered);
  reply["unresponsive_threads"] = number(lists->asked - lists->by_id.size());
  co_return RpcResult<Json::Value>(std::move(reply));
}

RpcResult<Json::Value> set_mode(Runtime& runtime, const Params& params) {
  const auto mode = reactor_mode_from_name(params.string("mode"));
  if (!mode) return std::unexpected<RpcError>(std::in_place, rpc::internal_error, "a declared mode is unknown to the reactor");
  bool found = false;
  for (Reactor* reactor : runtime.reactors()) {
    if (params.has("lcore") && reactor->lcore() != params.integer("lcore")) continue;
    reactor->set_mode(*mode);
    found = true;
  }
  if (found) return Json::Value(true);
  return std::unexpected<RpcError>(std::in_place, -ENODEV, fmt::format("parameter 'lcore': no reactor runs on CPU {}", params.integer("lcore")));
}

}  // namespace

void register_reactor_methods(rpc::MethodTable& table, Runtime& runtime) {
  table.add(
      Method("framework_get_reactors", "Reactors, where their time goes, what wakes them, and the threads on them")
          .result("{tick_rate, pid, reactors: [{lcore, tid, busy, idle, irq, sys, in_interrupt, mode, awake_because, wakeups, lw_threads}], control}")
          .handler([&runtime](const Params&) -> RpcResult<Json::Value> { return get_reactors(runtime); }));
  table.add(Method("thread_get_stats", "Lightweight threads: time busy and idle in ticks, and their pollers by kind")
                .result("{tick_rate, threads: [{name, id, cpumask, busy, idle, active_pollers_count, timed_pollers_count, paused_pollers_count}]}")
                .handler([&runtime](const Params&) -> RpcResult<Json::Value> { return get_thread_stats(runtime); }));
  table.add(Method("thread_get_pollers", "Pollers of every thread; threads that do not answer within half a second are counted instead")
                .result("{tick_rate, threads: [{name, id, active_pollers, timed_pollers, paused_pollers}], unresponsive_threads}")
                .coroutine([&runtime](const Params&) { return get_pollers(&runtime); }));
  table.add(
      Method("reactor_set_mode", "Changes how reactors wait for work, at once and under load")
          .with({Param("mode", ParamType::string, "adaptive: look for a self-tuned while, then sleep; interrupt: sleep at once; poll: never sleep")
                     .required()
                     .one_of({"adaptive", "interrupt", "poll"}),
                 Param("lcore", ParamType::integer, "CPU of the reactor to change; all when absent").range(0, CpuMask::max_cpus - 1)})
          .mutates()
          .handler([&runtime](const Params& params) { return set_mode(runtime, params); }));
}

}  // namespace catnap
