// Two catnapds: the one behind exports, the other attaches what that has, and may export it again.
// Owner: the test's thread. Left out: hosts (client/), controllers that the test plays (fake/).
#pragma once

#include <string>
#include <vector>

#include "tests/protocol/initiator_fixture.h"

namespace catnap::protocol {

inline constexpr const char* back_nqn = "nqn.2026-11.io.catnap:back";

class InitiatorChain : public InitiatorTest {
 protected:
  void SetUp() override {
    InitiatorTest::SetUp();
    auto started = ServerProcess::start(server_program(), {"-m", two_cpus()});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    back_ = std::move(*started);
  }
  void TearDown() override {
    InitiatorTest::TearDown();
    if (back_ != nullptr) {
      EXPECT_EQ(back_->stop(), 0);
    }
    if (HasFailure() && back_ != nullptr) printf("---- log of the target behind ----\n%s\n", back_->log().c_str());
  }

  Json::Value back(const std::string& method, const std::string& params) {
    auto answer = back_->rpc().call(method, json(params));
    EXPECT_TRUE(answer.has_value()) << method << ": " << (answer ? "" : answer.error().message);
    return answer ? *answer : Json::Value();
  }
  // The target behind exports malloc disks of 8 MiB as namespaces 1 and up.
  void export_back(int namespaces = 1, const std::string& transport = "{\"trtype\": \"TCP\"}") {
    if (back_port_ == 0) back_port_ = free_port();
    back("nvmf_create_transport", transport);
    back("nvmf_create_subsystem", std::string(R"({"nqn": ")") + back_nqn + R"(", "allow_any_host": true})");
    for (int i = 0; i < namespaces; ++i) add_disk(i);
    back("nvmf_subsystem_add_listener", std::string(R"({"nqn": ")") + back_nqn +
                                            R"(", "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                            std::to_string(back_port_) + R"("}})");
  }
  void add_disk(int number) {
    const std::string name = "Disk" + std::to_string(number);
    back("bdev_malloc_create", R"({"name": ")" + name + R"(", "num_blocks": 16384, "block_size": 512})");
    back("nvmf_subsystem_add_ns", std::string(R"({"nqn": ")") + back_nqn + R"(", "namespace": {"nsid": )" + std::to_string(number + 1) +
                                      R"(, "bdev_name": ")" + name + "\"}}");
  }
  Json::Value attach(const std::string& more = "{}") { return must("bdev_nvme_attach_controller", path_to(back_port_, back_nqn, more)); }
  std::vector<std::string> bdevs() {
    std::vector<std::string> names;
    for (const auto& bdev : must("bdev_get_bdevs")) names.push_back(bdev["name"].asString());
    return names;
  }

  std::unique_ptr<ServerProcess> back_;
  std::uint16_t back_port_ = 0;
};

}  // namespace catnap::protocol
