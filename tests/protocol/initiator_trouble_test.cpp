// What an initiator's user does at the wrong moment, and what controllers do to him: time-outs and their actions, aborts from above, faults on queues
// that are shared, reserve addresses, detaching and attaching anew behind a lost write, another volume at the same address.
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <thread>

#include "tests/protocol/fake/fake_controller.h"
#include "tests/protocol/initiator_chain.h"
#include "transport/nvme/copy.h"

namespace catnap::protocol {
namespace {

std::string listener(std::uint16_t port, const std::string& more = "") {
  return std::string(R"({"nqn": ")") + back_nqn + R"(", "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
         std::to_string(port) + R"("})" + more + "}";
}

constexpr const char* tried_for_ever = R"({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})";

class TroubleWithController : public InitiatorTest {
 protected:
  Json::Value attach(FakeController& controller, const char* more = tried_for_ever) {
    return must("bdev_nvme_attach_controller", path_to(controller.port(), controller.options().subnqn, more));
  }
  std::string state() { return must("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["state"].asString(); }
  static bool saw(const FakeController& controller, const std::string& step) {
    const auto all = controller.seen();
    return std::ranges::any_of(all, [&step](const auto& seen) { return seen.step == step; });
  }
};

// --- time-outs of commands ---

TEST_F(TroubleWithController, ALateCommandResetsTheControllerAndIsTriedAgain) {
  FakeController controller;
  must("bdev_nvme_set_options", R"({"timeout_us": 200000, "action_on_timeout": "reset"})");
  attach(controller);
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(read(host.io, 0, 4096).ok());
  controller.forget();
  controller.misbehave("read", 1, Deed::silence);
  EXPECT_TRUE(read(host.io, 0, 4096).ok());
  EXPECT_TRUE(controller.misbehaved());
  EXPECT_TRUE(saw(controller, "ICReq")) << "it connected anew";
  EXPECT_TRUE(eventually([&] { return state() == "enabled"; }));
}

TEST_F(TroubleWithController, AnAbortThatIsLateItselfResetsTheController) {
  FakeController controller;
  must("bdev_nvme_set_options", R"({"timeout_us": 200000, "timeout_admin_us": 200000, "action_on_timeout": "abort"})");
  attach(controller);
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(read(host.io, 0, 4096).ok());
  controller.forget();
  controller.misbehave("read", 1, Deed::silence);
  controller.misbehave("Abort", 1, Deed::silence);
  EXPECT_TRUE(read(host.io, 0, 4096).ok());
  EXPECT_TRUE(saw(controller, "Abort"));
  EXPECT_TRUE(saw(controller, "ICReq"));
}

TEST_F(TroubleWithController, WithoutAnActionALateCommandIsOnlyTold) {
  FakeController controller;
  must("bdev_nvme_set_options", R"({"timeout_us": 200000, "action_on_timeout": "none"})");
  attach(controller);
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(read(host.io, 0, 4096).ok());
  controller.forget();
  controller.misbehave("read", 1, Deed::silence);
  const std::uint16_t cid = host.io.submit(io_command(nvme::IoOpcode::read, 0, 8), Payload::to_host(4096));
  EXPECT_TRUE(eventually([&] { return server_->log().find("is late; action: none") != std::string::npos; }));
  EXPECT_FALSE(saw(controller, "Abort"));
  EXPECT_FALSE(saw(controller, "ICReq"));
  // Somebody has to end it.
  must("bdev_nvme_reset_controller", R"({"name": "Nvme0"})");
  EXPECT_TRUE(host.io.wait(cid).ok());
}

// --- aborts from above ---

TEST_F(InitiatorChain, AnAbortFromAboveReachesTheTargetBehind) {
  export_back(0);
  back("bdev_malloc_create", R"({"name": "Disk0", "num_blocks": 16384, "block_size": 512})");
  back("bdev_error_create", R"({"base_name": "Disk0"})");
  back("nvmf_subsystem_add_ns", std::string(R"({"nqn": ")") + back_nqn + R"(", "namespace": {"nsid": 1, "bdev_name": "EE_Disk0"}})");
  attach();
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(read(host.io, 0, 512).ok());
  back("bdev_error_inject_error", R"({"name": "EE_Disk0", "io_type": "read", "error_type": "pending", "num": 1})");
  const std::uint16_t cid = host.io.submit(io_command(nvme::IoOpcode::read, 0, 1), Payload::to_host(512));
  ASSERT_TRUE(host.io.run(io_command(static_cast<nvme::IoOpcode>(0x7E), 0, 1)).is(nvme::GenericStatus::invalid_opcode)) << "the read came before";
  auto sqe = admin_command(nvme::AdminOpcode::abort);
  sqe.cdw10 = 1U | std::uint32_t{cid} << 16;
  ASSERT_TRUE(host.admin.run(sqe).ok());
  const CommandResult ended = host.io.wait(cid);
  EXPECT_TRUE(ended.is(nvme::GenericStatus::abort_requested)) << ended.note << " sc " << int(ended.status.sc);
  EXPECT_TRUE(read(host.io, 0, 512).ok());
}

// What waits for a path is given back at once, and nothing of it goes out when the path is there again.
TEST_F(InitiatorChain, AWriteThatWaitsForAPathCanBeAborted) {
  export_back();
  attach(tried_for_ever);
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(write(host.io, 0, Bytes(512)).ok());
  back("nvmf_subsystem_remove_listener", listener(back_port_));
  ASSERT_TRUE(eventually([&] { return must("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["state"].asString() != "enabled"; }));
  const std::uint16_t cid = host.io.submit(io_command(nvme::IoOpcode::write, 0, 1), Payload::in_capsule(pattern(512, 1)));
  ASSERT_TRUE(host.io.run(io_command(static_cast<nvme::IoOpcode>(0x7E), 0, 1)).is(nvme::GenericStatus::invalid_opcode)) << "the write came before";
  auto sqe = admin_command(nvme::AdminOpcode::abort);
  sqe.cdw10 = 1U | std::uint32_t{cid} << 16;
  const CommandResult answer = host.admin.run(sqe);
  EXPECT_TRUE(answer.ok());
  EXPECT_EQ(answer.cqe.dw0 & 1, 0U) << "it was aborted";
  EXPECT_TRUE(host.io.wait(cid).is(nvme::GenericStatus::abort_requested));
  back("nvmf_subsystem_add_listener", listener(back_port_));
  EXPECT_EQ(read(host.io, 0, 512).data, Bytes(512));
}

// --- injected faults ---

// Two reactors and one queue: who borrows it meets the faults as well, and each command once.
TEST_F(InitiatorChain, FaultsReachBorrowedQueues) {
  export_back(1, R"({"trtype": "TCP", "max_io_qpairs_per_ctrlr": 1})");
  attach();
  const std::uint16_t port = serve("Nvme0n1");
  std::vector<Host> hosts;
  for (int i = 0; i < 4; ++i) hosts.push_back(connect_host(port));
  const std::string reads_of = R"({"name": "Nvme0", "cmd_type": "io", "opc": 2)";
  for (const char* how : {"", R"(, "do_not_submit": true)"}) {
    SCOPED_TRACE(how);
    must("bdev_nvme_add_error_injection", reads_of + R"(, "err_count": 1000000, "sct": 2, "sc": 129)" + how + "}");
    for (Host& host : hosts) EXPECT_FALSE(read(host.io, 0, 4096).ok());
    must("bdev_nvme_remove_error_injection", reads_of + "}");
    for (Host& host : hosts) EXPECT_TRUE(read(host.io, 0, 4096).ok());
    // As many as retries are (3), for each in turn: a command that counted twice would leave none for the last.
    for (Host& host : hosts) {
      must("bdev_nvme_add_error_injection", reads_of + R"(, "err_count": 4, "sct": 2, "sc": 129)" + how + "}");
      EXPECT_FALSE(read(host.io, 0, 4096).ok());
      must("bdev_nvme_remove_error_injection", reads_of + "}");
    }
  }
}

// --- addresses ---

TEST_F(InitiatorChain, AReserveAddressIsTriedWhenItIsAdded) {
  export_back();
  attach(R"({"multipath": "failover", "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})");
  const auto add = [this](std::uint16_t port) {
    return call("bdev_nvme_attach_controller", path_to(port, back_nqn, R"({"multipath": "failover"})"));
  };
  const auto alternates = [this] { return must("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["alternate_trids"].size(); };
  const std::uint16_t nobody = free_port();
  auto refused = add(nobody);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("onnect"), std::string::npos) << refused.error().message;
  // The same NQN, another subsystem.
  auto stranger = ServerProcess::start(server_program());
  ASSERT_TRUE(stranger.has_value());
  const std::uint16_t strange = free_port();
  ASSERT_TRUE((*stranger)->rpc().call("nvmf_create_transport", json(R"({"trtype": "TCP"})")));
  ASSERT_TRUE((*stranger)->rpc().call("nvmf_create_subsystem",
                                      json(std::string(R"({"nqn": ")") + back_nqn + R"(", "allow_any_host": true, "serial_number": "STRANGER"})")));
  ASSERT_TRUE((*stranger)->rpc().call("nvmf_subsystem_add_listener", json(listener(strange))));
  refused = add(strange);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("serial number"), std::string::npos) << refused.error().message;
  EXPECT_EQ((*stranger)->stop(), 0);
  EXPECT_EQ(alternates(), 0U);
  const std::uint16_t second = free_port();
  back("nvmf_subsystem_add_listener", listener(second));
  auto added = add(second);
  EXPECT_TRUE(added.has_value()) << added.error().message;
  EXPECT_EQ(alternates(), 1U);
}

// What was chosen for one bdev lasts: over a reconnect, which changes controller ids, and over a restart.
TEST_F(InitiatorChain, ChoicesOfPathsLastAndAreSaved) {
  export_back();
  const std::uint16_t second = free_port();
  back("nvmf_subsystem_add_listener", listener(second));
  const char* multipath = R"({"multipath": "multipath", "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})";
  attach(multipath);
  must("bdev_nvme_attach_controller", path_to(second, back_nqn, R"({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})"));
  const std::uint16_t port = serve("Nvme0n1");
  Host host = connect_host(port);
  const auto used = [this] {
    std::string found;
    const Json::Value paths = must("bdev_nvme_get_io_paths");  // named, as g++ 12 ends a temporary's life before the loop
    for (const auto& group : paths["poll_groups"]) {
      for (const auto& path : group["io_paths"]) {
        if (path["current"].asBool()) found = path["transport"]["trsvcid"].asString();
      }
    }
    return found;
  };
  const auto ctrlrs = [this] { return must("bdev_nvme_get_controllers")[0]["ctrlrs"]; };
  must("bdev_nvme_set_multipath_policy", R"({"name": "Nvme0n1", "policy": "active_passive"})");
  must("bdev_nvme_set_preferred_path", R"({"name": "Nvme0n1", "cntlid": )" + std::to_string(ctrlrs()[1]["cntlid"].asUInt()) + "}");
  // A path that connects after the first read makes the choice anew, with the next read.
  ASSERT_TRUE(eventually([&] { return read(host.io, 0, 512).ok() && used() == std::to_string(second); })) << used();
  must("bdev_nvme_reset_controller", R"({"name": "Nvme0"})");
  ASSERT_TRUE(eventually([&] { return read(host.io, 0, 512).ok() && used() == std::to_string(second); })) << used();
  const Json::Value saved = must("framework_get_config", R"({"name": "bdev"})");
  must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
  bool preferred = false;
  for (const auto& entry : saved) {
    if (!entry["method"].asString().starts_with("bdev_nvme")) continue;
    must(entry["method"].asString(), entry["params"]);
    preferred = preferred || entry["method"].asString() == "bdev_nvme_set_preferred_path";
  }
  EXPECT_TRUE(preferred);
  EXPECT_EQ(must("framework_get_config", R"({"name": "bdev"})"), saved);
  auto refused = call("bdev_nvme_set_preferred_path", json(R"({"name": "Nvme0n1", "traddr": "127.0.0.1", "trsvcid": "1"})"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("no path to 127.0.0.1:1"), std::string::npos) << refused.error().message;
  EXPECT_FALSE(call("bdev_nvme_set_preferred_path", json(R"({"name": "Nvme0n1"})")).has_value());
}

// --- writes whose fate is unknown ---

// Detached and attached again, the volume still has the lost write on its way.
TEST_F(TroubleWithController, ALostWriteHoldsLaterOnesAlsoAfterTheControllerWasAttachedAnew) {
  constexpr std::uint16_t cqt_ms = 1500;
  FakeController controller;
  controller.change_answers([](const std::string& step, nvme::CompletionEntry&, Bytes& data) {
    if (step != "Identify CNS 01h") return;
    const le16 cqt = cqt_ms;
    std::memcpy(data.data() + offsetof(nvme::IdentifyController, cqt), &cqt, sizeof cqt);
  });
  attach(controller, "{}");
  const std::uint16_t port = serve("Nvme0n1");
  Host host = connect_host(port);
  ASSERT_TRUE(write(host.io, 0, pattern(4096, 1)).ok());
  controller.forget();
  controller.misbehave("write", 1, Deed::reset);
  controller.misbehave("accept", 0, Deed::close);  // and nobody gets in any more
  const auto lost_after = Clock::now();
  EXPECT_FALSE(write(host.io, 0, pattern(4096, 2)).ok()) << "it is unknown";
  must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
  controller.forget();
  attach(controller, "{}");
  must("nvmf_subsystem_add_ns", std::string(R"({"nqn": ")") + front_nqn + R"(", "namespace": {"nsid": 2, "bdev_name": "Nvme0n1"}})");
  host = connect_host(port);
  ASSERT_TRUE(host.io.run(io_command(nvme::IoOpcode::write, 100, 1, 2), Payload::in_capsule(pattern(512, 3))).ok()) << "other blocks do not wait";
  ASSERT_TRUE(host.io.run(io_command(nvme::IoOpcode::write, 7, 1, 2), Payload::in_capsule(pattern(512, 4))).ok());
  EXPECT_GE(Clock::now() - lost_after, Milliseconds(cqt_ms));
}

// --- what stands behind an address ---

// The target comes back with another volume in the old one's place: nothing that was meant for the old one is carried out there.
TEST_F(InitiatorChain, AnotherVolumeAtTheSameAddressIsNotTheOldOne) {
  export_back();
  attach(tried_for_ever);
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(write(host.io, 0, pattern(4096, 1)).ok());
  const std::string old_uuid = must("bdev_get_bdevs", R"({"name": "Nvme0n1"})")[0]["uuid"].asString();
  ASSERT_EQ(::kill(back_->pid(), SIGKILL), 0);
  const std::uint16_t cid = host.io.submit(io_command(nvme::IoOpcode::write, 0, 1), Payload::in_capsule(pattern(512, 2)));
  auto started = ServerProcess::start(server_program());
  ASSERT_TRUE(started.has_value());
  back_ = std::move(*started);
  export_back();
  EXPECT_FALSE(host.io.wait(cid).ok());
  EXPECT_TRUE(eventually([&] {
    const auto found = call("bdev_get_bdevs", json(R"({"name": "Nvme0n1"})"));
    return found && (*found)[0]["uuid"].asString() != old_uuid;
  }));
  HostQueues behind = protocol::connect_host(back_port_, back_nqn);
  ASSERT_EQ(behind.io.size(), 1U);
  EXPECT_EQ(read(behind.io[0], 0, 4096).data, Bytes(4096)) << "the new volume is as it was";
}

// A UUID is one bdev's. Who attaches the same subsystem under two names has its namespaces under the first, and under the second when that goes.
TEST_F(InitiatorChain, ANamespaceIsOneBdevWhateverItIsCalled) {
  export_back(2);
  attach();
  EXPECT_TRUE(must("bdev_nvme_attach_controller", path_to(back_port_, back_nqn, "{}", "Again")).empty());
  EXPECT_EQ(bdevs(), (std::vector<std::string>{"Nvme0n1", "Nvme0n2"}));
  must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
  EXPECT_TRUE(eventually([&] { return bdevs() == std::vector<std::string>{"Againn1", "Againn2"}; }));
}

TEST_F(InitiatorChain, ManyNamespacesComeAndGoTogether) {
  constexpr int namespaces = 200;
  back_port_ = free_port();
  back("nvmf_create_transport", R"({"trtype": "TCP"})");
  back("nvmf_create_subsystem", std::string(R"({"nqn": ")") + back_nqn + R"(", "allow_any_host": true, "max_namespaces": 512})");
  back("nvmf_subsystem_add_listener", listener(back_port_));
  for (int i = 1; i <= namespaces; ++i) {
    const std::string name = "Null" + std::to_string(i);
    back("bdev_null_create", R"({"name": ")" + name + R"(", "num_blocks": 1024, "block_size": 512})");
    back("nvmf_subsystem_add_ns",
         std::string(R"({"nqn": ")") + back_nqn + R"(", "namespace": {"nsid": )" + std::to_string(i) + R"(, "bdev_name": ")" + name + "\"}}");
  }
  EXPECT_EQ(attach().size(), std::size_t{namespaces});
  EXPECT_EQ(bdevs().size(), std::size_t{namespaces});
  // Removed while they are being looked at.
  for (int i = 1; i <= namespaces; i += 2)
    back("nvmf_subsystem_remove_ns", std::string(R"({"nqn": ")") + back_nqn + R"(", "nsid": )" + std::to_string(i) + "}");
  EXPECT_TRUE(eventually([&] { return bdevs().size() == namespaces / 2; })) << bdevs().size();
  must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
  EXPECT_TRUE(bdevs().empty());
}

// --- Copy ---

// The controller copies; nothing is read and written from here.
TEST_F(InitiatorChain, CopiesAreTheControllers) {
  export_back();
  attach();
  Host host = connect_host(serve("Nvme0n1"));
  Bytes content = pattern(131072, 5);
  ASSERT_TRUE(write(host.io, 0, content).ok());
  const auto copy = [&](std::uint64_t from, std::uint64_t to, std::uint32_t blocks) {
    nvme::CopyRange range;
    range.slba = from;
    range.nlb = static_cast<std::uint16_t>(blocks - 1);
    auto sqe = io_command(nvme::IoOpcode::copy, to, 1);
    sqe.cdw12 = 0U;
    return host.io.run(sqe, Payload::in_capsule(bytes_of(range)));
  };
  ASSERT_TRUE(copy(0, 1000, 256).ok());
  EXPECT_EQ(read(host.io, 1000, 131072).data, content);
  const Json::Value stats = back("bdev_get_iostat", R"({"name": "Disk0"})")["bdevs"][0];
  EXPECT_GT(stats["num_copy_ops"].asUInt64(), 0U);
}

// --- resets ---

// Reset again and again under I/O: a controller that still hears us finishes what it has begun.
TEST_F(InitiatorChain, ResetsUnderIoLoseNothing) {
  export_back();
  attach(tried_for_ever);
  Host host = connect_host(serve("Nvme0n1"));
  std::atomic<bool> over{false};
  std::thread resets([&] {
    for (int i = 0; i < 10; ++i) must("bdev_nvme_reset_controller", R"({"name": "Nvme0"})");
    over = true;
  });
  std::uint32_t round = 0;
  while (!over || round == 0) {
    const Bytes content = pattern(16384, ++round);
    if (!write(host.io, 8 * (round % 4), content).ok() || read(host.io, 8 * (round % 4), 16384).data != content) {
      ADD_FAILURE() << "in round " << round;
      break;
    }
  }
  resets.join();
  EXPECT_GT(round, 0U);
  EXPECT_EQ(back_->log().find("broke the protocol"), std::string::npos);
}

// Paths are added and taken away under I/O, so that each is the only one now and then.
TEST_F(InitiatorChain, PathsComeAndGoUnderIo) {
  export_back();
  const std::uint16_t first = back_port_, second = free_port();
  back("nvmf_subsystem_add_listener", listener(second));
  const char* multipath = R"({"multipath": "multipath", "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})";
  attach(multipath);
  Host host = connect_host(serve("Nvme0n1"));
  std::atomic<bool> over{false};
  std::thread changes([&] {
    for (int i = 0; i < 10; ++i) {
      const std::uint16_t comes = i % 2 == 0 ? second : first, goes = i % 2 == 0 ? first : second;
      must("bdev_nvme_attach_controller", path_to(comes, back_nqn, multipath));
      must("bdev_nvme_detach_controller", path_to(goes, back_nqn));
    }
    over = true;
  });
  std::uint32_t round = 0;
  while (!over || round == 0) {
    const Bytes content = pattern(16384, ++round);
    if (!write(host.io, 32 * (round % 4), content).ok() || read(host.io, 32 * (round % 4), 16384).data != content) {
      ADD_FAILURE() << "in round " << round;
      break;
    }
  }
  changes.join();
  EXPECT_GT(round, 0U);
}

TEST_F(InitiatorChain, ANamespaceThatGoesUnderIoEndsItAndMayComeBack) {
  export_back();
  attach(tried_for_ever);
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(write(host.io, 0, pattern(512, 1)).ok());
  std::vector<std::uint16_t> cids;
  for (std::uint32_t i = 0; i < 16; ++i) cids.push_back(host.io.submit(io_command(nvme::IoOpcode::read, 8 * i, 8), Payload::to_host(4096)));
  back("nvmf_subsystem_remove_ns", std::string(R"({"nqn": ")") + back_nqn + R"(", "nsid": 1})");
  for (const std::uint16_t cid : cids) EXPECT_EQ(host.io.wait(cid).outcome, Outcome::pdu) << "well or not, each is answered";
  EXPECT_TRUE(eventually([&] { return bdevs().empty(); }));
  EXPECT_FALSE(read(host.io, 0, 512).ok());
  back("nvmf_subsystem_add_ns", std::string(R"({"nqn": ")") + back_nqn + R"(", "namespace": {"nsid": 1, "bdev_name": "Disk0"}})");
  EXPECT_TRUE(eventually([&] { return bdevs() == std::vector<std::string>{"Nvme0n1"}; }));
}

}  // namespace
}  // namespace catnap::protocol
