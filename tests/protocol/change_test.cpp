// Configuration that changes under a connected host, in the middle of its commands: who loses what, and that nobody else does.
// Owner: the test. Left out: the events themselves (events_test.cpp).
#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

constexpr const char* changing_nqn = "nqn.2026-11.io.catnap:changing";

class ChangeTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    rpc("nvmf_create_subsystem", with_nqn(R"("serial_number": "CATNAP0003")"));
    rpc("nvmf_subsystem_add_host", with_nqn(host_json()));
    rpc("nvmf_subsystem_add_ns", with_nqn(R"("namespace": {"bdev_name": "Malloc1", "nsid": 1})"));
    rpc("nvmf_subsystem_add_listener", with_nqn(address_json()));
    admin_ = open_admin({.subnqn = changing_nqn}, &cntlid_);
    io_ = open();
    ASSERT_TRUE(succeeded(connect_queue(io_, {.subnqn = changing_nqn, .cntlid = cntlid_, .qid = 1})));
  }
  void TearDown() override {
    if (!deleted_) rpc("nvmf_delete_subsystem", with_nqn(""));
    ProtocolTest::TearDown();
  }

  static std::string with_nqn(const std::string& rest) {
    return R"({"nqn": ")" + std::string(changing_nqn) + "\"" + (rest.empty() ? "" : ", ") + rest + "}";
  }
  static std::string host_json() { return R"("host": ")" + std::string(default_host_nqn) + R"(")"; }
  static std::string address_json() {
    return R"("listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(server_port()) + R"("})";
  }

  // A write that waits for its data.
  tcp::R2T start_write() {
    auto sqe = io_command(nvme::IoOpcode::write, 0, 16);
    sqe.set_psdt(nvme::Psdt::sgl);
    sqe.sgl.type_and_subtype = 0x5A;
    sqe.sgl.length = 8192;
    sqe.cid = 33;
    io_.send(io_.capsule(sqe));
    auto pdu = io_.receive_pdu();
    EXPECT_EQ(pdu.type(), tcp::PduType::r2t) << pdu.note;
    return pdu.as<tcp::R2T>();
  }

  void expect_queues_end() {
    EXPECT_TRUE(io_.receive_until_closed().has_value()) << "the I/O queue stays";
    EXPECT_TRUE(admin_.receive_until_closed().has_value()) << "the admin queue stays";
  }

  Connection admin_;
  Connection io_;
  std::uint16_t cntlid_ = 0;
  bool deleted_ = false;
};

// Proves: access | Namespace removal under I/O | Base 2.0c 8.11
TEST_F(ChangeTest, ANamespaceRemovedWhileItsDataAreOnTheWay) {
  auto r2t = start_write();
  rpc("nvmf_subsystem_remove_ns", with_nqn(R"("nsid": 1)"));
  io_.send(io_.h2c_data(33, r2t.ttag, 0, pattern(8192, 1), true));
  auto answer = io_.receive_pdu();
  ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
  ASSERT_EQ(answer.type(), tcp::PduType::capsule_resp);
  EXPECT_TRUE(has_status(read(io_, 0, 512), nvme::GenericStatus::invalid_namespace_or_format));
  EXPECT_TRUE(succeeded(identify(admin_, nvme::Cns::controller)));
}

TEST_F(ChangeTest, ABdevDeletedWhileItsDataAreOnTheWay) {
  rpc("bdev_malloc_create", R"({"name": "Doomed", "num_blocks": 1024, "block_size": 512})");
  rpc("nvmf_subsystem_remove_ns", with_nqn(R"("nsid": 1)"));
  rpc("nvmf_subsystem_add_ns", with_nqn(R"("namespace": {"bdev_name": "Doomed", "nsid": 1})"));
  auto r2t = start_write();
  rpc("bdev_malloc_delete", R"({"name": "Doomed"})");
  io_.send(io_.h2c_data(33, r2t.ttag, 0, pattern(8192, 1), true));
  auto answer = io_.receive_pdu();
  ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
  ASSERT_EQ(answer.type(), tcp::PduType::capsule_resp);
  EXPECT_FALSE(read(io_, 0, 512).ok());
  EXPECT_TRUE(succeeded(identify(admin_, nvme::Cns::controller)));
}

TEST_F(ChangeTest, AHostThatIsNoLongerAllowedIsSentAway) {
  rpc("nvmf_subsystem_remove_host", with_nqn(host_json()));
  expect_queues_end();
  auto again = open();
  EXPECT_TRUE(has_status(connect_queue(again, {.subnqn = changing_nqn}), nvme::FabricsStatus::connect_invalid_host));
}

TEST_F(ChangeTest, ARemovedListenerTakesItsQueuesAlong) {
  rpc("nvmf_subsystem_remove_listener", with_nqn(address_json()));
  expect_queues_end();
}

// Proves: access | Subsystem deletion under I/O | Base 2.0c 8.11
TEST_F(ChangeTest, ADeletedSubsystemTakesItsQueuesAlong) {
  start_write();
  rpc("nvmf_delete_subsystem", with_nqn(""));
  deleted_ = true;
  expect_queues_end();
  auto again = open();
  EXPECT_TRUE(has_status(connect_queue(again, {.subnqn = changing_nqn}), nvme::FabricsStatus::connect_invalid_parameters));
}

TEST_F(ChangeTest, AnotherHostAddedDisturbsNobody) {
  rpc("nvmf_subsystem_add_host", with_nqn(R"("host": ")" + std::string(allowed_host_nqn) + R"(")"));
  EXPECT_TRUE(succeeded(write(io_, 0, pattern(8192, 2))));
  EXPECT_EQ(read(io_, 0, 8192).data, pattern(8192, 2));
}

TEST_F(ChangeTest, AResetWhileAWriteWaitsForItsData) {
  start_write();
  EXPECT_TRUE(disable(admin_));
  EXPECT_TRUE(io_.receive_until_closed().has_value());
  EXPECT_TRUE(enable(admin_));
}

// Proves: admin | Abort | Base 2.0c 5.1
TEST_F(ChangeTest, AbortingAWriteThatWaitsForItsDataHarmsNobody) {
  auto r2t = start_write();
  auto sqe = admin_command(nvme::AdminOpcode::abort);
  sqe.cdw10 = 33U << 16 | 1;
  EXPECT_TRUE(succeeded(admin_.run(sqe)));
  io_.send(io_.h2c_data(33, r2t.ttag, 0, pattern(8192, 1), true));
  auto answer = io_.receive_pdu();  // its completion, or a termination for a tag that is gone
  EXPECT_EQ(answer.outcome, Outcome::pdu) << answer.note;
  EXPECT_TRUE(succeeded(identify(admin_, nvme::Cns::controller)));
}

}  // namespace
}  // namespace catnap::protocol
