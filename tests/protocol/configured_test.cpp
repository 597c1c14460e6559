// Limits and switches of commands as an administrator sets them (nvmf_create_transport, nvmf_create_subsystem), as hosts then find them, and as
// framework_get_config keeps them; namespaces of the largest size there is.
// Owner: the test, which starts servers of its own. Left out: limits against hostile hosts (limits_test.cpp).
#include <filesystem>
#include <functional>

#include "tests/protocol/own_server.h"
#include "transport/nvme/copy.h"

namespace catnap::protocol {
namespace {

class ConfiguredTest : public OwnServerTest {
 protected:
  static nvme::IdentifyController controller(Connection& admin) { return data_as<nvme::IdentifyController>(identify(admin, nvme::Cns::controller)); }
  Json::Value ask(const std::string& method, const std::string& params = "{}") {
    const auto answer = server_->rpc().call(method, json(params));
    EXPECT_TRUE(answer.has_value()) << method << ": " << answer.error().message;
    return answer.has_value() ? *answer : Json::Value();
  }
  void refused(const std::string& method, const std::string& params, const std::string& word) {
    const auto answer = server_->rpc().call(method, json(params));
    ASSERT_FALSE(answer.has_value()) << method << " " << params;
    EXPECT_NE(answer.error().message.find(word), std::string::npos) << answer.error().message;
  }
  // The parameters with which `method` stands in the saved configuration, `nqn` in them if not empty.
  Json::Value saved(const std::string& method, const std::string& nqn = "") {
    for (const Json::Value& call : ask("framework_get_config", R"({"name": "nvmf"})")) {
      if (call["method"] == method && (nqn.empty() || call["params"]["nqn"] == nqn)) return call["params"];
    }
    ADD_FAILURE() << method << " is not in the configuration";
    return {};
  }
  Connection open_admin(std::uint16_t entries, bool& connected) {
    auto admin = Connection::open(port_);
    EXPECT_TRUE(admin.has_value());
    if (!admin) return {};
    connected = connect_queue(*admin, {.subnqn = own_nqn, .entries = entries}).ok();
    return std::move(*admin);
  }
};

// Proves: controller | I/O queue sizes and counts | Base 2.0c 6.3
TEST_F(ConfiguredTest, QueuesAsLargeAsAskedForAndNoLarger) {
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER, R"(, "max_aq_depth": 300, "max_queue_depth": 512, "max_io_qpairs_per_ctrlr": 3)"));
  for (const std::uint16_t entries : {std::uint16_t{2}, std::uint16_t{32}, std::uint16_t{300}}) {
    bool connected = false;
    auto admin = open_admin(entries, connected);
    EXPECT_TRUE(connected) << "an admin queue of " << entries;
    EXPECT_TRUE(property_get(admin, nvme::Property::cap, nvme::PropertySize::eight_bytes).ok());
  }
  auto too_large = Connection::open(port_);
  ASSERT_TRUE(too_large.has_value());
  const CommandResult refused_connect = connect_queue(*too_large, {.subnqn = own_nqn, .entries = 301});
  EXPECT_TRUE(refused_connect.is(nvme::FabricsStatus::connect_invalid_parameters));
  EXPECT_EQ(std::uint32_t{refused_connect.cqe.dw0}, (nvme::ConnectInvalidParameters{44, false}.dw0())) << "SQSIZE";
  for (const std::uint16_t entries : {std::uint16_t{2}, std::uint16_t{512}}) {
    auto host = connect(3, entries);
    ASSERT_EQ(host.io.size(), 3U) << entries;
    EXPECT_EQ(controller(host.admin).maxcmd, 512U);
    const auto cap = nvme::Cap::from_value(property_get(host.admin, nvme::Property::cap, nvme::PropertySize::eight_bytes).cqe.dw0_dw1());
    EXPECT_EQ(cap.mqes, 511);
    for (Connection& io : host.io) EXPECT_TRUE(flush(io).ok());
  }
  auto host = connect(1);
  auto io = Connection::open(port_);
  ASSERT_TRUE(io.has_value());
  EXPECT_TRUE(
      connect_queue(*io, {.subnqn = own_nqn, .cntlid = host.cntlid, .qid = 2, .entries = 513}).is(nvme::FabricsStatus::connect_invalid_parameters));
  EXPECT_EQ(saved("nvmf_create_transport")["max_aq_depth"].asUInt(), 300U);
}

