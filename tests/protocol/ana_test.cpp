// ANA over real connections (NVMe Base 2.0, section 8.1): states by RPC under I/O, two listeners, saved configuration, errors of the methods.
// Owner: the test. Left out: every command in every state (tests/unit/server/ana_test.cpp), a host that switches paths (tests/e2e).
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {
namespace {

constexpr const char* nqn = "nqn.2026-11.io.catnap:ana";

class AnaProtocolTest : public testing::Test {
 protected:
  void SetUp() override {
    auto started = ServerProcess::start(CATNAP_SERVER, {"-m", two_cpus()});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    ports_[0] = free_port();
    do ports_[1] = free_port();
    while (ports_[1] == ports_[0]);
    must_call("nvmf_create_transport", R"({"trtype": "TCP"})");
    must_call("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 65536, "block_size": 512})");
    must_call("bdev_malloc_create", R"({"name": "Malloc1", "num_blocks": 65536, "block_size": 512})");
    must_call("nvmf_create_subsystem", "{" + subsystem() + R"(, "allow_any_host": true, "ana_reporting": true, "max_namespaces": 8})");
    must_call("nvmf_subsystem_add_ns", "{" + subsystem() + R"(, "namespace": {"bdev_name": "Malloc0", "nsid": 1}})");
    must_call("nvmf_subsystem_add_ns", "{" + subsystem() + R"(, "namespace": {"bdev_name": "Malloc1", "nsid": 2, "anagrpid": 2}})");
    must_call("nvmf_subsystem_add_listener", "{" + subsystem() + ", " + address(0) + "}");
    must_call("nvmf_subsystem_add_listener", "{" + subsystem() + ", " + address(1) + R"(, "ana_state": "non_optimized"})");
  }
  void TearDown() override {
    if (server_ != nullptr) {
      EXPECT_EQ(server_->stop(), 0) << server_->log();
    }
  }

  static std::string subsystem() { return std::string(R"("nqn": ")") + nqn + "\""; }
  std::string address(int path) const {
    return R"("listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(ports_[path]) + "\"}";
  }
  Result<Json::Value> call(const std::string& method, const std::string& params) { return server_->rpc().call(method, json(params)); }
  Json::Value must_call(const std::string& method, const std::string& params) {
    const auto answer = call(method, params);
    EXPECT_TRUE(answer.has_value()) << method << ": " << (answer ? "" : answer.error().message);
    return answer ? *answer : Json::Value();
  }
  Result<Json::Value> set_state(int path, const std::string& state, int group = 0) {
    return call("nvmf_subsystem_listener_set_ana_state", "{" + subsystem() + ", " + address(path) + R"(, "ana_state": ")" + state + "\"" +
                                                             (group == 0 ? "" : R"(, "anagrpid": )" + std::to_string(group)) + "}");
  }
  struct Host {
    Connection admin, io;
  };
  Connection open_queue(int path, std::uint16_t qid, std::uint16_t cntlid, std::uint16_t* granted = nullptr) {
    auto opened = Connection::open(ports_[path]);
    EXPECT_TRUE(opened.has_value());
    if (!opened) return {};
    const CommandResult connected = connect_queue(*opened, {.subnqn = nqn, .cntlid = cntlid, .qid = qid});
    EXPECT_TRUE(connected.ok());
    if (granted != nullptr) *granted = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0} & 0xFFFF);
    return std::move(*opened);
  }
  Host connect_host(int path) {
    Host host;
    std::uint16_t cntlid = 0;
    host.admin = open_queue(path, 0, nvme::cntlid_dynamic, &cntlid);
    EXPECT_TRUE(enable(host.admin));
    host.io = open_queue(path, 1, cntlid);
    return host;
  }
  struct LogStart {
    nvme::AnaHeader header;
    nvme::AnaGroup first;
    le32 first_nsid;
    nvme::AnaGroup second;
    le32 second_nsid;
  };
  static LogStart log_of(Host& host) {
    return data_as<LogStart>(get_log(host.admin, {.page = nvme::LogPage::ana, .length_bytes = sizeof(LogStart)}));
  }

  std::unique_ptr<ServerProcess> server_;
  std::uint16_t ports_[2] = {};
};

