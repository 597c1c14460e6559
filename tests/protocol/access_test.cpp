// Who is let in and what he sees: namespaces shown to hosts one by one, host lists, controller ids.
// Owner: the test. Left out: what is taken away under traffic (taking_away_test.cpp), discovery (referral_test.cpp).
#include <gmock/gmock.h>

#include <cstddef>

#include "tests/protocol/access_fixture.h"

namespace catnap::protocol {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* nqn = "nqn.2026-11.io.catnap:access";
constexpr std::uint32_t namespace_changed_dw0 = 0x00040002;

// Namespace 1 is masked, namespace 2 is not; both hosts may connect.
class MaskingTest : public AccessTest {
 protected:
  void SetUp() override {
    AccessTest::SetUp();
    create(nqn);
    add_namespace(nqn, "Malloc1", 1, true);
    add_namespace(nqn, "Null0", 2);
    listen(nqn);
    a_ = come_in(nqn, host_a);
    b_ = come_in(nqn, host_b);
  }
  static void show(const char* host) { rpc("nvmf_ns_add_host", params(nqn, R"("nsid": 1, )" + host_member(host))); }
  static void hide(const char* host) { rpc("nvmf_ns_remove_host", params(nqn, R"("nsid": 1, )" + host_member(host))); }

  Host a_;
  Host b_;
};

// Proves: access | Namespace masking per host | Base 8.11
TEST_F(MaskingTest, AMaskedNamespaceIsNotThereForAHost) {
  EXPECT_THAT(active_namespaces(a_.admin), ElementsAre(2));
  auto data = identify(a_.admin, nvme::Cns::namespace_data, 1);
  ASSERT_TRUE(succeeded(data)) << "inactive, not invalid";
  EXPECT_EQ(data_as<nvme::IdentifyNamespace>(data).nsze, 0U);
  EXPECT_TRUE(has_status(read(a_.io, 0, 512, 1), nvme::GenericStatus::invalid_namespace_or_format));
  EXPECT_TRUE(has_status(write(a_.io, 0, pattern(512, 1), 1), nvme::GenericStatus::invalid_namespace_or_format));
  EXPECT_TRUE(has_status(flush(a_.io, 1), nvme::GenericStatus::invalid_namespace_or_format));
  EXPECT_TRUE(succeeded(read(a_.io, 0, 512, 2)));
}

// Proves: access | Namespace masking per host | Base 8.11
TEST_F(MaskingTest, ShownToOneHostItIsThereForThatOneAndOnlyThatOneIsTold) {
  auto event_a = ask_for_event(a_.admin, nvme::aec_namespace_attribute);
  auto event_b = ask_for_event(b_.admin, nvme::aec_namespace_attribute);
  show(host_a);
  auto told = a_.admin.wait(event_a);
  ASSERT_TRUE(succeeded(told));
  EXPECT_EQ(told.cqe.dw0, namespace_changed_dw0);
  auto changed = data_as<nvme::ChangedNamespaces>(get_log(a_.admin, {.page = nvme::LogPage::changed_namespaces, .length_bytes = 4096}));
  EXPECT_EQ(changed.nsid[0], 1U);
  EXPECT_EQ(changed.nsid[1], 0U);
  EXPECT_THAT(active_namespaces(a_.admin), ElementsAre(1, 2));
  EXPECT_TRUE(succeeded(write(a_.io, 8, pattern(4096, 7), 1)));
  EXPECT_EQ(read(a_.io, 8, 4096, 1).data, pattern(4096, 7));

  EXPECT_TRUE(nothing_told(b_.admin, event_b));
  EXPECT_THAT(active_namespaces(b_.admin), ElementsAre(2));
  EXPECT_TRUE(has_status(read(b_.io, 0, 512, 1), nvme::GenericStatus::invalid_namespace_or_format));
  auto second = a_.admin.submit(admin_command(nvme::AdminOpcode::async_event_request));
  show(host_a);
  show(host_b);
  EXPECT_TRUE(succeeded(b_.admin.wait(event_b)));
  EXPECT_TRUE(nothing_told(a_.admin, second)) << "nothing changed for this host";
}

// Proves: access | Namespace masking per host | Base 8.11
TEST_F(MaskingTest, HiddenAgainItsCommandsEndWithTheirStatusAndNoneHangs) {
  show(host_a);
  show(host_b);
  std::vector<std::uint16_t> sent;
  for (int i = 0; i < 100; ++i) sent.push_back(a_.io.submit(io_command(nvme::IoOpcode::read, 0, 1), Payload::to_host(512)));
  hide(host_a);
  for (auto cid : sent) {
    EXPECT_TRUE(has_status_of(a_.io.wait(cid), {nvme::Status(), nvme::GenericStatus::invalid_namespace_or_format}));
  }
  EXPECT_TRUE(has_status(read(a_.io, 0, 512, 1), nvme::GenericStatus::invalid_namespace_or_format));
  EXPECT_TRUE(succeeded(read(b_.io, 0, 512, 1))) << "the other host keeps it";
  EXPECT_THAT(active_namespaces(a_.admin), ElementsAre(2));
}

TEST_F(MaskingTest, AWriteWhoseDataAreOnTheWayEndsWhenItIsHidden) {
  show(host_a);
  auto sqe = io_command(nvme::IoOpcode::write, 0, 16);
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.sgl.type_and_subtype = 0x5A;
  sqe.sgl.length = 8192;
  sqe.cid = 33;
  a_.io.send(a_.io.capsule(sqe));
  auto asked = a_.io.receive_pdu();
  ASSERT_EQ(asked.type(), tcp::PduType::r2t) << asked.note;
  hide(host_a);
  a_.io.send(a_.io.h2c_data(33, asked.as<tcp::R2T>().ttag, 0, pattern(8192, 1), true));
  auto answer = a_.io.receive_pdu();
  ASSERT_EQ(answer.outcome, Outcome::pdu) << answer.note;
  EXPECT_EQ(answer.type(), tcp::PduType::capsule_resp);
  EXPECT_TRUE(is_there(a_.admin));
}

TEST_F(MaskingTest, AHostThatComesLaterSeesWhatItsListSays) {
  show("nqn.2026-11.io.catnap:late");
  auto late = come_in(nqn, "nqn.2026-11.io.catnap:late");
  EXPECT_THAT(active_namespaces(late.admin), ElementsAre(1, 2));
  EXPECT_TRUE(succeeded(read(late.io, 0, 512, 1)));
}

TEST_F(MaskingTest, ANamespaceThatGrowsIsToldToThoseWhoSeeIt) {
  rpc("bdev_null_create", R"({"name": "Growing", "num_blocks": 2048, "block_size": 512})");
  add_namespace(nqn, "Growing", 3, true);
  rpc("nvmf_ns_add_host", params(nqn, R"("nsid": 3, )" + host_member(host_a)));
  get_log(a_.admin, {.page = nvme::LogPage::changed_namespaces, .length_bytes = 4096});
  auto event_a = ask_for_event(a_.admin, nvme::aec_namespace_attribute);
  auto event_b = ask_for_event(b_.admin, nvme::aec_namespace_attribute);
  rpc("bdev_null_resize", R"({"name": "Growing", "new_size": 2})");
  EXPECT_TRUE(succeeded(a_.admin.wait(event_a)));
  EXPECT_EQ(data_as<nvme::IdentifyNamespace>(identify(a_.admin, nvme::Cns::namespace_data, 3)).nsze, 4096U);
  EXPECT_TRUE(nothing_told(b_.admin, event_b));
  rpc("nvmf_subsystem_remove_ns", params(nqn, R"("nsid": 3)"));
  EXPECT_TRUE(nothing_told(b_.admin, event_b)) << "what it never saw goes without a word";
  rpc("bdev_null_delete", R"({"name": "Growing"})");
}

// --- hosts ---

// Proves: access | Host allow list | Base 6.3
TEST_F(AccessTest, AHostThatIsNotOnTheListIsRefused) {
  create(nqn, R"("allow_any_host": false)");
  listen(nqn);
  EXPECT_TRUE(has_status(try_connect(nqn, host_a), nvme::FabricsStatus::connect_invalid_host));
  rpc("nvmf_subsystem_add_host", params(nqn, host_member(host_a)));
  EXPECT_TRUE(succeeded(try_connect(nqn, host_a)));
  EXPECT_TRUE(has_status(try_connect(nqn, host_b), nvme::FabricsStatus::connect_invalid_host));
  rpc("nvmf_subsystem_allow_any_host", params(nqn, R"("allow_any_host": true)"));
  EXPECT_TRUE(succeeded(try_connect(nqn, host_b)));
}

// Proves: access | Host allow list | Base 6.3
TEST_F(AccessTest, WithoutAnyHostThoseOnTheListStayAndOthersGo) {
  create(nqn);
  rpc("nvmf_subsystem_add_host", params(nqn, host_member(host_a)));
  listen(nqn);
  auto a = come_in(nqn, host_a);
  auto b = come_in(nqn, host_b);
  rpc("nvmf_subsystem_allow_any_host", params(nqn, R"("allow_any_host": false)"));
  EXPECT_TRUE(is_gone(b.io));
  EXPECT_TRUE(is_gone(b.admin));
  EXPECT_TRUE(is_there(a.admin));
}

// Proves: access | Duplicate hosts | Base 6.3
TEST_F(AccessTest, TheSameHostMayComeAgainAndWithAnotherHostid) {
  create(nqn);
  listen(nqn);
  auto first = come_in(nqn, host_a);
  auto second = come_in(nqn, host_a);
  EXPECT_NE(first.cntlid, second.cntlid);
  auto third = open();
  auto connected = connect_queue(third, {.subnqn = nqn, .hostnqn = host_a, .hostid_byte = 0x11});
  EXPECT_TRUE(succeeded(connected));
  EXPECT_TRUE(is_there(first.admin));
}

// --- controller ids ---

// Proves: controller | Controller ids | Base 6.3
TEST_F(AccessTest, ControllerIdsComeFromTheRangeAndAreUsedAgain) {
  create(nqn, R"("allow_any_host": true, "min_cntlid": 7, "max_cntlid": 8)");
  listen(nqn);
  std::uint16_t one = 0;
  std::uint16_t two = 0;
  auto first = admin_of(nqn, host_a, one);
  auto second = admin_of(nqn, host_b, two);
  EXPECT_THAT((std::vector<std::uint16_t>{one, two}), testing::UnorderedElementsAre(7, 8));
  auto busy = try_connect(nqn, host_a);
  EXPECT_TRUE(has_status(busy, nvme::FabricsStatus::controller_busy));
  EXPECT_FALSE(busy.status.dnr) << "it may be worth to try again";
  first.socket().close();
  CommandResult again = busy;
  for (int i = 0; i < 2000 && !again.ok(); ++i) again = try_connect(nqn, host_a);  // until the target has noticed
  ASSERT_TRUE(succeeded(again));
  EXPECT_EQ(std::uint32_t{again.cqe.dw0} & 0xFFFF, one);
  EXPECT_TRUE(is_there(second));
}

// Proves: controller | Controller ids | Base 6.3
TEST_F(AccessTest, AHostCannotChooseItsControllerId) {
  create(nqn);
  listen(nqn);
  for (std::uint16_t wanted : {std::uint16_t{1}, std::uint16_t{0xFFFE}, std::uint16_t{0}}) {
    auto connection = open();
    auto result = connect_queue(connection, {.subnqn = nqn, .hostnqn = host_a, .cntlid = wanted});
    ASSERT_TRUE(has_status(result, nvme::FabricsStatus::connect_invalid_parameters)) << wanted;
    auto where = nvme::ConnectInvalidParameters::from_dw0(result.cqe.dw0);
    EXPECT_EQ(where.ipo, 16);
    EXPECT_TRUE(where.in_data);
  }
}

// --- texts that callers look for ---

TEST_F(AccessTest, RefusalsNameWhatIsWrong) {
  create(nqn);
  add_namespace(nqn, "Malloc1", 1);
  auto visible = refused("nvmf_ns_add_host", params(nqn, R"("nsid": 1, )" + host_member(host_a)));
  EXPECT_EQ(visible.err, -EPERM);
  EXPECT_THAT(visible.message, HasSubstr("no_auto_visible"));
  auto unknown = refused("nvmf_ns_add_host", params(nqn, R"("nsid": 5, )" + host_member(host_a)));
  EXPECT_EQ(unknown.err, -ENODEV);
  EXPECT_THAT(unknown.message, HasSubstr("nsid 5"));
}

}  // namespace
}  // namespace catnap::protocol
