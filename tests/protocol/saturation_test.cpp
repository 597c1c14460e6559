// While hosts keep every reactor busy: each RPC is answered, and so is each keep-alive; how soon is printed. Then SIGTERM, under the same load.
// Owner: the test, which starts a server of its own for each case; each loading host is an OS thread. Left out: throughput (tests/bench).
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"
#include "transport/nvme/copy.h"

namespace catnap::protocol {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* nqn = "nqn.2026-11.io.catnap:saturated";
constexpr std::size_t depth = 16;
constexpr int hosts_per_reactor = 3;
// Much work for the server and none for the host, so that the reactor is what is busy.
constexpr std::uint32_t copied_blocks = 2048;
constexpr std::uint64_t namespace_blocks = 65536;
constexpr std::uint32_t keep_alive_ms = 120'000;  // what is asked is whether they are answered, not whether this test gets round in time

// From the lower half to the upper one.
nvme::SubmissionEntry copy_command() {
  auto sqe = io_command(nvme::IoOpcode::copy, namespace_blocks / 2, 1);
  sqe.cdw12 = 0U;  // one range
  return sqe;
}
nvme::CopyRange copy_source(std::uint64_t slba) {
  nvme::CopyRange range;
  range.slba = slba;
  range.nlb = static_cast<std::uint16_t>(copied_blocks - 1);
  return range;
}

bool soak() { return std::getenv("CATNAP_SOAK") != nullptr; }

// What this OS thread starts runs on the CPUs of `mask` until it goes away.
class OnCpus {
 public:
  explicit OnCpus(std::size_t count) {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t some;
    CPU_ZERO(&some);
    for (int cpu = 0; cpu < CPU_SETSIZE && count > 0; ++cpu) {
      if (!CPU_ISSET(cpu, &before_)) continue;
      CPU_SET(cpu, &some);
      --count;
    }
    sched_setaffinity(0, sizeof some, &some);
  }
  ~OnCpus() { sched_setaffinity(0, sizeof before_, &before_); }
  OnCpus(const OnCpus&) = delete;
  OnCpus& operator=(const OnCpus&) = delete;

 private:
  cpu_set_t before_{};
};

class Latencies {
 public:
  void add(Clock::time_point began) { all_.push_back(std::chrono::duration<double, std::milli>(Clock::now() - began).count()); }
  void print(const char* what) {
    std::ranges::sort(all_);
    if (all_.empty()) return;
    printf("  %s: %zu, median %.2f ms, p99 %.2f ms, worst %.2f ms\n", what, all_.size(), all_[all_.size() / 2], all_[all_.size() * 99 / 100],
           all_.back());
  }
  std::size_t count() const { return all_.size(); }