// Proves: command | Limits of LBA range and transfer size | Base 2.0c 5.17.2.1
TEST_F(ConfiguredTest, TransferSizesAreThoseOfTheTransport) {
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER, R"(, "max_io_size": 65536, "in_capsule_data_size": 16384)"));
  auto host = connect();
  ASSERT_EQ(host.io.size(), 1U);
  EXPECT_EQ(controller(host.admin).mdts, 4);
  EXPECT_EQ(std::uint32_t{controller(host.admin).ioccsz}, (64U + 16384) / 16);
  auto sqe = io_command(nvme::IoOpcode::write, 0, 32);
  EXPECT_TRUE(host.io[0].run(sqe, Payload::in_capsule(pattern(16384, 4))).ok());
  EXPECT_EQ(read(host.io[0], 0, 16384).data, pattern(16384, 4));
  EXPECT_TRUE(read(host.io[0], 0, 65536).ok());
  EXPECT_TRUE(read(host.io[0], 0, 66048).is(nvme::GenericStatus::invalid_field));
}

TEST_F(ConfiguredTest, KeepAliveTimesAndCommandsTakenAway) {
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER, R"(, "kas": 20, "min_kato": 7000, "masked_oncs": ["nvmcpys", "nvmwusv"], "masked_fuses": ["all"])"));
  auto host = connect();
  ASSERT_EQ(host.io.size(), 1U);
  const auto data = controller(host.admin);
  EXPECT_EQ(data.kas, 20U);
  EXPECT_EQ(data.oncs & (nvme::oncs_copy | nvme::oncs_write_uncorrectable), 0);
  EXPECT_NE(data.oncs & nvme::oncs_compare, 0);
  EXPECT_EQ(data.fuses, 0U);
  ASSERT_TRUE(set_feature(host.admin, nvme::Feature::keep_alive_timer, 100).ok());
  EXPECT_EQ(std::uint32_t{get_feature(host.admin, nvme::Feature::keep_alive_timer).cqe.dw0}, 8000U) << "at least 7 s, in steps of 2 s";
  EXPECT_TRUE(host.io[0].run(io_command(nvme::IoOpcode::write_uncorrectable, 0, 1)).is(nvme::GenericStatus::invalid_opcode));
  auto first = io_command(nvme::IoOpcode::compare, 0, 1);
  first.flags = static_cast<std::uint8_t>(nvme::Fuse::first);
  EXPECT_TRUE(host.io[0].run(first, Payload::in_capsule(Bytes(512))).is(nvme::GenericStatus::invalid_field));
  const Json::Value transport = saved("nvmf_create_transport");
  EXPECT_EQ(transport["kas"].asUInt(), 20U);
  EXPECT_EQ(transport["min_kato"].asUInt(), 7000U);
  EXPECT_EQ(transport["masked_oncs"].size(), 2U);
  EXPECT_EQ(transport["masked_fuses"][0].asString(), "fcws");
}

TEST_F(ConfiguredTest, LimitsOfASubsystemUnderOldAndNewNames) {
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER));
  const auto with = [](const std::string& name, const std::string& rest) {
    return R"({"nqn": "nqn.2026-11.io.catnap:)" + name + "\", " + rest + "}";
  };
  call("nvmf_create_subsystem", with("new", R"("dmrsl": 64, "wzsl": 3, "enable_nssr": true)"));
  call("nvmf_create_subsystem", with("old", R"("max_discard_size_kib": 32, "max_write_zeroes_size_kib": 32)"));
  for (const char* name : {"new", "old"}) {
    const Json::Value params = saved("nvmf_create_subsystem", std::string("nqn.2026-11.io.catnap:") + name);
    EXPECT_EQ(params["dmrsl"].asUInt(), 64U) << name;
    EXPECT_EQ(params["wzsl"].asUInt(), 3U) << name;
    EXPECT_EQ(params.get("enable_nssr", false).asBool(), std::string(name) == "new");
  }
  refused("nvmf_create_subsystem", with("bad", R"("dmrsl": 1, "max_discard_size_kib": 4)"), "max_discard_size_kib");
  refused("nvmf_create_subsystem", with("bad", R"("wzsl": 1, "max_write_zeroes_size_kib": 8)"), "max_write_zeroes_size_kib");
  for (const char* size : {"4", "12", "1"}) {
    refused("nvmf_create_subsystem", with("bad", R"("max_write_zeroes_size_kib": )" + std::string(size)), size);
  }
  refused("nvmf_create_subsystem", with("bad", R"("wzsl": 99)"), "wzsl");
  EXPECT_EQ(ask("nvmf_get_subsystems").size(), 4U) << "discovery, the fixture's, and the two";
}

TEST_F(ConfiguredTest, WrongSwitchesOfATransportAreNamed) {
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER));
  refused("nvmf_create_transport", R"({"trtype": "TCP", "masked_oncs": ["nvmcmps", "nonsense"]})", "nonsense");
  refused("nvmf_create_transport", R"({"trtype": "TCP", "masked_fuses": ["nvmcmps"]})", "fcws");
  refused("nvmf_create_transport", R"({"trtype": "TCP", "kas": 0})", "kas");
}

