// The initiator against the target: one catnapd exports, a second one attaches and exports again, and a host looks at both ends. Namespaces that
// come, go and change size; threads that move; more threads than queues; what is saved and loaded; addresses that drop packets.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <random>
#include <thread>

#include "tests/protocol/fake/fake_controller.h"
#include "tests/protocol/initiator_chain.h"
#include "transport/nvme/copy.h"

namespace catnap::protocol {
namespace {

constexpr std::uint32_t block = 512;

// Everything that can be done to blocks, seen from both ends.
class InitiatorDigests : public InitiatorChain, public testing::WithParamInterface<const char*> {};

TEST_P(InitiatorDigests, DataIsTheSameThroughBothTargets) {
  export_back();
  const Json::Value names = attach(GetParam());
  ASSERT_EQ(names.size(), 1U);
  ASSERT_EQ(names[0].asString(), "Nvme0n1");
  const std::uint16_t front_port = serve("Nvme0n1");
  Host front = connect_host(front_port);
  HostQueues behind = protocol::connect_host(back_port_, back_nqn);
  ASSERT_TRUE(front.io.socket().is_open());
  ASSERT_EQ(behind.io.size(), 1U);
  for (const std::uint32_t bytes : {512U, 4096U, 8192U, 65536U, 131072U}) {
    SCOPED_TRACE(bytes);
    const Bytes content = pattern(bytes, bytes);
    ASSERT_TRUE(write(front.io, 100, content).ok());
    EXPECT_EQ(read(behind.io[0], 100, bytes).data, content);
    EXPECT_EQ(read(front.io, 100, bytes).data, content);
  }
  ASSERT_TRUE(flush(front.io).ok());
  ASSERT_TRUE(front.io.run(io_command(nvme::IoOpcode::write_zeroes, 100, 8)).ok());
  EXPECT_EQ(read(behind.io[0], 100, 8 * block).data, Bytes(8 * block));
  nvme::DsmRange range;
  range.slba = 108;
  range.blocks = 8;
  auto unmap = io_command(nvme::IoOpcode::dataset_management, 0, 1);
  unmap.cdw10 = 0;
  unmap.cdw11 = nvme::dsm_deallocate;
  unmap.cdw12 = 0;
  ASSERT_TRUE(front.io.run(unmap, Payload::in_capsule(bytes_of(range))).ok());
  EXPECT_EQ(read(behind.io[0], 108, 8 * block).data, Bytes(8 * block));
  // Compare: an answer and no error.
  const Bytes content = pattern(4096, 77);
  ASSERT_TRUE(write(behind.io[0], 200, content).ok());
  EXPECT_TRUE(front.io.run(io_command(nvme::IoOpcode::compare, 200, 8), Payload::in_capsule(content)).ok());
  EXPECT_TRUE(
      front.io.run(io_command(nvme::IoOpcode::compare, 201, 8), Payload::in_capsule(content)).status.same_code(nvme::MediaStatus::compare_failure));
}

// The two halves go to the controller behind as a fused pair, and there is no moment between them.
TEST_F(InitiatorChain, CompareAndWriteIsOneThere) {
  export_back();
  attach();
  Host front = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(front.io.socket().is_open());
  const auto pair = [&front](const Bytes& expected, const Bytes& next) {
    auto compare = io_command(nvme::IoOpcode::compare, 40, 1);
    compare.flags |= static_cast<std::uint8_t>(nvme::Fuse::first);
    auto then = io_command(nvme::IoOpcode::write, 40, 1);
    then.flags |= static_cast<std::uint8_t>(nvme::Fuse::second);
    const std::uint16_t first = front.io.submit(compare, Payload::in_capsule(expected));
    const std::uint16_t second = front.io.submit(then, Payload::in_capsule(next));
    const CommandResult compared = front.io.wait(first);
    const CommandResult written = front.io.wait(second);
    return std::pair(compared, written);
  };
  const Bytes one = pattern(block, 1), two = pattern(block, 2);
  ASSERT_TRUE(write(front.io, 40, one).ok());
  const auto good = pair(one, two);
  EXPECT_TRUE(good.first.ok() && good.second.ok());
  EXPECT_EQ(read(front.io, 40, block).data, two);
  const auto bad = pair(one, one);
  EXPECT_TRUE(bad.first.status.same_code(nvme::MediaStatus::compare_failure));
  EXPECT_FALSE(bad.second.ok());
  EXPECT_EQ(read(front.io, 40, block).data, two);
  const Json::Value stats = back("bdev_get_iostat", R"({"name": "Disk0"})")["bdevs"][0];
  EXPECT_EQ(stats["num_compare_and_write_ops"].asUInt64(), 1U) << "a miscompare is counted as an error";
}

// A command that the controller keeps: told and aborted, or ended with the association.
TEST_F(InitiatorChain, LateCommandsAreAborted) {
  back_port_ = free_port();
  back("nvmf_create_transport", R"({"trtype": "TCP"})");
  back("nvmf_create_subsystem", std::string(R"({"nqn": ")") + back_nqn + R"(", "allow_any_host": true})");
  back("bdev_malloc_create", R"({"name": "Disk0", "num_blocks": 16384, "block_size": 512})");
  back("bdev_error_create", R"({"base_name": "Disk0"})");
  back("nvmf_subsystem_add_ns", std::string(R"({"nqn": ")") + back_nqn + R"(", "namespace": {"nsid": 1, "bdev_name": "EE_Disk0"}})");
  back("nvmf_subsystem_add_listener", std::string(R"({"nqn": ")") + back_nqn +
                                          R"(", "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                          std::to_string(back_port_) + R"("}})");
  // Only the read that is kept is meant: no other one, and not the Abort, on a machine that stands still for a moment.
  must("bdev_nvme_set_options", R"({"timeout_us": 2000000, "timeout_admin_us": 60000000, "action_on_timeout": "abort"})");
  attach();
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(read(host.io, 0, 512).ok());
  back("bdev_error_inject_error", R"({"name": "EE_Disk0", "io_type": "read", "error_type": "pending", "num": 1})");
  const CommandResult result = read(host.io, 0, 512);
  EXPECT_EQ(result.outcome, Outcome::pdu);
  EXPECT_FALSE(result.ok());
  EXPECT_TRUE(read(host.io, 0, 512).ok()) << "the next one is not meant";
  EXPECT_EQ(must("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["state"].asString(), "enabled");
}

INSTANTIATE_TEST_SUITE_P(Initiator, InitiatorDigests,
                         testing::Values("{}", R"({"hdgst": true})", R"({"ddgst": true})", R"({"hdgst": true, "ddgst": true})",
                                         R"({"disable_sq_flow_control": true})"));

TEST_F(InitiatorChain, NamespacesComeAndGoByEvent) {
  export_back(2);
  attach();
  EXPECT_EQ(bdevs(), (std::vector<std::string>{"Nvme0n1", "Nvme0n2"}));
  add_disk(2);
  EXPECT_TRUE(eventually([&] { return bdevs().size() == 3; }));
  back("nvmf_subsystem_remove_ns", std::string(R"({"nqn": ")") + back_nqn + R"(", "nsid": 2})");
  EXPECT_TRUE(eventually([&] { return bdevs() == std::vector<std::string>{"Nvme0n1", "Nvme0n3"}; }));
  back("bdev_malloc_delete", R"({"name": "Disk2"})");
  EXPECT_TRUE(eventually([&] { return bdevs() == std::vector<std::string>{"Nvme0n1"}; }));
  const Json::Value shown = must("bdev_get_bdevs", R"({"name": "Nvme0n1"})")[0];
  EXPECT_EQ(shown["num_blocks"].asUInt64(), 16384U);
  const Json::Value& nvme = shown["driver_specific"]["nvme"][0];
  EXPECT_EQ(nvme["trid"]["subnqn"].asString(), back_nqn);
  EXPECT_EQ(nvme["ns_data"]["id"].asUInt(), 1U);
}

TEST_F(InitiatorChain, NamespacesGrowByEvent) {
  export_back(0);
  back("bdev_null_create", R"({"name": "Null0", "num_blocks": 16384, "block_size": 512})");
  back("nvmf_subsystem_add_ns", std::string(R"({"nqn": ")") + back_nqn + R"(", "namespace": {"nsid": 1, "bdev_name": "Null0"}})");
  attach();
  const auto blocks = [this] { return must("bdev_get_bdevs", R"({"name": "Nvme0n1"})")[0]["num_blocks"].asUInt64(); };
  EXPECT_EQ(blocks(), 16384U);
  for (const std::uint64_t mib : {16U, 32U}) {
    back("bdev_null_resize", R"({"name": "Null0", "new_size": )" + std::to_string(mib) + "}");
    EXPECT_TRUE(eventually([&] { return blocks() == mib << 20 >> 9; })) << mib << " MiB, but " << blocks() << " blocks";
  }
}

// The target comes back with another disk as the same namespace. What was attached is gone then: its reads must not find the other's data, nor its
// writes end up there.
TEST_F(InitiatorChain, AnotherDiskAsTheSameNamespaceIsAnotherBdev) {
  export_back();
  attach(R"({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})");
  const std::string first = must("bdev_get_bdevs", R"({"name": "Nvme0n1"})")[0]["uuid"].asString();
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(host.io.socket().is_open());
  ASSERT_TRUE(write(host.io, 0, pattern(4096, 1)).ok());
  ASSERT_EQ(back_->stop(), 0);
  auto again = ServerProcess::start(CATNAP_SERVER, {"-m", two_cpus()});
  ASSERT_TRUE(again.has_value()) << again.error().message;
  back_ = std::move(*again);
  export_back();
  EXPECT_FALSE(write(host.io, 8, pattern(4096, 2)).ok()) << "it was meant for the disk that is gone";
  EXPECT_FALSE(read(host.io, 0, 4096).ok());
  EXPECT_TRUE(eventually([&] {
    const auto now = call("bdev_get_bdevs", json(R"({"name": "Nvme0n1"})"));
    return now.has_value() && (*now)[0]["uuid"].asString() != first;
  }));
  HostQueues behind = protocol::connect_host(back_port_, back_nqn);
  ASSERT_EQ(behind.io.size(), 1U);
  EXPECT_EQ(read(behind.io[0], 0, 8192).data, Bytes(8192)) << "nothing was written to the other disk";
}

TEST_F(InitiatorChain, ResetDisableAndEnableUnderIo) {
  export_back();
  attach(R"({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})");
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(host.io.socket().is_open());
  for (std::uint32_t round = 0; round < 5; ++round) {
    const Bytes content = pattern(4096, round);
    ASSERT_TRUE(write(host.io, round * 8, content).ok());
    must("bdev_nvme_reset_controller", R"({"name": "Nvme0"})");
    ASSERT_EQ(read(host.io, round * 8, 4096).data, content);
  }
  must("bdev_nvme_disable_controller", R"({"name": "Nvme0"})");
  EXPECT_EQ(must("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["state"].asString(), "disabled");
  EXPECT_FALSE(read(host.io, 0, 4096).ok());
  EXPECT_FALSE(call("bdev_nvme_reset_controller", json(R"({"name": "Nvme0"})")).has_value());
  must("bdev_nvme_enable_controller", R"({"name": "Nvme0"})");
  EXPECT_TRUE(eventually([&] { return read(host.io, 0, 4096).ok(); }));
  must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
  EXPECT_TRUE(must("bdev_nvme_get_controllers").empty());
}

// multipath failover: one connection, and the second address takes over when the first ends.
TEST_F(InitiatorChain, AReserveAddressTakesOver) {
  export_back();
  const std::uint16_t first = back_port_, second = free_port();
  const auto listener = [](std::uint16_t port) {
    return std::string(R"({"nqn": ")") + back_nqn +
           R"(", "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port) + R"("}})";
  };
  back("nvmf_subsystem_add_listener", listener(second));
  const std::string options = R"({"multipath": "failover", "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})";
  attach(options);
  must("bdev_nvme_attach_controller", path_to(second, back_nqn, options));
  const auto controller = [this] { return must("bdev_nvme_get_controllers")[0]["ctrlrs"][0]; };
  EXPECT_EQ(controller()["trid"]["trsvcid"].asString(), std::to_string(first));
  EXPECT_EQ(controller()["alternate_trids"][0]["trsvcid"].asString(), std::to_string(second));
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(host.io.socket().is_open());
  Bytes content = pattern(4096, 1);
  ASSERT_TRUE(write(host.io, 0, content).ok());
  for (const auto& [gone, stays] : {std::pair(first, second), std::pair(second, first)}) {
    back("nvmf_subsystem_remove_listener", listener(gone));
    ASSERT_EQ(read(host.io, 0, 4096).data, content);
    content = pattern(4096, stays);
    ASSERT_TRUE(write(host.io, 0, content).ok());
    EXPECT_EQ(controller()["trid"]["trsvcid"].asString(), std::to_string(stays));
    back("nvmf_subsystem_add_listener", listener(gone));
  }
  // The address in use is taken away: the other one is taken.
  auto detach = path_to(first, back_nqn);
  must("bdev_nvme_detach_controller", detach);
  EXPECT_TRUE(eventually(
      [&] { return controller()["state"].asString() == "enabled" && controller()["trid"]["trsvcid"].asString() != std::to_string(first); }));
  EXPECT_EQ(read(host.io, 0, 4096).data, content);
  EXPECT_FALSE(controller().isMember("alternate_trids"));
}

// Poll periods on and off while I/O runs; what is in effect is shown.
TEST_F(InitiatorChain, PollPeriodsChangeOnLiveControllers) {
  export_back();
  attach();
  Host host = connect_host(serve("Nvme0n1"));
  const auto mode = [this] {
    const Json::Value controller = must("bdev_nvme_get_controllers")[0]["ctrlrs"][0];
    return controller["adminq_mode"].asString() + " " + controller["ioq_mode"].asString();
  };
  EXPECT_EQ(mode(), "event event");
  must("bdev_nvme_set_options", R"({"nvme_adminq_poll_period_us": 10000, "nvme_ioq_poll_period_us": 0})");
  EXPECT_EQ(mode(), "event event") << "SPDK's saved defaults bring no wake-ups";
  std::uint32_t seed = 0;
  for (const auto& [admin_us, io_us, shown] :
       {std::tuple(1000, 100, "poll poll"), std::tuple(0, 1000, "event poll"), std::tuple(20000, 0, "poll event"), std::tuple(0, 0, "event event")}) {
    must("bdev_nvme_set_options",
         R"({"nvme_adminq_poll_period_us": )" + std::to_string(admin_us) + R"(, "nvme_ioq_poll_period_us": )" + std::to_string(io_us) + "}");
    EXPECT_EQ(mode(), shown);
    for (int i = 0; i < 20; ++i) {
      const Bytes content = pattern(8192, ++seed);
      ASSERT_TRUE(write(host.io, 0, content).ok());
      ASSERT_EQ(read(host.io, 0, 8192).data, content);
    }
  }
  EXPECT_FALSE(call("bdev_nvme_set_options", json(R"({"nvme_ioq_poll_period_us": 5})")).has_value());
}

// One I/O queue for two reactors: the second thread's commands go over the first one's.
TEST_F(InitiatorChain, MoreThreadsThanQueues) {
  export_back(1, R"({"trtype": "TCP", "max_io_qpairs_per_ctrlr": 1})");
  attach();
  EXPECT_EQ(must("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["num_io_queues"].asUInt(), 1U);
  const std::uint16_t port = serve("Nvme0n1");
  std::vector<Host> hosts;
  for (int i = 0; i < 4; ++i) hosts.push_back(connect_host(port));
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < hosts.size(); ++i) {
    threads.emplace_back([&host = hosts[i], i] {
      for (std::uint32_t round = 0; round < 50; ++round) {
        const Bytes content = pattern(round % 2 == 0 ? 4096 : 16384, i * 1000 + round);
        ASSERT_TRUE(write(host.io, 64 * i, content).ok());
        ASSERT_EQ(read(host.io, 64 * i, static_cast<std::uint32_t>(content.size())).data, content);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  must("bdev_nvme_reset_controller", R"({"name": "Nvme0"})");
  EXPECT_TRUE(eventually([&] { return std::ranges::all_of(hosts, [](Host& host) { return read(host.io, 0, 512).ok(); }); }));
}

// Poll groups go from reactor to reactor, and their queues with them.
TEST_F(InitiatorChain, ThreadsMoveUnderIo) {
  export_back();
  attach(R"({"ddgst": true})");
  const std::uint16_t port = serve("Nvme0n1");
  Host host = connect_host(port);
  ASSERT_TRUE(host.io.socket().is_open());
  std::vector<std::pair<std::uint64_t, unsigned>> groups;
  std::vector<unsigned> cpus;
  const Json::Value reactors = must("framework_get_reactors")["reactors"];
  for (const auto& reactor : reactors) {
    for (const auto& thread : reactor["lw_threads"]) {
      if (thread["name"].asString().starts_with("nvmf_tgt_poll_group")) groups.emplace_back(thread["id"].asUInt64(), reactor["lcore"].asUInt());
    }
  }
  for (const auto& [id, cpu] : groups) cpus.push_back(cpu);
  if (cpus.size() < 2) GTEST_SKIP() << "only one CPU may be used here";
  std::atomic<bool> over{false};
  std::thread mover([&] {
    for (int move = 0; move < 60; ++move) {
      const auto& [id, home] = groups[static_cast<std::size_t>(move) % groups.size()];
      const unsigned to = cpus[static_cast<std::size_t>(move / 2) % cpus.size()];
      must("thread_set_cpumask", R"({"id": )" + std::to_string(id) + R"(, "cpumask": "[)" + std::to_string(to) + R"(]"})");
    }
    over = true;
  });
  std::uint32_t round = 0;
  while (!over || round == 0) {
    const Bytes content = pattern(16384, ++round);
    if (!write(host.io, 0, content).ok() || read(host.io, 0, 16384).data != content) {
      ADD_FAILURE() << "in round " << round;
      break;
    }
  }
  mover.join();
  EXPECT_GT(round, 0U);
}

TEST_F(InitiatorChain, WhatIsSavedBringsItBack) {
  export_back();
  must("bdev_nvme_set_options", R"({"timeout_us": 30000000, "action_on_timeout": "abort", "bdev_retry_count": -1, "keep_alive_timeout_ms": 5000})");
  attach(R"({"hdgst": true, "ctrlr_loss_timeout_sec": 30, "reconnect_delay_sec": 2, "fast_io_fail_timeout_sec": 10, "multipath": "multipath"})");
  const Json::Value saved = must("framework_get_config", R"({"name": "bdev"})");
  must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
  for (const auto& entry : saved) {
    if (!entry["method"].asString().starts_with("bdev_nvme")) continue;
    must(entry["method"].asString(), entry["params"]);
  }
  EXPECT_EQ(must("framework_get_config", R"({"name": "bdev"})"), saved);
  EXPECT_EQ(bdevs(), std::vector<std::string>{"Nvme0n1"});
}

TEST_F(InitiatorChain, WhatCannotBeIsRefusedInWords) {
  export_back();
  const auto refused = [this](const std::string& more, const std::string& says) {
    auto answer = call("bdev_nvme_attach_controller", path_to(back_port_, back_nqn, more));
    ASSERT_FALSE(answer.has_value()) << more;
    EXPECT_NE(answer.error().message.find(says), std::string::npos) << answer.error().message;
  };
  refused(R"({"psk": "key0"})", "psk");
  refused(R"({"dhchap_key": "key0"})", "dhchap_key");
  refused(R"({"prchk_guard": true})", "prchk_guard");
  refused(R"({"reconnect_delay_sec": 5})", "reconnect_delay_sec");
  refused(R"({"hostaddr": "nowhere"})", "hostaddr");
  auto params = path_to(back_port_, "nqn.2026-11.io.catnap:nobody");
  auto answer = call("bdev_nvme_attach_controller", params);
  ASSERT_FALSE(answer.has_value());
  EXPECT_NE(answer.error().message.find("Connect"), std::string::npos) << answer.error().message;
  attach();
  refused("{}", "already");
  EXPECT_FALSE(call("bdev_nvme_detach_controller", json(R"({"name": "Nvme1"})")).has_value());
  EXPECT_EQ(bdevs(), std::vector<std::string>{"Nvme0n1"});
}

// Nobody answers at 192.0.2.0/24 (RFC 5737): an attach waits, everything else goes on, and a detach ends it at once.
TEST_F(InitiatorChain, AnAttachToNowhereHoldsNobodyUp) {
  export_back();
  auto nowhere = path_to(4420, back_nqn, "{}", "Lost");
  nowhere["traddr"] = "192.0.2.1";
  auto second = RpcClient::open(server_->rpc_socket());
  ASSERT_TRUE(second.has_value());
  std::thread waiting([&] {
    auto answer = second->call("bdev_nvme_attach_controller", nowhere);
    EXPECT_FALSE(answer.has_value());
  });
  attach();
  EXPECT_EQ(bdevs(), std::vector<std::string>{"Nvme0n1"});
  const auto before = Clock::now();
  auto detached = call("bdev_nvme_detach_controller", json(R"({"name": "Lost"})"));
  waiting.join();
  // The network here may also refuse at once, and then there is nothing to detach.
  if (detached) {
    EXPECT_LT(Clock::now() - before, std::chrono::seconds(4)) << "it did not wait for the attempt, which has five";
  }
  EXPECT_EQ(bdevs(), std::vector<std::string>{"Nvme0n1"});
}

// A write whose connection ends before it is answered is repeated at once, and a later write of its blocks waits until the first try can be carried
// out no more: as long as the controller says (CQT), which had ended the connection itself.
TEST_F(InitiatorTest, AWriteBehindALostOneOfItsBlocksWaits) {
  constexpr std::uint16_t cqt_ms = 700;
  FakeController controller;
  controller.change_answers([](const std::string& step, nvme::CompletionEntry&, Bytes& data) {
    if (step != "Identify CNS 01h") return;
    const le16 cqt = cqt_ms;
    std::memcpy(data.data() + offsetof(nvme::IdentifyController, cqt), &cqt, sizeof cqt);
  });
  must("bdev_nvme_attach_controller",
       path_to(controller.port(), controller.options().subnqn, R"({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})"));
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(host.io.socket().is_open());
  ASSERT_TRUE(write(host.io, 0, pattern(4096, 1)).ok());
  controller.misbehave("write", 2, Deed::reset);
  const auto lost_after = Clock::now();
  ASSERT_TRUE(write(host.io, 0, pattern(4096, 2)).ok());
  ASSERT_TRUE(controller.misbehaved());
  ASSERT_TRUE(write(host.io, 64, pattern(4096, 3)).ok());
  EXPECT_EQ(read(host.io, 0, 4096).data, pattern(4096, 2)) << "the repeated write is there";
  ASSERT_TRUE(write(host.io, 7, pattern(512, 4)).ok());
  EXPECT_GE(Clock::now() - lost_after, Milliseconds(cqt_ms));
  EXPECT_EQ(read(host.io, 7, 512).data, pattern(512, 4));
}

}  // namespace
}  // namespace catnap::protocol