TEST_F(AnaProtocolTest, EachListenerHasStatesOfItsOwn) {
  Host first = connect_host(0), second = connect_host(1);
  EXPECT_EQ(log_of(first).first.state, 1);
  EXPECT_EQ(log_of(second).first.state, 2);
  ASSERT_TRUE(set_state(0, "inaccessible", 2).has_value());
  EXPECT_EQ(log_of(first).second.state, 3);
  EXPECT_EQ(log_of(first).first.state, 1);
  EXPECT_EQ(log_of(second).second.state, 2);
  EXPECT_TRUE(read(first.io, 0, 512, 1).ok());
  EXPECT_TRUE(read(first.io, 0, 512, 2).is(nvme::PathStatus::ana_inaccessible));
  EXPECT_TRUE(read(second.io, 0, 512, 2).ok());
  const Json::Value listeners = must_call("nvmf_subsystem_get_listeners", "{" + subsystem() + "}");
  ASSERT_EQ(listeners[0]["ana_states"].size(), 8U);
  EXPECT_EQ(listeners[0]["ana_states"][1]["ana_group"].asUInt(), 2U);
  EXPECT_EQ(listeners[0]["ana_states"][1]["ana_state"].asString(), "inaccessible");
  EXPECT_EQ(listeners[1]["ana_states"][1]["ana_state"].asString(), "non_optimized");
  const Json::Value shown = must_call("nvmf_get_subsystems", "{" + subsystem() + "}")[0]["ana_states"];
  ASSERT_EQ(shown.size(), 2U);
  ASSERT_EQ(shown[0]["ana_states"].size(), 2U) << "groups that have namespaces";
  EXPECT_EQ(shown[0]["ana_states"][1]["ana_state"].asString(), "inaccessible");
  EXPECT_EQ(shown[1]["address"]["trsvcid"].asString(), std::to_string(ports_[1]));
}

// Proves: ana | States | Base 8.1.3
TEST_F(AnaProtocolTest, FiveStatesByRpc) {
  Host host = connect_host(0);
  const std::pair<const char*, nvme::Status> states[] = {{"inaccessible", nvme::PathStatus::ana_inaccessible},
                                                         {"persistent_loss", nvme::PathStatus::ana_persistent_loss},
                                                         {"change", nvme::PathStatus::ana_transition},
                                                         {"non_optimized", nvme::Status()},
                                                         {"optimized", nvme::Status()}};
  for (const auto& [name, status] : states) {
    ASSERT_TRUE(set_state(0, name).has_value());
    const CommandResult result = read(host.io, 0, 512, 1);
    EXPECT_TRUE(result.is(status)) << name;
    EXPECT_FALSE(result.status.dnr);
  }
}

// Proves: ana | States | Base 8.1.3
TEST_F(AnaProtocolTest, AHundredChangesUnderIo) {
  Host host = connect_host(0);
  const std::uint64_t base = log_of(host).header.chgcnt;
  const std::uint64_t other_base = log_of(host).first.chgcnt;
  std::atomic<bool> stop{false};
  std::atomic<unsigned> good{0}, refused{0}, strange{0};
  std::thread reader([&] {
    while (!stop.load()) {
      const CommandResult result = read(host.io, 0, 4096, 2);
      if (result.ok()) {
        ++good;
      } else if (result.is(nvme::PathStatus::ana_inaccessible)) {
        ++refused;
      } else {
        ++strange;
        break;
      }
    }
  });
  for (int i = 0; i < 100; ++i) {
    const bool serves = i % 2 == 1;
    ASSERT_TRUE(set_state(0, serves ? "optimized" : "inaccessible", 2).has_value());
    // The state holds from the RPC's answer on: of two further answers the second belongs to a command that began after it.
    std::atomic<unsigned>& expected = serves ? good : refused;
    const std::atomic<unsigned>& wrong = serves ? refused : good;
    const unsigned seen = expected.load();
    const unsigned wrong_seen = wrong.load();
    while (expected.load() < seen + 2 && strange.load() == 0) std::this_thread::yield();
    EXPECT_LE(wrong.load(), wrong_seen + 1) << "change " << i;
  }
  stop.store(true);
  reader.join();
  EXPECT_EQ(strange.load(), 0U);
  const LogStart log = log_of(host);
  EXPECT_EQ(log.header.chgcnt, base + 100);
  EXPECT_EQ(log.second.chgcnt, base + 100);
  EXPECT_EQ(log.first.chgcnt, other_base);
}

