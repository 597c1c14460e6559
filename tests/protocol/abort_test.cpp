// Abort against a server whose queues lie on different reactors and whose disk takes its time, and what becomes of commands in flight when their
// namespace or subsystem goes (Base 2.0 section 5.1).
// Owner: the test, which starts a server of its own. Left out: single cases on a virtual clock (tests/unit/server/abort_test.cpp).
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"
#include "transport/nvme/copy.h"

namespace catnap::protocol {
namespace {

constexpr const char* nqn = "nqn.2026-11.io.catnap:abort";
constexpr std::size_t io_queues = 4;            // over both reactors
constexpr std::uint32_t slow_us = 600'000'000;  // far longer than any test waits: who is answered was aborted
constexpr std::uint32_t brief_us = 300'000;     // long enough to be in flight when the next RPC comes

class AbortTest : public testing::Test {
 protected:
  void SetUp() override {
    port_ = free_port();
    auto started = ServerProcess::start(CATNAP_SERVER, {"-m", two_cpus()});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    call("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 65536, "block_size": 512})");
    call("bdev_malloc_create", R"({"name": "Malloc1", "num_blocks": 65536, "block_size": 512})");
    delay("Slow", "Malloc0", slow_us);
    delay("Brief", "Malloc1", brief_us);
    call("nvmf_create_subsystem", with_nqn(R"("allow_any_host": true)"));
    call("nvmf_subsystem_add_ns", with_nqn(R"("namespace": {"bdev_name": "Slow", "nsid": 1})"));
    call("nvmf_subsystem_add_ns", with_nqn(R"("namespace": {"bdev_name": "Brief", "nsid": 2})"));
    call("nvmf_subsystem_add_listener",
         with_nqn(R"("listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port_) + R"("})"));
    ASSERT_NO_FATAL_FAILURE(connect());
  }
  void TearDown() override {
    admin_ = {};
    io_.clear();
    if (server_ == nullptr) return;
    EXPECT_TRUE(server_->is_running());
    EXPECT_EQ(server_->stop(), 0);
    if (HasFailure()) printf("---- server log ----\n%s\n", server_->log().c_str());
  }

