// The server under test and the bystander. Owner: the test's thread. Left out: see fixture.h.
#include "tests/protocol/fixture.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

namespace catnap::protocol {

namespace {

// The last block: no test writes there.
constexpr std::uint64_t bystander_lba = namespace_blocks - 8;

class Target {
 public:
  bool start() {
    auto started = ServerProcess::start(CATNAP_SERVER);
    if (!started) {
      ADD_FAILURE() << started.error().message;
      return false;
    }
    server_ = std::move(*started);
    return configure();
  }

  void stop() {
    if (server_ == nullptr) return;
    EXPECT_TRUE(server_->is_running()) << "the server died: " << server_->log();
    EXPECT_EQ(server_->stop(), 0) << server_->log();
    if (testing::UnitTest::GetInstance()->Failed()) printf("---- server log ----\n%s\n", server_->log().c_str());
    server_.reset();
  }

  bool call(const std::string& method, const std::string& params, Json::Value* result = nullptr) {
    auto answer = server_->rpc().call(method, params.empty() ? Json::Value() : json(params));
    if (!answer) {
      ADD_FAILURE() << "RPC " << params << ": " << answer.error().message << " (" << answer.error().err << ")";
      return false;
    }
    if (result != nullptr) *result = *answer;
    return true;
  }

  ServerProcess* server() { return server_.get(); }
  std::uint16_t port() const { return port_; }

 private:
  bool configure() {
    port_ = free_port();
    std::string address =
        R"("listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port_) + R"("})";
    std::string test = R"("nqn": ")" + std::string(subsystem_nqn) + R"(")";
    std::string restricted = R"("nqn": ")" + std::string(restricted_nqn) + R"(")";
    std::string transport = R"({"trtype": "TCP", "max_io_size": )" + std::to_string(max_io_bytes) + R"(, "in_capsule_data_size": )" +
                            std::to_string(in_capsule_bytes) + R"(, "max_queue_depth": )" + std::to_string(max_queue_entries) + "}";
    std::string blocks = R"("num_blocks": )" + std::to_string(namespace_blocks) + R"(, "block_size": 512)";
    return call("nvmf_create_transport", transport) && call("bdev_malloc_create", R"({"name": "Malloc0", )" + blocks + "}") &&
           call("bdev_malloc_create", R"({"name": "Malloc1", )" + blocks + "}") && call("bdev_null_create", R"({"name": "Null0", )" + blocks + "}") &&
           call("nvmf_create_subsystem", "{" + test + R"(, "allow_any_host": true, "serial_number": "CATNAP0001", "model_number": "catnap test"})") &&
           call("nvmf_subsystem_add_ns", "{" + test + R"(, "namespace": {"bdev_name": "Malloc0", "nsid": 1}})") &&
           call("nvmf_subsystem_add_listener", "{" + test + ", " + address + "}") &&
           call("nvmf_create_subsystem", "{" + restricted + R"(, "serial_number": "CATNAP0002"})") &&
           call("nvmf_subsystem_add_host", "{" + restricted + R"(, "host": ")" + allowed_host_nqn + R"("})") &&
           call("nvmf_subsystem_add_listener", "{" + restricted + ", " + address + "}");
  }

  std::unique_ptr<ServerProcess> server_;
  std::uint16_t port_ = 0;
};

Target& target() {
  static Target instance;
  return instance;
}

class TargetEnvironment : public testing::Environment {
 public:
  // Without a server there is nothing to test, and one failure says it better than hundreds.
  void SetUp() override {
    if (target().start()) return;
    if (target().server() != nullptr) printf("---- server log ----\n%s\n", target().server()->log().c_str());
    target().stop();
    fflush(nullptr);
    std::_Exit(1);
  }
  void TearDown() override { target().stop(); }
};

const auto* const environment = testing::AddGlobalTestEnvironment(new TargetEnvironment());

}  // namespace

ServerProcess& server() { return *target().server(); }
std::uint16_t server_port() { return target().port(); }

Json::Value rpc(const std::string& method, const std::string& params_json) {
  Json::Value result;
  target().call(method, params_json, &result);
  return result;
}

void ProtocolTest::SetUp() {
  bystander_ = open_queues();
  bystander_bytes_ = pattern(4 * test_block_bytes, static_cast<std::uint32_t>(::rand()));
  ASSERT_TRUE(succeeded(write(bystander_.io, bystander_lba, bystander_bytes_)));
}

void ProtocolTest::TearDown() {
  ASSERT_TRUE(server().is_running()) << "the server died";
  auto back = read(bystander_.io, bystander_lba, static_cast<std::uint32_t>(bystander_bytes_.size()));
  EXPECT_TRUE(succeeded(back)) << "the bystander was disturbed";
  EXPECT_EQ(back.data, bystander_bytes_) << "the bystander's data changed";
  EXPECT_TRUE(succeeded(property_get(bystander_.admin, nvme::Property::csts, nvme::PropertySize::four_bytes)));
}

