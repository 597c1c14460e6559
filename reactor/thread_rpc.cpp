// See thread_rpc.h. SPDK's names for thread_set_cpumask (schema/schema.yaml of SPDK 26.09-pre); thread_set_mode is ours.
// Owner: app_thread.
#include "reactor/thread_rpc.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace catnap {
namespace {

using rpc::Method;
using rpc::Param;
using rpc::Params;
using rpc::ParamType;
using rpc::RpcError;
using rpc::RpcResult;

RpcError invalid(std::string text) { return {-EINVAL, std::move(text)}; }

// The threads that the parameters `id` or `name` name: at least one.
RpcResult<std::vector<Thread*>> named_threads(const Runtime& runtime, const Params& params) {
  if (params.has("id") == params.has("name"))
    return std::unexpected<RpcError>(std::in_place, rpc::invalid_params, "Invalid parameters: 'id' and 'name': give one of them, and only one");
  auto threads = runtime.threads();
  std::erase_if(threads, [&](const Thread* thread) {
    return params.has("id") ? thread->id() != params.integer("id") : thread->name() != params.string("name");
  });
  if (!threads.empty()) return threads;
  const std::string which = params.has("id") ? fmt::format("'id': there is no thread {}", static_cast<std::int64_t>(params.integer("id")))
                                             : fmt::format("'name': there is no thread '{}'", params.string("name"));
  return std::unexpected<RpcError>(std::in_place, -ESRCH, "parameter " + which);
}

// Where a thread goes that may no longer be where it is: the reactor with the fewest threads, of those the first.
Reactor* emptiest_reactor(const Runtime& runtime, const CpuMask& mask) {
  Reactor* best = nullptr;
  std::size_t fewest = 0;
  for (Reactor* reactor : runtime.reactors()) {
    const std::size_t threads = reactor->threads().size();
    if (!mask.has(reactor->lcore()) || (best != nullptr && threads >= fewest)) continue;
    best = reactor;
    fewest = threads;
  }
  return best;
}

CpuMask reactor_cpus(const Runtime& runtime) {
  CpuMask mask;
  for (const Reactor* reactor : runtime.reactors()) mask.set(reactor->lcore());
  return mask;
}

Task<RpcResult<Json::Value>> set_cpumask(Runtime* runtime, std::shared_ptr<KeptSettings> kept, Params params) {
  const auto threads = named_threads(*runtime, params);
  if (!threads) co_return std::unexpected(threads.error());
  const std::string text = params.string("cpumask");
  const auto mask = CpuMask::parse(text);
  if (!mask) co_return std::unexpected(invalid(fmt::format("parameter 'cpumask': {}", mask.error().message)));
  for (const Thread* thread : *threads) {
    if (thread->reactor() == &runtime->control())
      co_return std::unexpected(invalid(fmt::format("parameter '{}': thread {} ('{}') runs on the control thread, which is not bound to CPUs",
                                                    params.has("id") ? "id" : "name", thread->id(), thread->name())));
  }
  if (emptiest_reactor(*runtime, *mask) == nullptr)
    co_return std::unexpected(
        invalid(fmt::format("parameter 'cpumask': '{}' has no CPU with a reactor (they run on 0x{})", text, reactor_cpus(*runtime).hex())));
  for (Thread* const thread : *threads) {
    thread->set_cpumask(*mask);
    kept->cpumasks[thread->name()] = *mask;
    const auto home = kept->homes.find(thread->name());
    if (home != kept->homes.end() && !mask->has(home->second)) kept->homes.erase(home);
    thread->reactor()->placement_changed();
    if (mask->has(thread->reactor()->lcore())) continue;
    Reactor* const target = emptiest_reactor(*runtime, *mask);
    Result<void> moved = co_await move_thread(thread, target);
    if (!moved) co_return std::unexpected<RpcError>(std::in_place, moved.error());
  }
  co_return RpcResult<Json::Value>(Json::Value(true));
}

RpcResult<Json::Value> set_mode(const Runtime& runtime, KeptSettings& kept, const Params& params) {
  const auto mode = thread_mode_from_name(params.string("mode"));
  if (!mode) return std::unexpected<RpcError>(std::in_place, rpc::internal_error, "a declared mode is unknown to the reactor");
  const auto threads = named_threads(runtime, params);
  if (!threads) return std::unexpected(threads.error());
  for (const Thread* thread : *threads) {
    if (thread->reactor() == &runtime.control() && *mode != ThreadMode::inherit)
      return std::unexpected(
          invalid(fmt::format("parameter 'mode': thread '{}' runs on the control thread, which is always in interrupt mode", thread->name())));
  }
  for (Thread* thread : *threads) {
    thread->set_mode(*mode);
    if (params.boolean(rpc::persist_param_name)) kept.thread_modes[thread->name()] = *mode;
  }
  return Json::Value(true);
}

void add_call(Json::Value& calls, const char* method, Json::Value params) {
  Json::Value call(Json::objectValue);
  call["method"] = method;
  call["params"] = std::move(params);
  calls.append(std::move(call));
}

}  // namespace