  static std::string with_nqn(const std::string& rest) { return R"({"nqn": ")" + std::string(nqn) + "\"" + (rest.empty() ? "" : ", ") + rest + "}"; }
  void call(const std::string& method, const std::string& params) {
    const auto answer = server_->rpc().call(method, json(params));
    ASSERT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
  }
  void delay(const std::string& name, const std::string& base, std::uint32_t us) {
    std::string params = R"({"name": ")" + name + R"(", "base_bdev_name": ")" + base + "\"";
    for (const char* each : {"avg_read_latency", "p99_read_latency", "avg_write_latency", "p99_write_latency"}) {
      params += std::string(", \"") + each + "\": " + std::to_string(us);
    }
    call("bdev_delay_create", params + "}");
  }
  void connect() {
    HostQueues host = connect_host(port_, nqn, io_queues);
    ASSERT_EQ(host.io.size(), io_queues);
    admin_ = std::move(host.admin);
    io_ = std::move(host.io);
  }

  // The answer's DW0 bit 0 turned round.
  bool abort(std::size_t queue, std::uint16_t cid) {
    auto sqe = admin_command(nvme::AdminOpcode::abort);
    sqe.cdw10 = static_cast<std::uint32_t>(queue + 1) | std::uint32_t{cid} << 16;
    const CommandResult answer = admin_.run(sqe);
    EXPECT_TRUE(answer.ok()) << answer.note;
    return (answer.cqe.dw0 & 1) == 0;
  }

  // One of every kind of command that stays with the disk.
  struct Kind {
    const char* name;
    bool delayed;  // a delay bdev holds reads and writes, and what is made of them
    std::function<std::vector<std::uint16_t>(Connection& io, std::uint32_t nsid)> start;
  };
  static std::vector<Kind> kinds() {
    const auto plain = [](nvme::IoOpcode opcode) {
      return [opcode](Connection& io, std::uint32_t nsid) {
        const auto way = nvme::data_of(static_cast<std::uint8_t>(opcode));
        const bool zeroes = opcode == nvme::IoOpcode::write_zeroes;
        Payload payload = zeroes || way == nvme::OpcodeData::none       ? Payload::none()
                          : way == nvme::OpcodeData::controller_to_host ? Payload::to_host(4096)
                                                                        : Payload::in_capsule(Bytes(4096));
        return std::vector<std::uint16_t>{io.submit(io_command(opcode, 64, 8, nsid), std::move(payload))};
      };
    };
    const auto fused = [](Connection& io, std::uint32_t nsid) {
      auto first = io_command(nvme::IoOpcode::compare, 8, 1, nsid);
      auto second = io_command(nvme::IoOpcode::write, 8, 1, nsid);
      first.flags = static_cast<std::uint8_t>(nvme::Fuse::first);
      second.flags = static_cast<std::uint8_t>(nvme::Fuse::second);
      const auto first_cid = io.submit(first, Payload::in_capsule(Bytes(512)));
      return std::vector<std::uint16_t>{first_cid, io.submit(second, Payload::by_r2t(Bytes(512)))};
    };
    const auto copy = [](Connection& io, std::uint32_t nsid) {
      std::vector<nvme::CopyRange> ranges(3);
      for (std::size_t i = 0; i < ranges.size(); ++i) ranges[i].slba = 100 + i;
      auto sqe = io_command(nvme::IoOpcode::copy, 500, 1, nsid);
      sqe.cdw12 = 2U;
      const auto view = std::as_bytes(std::span(ranges));
      return std::vector<std::uint16_t>{io.submit(sqe, Payload::in_capsule(Bytes(view.begin(), view.end())))};
    };
    const auto dataset = [](Connection& io, std::uint32_t nsid) {
      std::vector<nvme::DsmRange> ranges(3);
      for (auto& range : ranges) range.blocks = 8U;
      auto sqe = io_command(nvme::IoOpcode::dataset_management, 0, 1, nsid);
      sqe.cdw10 = 2U;
      sqe.cdw11 = nvme::dsm_deallocate;
      sqe.cdw12 = 0U;
      const auto view = std::as_bytes(std::span(ranges));
      return std::vector<std::uint16_t>{io.submit(sqe, Payload::in_capsule(Bytes(view.begin(), view.end())))};
    };
    return {{"read", true, plain(nvme::IoOpcode::read)},
            {"write", true, plain(nvme::IoOpcode::write)},
            {"compare", true, plain(nvme::IoOpcode::compare)},
            {"verify", true, plain(nvme::IoOpcode::verify)},
            {"write zeroes", false, plain(nvme::IoOpcode::write_zeroes)},
            {"dataset management", false, dataset},
            {"copy", true, copy},
            {"fused", true, fused}};
  }

  std::uint16_t port_ = 0;
  std::unique_ptr<ServerProcess> server_;
  Connection admin_;
  std::vector<Connection> io_;
};

// Proves: admin | Abort | Base 2.0c 5.1
TEST_F(AbortTest, EveryKindOfCommandThatTheDiskDelaysOnEveryQueue) {
  for (std::size_t queue = 0; queue < io_.size(); ++queue) {
    for (const Kind& kind : kinds()) {
      if (!kind.delayed) continue;
      const auto cids = kind.start(io_[queue], 1);
      // The command is with the server before the Abort is: its queue has answered what came after it.
      ASSERT_TRUE(io_[queue].run(io_command(static_cast<nvme::IoOpcode>(0x7E), 0, 1)).is(nvme::GenericStatus::invalid_opcode)) << kind.name;
      EXPECT_TRUE(abort(queue, cids.back())) << kind.name;
      for (const std::uint16_t cid : cids) {
        const CommandResult ended = io_[queue].wait(cid);
        EXPECT_TRUE(ended.is(nvme::GenericStatus::abort_requested) || (cids.size() == 2 && ended.is(nvme::GenericStatus::failed_fused)))
            << kind.name << " on queue " << queue << ": " << ended.note << " sc " << int(ended.status.sc);
      }
    }
  }
  // Nothing of it was carried out, and the queues go on.
  for (Connection& io : io_) EXPECT_TRUE(flush(io, 2).ok());
}