 private:
  std::vector<double> all_;
};

class SaturationTest : public testing::Test {
 protected:
  // The whole server, its control thread too, on so many CPUs, with a reactor on each.
  void start(std::size_t reactors) {
    reactors_ = reactors;
    port_ = free_port();
    {
      const OnCpus few(reactors);
      auto started = ServerProcess::start(CATNAP_SERVER, reactors > 1 ? std::vector<std::string>{"-m", two_cpus()} : std::vector<std::string>{});
      ASSERT_TRUE(started.has_value()) << started.error().message;
      server_ = std::move(*started);
    }
    const std::string subsystem = std::string(R"({"nqn": ")") + nqn + "\"";
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    call("bdev_malloc_create", R"({"name": "M", "num_blocks": 65536, "block_size": 512})");
    call("nvmf_create_subsystem", subsystem + R"(, "allow_any_host": true})");
    call("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"bdev_name": "M"}})");
    call("nvmf_subsystem_add_listener", subsystem + R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                            std::to_string(port_) + R"("}})");
  }
  void TearDown() override {
    end_load();
    if (HasFailure() && server_ != nullptr) printf("---- server log ----\n%s\n", server_->log().c_str());
  }

  Json::Value call(const std::string& method, const std::string& params = "") {
    const auto answer = server_->rpc().call(method, params.empty() ? Json::Value() : json(params));
    EXPECT_TRUE(answer.has_value()) << method << ": " << (answer ? "" : answer.error().message);
    return answer ? *answer : Json::Value();
  }

  Connection open_queue(std::uint16_t qid, std::uint16_t& cntlid, std::uint32_t kato_ms = 0) const {
    auto opened = Connection::open(port_);
    if (!opened) return {};
    const CommandResult connected =
        connect_queue(*opened, {.subnqn = nqn, .cntlid = qid == 0 ? nvme::cntlid_dynamic : cntlid, .qid = qid, .kato_ms = kato_ms});
    if (!connected.ok()) return {};
    if (qid == 0) {
      cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0} & 0xFFFF);
      if (!enable(*opened)) return {};
    }
    return std::move(*opened);
  }

  // Hosts that have `depth` reads, writes and copies outstanding all the time, until the connection or the test ends.
  void begin_load() {
    for (std::size_t i = 0; i < hosts_per_reactor * reactors_; ++i) {
      hosts_.emplace_back([this, i] { load(static_cast<std::uint32_t>(i)); });
    }
    const auto until = Clock::now() + patience;
    while (loading_ < hosts_.size() && Clock::now() < until) std::this_thread::yield();
    ASSERT_EQ(loading_, hosts_.size());
  }
  void load(std::uint32_t seed) {
    std::uint16_t cntlid = 0;
    Connection admin = open_queue(0, cntlid);
    Connection io = open_queue(1, cntlid);
    std::vector<std::uint16_t> outstanding;
    const auto submit = [&] {
      seed = seed * 1664525U + 1013904223U;
      const std::uint64_t slba = (seed >> 8) % (namespace_blocks - 64);
      switch (seed >> 30) {
        case 0:
          return outstanding.push_back(io.submit(io_command(nvme::IoOpcode::write, slba, 64), Payload::by_r2t(Bytes(std::size_t{64} * 512))));
        case 1:
          return outstanding.push_back(io.submit(io_command(nvme::IoOpcode::read, slba, 64), Payload::to_host(64 * 512)));
        default:
          return outstanding.push_back(
              io.submit(copy_command(), Payload::in_capsule(bytes_of(copy_source(slba % (namespace_blocks / 2 - copied_blocks))))));
      }
    };
    for (std::size_t i = 0; i < depth; ++i) submit();
    ++loading_;
    while (!ending_) {
      const CommandResult result = io.wait(outstanding.front());
      outstanding.erase(outstanding.begin());
      if (result.outcome == Outcome::closed) break;  // the server was told to end
      // What cannot end before the server does is aborted with its queue.
      const bool aborted = stopping_ && result.is(nvme::GenericStatus::aborted_sq_deletion);
      if (!result.ok() && !aborted && ++failed_ == 1) {
        printf("  first failure: status %#x, outcome %d %s\n", result.cqe.status_field(), static_cast<int>(result.outcome), result.note.c_str());
      }
      ++done_;
      submit();
    }
  }
  void end_load() {
    ending_ = true;
    for (auto& host : hosts_) host.join();
    hosts_.clear();
  }

  void expect_answers(int rounds) {
    // One queue of keep-alives for each reactor and more: queues are dealt out in turn.
    std::vector<Connection> quiet;
    std::uint16_t cntlid = 0;
    for (std::size_t i = 0; i < 2 * reactors_; ++i) quiet.push_back(open_queue(0, cntlid, keep_alive_ms));
    constexpr std::array methods{"framework_get_reactors", "bdev_get_bdevs", "nvmf_get_subsystems", "thread_get_stats", "spdk_get_version"};
    const auto before = call("framework_get_reactors")["reactors"];
    const auto began = Clock::now();
    const std::uint64_t done_before = done_;
    Latencies rpcs, keep_alives;
    int asked_rounds = 0;
    for (; asked_rounds < rounds || done_ == done_before; ++asked_rounds) {
      const int i = asked_rounds;
      for (const char* method : methods) {
        const auto asked = Clock::now();
        call(method);
        rpcs.add(asked);
      }
      const auto asked = Clock::now();
      const CommandResult alive = quiet[static_cast<std::size_t>(i) % quiet.size()].run(admin_command(nvme::AdminOpcode::keep_alive));
      ASSERT_TRUE(alive.ok()) << "keep-alive " << i << ": " << alive.note;
      keep_alives.add(asked);
    }
    const auto after = call("framework_get_reactors")["reactors"];
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    printf("%zu reactors, %.0f commands/s beside:\n", reactors_, static_cast<double>(done_ - done_before) / seconds);
    for (unsigned i = 0; i < after.size(); ++i) {
      const auto passed = [&](const char* key) { return after[i][key].asDouble() - before[i][key].asDouble(); };
      const double all = passed("busy") + passed("idle");
      printf("  reactor on CPU %u busy %.0f %%, stalls %.0f\n", after[i]["lcore"].asUInt(), all > 0 ? 100 * passed("busy") / all : 0,
             passed("stalls"));
    }
    rpcs.print("RPC");
    keep_alives.print("keep-alive");
    EXPECT_EQ(rpcs.count(), static_cast<std::size_t>(asked_rounds) * methods.size());
    EXPECT_GT(done_, done_before) << "the load went on";
    EXPECT_EQ(failed_, 0U);
  }

  std::unique_ptr<ServerProcess> server_;
  std::uint16_t port_ = 0;
  std::size_t reactors_ = 1;
  std::vector<std::thread> hosts_;
  std::atomic<std::size_t> loading_{0};
  std::atomic<std::uint64_t> done_{0}, failed_{0};
  std::atomic<bool> ending_{false}, stopping_{false};
};