Task<Result<void>> move_thread(Thread* thread, Reactor* target) {
  Promise<Result<void>> there;
  Reactor::move(*thread, *target, [there](Result<void> outcome) { there.set(std::move(outcome)); });
  Result<void> outcome = co_await there;
  co_return outcome;
}

namespace {

// What is kept first, then what is in force, where that is something else.
void add_reactor_calls(Json::Value& calls, const Reactor& reactor, const KeptSettings& kept) {
  const auto add_mode = [&](ReactorMode mode, bool persist) {
    Json::Value params(Json::objectValue);
    params["mode"] = std::string(reactor_mode_name(mode));
    params["lcore"] = reactor.lcore();
    if (persist) params[rpc::persist_param_name] = true;
    add_call(calls, "reactor_set_mode", std::move(params));
  };
  ReactorMode begins_with = reactor.options().mode;
  if (const auto found = kept.reactor_modes.find(reactor.lcore()); found != kept.reactor_modes.end()) {
    add_mode(found->second, true);
    begins_with = found->second;
  }
  if (reactor.mode() != begins_with) add_mode(reactor.mode(), false);
  if (reactor.max_spin_us() == reactor.options().max_spin_us) return;
  Json::Value params(Json::objectValue);
  params["max_spin_us"] = Json::UInt64(reactor.max_spin_us());
  params["lcore"] = reactor.lcore();
  add_call(calls, "framework_set_adaptive_options", std::move(params));
}

void add_thread_calls(Json::Value& calls, const Thread& thread, const KeptSettings& kept) {
  Json::Value named(Json::objectValue);
  named["name"] = thread.name();  // ids are new after each start
  const auto add_mode = [&](ThreadMode mode, bool persist) {
    Json::Value params = named;
    params["mode"] = std::string(thread_mode_name(mode));
    if (persist) params[rpc::persist_param_name] = true;
    add_call(calls, "thread_set_mode", std::move(params));
  };
  if (const auto mask = kept.cpumasks.find(thread.name()); mask != kept.cpumasks.end()) {
    Json::Value params = named;
    params["cpumask"] = mask->second.hex();
    add_call(calls, "thread_set_cpumask", std::move(params));
  }
  ThreadMode begins_with = ThreadMode::inherit;
  if (const auto found = kept.thread_modes.find(thread.name()); found != kept.thread_modes.end()) {
    if (found->second != begins_with) add_mode(found->second, true);
    begins_with = found->second;
  }
  if (thread.mode() != begins_with) add_mode(thread.mode(), false);
}

}  // namespace

Json::Value thread_config_calls(const Runtime& runtime, const KeptSettings& kept) {
  Json::Value calls(Json::arrayValue);
  for (const Reactor* reactor : runtime.reactors()) add_reactor_calls(calls, *reactor, kept);
  for (const Thread* thread : runtime.threads()) add_thread_calls(calls, *thread, kept);
  return calls;
}

void register_thread_methods(rpc::MethodTable& table, Runtime& runtime, std::shared_ptr<KeptSettings> kept) {
  table.add(
      Method("thread_set_cpumask", "Sets on which CPUs a thread may run, and moves it there at once, with its live connections, if it is elsewhere")
          .with({Param("id", ParamType::integer, "Id of the thread, as thread_get_stats shows it"),
                 Param("name", ParamType::string, "Name of the thread, or of several, instead of the id"),
                 Param("cpumask", ParamType::string, "CPUs: \"0x3\" or \"[0,1]\"; at least one must have a reactor").required()})
          .mutates()
          .coroutine([&runtime, kept](Params params) { return set_cpumask(&runtime, kept, std::move(params)); }));
  table.add(
      Method("thread_set_mode", "Changes how a thread's reactor waits for its sake, at once and under load")
          .with(
              {Param(
                   "mode", ParamType::string,
                   "inherit: as its reactor; poll: the reactor never sleeps while it has this thread; interrupt: its events do not make the reactor "
                   "look for more; adaptive: they do, also in interrupt mode")
                   .required()
                   .one_of({"inherit", "poll", "interrupt", "adaptive"}),
               Param("id", ParamType::integer, "Id of the thread"), Param("name", ParamType::string, "Name of the thread, or of several"),
               rpc::persist_param()})
          .mutates()
          .handler([&runtime, kept](const Params& params) { return set_mode(runtime, *kept, params); }));
}

}  // namespace catnap
