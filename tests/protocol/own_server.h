// A server of a test's own, with one namespace for any host, and what tests of load and of hostile hosts look at: fds, memory, log, counters.
// Owner: the test's thread. Left out: what is done to it.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {

inline constexpr const char* own_nqn = "nqn.2026-11.io.catnap:own";

class OwnServerTest : public testing::Test {
 protected:
  using Clock = std::chrono::steady_clock;

  void TearDown() override {
    if (HasFailure() && server_ != nullptr) {
      const std::string log = server_->log();
      printf("---- server log ----\n%s\n", log.substr(log.size() - std::min<std::size_t>(log.size(), 8000)).c_str());
    }
  }

  // `transport`: further parameters of nvmf_create_transport, such as ", \"pdu_timeout_ms\": 500".
  void start(const std::string& program, const std::string& transport = "", const std::vector<std::string>& arguments = {}) {
    port_ = free_port();
    std::vector<std::string> all{"-m", two_cpus()};
    all.insert(all.end(), arguments.begin(), arguments.end());
    auto started = ServerProcess::start(program, all);
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    const std::string subsystem = std::string(R"({"nqn": ")") + own_nqn + "\"";
    call("nvmf_create_transport", R"({"trtype": "TCP")" + transport + "}");
    call("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 65536, "block_size": 512})");
    call("bdev_null_create", R"({"name": "Null0", "num_blocks": 65536, "block_size": 512})");
    call("nvmf_create_subsystem", subsystem + R"(, "allow_any_host": true})");
    call("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"bdev_name": "Malloc0", "nsid": 1}})");
    call("nvmf_subsystem_add_listener", subsystem + R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                            std::to_string(port_) + R"("}})");
  }
  void call(const std::string& method, const std::string& params) {
    const auto answer = server_->rpc().call(method, json(params));
    ASSERT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
  }
  void hot_namespace(bool add) {
    const std::string subsystem = std::string(R"({"nqn": ")") + own_nqn + "\"";
    if (add) {
      call("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"bdev_name": "Null0", "nsid": 2}})");
    } else {
      call("nvmf_subsystem_remove_ns", subsystem + R"(, "nsid": 2})");
    }
  }

  using Host = HostQueues;
  Host connect(unsigned queues = 1, std::uint16_t entries = 32) const { return connect_host(port_, own_nqn, queues, entries); }
  static void expect_served(Connection& io, std::uint32_t seed, std::uint32_t bytes = 8192) {
    const Bytes expected = pattern(bytes, seed);
    EXPECT_TRUE(write(io, 16, expected).ok());
    const CommandResult back = read(io, 16, bytes);
    EXPECT_TRUE(back.ok());
    EXPECT_EQ(back.data, expected);
  }

  std::size_t open_fds() const {
    std::error_code error;
    const std::filesystem::directory_iterator entries("/proc/" + std::to_string(server_->pid()) + "/fd", error);
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
  }
  // The server comes to this by itself; there is nothing to wait on but the state.
  template <typename Condition>
  static bool wait_for(Condition condition) {
    const auto deadline = Clock::now() + patience;
    while (!condition()) {
      if (Clock::now() >= deadline) return false;
      ::poll(nullptr, 0, 10);
    }
    return true;
  }
  std::size_t wait_for_fds(std::size_t wanted) const {
    wait_for([&] { return open_fds() <= wanted; });
    return open_fds();
  }
  // A counter of nvmf_get_stats, summed over the poll groups: {"timed_out", "pdu"} or {"terminations_sent"}.
  std::uint64_t counter(const std::string& name, const std::string& member = "") {
    const auto stats = server_->rpc().call("nvmf_get_stats");
    if (!stats) return ~std::uint64_t{0};
    std::uint64_t sum = 0;
    for (const Json::Value& group : (*stats)["poll_groups"]) {
      for (const Json::Value& transport : group["transports"]) sum += (member.empty() ? transport[name] : transport[name][member]).asUInt64();
    }
    return sum;
  }
  static bool soak() { return std::getenv("CATNAP_SOAK") != nullptr; }
  // Sanitizers keep freed memory and shadow what is used: its size says nothing about us.
  static constexpr bool memory_is_ours() { return !is_sanitized; }
  static constexpr bool is_sanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
      true;
#elif defined(__has_feature)
      __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
      false;
#endif

  std::uint16_t port_ = 0;
  std::unique_ptr<ServerProcess> server_;
};

}  // namespace catnap::protocol