TEST_F(AnaProtocolTest, ANamespaceMovesUnderIo) {
  Host host = connect_host(0);
  ASSERT_TRUE(set_state(0, "inaccessible", 5).has_value());
  std::atomic<bool> stop{false};
  std::atomic<unsigned> answers{0}, strange{0};
  std::thread reader([&] {
    while (!stop.load()) {
      const CommandResult result = read(host.io, 0, 4096, 2);
      ++answers;
      if (!result.ok() && !result.is(nvme::PathStatus::ana_inaccessible)) ++strange;
    }
  });
  const auto move = [&](int group) {
    return call("nvmf_subsystem_set_ns_ana_group", "{" + subsystem() + R"(, "nsid": 2, "anagrpid": )" + std::to_string(group) + "}");
  };
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(move(i % 2 == 0 ? 5 : 2).has_value());
    const unsigned seen = answers.load();
    while (answers.load() == seen) std::this_thread::yield();
  }
  stop.store(true);
  reader.join();
  EXPECT_EQ(strange.load(), 0U);
  EXPECT_TRUE(read(host.io, 0, 512, 2).ok());
}

TEST_F(AnaProtocolTest, WrongCallsAreRefusedByName) {
  const auto refused = [](const Result<Json::Value>& answer, const std::string& why) {
    ASSERT_FALSE(answer.has_value());
    EXPECT_NE(answer.error().message.find(why), std::string::npos) << answer.error().message;
  };
  refused(set_state(0, "fast"), "ana_state");
  refused(set_state(0, "optimized", 9), "anagrpid 9");
  refused(call("nvmf_subsystem_set_ns_ana_group", "{" + subsystem() + R"(, "nsid": 7, "anagrpid": 1})"), "nsid 7");
  refused(call("nvmf_subsystem_set_ns_ana_group", "{" + subsystem() + R"(, "nsid": 1, "anagrpid": 9})"), "anagrpid 9");
  ports_[0] = 1;
  refused(set_state(0, "optimized"), "no listener");
  must_call("nvmf_create_subsystem", R"({"nqn": "nqn.2026-11.io.catnap:plain"})");
  refused(call("nvmf_subsystem_set_ns_ana_group", R"({"nqn": "nqn.2026-11.io.catnap:plain", "nsid": 1, "anagrpid": 1})"), "ana_reporting");
}

TEST_F(AnaProtocolTest, StatesAreSaved) {
  ASSERT_TRUE(set_state(0, "inaccessible", 2).has_value());
  const Json::Value config = must_call("framework_get_config", R"({"name": "nvmf"})");
  unsigned found = 0;
  for (const Json::Value& each : config) {
    const Json::Value& params = each["params"];
    if (each["method"] == "nvmf_subsystem_add_listener" && params["ana_state"] == "non_optimized") ++found;
    if (each["method"] == "nvmf_subsystem_listener_set_ana_state" && params["anagrpid"] == 2 && params["ana_state"] == "inaccessible") ++found;
  }
  EXPECT_EQ(found, 2U) << config.toStyledString();
}

}  // namespace
}  // namespace catnap::protocol
