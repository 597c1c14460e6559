// What the loop's own steps cost: a message there and back, a wake-up, an empty turn, a timer, an fd. Google Benchmark prints them.
// Owner: the main thread; benchmarks with two sides start an OS thread each. Left out: commands of hosts (catnap-perf), bdevs (layer_bench.cpp).
//
//   reactor-bench [--benchmark_filter=REGEX]     and for instruction counts that repeat:
//   valgrind --tool=callgrind --toggle-collect='*turn*' reactor-bench --benchmark_filter=EmptyTurn
#include <benchmark/benchmark.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "reactor/base/check.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"

namespace catnap::bench {
namespace {

ReactorOptions options(const char* name, ReactorMode mode) {
  ReactorOptions chosen;
  chosen.name = name;
  chosen.mode = mode;
  return chosen;
}

// A reactor of the calling OS thread with one thread on it.
struct Local {
  explicit Local(ReactorMode mode = ReactorMode::interrupt) : reactor(options("bench", mode)) {
    auto made = std::make_unique<Thread>("bench", CpuMask::of_cpu(0));
    thread = made.get();
    reactor.adopt(std::move(made));
    while (reactor.turn(0) > 0) {
    }
  }
  Reactor reactor;
  Thread* thread;
};

// The same on an OS thread of its own, until the end of its scope.
struct Remote {
  explicit Remote(ReactorMode mode) : reactor(options("remote", mode)) {
    auto made = std::make_unique<Thread>("remote", CpuMask::of_cpu(0));
    thread = made.get();
    reactor.adopt(std::move(made));
    os_thread = std::thread([this] { reactor.run(); });
  }
  ~Remote() {
    thread->request_exit();
    reactor.request_stop();
    os_thread.join();
  }
  Remote(const Remote&) = delete;
  Remote& operator=(const Remote&) = delete;
  // Its reactor has been in the same wait twice, so it sleeps and does not merely begin to.
  void wait_until_asleep() const {
    while (!reactor.asleep() || reactor.sleeping_for_ns() < 20'000) std::this_thread::yield();
  }
  Reactor reactor;
  Thread* thread;
  std::thread os_thread;
};

void EmptyTurn(benchmark::State& state) {
  Local local;
  for (auto _ : state) local.reactor.turn(0);
}
BENCHMARK(EmptyTurn);

void EmptyTurnWith8Threads(benchmark::State& state) {
  Local local;
  for (int i = 0; i < 7; ++i) local.reactor.adopt(std::make_unique<Thread>("more", CpuMask::of_cpu(0)));
  for (auto _ : state) local.reactor.turn(0);
}
BENCHMARK(EmptyTurnWith8Threads);

void MessageToOneself(benchmark::State& state) {
  Local local;
  std::uint64_t ran = 0;
  for (auto _ : state) {
    local.thread->send([&ran] { ++ran; });
    local.reactor.turn(0);
  }
  CATNAP_CHECK(ran == static_cast<std::uint64_t>(state.iterations()));
}
BENCHMARK(MessageToOneself);

// 64 messages in a turn: what one more costs.
void MessagesBatched(benchmark::State& state) {
  Local local;
  std::uint64_t ran = 0;
  for (auto _ : state) {
    for (int i = 0; i < 64; ++i) local.thread->send([&ran] { ++ran; });
    local.reactor.turn(0);
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(ran));
}
BENCHMARK(MessagesBatched);

// To a reactor on another OS thread and back, one after the other; the caller looks for the answer without sleeping.
void message_round_trip(benchmark::State& state, ReactorMode mode) {
  Remote remote(mode);
  std::atomic<std::uint64_t> answered{0};
  std::uint64_t asked = 0;
  for (auto _ : state) {
    remote.thread->send([&answered] { answered.fetch_add(1, std::memory_order_release); });
    ++asked;
    while (answered.load(std::memory_order_acquire) != asked) std::this_thread::yield();
  }
}
BENCHMARK_CAPTURE(message_round_trip, interrupt, ReactorMode::interrupt)->UseRealTime();
BENCHMARK_CAPTURE(message_round_trip, adaptive, ReactorMode::adaptive)->UseRealTime();
BENCHMARK_CAPTURE(message_round_trip, poll, ReactorMode::poll)->UseRealTime();

// From send() to the first line of the message, at a reactor that was fast asleep.
void WakeUpOfASleeper(benchmark::State& state) {
  Remote remote(ReactorMode::interrupt);
  std::atomic<std::uint64_t> ran_ns{0};
  for (auto _ : state) {
    remote.wait_until_asleep();
    ran_ns.store(0);
    const std::uint64_t sent_ns = system_clock().now_ns();
    remote.thread->send([&ran_ns] { ran_ns.store(system_clock().now_ns(), std::memory_order_release); });
    while (ran_ns.load(std::memory_order_acquire) == 0) std::this_thread::yield();
    state.SetIterationTime(static_cast<double>(ran_ns.load() - sent_ns) / 1e9);
  }
}
BENCHMARK(WakeUpOfASleeper)->UseManualTime();

void TimerArmAndDisarm(benchmark::State& state) {
  Local local;
  std::vector<std::unique_ptr<Timer>> others;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    others.push_back(std::make_unique<Timer>([] {}));
    local.thread->arm_in_us(*others.back(), 1'000'000'000 + static_cast<std::uint64_t>(i * 7919 % 1000));
  }
  Timer timer([] {});
  for (auto _ : state) {
    local.thread->arm_in_us(timer, 500'000'000);
    timer.disarm();
  }
}
BENCHMARK(TimerArmAndDisarm)->Arg(0)->Arg(1000);

void TimerArmAndFire(benchmark::State& state) {
  Local local;
  std::uint64_t fired = 0;
  Timer timer([&fired] { ++fired; });
  for (auto _ : state) {
    local.thread->arm_in_us(timer, 0);
    local.reactor.turn(0);
  }
  CATNAP_CHECK(fired > 0);
}
BENCHMARK(TimerArmAndFire);

// An eventfd is written, found by epoll, drained and its callback called; with so many others in the set that are silent.
void FdDispatch(benchmark::State& state) {
  Local local;
  std::vector<int> fds;
  std::uint64_t called = 0;
  for (std::int64_t i = 0; i <= state.range(0); ++i) {
    fds.push_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    CATNAP_CHECK(fds.back() >= 0);
    CATNAP_CHECK(local.thread->fds().add(fds.back(), EPOLLIN, "bench", [&called](std::uint32_t) { ++called; }, FdKind::eventfd).has_value());
  }
  const std::uint64_t one = 1;
  for (auto _ : state) {
    CATNAP_CHECK(write(fds.front(), &one, sizeof one) == sizeof one);
    local.reactor.turn(0);
  }
  CATNAP_CHECK(called == static_cast<std::uint64_t>(state.iterations()));
  for (const int fd : fds) {
    (void)local.thread->fds().remove(fd);
    close(fd);
  }
}
BENCHMARK(FdDispatch)->Arg(0)->Arg(500);

void ReadyWork(benchmark::State& state) {
  Local local;
  std::uint64_t ran = 0;
  Deferred entry([&ran] { ++ran; });
  for (auto _ : state) {
    local.thread->make_ready(entry);
    local.reactor.turn(0);
  }
  CATNAP_CHECK(ran == static_cast<std::uint64_t>(state.iterations()));
}
BENCHMARK(ReadyWork);

}  // namespace
}  // namespace catnap::bench

BENCHMARK_MAIN();
