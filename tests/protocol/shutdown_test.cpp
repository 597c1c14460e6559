// SIGTERM while hosts are in every stage of a command: the server answers what is in execution, ends, and exits with 0.
// Owner: the test, which starts a server of its own for each case. Left out: power cuts (tests/e2e).
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "tests/protocol/client/host.h"
#include "tests/protocol/client/server_process.h"

namespace catnap::protocol {
namespace {

constexpr const char* nqn = "nqn.2026-11.io.catnap:shutdown";

class ShutdownTest : public testing::Test {
 protected:
  void SetUp() override {
    port_ = free_port();
    auto started = ServerProcess::start(CATNAP_SERVER);
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    const std::string subsystem = std::string(R"({"nqn": ")") + nqn + "\"";
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    call("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 65536, "block_size": 512})");
    call("nvmf_create_subsystem", subsystem + R"(, "allow_any_host": true})");
    call("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"bdev_name": "Malloc0"}})");
    call("nvmf_subsystem_add_listener", subsystem + R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                            std::to_string(port_) + R"("}})");
  }

  void call(const std::string& method, const std::string& params) {
    const auto answer = server_->rpc().call(method, json(params));
    ASSERT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
  }
  Connection open_queue(std::uint16_t qid, std::uint16_t cntlid, ConnectionOptions options = {}) {
    auto opened = Connection::open(port_, options);
    EXPECT_TRUE(opened.has_value());
    if (!opened) return {};
    const CommandResult connected = connect_queue(*opened, {.subnqn = nqn, .cntlid = cntlid, .qid = qid});
    EXPECT_TRUE(connected.ok());
    cntlid_ = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0} & 0xFFFF);
    return std::move(*opened);
  }
  Connection open_admin() {
    Connection admin = open_queue(0, nvme::cntlid_dynamic);
    EXPECT_TRUE(enable(admin));
    return admin;
  }
  // The server ends by itself (stop() kills one that does not) and says why it left anything undone.
  void expect_clean_end() {
    const auto began = std::chrono::steady_clock::now();
    EXPECT_EQ(server_->stop(), 0) << server_->log();
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
    printf("ended within %lld ms\n", static_cast<long long>(took.count()));
  }

  std::unique_ptr<ServerProcess> server_;
  std::uint16_t port_ = 0;
  std::uint16_t cntlid_ = 0;
};

TEST_F(ShutdownTest, WithQuietHosts) {
  std::vector<Connection> queues;
  queues.push_back(open_admin());
  for (std::uint16_t qid = 1; qid <= 8; ++qid) queues.push_back(open_queue(qid, cntlid_));
  expect_clean_end();
}

TEST_F(ShutdownTest, WithAHostThatOwesTheDataOfAWrite) {
  Connection admin = open_admin();
  Connection io = open_queue(1, cntlid_);
  ASSERT_TRUE(io.send(io.capsule([] {
    nvme::SubmissionEntry sqe = io_command(nvme::IoOpcode::write, 0, 256);
    sqe.cid = 77;
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.sgl.length = 131072U;
    sqe.sgl.set_type(nvme::SglType::transport_data_block, nvme::SglSubtype::transport);
    return sqe;
  }())));
  ASSERT_EQ(io.receive_pdu().type(), tcp::PduType::r2t);
  expect_clean_end();
}

TEST_F(ShutdownTest, WithAHostThatStoppedReading) {
  Connection admin = open_admin();
  Connection io = open_queue(1, cntlid_, {.receive_buffer_bytes = 4096});
  for (int i = 0; i < 30; ++i) io.submit(io_command(nvme::IoOpcode::read, 0, 256), Payload::to_host(131072));
  // The admin queue is answered after the reads were taken up, as both live on one reactor.
  ASSERT_TRUE(identify(admin, nvme::Cns::controller).ok());
  expect_clean_end();
}

TEST_F(ShutdownTest, WithEventRequestsOutstanding) {
  Connection admin = open_admin();
  for (int i = 0; i < 4; ++i) admin.submit(admin_command(nvme::AdminOpcode::async_event_request));
  ASSERT_TRUE(identify(admin, nvme::Cns::controller).ok());
  expect_clean_end();
}

TEST_F(ShutdownTest, WithHalfAHandshakeAndAConnectionThatIsBeingTerminated) {
  auto half = Connection::open_bare(port_);
  auto wrong = Connection::open_bare(port_);
  ASSERT_TRUE(half.has_value() && wrong.has_value());
  Connection admin = open_admin();
  tcp::IcReq request;
  request.ch.type = static_cast<std::uint8_t>(tcp::PduType::ic_req);
  request.ch.hlen = sizeof request;
  request.ch.plen = static_cast<std::uint32_t>(sizeof request);
  const Bytes whole = bytes_of(request);
  ASSERT_TRUE(half->send(std::span(whole).first(60)));
  ASSERT_TRUE(wrong->send(Bytes(60)));  // HLEN 0
  ASSERT_EQ(wrong->receive_pdu().type(), tcp::PduType::c2h_term_req);
  expect_clean_end();
  EXPECT_EQ(server_->log().find("did not end"), std::string::npos) << "nothing here needed to be waited for";
}

}  // namespace
}  // namespace catnap::protocol