TEST_F(AbortTest, AWriteWhoseDataHasNotCome) {
  auto sqe = io_command(nvme::IoOpcode::write, 0, 16, 2);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.type_and_subtype = 0x5A;
  sqe.sgl.length = 8192;
  sqe.cid = 0x4321;
  io_[1].send(io_[1].capsule(sqe));
  const auto r2t = io_[1].receive_pdu();
  ASSERT_EQ(r2t.type(), tcp::PduType::r2t);
  EXPECT_TRUE(abort(1, 0x4321));
  const auto answer = io_[1].receive_pdu();
  ASSERT_EQ(answer.type(), tcp::PduType::capsule_resp) << answer.note;
  EXPECT_TRUE(nvme::status_of(answer.as<tcp::CapsuleResp>().cqe).same_code(nvme::GenericStatus::abort_requested));
  io_[1].send(io_[1].h2c_data(0x4321, r2t.as<tcp::R2T>().ttag, 0, Bytes(8192), true));
  EXPECT_TRUE(flush(io_[1], 2).ok()) << "data that still comes does no harm";
}

TEST_F(AbortTest, TheAnswerTellsWhatWasTooLate) {
  EXPECT_TRUE(flush(io_[0], 2).ok());
  EXPECT_FALSE(abort(0, 1)) << "done";
  EXPECT_FALSE(abort(0, 0x7654)) << "never there";
  EXPECT_FALSE(abort(77, 1)) << "no such queue";
}

// Proves: access | Namespace removal under I/O | Base 2.0c 8.11
TEST_F(AbortTest, ARemovedNamespaceLetsEveryCommandEnd) {
  std::vector<std::pair<std::size_t, std::vector<std::uint16_t>>> started;
  for (std::size_t queue = 0; queue < io_.size(); ++queue) {
    for (const Kind& kind : kinds()) started.emplace_back(queue, kind.start(io_[queue], 2));
    ASSERT_TRUE(io_[queue].run(io_command(static_cast<nvme::IoOpcode>(0x7E), 0, 1)).is(nvme::GenericStatus::invalid_opcode));
  }
  call("nvmf_subsystem_remove_ns", with_nqn(R"("nsid": 2)"));
  for (const auto& [queue, cids] : started) {
    for (const std::uint16_t cid : cids) {
      const CommandResult ended = io_[queue].wait(cid);
      ASSERT_EQ(ended.outcome, Outcome::pdu) << ended.note;
      // What the disk had is carried out; further steps find no namespace.
      EXPECT_TRUE(ended.ok() || ended.is(nvme::GenericStatus::invalid_namespace_or_format) || ended.is(nvme::PathStatus::internal_path_error) ||
                  ended.is(nvme::MediaStatus::compare_failure) || ended.is(nvme::GenericStatus::failed_fused))
          << int(ended.status.sct) << "/" << int(ended.status.sc);
    }
    EXPECT_TRUE(flush(io_[queue], 2).is(nvme::GenericStatus::invalid_namespace_or_format));
  }
  call("bdev_delay_delete", R"({"name": "Brief"})");
}

// Proves: access | Subsystem deletion under I/O | Base 2.0c 8.11
TEST_F(AbortTest, ADeletedSubsystemEndsItsConnectionsAndLetsGoOfTheDisk) {
  for (Connection& io : io_) {
    for (const Kind& kind : kinds()) kind.start(io, 2);
  }
  call("nvmf_delete_subsystem", with_nqn(""));
  for (Connection& io : io_) EXPECT_TRUE(io.receive_until_closed().has_value());
  EXPECT_TRUE(admin_.receive_until_closed().has_value());
  call("bdev_delay_delete", R"({"name": "Brief"})");
  call("bdev_malloc_delete", R"({"name": "Malloc1"})");
}

}  // namespace
}  // namespace catnap::protocol