// Proves: identify | Identify Namespace | NVM 1.0c 4.1.5.1
TEST_F(ConfiguredTest, ANamespaceOfEveryBlockThatCanBeNamed) {
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER));
  std::uint32_t nsid = 2;
  for (const std::uint32_t block_size : {512U, 4096U}) {
    const std::string name = "Huge" + std::to_string(block_size);
    call("bdev_null_create", R"({"name": ")" + name + R"(", "num_blocks": 18446744073709551615, "block_size": )" + std::to_string(block_size) + "}");
    call("nvmf_subsystem_add_ns",
         R"({"nqn": ")" + std::string(own_nqn) + R"(", "namespace": {"bdev_name": ")" + name + R"(", "nsid": )" + std::to_string(nsid) + "}}");
    auto host = connect();
    ASSERT_EQ(host.io.size(), 1U);
    constexpr std::uint64_t blocks = ~std::uint64_t{0};
    EXPECT_EQ(std::uint64_t{data_as<nvme::IdentifyNamespace>(identify(host.admin, nvme::Cns::namespace_data, nsid)).nsze}, blocks);
    Connection& io = host.io[0];
    const auto run = [&](nvme::IoOpcode opcode, std::uint64_t slba, std::uint32_t count, Payload payload) {
      return io.run(io_command(opcode, slba, count, nsid), std::move(payload));
    };
    EXPECT_TRUE(run(nvme::IoOpcode::read, blocks - 1, 1, Payload::to_host(block_size)).ok());
    EXPECT_TRUE(run(nvme::IoOpcode::write, blocks - 1, 1, Payload::in_capsule(Bytes(block_size))).ok());
    EXPECT_TRUE(run(nvme::IoOpcode::write_zeroes, blocks - 65536, 65536, Payload::none()).ok());
    EXPECT_TRUE(run(nvme::IoOpcode::verify, blocks - 8, 8, Payload::none()).ok());
    EXPECT_TRUE(run(nvme::IoOpcode::compare, blocks - 1, 1, Payload::in_capsule(Bytes(block_size))).ok());
    EXPECT_TRUE(run(nvme::IoOpcode::read, blocks - 1, 2, Payload::to_host(2 * block_size)).is(nvme::GenericStatus::lba_out_of_range));
    EXPECT_TRUE(run(nvme::IoOpcode::read, blocks, 1, Payload::to_host(block_size)).is(nvme::GenericStatus::lba_out_of_range));
    EXPECT_TRUE(run(nvme::IoOpcode::write_zeroes, blocks - 1, 65536, Payload::none()).is(nvme::GenericStatus::lba_out_of_range));
    std::vector<nvme::CopyRange> ranges(1);
    ranges[0].slba = blocks - 4;
    ranges[0].nlb = std::uint16_t{3};
    const auto view = std::as_bytes(std::span(ranges));
    auto copy = io_command(nvme::IoOpcode::copy, 0, 1, nsid);
    copy.cdw12 = 0U;
    EXPECT_TRUE(io.run(copy, Payload::in_capsule(Bytes(view.begin(), view.end()))).ok());
    copy.set_slba(blocks - 2);
    EXPECT_TRUE(io.run(copy, Payload::in_capsule(Bytes(view.begin(), view.end()))).is(nvme::GenericStatus::lba_out_of_range));
    std::vector<nvme::DsmRange> all(1);
    all[0].slba = blocks - 0xFFFFFFFF;
    all[0].blocks = 0xFFFFFFFFU;
    const auto dsm_view = std::as_bytes(std::span(all));
    auto dsm = io_command(nvme::IoOpcode::dataset_management, 0, 1, nsid);
    dsm.cdw10 = 0U;
    dsm.cdw11 = nvme::dsm_deallocate;
    dsm.cdw12 = 0U;
    EXPECT_TRUE(io.run(dsm, Payload::in_capsule(Bytes(dsm_view.begin(), dsm_view.end()))).ok());
    ++nsid;
  }
}

