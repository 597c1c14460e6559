// The initiator's methods about paths, statistics, passthrough commands, health and error injection, against a catnapd with two listeners.
// Owner: the test's thread. Left out: attaching and discovery (discovery_service_test.cpp), faults of controllers (hostile_controller_test.cpp).
#include <algorithm>
#include <map>

#include "bdev/nvme/base64url.h"
#include "tests/protocol/initiator_fixture.h"
#include "transport/nvme/log_page.h"

namespace catnap::protocol {
namespace {

constexpr const char* back_nqn = "nqn.2026-11.io.catnap:back";

class InitiatorRpc : public InitiatorTest {
 protected:
  void SetUp() override {
    InitiatorTest::SetUp();
    auto started = ServerProcess::start(CATNAP_SERVER, {"-m", "[0]"});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    back_ = std::move(*started);
    const std::string subsystem = std::string(R"({"nqn": ")") + back_nqn + "\"";
    back("nvmf_create_transport", R"({"trtype": "TCP"})");
    back("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 8192, "block_size": 512})");
    back("nvmf_create_subsystem", subsystem + R"(, "allow_any_host": true, "ana_reporting": true, "serial_number": "BACK"})");
    back("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"nsid": 1, "bdev_name": "Malloc0"}})");
    must("bdev_nvme_set_options", R"({"io_path_stat": true})");
    for (auto& port : ports_) {
      port = free_port();
      back("nvmf_subsystem_add_listener", subsystem + R"(, "listen_address": )" + address(port) + "}");
      must("bdev_nvme_attach_controller", path_to(port, back_nqn, R"({"multipath": "multipath"})"));
    }
    host_ = connect_host(serve("Nvme0n1"));
    ASSERT_TRUE(host_.io.socket().is_open());
    // Queues are connected when somebody uses them; a path that comes up later would begin turns anew.
    ASSERT_TRUE(read(host_.io, 0, 4096).ok());
    ASSERT_TRUE(eventually([&] {
      const Json::Value paths = io_paths();
      return paths.size() >= 2 && std::all_of(paths.begin(), paths.end(), [](const auto& path) { return path["connected"].asBool(); });
    }));
  }
  static std::string address(std::uint16_t port) {
    return R"({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port) + "\"}";
  }
  void back(const std::string& method, const std::string& params) {
    const auto answer = back_->rpc().call(method, json(params));
    ASSERT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
  }
  void some_reads(unsigned count) {
    for (unsigned at = 0; at < count; ++at) ASSERT_TRUE(read(host_.io, at * 8, 4096).ok());
  }
  // Reads per path, by port.
  std::map<std::uint16_t, std::uint64_t> reads() {
    std::map<std::uint16_t, std::uint64_t> all;
    const Json::Value answer = must("bdev_nvme_get_path_iostat", R"({"name": "Nvme0n1"})");
    for (const auto& path : answer["stats"]) {
      all[static_cast<std::uint16_t>(std::stoi(path["trid"]["trsvcid"].asString()))] = path["stat"]["num_read_ops"].asUInt64();
    }
    return all;
  }
  // Controller ids, in the order of attaching.
  std::vector<unsigned> cntlids() {
    std::vector<unsigned> all;
    const Json::Value answer = must("bdev_nvme_get_controllers", "{}");
    for (const auto& one : answer[0]["ctrlrs"]) all.push_back(one["cntlid"].asUInt());
    return all;
  }
  Json::Value io_paths() {
    Json::Value all(Json::arrayValue);
    const Json::Value answer = must("bdev_nvme_get_io_paths", R"({"name": "Nvme0n1"})");
    for (const auto& group : answer["poll_groups"]) {
      for (const auto& path : group["io_paths"]) all.append(path);
    }
    return all;
  }
  std::unique_ptr<ServerProcess> back_;
  std::array<std::uint16_t, 2> ports_{};
  Host host_;
};

TEST_F(InitiatorRpc, PathsAreShownAndThePreferredOneIsTaken) {
  some_reads(4);
  auto before = reads();
  EXPECT_GE(before[ports_[0]], 4U) << "the first one that was attached";
  EXPECT_EQ(before[ports_[1]], 0U);
  ASSERT_EQ(io_paths().size() % 2, 0U) << "two on each thread that uses it";
  for (const auto& path : io_paths()) {
    EXPECT_EQ(path["bdev_name"], "Nvme0n1");
    EXPECT_TRUE(path["connected"].asBool() && path["accessible"].asBool());
    EXPECT_EQ(path["transport"]["trtype"], "TCP");
    EXPECT_EQ(path["transport"]["traddr"], "127.0.0.1");
  }
  must("bdev_nvme_set_preferred_path", R"({"name": "Nvme0n1", "cntlid": )" + std::to_string(cntlids()[1]) + "}");
  before = reads();
  some_reads(6);
  const auto after = reads();
  EXPECT_EQ(after.at(ports_[0]), before[ports_[0]]);
  EXPECT_EQ(after.at(ports_[1]), before[ports_[1]] + 6);
  auto refused = call("bdev_nvme_set_preferred_path", json(R"({"name": "Nvme0n1", "cntlid": 60000})"));
  EXPECT_EQ(refused.error().err, -ENODEV) << refused.error().message;
  EXPECT_EQ(call("bdev_nvme_set_preferred_path", json(R"({"name": "Nobody", "cntlid": 1})")).error().err, -ENODEV);
}

TEST_F(InitiatorRpc, PoliciesShareIoAsTheySay) {
  must("bdev_nvme_set_multipath_policy", R"({"name": "Nvme0n1", "policy": "active_active", "rr_min_io": 4})");
  auto before = reads();
  some_reads(16);
  auto after = reads();
  EXPECT_EQ(after[ports_[0]] - before[ports_[0]], 8U);
  EXPECT_EQ(after[ports_[1]] - before[ports_[1]], 8U);
  must("bdev_nvme_set_multipath_policy", R"({"name": "Nvme0n1", "policy": "active_active", "selector": "queue_depth"})");
  before = reads();
  some_reads(8);
  after = reads();
  EXPECT_EQ(after[ports_[0]] - before[ports_[0]], 8U) << "one at a time: the first of two idle paths";
  // An inaccessible path gets nothing, whatever the policy.
  back("nvmf_subsystem_listener_set_ana_state",
       std::string(R"({"nqn": ")") + back_nqn + R"(", "listen_address": )" + address(ports_[0]) + R"(, "ana_state": "inaccessible"})");
  before = reads();
  some_reads(8);
  EXPECT_EQ(reads()[ports_[1]] - before[ports_[1]], 8U);
  EXPECT_TRUE(eventually([&] {
    const Json::Value paths = io_paths();
    return std::any_of(paths.begin(), paths.end(), [](const auto& path) { return !path["accessible"].asBool(); });
  }));
  auto refused = call("bdev_nvme_set_multipath_policy", json(R"({"name": "Nvme0n1", "policy": "active_passive", "rr_min_io": 2})"));
  EXPECT_NE(refused.error().message.find("rr_min_io 2 has a meaning only with policy active_active"), std::string::npos) << refused.error().message;
}

TEST_F(InitiatorRpc, PathStatisticsMustBeSwitchedOn) {
  must("bdev_nvme_set_options", R"({"io_path_stat": false})");
  EXPECT_EQ(call("bdev_nvme_get_path_iostat", json(R"({"name": "Nvme0n1"})")).error().err, -EPERM);
}

TEST_F(InitiatorRpc, TransportStatisticsCountWhatWentOverTheQueues) {
  const auto submitted = [this] {
    std::uint64_t all = 0;
    const Json::Value answer = must("bdev_nvme_get_transport_statistics", "{}");
    EXPECT_TRUE(answer["tick_rate"].isUInt64());
    for (const auto& group : answer["poll_groups"]) {
      EXPECT_EQ(group["transports"][0]["trname"], "TCP");
      if (group["thread"] != "app_thread") all += group["transports"][0]["submitted_requests"].asUInt64();
    }
    return all;
  };
  const std::uint64_t before = submitted();
  some_reads(10);
  EXPECT_EQ(submitted(), before + 10);
}

// base64 of a command.
std::string command_text(const nvme::SubmissionEntry& sqe) {
  return bdev::to_base64url(std::as_bytes(std::span<const nvme::SubmissionEntry, 1>(&sqe, 1)));
}

TEST_F(InitiatorRpc, CommandsAreSentAsTheyAre) {
  // Identify Controller.
  Json::Value params = json(R"({"name": "Nvme0", "cmd_type": "admin", "data_direction": "c2h", "data_len": 4096})");
  nvme::SubmissionEntry sqe = admin_command(nvme::AdminOpcode::identify);
  sqe.cdw10 = 1;
  params["cmdbuf"] = command_text(sqe);
  Json::Value answer = must("bdev_nvme_send_cmd", params);
  auto cpl = bdev::from_base64url(answer["cpl"].asString());
  ASSERT_TRUE(cpl && cpl->size() == sizeof(nvme::CompletionEntry));
  auto data = bdev::from_base64url(answer["data"].asString());
  ASSERT_TRUE(data && data->size() == 4096);
  nvme::IdentifyController page;
  std::memcpy(static_cast<void*>(&page), data->data(), sizeof(page));
  EXPECT_EQ(std::string(page.sn.data(), 4), "BACK");
  // A write and a read on an I/O queue.
  const Bytes content = pattern(4096, 77);
  params = json(R"({"name": "Nvme0", "cmd_type": "io", "data_direction": "h2c"})");
  params["cmdbuf"] = command_text(io_command(nvme::IoOpcode::write, 16, 8));
  params["data"] = bdev::to_base64url(content);
  answer = must("bdev_nvme_send_cmd", params);
  EXPECT_EQ(read(host_.io, 16, 4096).data, content);
  params = json(R"({"name": "Nvme0", "cmd_type": "io", "data_direction": "c2h", "data_len": 4096})");
  params["cmdbuf"] = command_text(io_command(nvme::IoOpcode::read, 16, 8));
  data = bdev::from_base64url(must("bdev_nvme_send_cmd", params)["data"].asString());
  EXPECT_EQ(data, content);
  // A command that the controller refuses is an answer, not an error of the call.
  params["cmdbuf"] = command_text(io_command(nvme::IoOpcode::read, 1'000'000, 8));
  cpl = bdev::from_base64url(must("bdev_nvme_send_cmd", params)["cpl"].asString());
  nvme::CompletionEntry cqe;
  std::memcpy(static_cast<void*>(&cqe), cpl->data(), sizeof(cqe));
  EXPECT_TRUE(nvme::status_of(cqe).same_code(nvme::GenericStatus::lba_out_of_range));
}

TEST_F(InitiatorRpc, CommandsThatCannotBeSentAreRefusedInWords) {
  nvme::SubmissionEntry event = admin_command(nvme::AdminOpcode::async_event_request), fabrics = admin_command(nvme::AdminOpcode::fabrics);
  const std::string good = command_text(admin_command(nvme::AdminOpcode::keep_alive));
  struct Row {
    std::string params;
    const char* says;
  };
  const Row rows[] = {
      {R"("cmdbuf": "???")", "cmdbuf is not base64"},
      {R"("cmdbuf": "AAAA")", "cmdbuf has 3 bytes, a command has 64"},
      {R"("cmdbuf": ")" + command_text(event) + "\"", "belong to the initiator"},
      {R"("cmdbuf": ")" + command_text(fabrics) + "\"", "belong to the initiator"},
      {R"("cmdbuf": ")" + good + R"(", "data": "AAAA")", "data belongs to data_direction h2c"},
      {R"("cmdbuf": ")" + good + R"(", "data_len": 4000000000)", "more than the controller takes at once"},
      {R"("cmdbuf": ")" + good + R"(", "data_len": 3)", "not a multiple of 4"},
      {R"("cmdbuf": ")" + good + R"(", "metadata_len": 8)", "metadata"},
  };
  for (const Row& row : rows) {
    auto refused = call("bdev_nvme_send_cmd", json(R"({"name": "Nvme0", "cmd_type": "admin", "data_direction": "c2h", )" + row.params + "}"));
    ASSERT_FALSE(refused.has_value()) << row.params;
    EXPECT_NE(refused.error().message.find(row.says), std::string::npos) << refused.error().message;
  }
}

TEST_F(InitiatorRpc, HealthIsShownAndWhatIsMissingIsRefusedInWords) {
  const Json::Value health = must("bdev_nvme_get_controller_health_info", R"({"name": "Nvme0"})");
  EXPECT_EQ(health["serial_number"], "BACK");
  EXPECT_EQ(health["traddr"], "127.0.0.1");
  EXPECT_TRUE(health["available_spare_percentage"].isUInt());
  EXPECT_TRUE(health["host_read_commands"].isUInt64());
  EXPECT_EQ(call("bdev_nvme_get_controller_health_info", json(R"({"name": "Nobody"})")).error().err, -ENODEV);
  EXPECT_EQ(call("bdev_nvme_apply_firmware", json(R"({"filename": "/f", "bdev_name": "Nvme0n1"})")).error().err, -ENOTSUP);
  EXPECT_EQ(call("bdev_nvme_set_keys", json(R"({"name": "Nvme0", "dhchap_key": "nobody"})")).error().err, -ENOKEY);
}

TEST_F(InitiatorRpc, InjectedFaultsHitSoManyCommands) {
  const std::string reads_of = R"({"name": "Nvme0", "cmd_type": "io", "opc": 2)";
  // Write Protected with DNR is not retried; sct and sc alone leave DNR clear, so bdev_retry_count (3) retries come first.
  must("bdev_nvme_add_error_injection", reads_of + R"(, "err_count": 2, "sct": 2, "sc": 129})");
  EXPECT_TRUE(read(host_.io, 0, 4096).ok()) << "two faults are within the retries";
  must("bdev_nvme_add_error_injection", reads_of + R"(, "err_count": 1000000, "sct": 2, "sc": 129})");
  EXPECT_FALSE(read(host_.io, 0, 4096).ok());
  must("bdev_nvme_remove_error_injection", reads_of + "}");
  EXPECT_TRUE(read(host_.io, 0, 4096).ok());
  // A path-related status goes to the other path, and no error comes up.
  must("bdev_nvme_add_error_injection", reads_of + R"(, "err_count": 1, "sct": 3, "sc": 0, "do_not_submit": true, "timeout_in_us": 1000})");
  EXPECT_TRUE(read(host_.io, 0, 4096).ok());
  // Admin commands.
  must("bdev_nvme_add_error_injection", R"({"name": "Nvme0", "cmd_type": "admin", "opc": 2, "err_count": 1, "sct": 0, "sc": 6})");
  EXPECT_EQ(call("bdev_nvme_get_controller_health_info", json(R"({"name": "Nvme0"})")).error().err, -EIO);
  must("bdev_nvme_get_controller_health_info", R"({"name": "Nvme0"})");
  EXPECT_EQ(call("bdev_nvme_add_error_injection", json(reads_of + R"(, "sct": 2, "sc": 129, "timeout_in_us": 5})")).error().err, -EINVAL);
  EXPECT_EQ(call("bdev_nvme_add_error_injection", json(reads_of + "}")).error().err, -EINVAL) << "nothing would happen";
}

}  // namespace
}  // namespace catnap::protocol