constexpr int rounds_in_ci = 60;
constexpr int rounds_in_soak = 2'000;

TEST_F(SaturationTest, RpcsAndKeepAlivesAreAnsweredByOneReactorThatSharesItsCpuWithTheControlThread) {
  start(1);
  begin_load();
  expect_answers(soak() ? rounds_in_soak : rounds_in_ci);
}

TEST_F(SaturationTest, RpcsAndKeepAlivesAreAnsweredWithEveryReactorBusy) {
  start(2);
  begin_load();
  expect_answers(soak() ? rounds_in_soak : rounds_in_ci);
}

// Each end is clean: exit code 0 (a sanitizer's finding would be another), and either everything was finished, or the log says how much was not.
TEST_F(SaturationTest, SigtermUnderLoadDrainsOrSaysWhatItLeft) {
  const int ends = soak() ? 200 : 8;
  int drained = 0;
  double longest_ms = 0;
  for (int i = 0; i < ends; ++i) {
    ending_ = stopping_ = false;
    loading_ = 0;
    start(1 + static_cast<std::size_t>(i) % 2);
    begin_load();
    const auto began = Clock::now();
    stopping_ = true;
    ASSERT_EQ(server_->stop(), 0) << "end " << i << "\n" << server_->log();
    longest_ms = std::max(longest_ms, std::chrono::duration<double, std::milli>(Clock::now() - began).count());
    const std::string log = server_->log();
    if (log.find("the process ends without them") == std::string::npos) ++drained;
    EXPECT_NE(log.find("SIGTERM: ending"), std::string::npos);
    EXPECT_EQ(log.find("Sanitizer"), std::string::npos) << log;
    end_load();
    EXPECT_EQ(failed_, 0U) << "what was answered was answered well";
  }
  printf("%d ends under load: %d drained, %d aborted with their number said; longest %.0f ms\n", ends, drained, ends - drained, longest_ms);
}

}  // namespace
}  // namespace catnap::protocol