// Proves: identify | Identify Namespace | NVM 1.0c 4.1.5.1
TEST_F(ConfiguredTest, NamespacesThatKnowItSayWhatIsAllocated) {
  constexpr std::uint64_t blocks = 65536;
  constexpr std::uint64_t largest_page_blocks = (2 << 20) / test_block_bytes;  // written at once by a kernel that likes large pages
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER));
  const std::string path = server_->directory() + "/sparse";
  FILE* file = fopen(path.c_str(), "w");
  ASSERT_NE(file, nullptr);
  fclose(file);
  std::filesystem::resize_file(path, blocks * test_block_bytes);
  call("bdev_aio_create", R"({"name": "Aio0", "block_size": 512, "filename": ")" + path + "\"}");
  call("bdev_malloc_create", R"({"name": "Malloc1", "num_blocks": 65536, "block_size": 512})");
  call("bdev_passthru_create", R"({"name": "Pass1", "base_bdev_name": "Malloc1"})");
  const std::string subsystem = std::string(R"({"nqn": ")") + own_nqn + "\"";
  call("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"bdev_name": "Aio0", "nsid": 2}})");
  call("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"bdev_name": "Pass1", "nsid": 3}})");
  call("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"bdev_name": "Null0", "nsid": 4}})");
  auto host = connect();
  ASSERT_EQ(host.io.size(), 1U);
  const auto page = [&host](std::uint32_t nsid) { return data_as<nvme::IdentifyNamespace>(identify(host.admin, nvme::Cns::namespace_data, nsid)); };
  for (const std::uint32_t nsid : {1U, 2U, 3U}) {
    EXPECT_NE(page(nsid).nsfeat & nvme::nsfeat_thin, 0) << nsid;
    EXPECT_EQ(std::uint64_t{page(nsid).nuse}, 0U) << nsid;
    EXPECT_EQ(std::uint64_t{page(nsid).ncap}, blocks) << nsid;
    ASSERT_TRUE(write(host.io[0], 4096, pattern(4096, nsid), nsid).ok());
    EXPECT_GE(std::uint64_t{page(nsid).nuse}, 8U) << nsid;
    EXPECT_LE(std::uint64_t{page(nsid).nuse}, largest_page_blocks) << nsid;
    nvme::DsmRange all;
    all.slba = std::uint64_t{0};
    all.blocks = static_cast<std::uint32_t>(blocks);
    auto deallocate = io_command(nvme::IoOpcode::dataset_management, 0, 1, nsid);
    deallocate.cdw10 = 0U;
    deallocate.cdw11 = nvme::dsm_deallocate;
    deallocate.cdw12 = 0U;
    ASSERT_TRUE(host.io[0].run(deallocate, Payload::in_capsule(bytes_of(all))).ok());
    EXPECT_EQ(std::uint64_t{page(nsid).nuse}, 0U) << nsid;
  }
  EXPECT_EQ(page(4).nsfeat & nvme::nsfeat_thin, 0) << "a disk that keeps nothing";
  EXPECT_EQ(std::uint64_t{page(4).nuse}, blocks);
}

// Proves: controller | NVM Subsystem Reset | Base 2.0c 3.7.1
TEST_F(ConfiguredTest, ASubsystemResetByOneHostIsSeenByAll) {
  ASSERT_NO_FATAL_FAILURE(start(CATNAP_SERVER));
  constexpr const char* nqn = "nqn.2026-11.io.catnap:reset";
  const std::string subsystem = std::string(R"({"nqn": ")") + nqn + "\"";
  call("nvmf_create_subsystem", subsystem + R"(, "allow_any_host": true, "enable_nssr": true})");
  call("nvmf_subsystem_add_ns", subsystem + R"(, "namespace": {"bdev_name": "Null0"}})");
  call("nvmf_subsystem_add_listener", subsystem + R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" +
                                          std::to_string(port_) + R"("}})");
  std::vector<Connection> admins, ios;
  for (int i = 0; i < 2; ++i) {
    auto admin = Connection::open(port_);
    auto io = Connection::open(port_);
    ASSERT_TRUE(admin.has_value() && io.has_value());
    const CommandResult connected = connect_queue(*admin, {.subnqn = nqn});
    ASSERT_TRUE(connected.ok() && enable(*admin));
    const auto cntlid = static_cast<std::uint16_t>(std::uint32_t{connected.cqe.dw0});
    ASSERT_TRUE(connect_queue(*io, {.subnqn = nqn, .cntlid = cntlid, .qid = 1}).ok());
    admins.push_back(std::move(*admin));
    ios.push_back(std::move(*io));
  }
  EXPECT_TRUE(property_set(admins[0], nvme::Property::nssr, nvme::PropertySize::four_bytes, nvme::nssr_reset_value).ok());
  for (Connection& io : ios) EXPECT_TRUE(io.receive_until_closed().has_value()) << "an I/O queue stays";
  for (Connection& admin : admins) {
    nvme::Csts csts;
    do {
      csts = nvme::Csts::from_value(property_get(admin, nvme::Property::csts, nvme::PropertySize::four_bytes).cqe.dw0);
    } while (csts.rdy);
    EXPECT_TRUE(csts.nssro);
    EXPECT_TRUE(enable(admin)) << "and it goes on";
    EXPECT_TRUE(identify(admin, nvme::Cns::controller).ok());
  }
}

}  // namespace
}  // namespace catnap::protocol
