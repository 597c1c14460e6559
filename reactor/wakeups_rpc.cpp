// Who wakes a reactor (wakeups_rpc.h): counts by cause per reactor, and by name for everything that can wake it.
// Owner: app_thread. Left out: rates (callers take differences of two answers).
#include "reactor/wakeups_rpc.h"

#include <algorithm>
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

// Names in one answer without `limit`: more than a person reads, far less than a thousand connections' sockets.
constexpr unsigned default_limit = 32;
constexpr unsigned max_limit = 100'000;

struct Waker {
  Waker(std::string waker_name, const char* waker_kind, std::string thread_name, std::uint64_t events)
      : name(std::move(waker_name)), kind(waker_kind), thread(std::move(thread_name)), count(events) {}
  std::string name;
  const char* kind;
  std::string thread;  // "": the loop's own
  std::uint64_t count;
};

struct ThreadWakers {
  const Reactor* reactor = nullptr;
  std::vector<Waker> list;
};

// On the thread itself.
ThreadWakers wakers_of(Thread& thread) {
  ThreadWakers found;
  found.reactor = thread.reactor();
  const Thread::Stats stats = thread.stats();
  for (const FdGroup::Waker& fd : thread.fds().wakers()) found.list.emplace_back(fd.name, "fd", thread.name(), fd.events);
  for (const Poller* poller : thread.pollers()) found.list.emplace_back(poller->name(), "poller", thread.name(), poller->run_count());
  found.list.emplace_back("messages", "message", thread.name(), stats.messages);
  found.list.emplace_back("timers", "timer", thread.name(), stats.timers);
  return found;
}

// What belongs to a reactor whichever threads it has: the fds of the loop itself, and rings. On the loop's own thread.
ThreadWakers wakers_of_loop(Thread& loop) {
  ThreadWakers found;
  found.reactor = loop.reactor();
  for (const FdGroup::Waker& fd : loop.fds().wakers()) found.list.emplace_back(fd.name, "fd", "", fd.events);
  for (const FdGroup::Waker& fd : found.reactor->own_wakers()) found.list.emplace_back(fd.name, "fd", "", fd.events);
  return found;
}

Json::Value number(std::uint64_t value) { return Json::Value(Json::UInt64(value)); }

Json::Value describe(const Reactor& reactor, std::vector<Waker> wakers, std::size_t limit) {
  std::erase_if(wakers, [](const Waker& waker) { return waker.count == 0; });
  // Busiest first, then by name (std::stable_sort would serve too, but clang refuses what libstdc++ 12 does for it).
  std::ranges::sort(wakers, [](const Waker& a, const Waker& b) { return a.count != b.count ? a.count > b.count : a.name < b.name; });
  const Reactor::Stats stats = reactor.stats();
  Json::Value entry(Json::objectValue);
  entry["name"] = reactor.name();
  entry["mode"] = std::string(reactor_mode_name(reactor.mode()));
  entry["awake_because"] = reactor.awake_because();
  entry["sleeps"] = number(stats.sleeps);
  entry["fd"] = number(stats.wakeups_fd);
  entry["message"] = number(stats.wakeups_message);
  entry["timer"] = number(stats.wakeups_timer);
  entry["spurious"] = number(stats.wakeups_spurious);
  entry["wakers"] = Json::Value(Json::arrayValue);
  for (const Waker& waker : wakers) {
    if (entry["wakers"].size() == limit) break;
    Json::Value one(Json::objectValue);
    one["name"] = waker.name;
    one["kind"] = waker.kind;
    one["thread"] = waker.thread;
    one["count"] = number(waker.count);
    entry["wakers"].append(std::move(one));
  }
  entry["wakers_left_off"] = number(wakers.size() - entry["wakers"].size());
  return entry;
}

Task<RpcResult<Json::Value>> get_wakeups(Runtime* runtime, Params params) {
  const std::size_t limit = params.integer("limit");
  std::function<ThreadWakers(Thread&)> ask = [](Thread& thread) { return thread.id() == 0 ? wakers_of_loop(thread) : wakers_of(thread); };
  std::vector<Thread*> asked = runtime->threads();
  std::ranges::copy(runtime->loops(), std::back_inserter(asked));
  auto answers = co_await ask_threads<ThreadWakers>(asked, ask);
  const auto of = [&](const Reactor& reactor) {
    std::vector<Waker> wakers;
    for (const auto& [id, answer] : answers.by_id) {
      if (answer.reactor == &reactor) std::ranges::copy(answer.list, std::back_inserter(wakers));
    }
    for (const ThreadWakers& answer : answers.of_loops) {
      if (answer.reactor == &reactor) std::ranges::copy(answer.list, std::back_inserter(wakers));
    }
    return describe(reactor, std::move(wakers), limit);
  };
  Json::Value reply(Json::objectValue);
  reply["reactors"] = Json::Value(Json::arrayValue);
  for (const Reactor* reactor : runtime->reactors()) {
    Json::Value entry = of(*reactor);
    entry["lcore"] = reactor->lcore();
    reply["reactors"].append(std::move(entry));
  }
  reply["control"] = of(runtime->control());
  reply["unresponsive_threads"] = Json::Value(Json::arrayValue);
  for (const std::string& name : answers.silent_threads) reply["unresponsive_threads"].append(name);
  co_return RpcResult<Json::Value>(std::move(reply));
}

}  // namespace

void register_wakeups_methods(rpc::MethodTable& table, Runtime& runtime) {
  table.add(
      Method("reactor_get_wakeups",
             "Why reactors woke up: sleeps ended by cause, and what was handled since the start by name, most first. One wake-up may bring several "
             "events; timers are counted with those of timed pollers. Threads that do not answer within two seconds are named instead")
          .with({Param("limit", ParamType::integer, "Names per reactor").range(1, max_limit).or_default(default_limit)})
          .result(
              "{reactors: [{name, lcore, mode, awake_because, sleeps, fd, message, timer, spurious, wakers: [{name, kind: fd|poller|timer|message, "
              "thread, count}], wakers_left_off}], control, unresponsive_threads: [name]}")
          .coroutine([&runtime](Params params) { return get_wakeups(&runtime, std::move(params)); }));
}

}  // namespace catnap
