// Listing and tuning of pollers (poller_rpc.h), each on the thread that owns it.
// Owner: app_thread. Left out: pausing by RPC.
#include "reactor/poller_rpc.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "reactor/ask_threads.h"

namespace catnap {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcResult;

// A poller with a shorter period would cost more in wake-ups than a busy one; one that runs less than once an hour serves nobody.
constexpr std::uint64_t min_period_us = 10;
constexpr std::uint64_t max_period_us = 3'600'000'000;

Json::Value number(std::uint64_t value) { return Json::Value(Json::UInt64(value)); }

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

Task<RpcResult<Json::Value>> get_pollers(Runtime* runtime) {
  std::function<Json::Value(Thread&)> ask = &describe_pollers;
  auto answers = co_await ask_threads<Json::Value>(runtime, ask);
  Json::Value reply(Json::objectValue);
  reply["tick_rate"] = number(ns_per_s);
  reply["threads"] = Json::Value(Json::arrayValue);
  for (auto& [id, entry] : answers.by_id) reply["threads"].append(std::move(entry));
  reply["unresponsive_threads"] = number(answers.silent_threads.size());
  co_return RpcResult<Json::Value>(std::move(reply));
}

// Which pollers a call means, and their new period.
struct Tuning {
  explicit Tuning(const Params& params)
      : by_id(params.has("id")),
        id(params.integer("id")),
        name(params.string("name")),
        thread(params.string("thread")),
        period_us(params.integer("period_us")) {}
  bool by_id;
  std::uint64_t id;
  std::string name;
  std::string thread;  // "": any
  std::uint64_t period_us;

  std::string text() const {
    const std::string which = by_id ? fmt::format("'id': no poller {}", id) : fmt::format("'name': no poller '{}'", name);
    return thread.empty() ? which : fmt::format("{} on thread '{}'", which, thread);
  }
};

// On the thread that owns them. Returns what was changed.
Json::Value tune(Thread& thread, const Tuning& tuning) {
  Json::Value changed(Json::arrayValue);
  if (!tuning.thread.empty() && tuning.thread != thread.name()) return changed;
  for (const Poller* listed : thread.pollers()) {
    if (tuning.by_id ? listed->id() != tuning.id : listed->name() != tuning.name) continue;
    Json::Value one(Json::objectValue);
    one["thread"] = thread.name();
    one["name"] = listed->name();
    one["id"] = number(listed->id());
    one["old_period_us"] = number(listed->period_us());
    one["period_us"] = number(tuning.period_us);
    thread.find_poller(listed->id())->set_period_us(tuning.period_us);
    changed.append(std::move(one));
  }
  return changed;
}

RpcResult<Json::Value> refused(int code, std::string message) { return RpcResult<Json::Value>(std::unexpect, code, std::move(message)); }

Task<RpcResult<Json::Value>> set_period(Runtime* runtime, Params params) {
  if (params.has("id") == params.has("name")) co_return refused(rpc::invalid_params, "Invalid parameters: give either 'id' or 'name'");
  const std::uint64_t period_us = params.integer("period_us");
  if (period_us == 0 && !params.boolean("allow_busy"))
    co_return refused(-EINVAL,
                      "parameter 'period_us': 0 lets the poller run without end and its reactor never sleep; say allow_busy: true if that is meant");
  if (period_us != 0 && period_us < min_period_us)
    co_return refused(-EINVAL, fmt::format("parameter 'period_us': {} is less than {}", period_us, min_period_us));
  const Tuning tuning(params);
  std::function<Json::Value(Thread&)> ask = [tuning](Thread& thread) { return tune(thread, tuning); };
  auto answers = co_await ask_threads<Json::Value>(runtime, ask);
  Json::Value changed(Json::arrayValue);
  for (const auto& [id, list] : answers.by_id) {
    for (const Json::Value& one : list) changed.append(one);
  }
  if (!changed.empty()) co_return RpcResult<Json::Value>(std::move(changed));
  if (answers.silent_threads.empty()) co_return refused(-ENODEV, "parameter " + tuning.text());
  std::string names;
  for (const std::string& name : answers.silent_threads) names += (names.empty() ? "" : ", ") + name;
  co_return refused(
      -ETIMEDOUT, fmt::format("parameter {} among the threads that answered; these did not, and nothing is changed there: {}", tuning.text(), names));
}

}  // namespace

void register_poller_methods(rpc::MethodTable& table, Runtime& runtime) {
  table.add(Method("thread_get_pollers", "Pollers of every thread; threads that do not answer within two seconds are counted instead")
                .result("{tick_rate, threads: [{name, id, active_pollers, timed_pollers, paused_pollers}], unresponsive_threads}")
                .coroutine([&runtime](const Params&) { return get_pollers(&runtime); }));
  table.add(Method("poller_set_period", "Changes how often pollers run")
                .with({Param("id", ParamType::integer, "Id of the poller, as thread_get_pollers shows it").range(1, UINT64_MAX),
                       Param("name", ParamType::string, "Name of the poller: all of that name are changed, where 'thread' does not choose"),
                       Param("thread", ParamType::string, "Name of the thread the poller is on; any when absent"),
                       Param("period_us", ParamType::integer, fmt::format("Period in microseconds, from {}; 0: busy", min_period_us))
                           .required()
                           .range(0, max_period_us),
                       Param("allow_busy", ParamType::boolean, "Period 0 is meant: the reactor will not sleep").or_default(false)})
                .result("[{thread, name, id, old_period_us, period_us}]")
                .mutates()
                .not_kept()  // a tuning by hand of what a restart makes anew
                .coroutine([&runtime](Params params) { return set_period(&runtime, std::move(params)); }));
}

}  // namespace catnap