Connection ProtocolTest::open(ConnectionOptions options) {
  auto made = Connection::open(server_port(), options);
  if (made) return std::move(*made);
  ADD_FAILURE() << "cannot connect: " << made.error().message;
  return {};
}

Connection ProtocolTest::open_bare(ConnectionOptions options) {
  auto made = Connection::open_bare(server_port(), options);
  if (made) return std::move(*made);
  ADD_FAILURE() << "cannot connect: " << made.error().message;
  return {};
}

Connection ProtocolTest::open_admin(ConnectParameters parameters, std::uint16_t* cntlid) {
  auto admin = open();
  auto connected = connect_queue(admin, parameters);
  EXPECT_TRUE(succeeded(connected)) << "Connect of the admin queue";
  if (cntlid != nullptr) *cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0});
  if (connected.ok()) {
    EXPECT_TRUE(enable(admin)) << "the controller does not get ready";
  }
  return admin;
}

Connection ProtocolTest::open_io(std::uint16_t cntlid, std::uint16_t qid, QueueOptions options) {
  auto io = open(options.io);
  ConnectParameters parameters{.subnqn = subsystem_nqn};
  parameters.cntlid = cntlid;
  parameters.qid = qid;
  parameters.entries = options.entries;
  parameters.cattr = options.cattr;
  EXPECT_TRUE(succeeded(connect_queue(io, parameters))) << "Connect of an I/O queue";
  return io;
}

Queues ProtocolTest::open_queues(QueueOptions options) {
  Queues queues;
  queues.admin = open_admin({.subnqn = subsystem_nqn}, &queues.cntlid);
  queues.io = open_io(queues.cntlid, 1, options);
  return queues;
}

void ProtocolTest::expect_terminated(Connection& connection, std::initializer_list<Termination> allowed, const Bytes& offending) {
  auto pdu = connection.receive_pdu();
  ASSERT_EQ(pdu.outcome, Outcome::pdu) << "no C2HTermReq came: " << pdu.note;
  ASSERT_EQ(pdu.type(), tcp::PduType::c2h_term_req) << "PDU type " << int(pdu.as<tcp::CommonHeader>().type) << " came instead of C2HTermReq";
  auto term = pdu.as<tcp::TermReq>();
  bool is_allowed = std::ranges::any_of(
      allowed, [&](const Termination& one) { return static_cast<std::uint16_t>(one.fes) == term.fes && (!one.fei || *one.fei == term.fei); });
  EXPECT_TRUE(is_allowed) << "C2HTermReq has FES " << term.fes << ", FEI " << term.fei;
  EXPECT_LE(pdu.data.size(), tcp::max_term_data_bytes);
  EXPECT_FALSE(pdu.data.empty()) << "C2HTermReq does not quote the header at fault";
  if (!offending.empty()) {
    ASSERT_LE(pdu.data.size(), offending.size());
    EXPECT_TRUE(std::ranges::equal(pdu.data, std::span(offending).first(pdu.data.size()))) << "C2HTermReq quotes another header";
  }
  connection.socket().shut_down_sending();
  auto rest = connection.receive_until_closed();
  ASSERT_TRUE(rest.has_value()) << "the target does not close after the host did";
  EXPECT_TRUE(rest->empty()) << "the target sent more after C2HTermReq";
}

void ProtocolTest::let_server_catch_up() {
  ASSERT_TRUE(succeeded(read(bystander_.io, bystander_lba, test_block_bytes))) << "the bystander was disturbed";
}

testing::AssertionResult has_status_of(const CommandResult& result, std::initializer_list<nvme::Status> expected) {
  if (result.outcome != Outcome::pdu) return testing::AssertionFailure() << "the command did not complete: " << result.note;
  if (std::ranges::any_of(expected, [&](nvme::Status one) { return result.status.same_code(one); })) return testing::AssertionSuccess();
  std::ostringstream text;
  auto say = [&](nvme::Status one) { text << std::hex << " " << int(one.sct) << "h/" << int(one.sc) << "h"; };
  text << "status type/code";
  say(result.status);
  text << ", expected";
  for (auto one : expected) say(one);
  return testing::AssertionFailure() << text.str() << "; DW0 " << std::uint32_t{result.cqe.dw0};
}

testing::AssertionResult has_status(const CommandResult& result, nvme::Status expected) { return has_status_of(result, {expected}); }
testing::AssertionResult succeeded(const CommandResult& result) { return has_status(result, nvme::Status()); }

}  // namespace catnap::protocol
