// Asynchronous events, Abort and keep-alive (Base 2.0 sections 5.1, 5.2 and 3.9).
// Owner: the test. Left out: discovery events (discovery_test.cpp).
#include <algorithm>

#include "tests/protocol/fixture.h"

namespace catnap::protocol {
namespace {

constexpr std::uint32_t namespace_changed_dw0 = 0x00040002;
// A target may round KATO up to its granularity (KAS), which is 10 s in SPDK.
constexpr Milliseconds expiry_patience{45'000};

// Of hosts that are to be given up, but not before they have done what they are to do on a busy machine.
constexpr std::uint32_t short_kato_ms = 3000;

class EventsTest : public ProtocolTest {
 protected:
  void SetUp() override {
    ProtocolTest::SetUp();
    admin_ = open_admin({.subnqn = subsystem_nqn}, &cntlid_);
  }
  // Takes away what a test added, also when it failed.
  void TearDown() override {
    if (added_) remove_namespace();
    ProtocolTest::TearDown();
  }

  // Asks for events and returns once the target has the request.
  std::uint16_t request_event() {
    auto cid = admin_.submit(admin_command(nvme::AdminOpcode::async_event_request));
    EXPECT_TRUE(succeeded(property_get(admin_, nvme::Property::csts, nvme::PropertySize::four_bytes)));
    return cid;
  }
  void ask_for_namespace_events() {
    ASSERT_TRUE(succeeded(set_feature(admin_, nvme::Feature::async_event_configuration, nvme::aec_namespace_attribute)));
  }
  void add_namespace() {
    rpc("nvmf_subsystem_add_ns", R"({"nqn": ")" + std::string(subsystem_nqn) + R"(", "namespace": {"bdev_name": "Malloc1", "nsid": 7}})");
    added_ = true;
  }
  void remove_namespace() {
    rpc("nvmf_subsystem_remove_ns", R"({"nqn": ")" + std::string(subsystem_nqn) + R"(", "nsid": 7})");
    added_ = false;
  }
  nvme::ChangedNamespaces changed() {
    auto result = get_log(admin_, {.page = nvme::LogPage::changed_namespaces, .length_bytes = 4096});
    EXPECT_TRUE(succeeded(result));
    return data_as<nvme::ChangedNamespaces>(result);
  }
  nvme::SubmissionEntry abort_command(std::uint16_t cid) {
    auto sqe = admin_command(nvme::AdminOpcode::abort);
    sqe.cdw10 = static_cast<std::uint32_t>(cid) << 16;  // SQID 0
    return sqe;
  }

  Connection admin_;
  std::uint16_t cntlid_ = 0;
  bool added_ = false;
};

// Proves: event | Namespace Attribute Changed | Base 2.0c 5.2
// Proves: log | Changed Namespace List | Base 2.0c 5.16.1.5
// Proves: admin | Asynchronous Event Request | Base 2.0c 5.2
TEST_F(EventsTest, ANewNamespaceIsTold) {
  ask_for_namespace_events();
  auto event = request_event();
  add_namespace();
  auto result = admin_.wait(event);
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(result.cqe.dw0, namespace_changed_dw0);
  auto list = changed();
  EXPECT_EQ(list.nsid[0], 7U);
  EXPECT_EQ(list.nsid[1], 0U);
  EXPECT_EQ(data_as<nvme::NamespaceList>(identify(admin_, nvme::Cns::active_namespaces)).nsid[1], 7U);
}

TEST_F(EventsTest, ANewNamespaceServesOpenQueues) {
  auto io = open_io(cntlid_);
  add_namespace();
  EXPECT_TRUE(succeeded(write(io, 0, pattern(4096, 1), 7)));
  EXPECT_EQ(read(io, 0, 4096, 7).data, pattern(4096, 1));
}

TEST_F(EventsTest, ARemovedNamespaceIsToldAndGone) {
  auto io = open_io(cntlid_);
  add_namespace();
  ask_for_namespace_events();
  changed();
  auto event = request_event();
  remove_namespace();
  auto result = admin_.wait(event);
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(result.cqe.dw0, namespace_changed_dw0);
  EXPECT_EQ(changed().nsid[0], 7U);
  EXPECT_TRUE(has_status(read(io, 0, 512, 7), nvme::GenericStatus::invalid_namespace_or_format));
}

TEST_F(EventsTest, AnEventWaitsForItsRequest) {
  ask_for_namespace_events();
  add_namespace();
  auto result = admin_.wait(request_event());
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(result.cqe.dw0, namespace_changed_dw0);
}

// Proves: event | Once each, none lost | Base 2.0c 5.2
TEST_F(EventsTest, ASecondEventIsHeldBackUntilTheLogIsRead) {
  ask_for_namespace_events();
  auto first = request_event();
  auto second = request_event();
  add_namespace();
  ASSERT_TRUE(succeeded(admin_.wait(first)));
  remove_namespace();
  // The RPC is answered after the change reached the controllers: an event that was not held back would be here before this answer.
  ASSERT_TRUE(succeeded(property_get(admin_, nvme::Property::csts, nvme::PropertySize::four_bytes)));
  EXPECT_EQ(admin_.wait(second, Milliseconds(0)).outcome, Outcome::timed_out) << "not masked";
  changed();
  add_namespace();
  auto result = admin_.wait(second);
  EXPECT_TRUE(succeeded(result));
  EXPECT_EQ(result.cqe.dw0, namespace_changed_dw0);
}

// Proves: event | Once each, none lost | Base 2.0c 5.2
TEST_F(EventsTest, ReadingWithRetainKeepsTheEventAsserted) {
  ask_for_namespace_events();
  auto first = request_event();
  add_namespace();
  ASSERT_TRUE(succeeded(admin_.wait(first)));
  auto kept = get_log(admin_, {.page = nvme::LogPage::changed_namespaces, .length_bytes = 4096, .retain_event = true});
  ASSERT_TRUE(succeeded(kept));
  EXPECT_EQ(data_as<nvme::ChangedNamespaces>(kept).nsid[0], 7U);
  EXPECT_EQ(changed().nsid[0], 7U) << "retained, so still there";
  EXPECT_EQ(changed().nsid[0], 0U) << "read without RAE, so cleared";
}

// Proves: event | Masking | Base 2.0c 5.27.1.8
TEST_F(EventsTest, NoEventsForThoseWhoDidNotAsk) {
  auto event = request_event();
  add_namespace();
  ASSERT_TRUE(succeeded(property_get(admin_, nvme::Property::csts, nvme::PropertySize::four_bytes)));
  EXPECT_EQ(admin_.wait(event, Milliseconds(0)).outcome, Outcome::timed_out);
}

TEST_F(EventsTest, MoreRequestsThanTheLimit) {
  auto limit = data_as<nvme::IdentifyController>(identify(admin_, nvme::Cns::controller)).aerl + 1;
  for (int i = 0; i < limit; ++i) admin_.submit(admin_command(nvme::AdminOpcode::async_event_request));
  EXPECT_TRUE(has_status(admin_.run(admin_command(nvme::AdminOpcode::async_event_request)), nvme::CommandStatus::async_event_limit_exceeded));
}

// Proves: admin | Abort | Base 2.0c 5.1
TEST_F(EventsTest, AbortEndsAnEventRequest) {
  auto event = request_event();
  auto aborted = admin_.run(abort_command(event));
  ASSERT_TRUE(succeeded(aborted));
  EXPECT_EQ(std::uint32_t{aborted.cqe.dw0} & 1, 0U) << "bit 0 clear: aborted";
  EXPECT_TRUE(has_status(admin_.wait(event), nvme::GenericStatus::abort_requested));
}

TEST_F(EventsTest, AbortOfNothingSaysSo) {
  auto result = admin_.run(abort_command(0x7777));
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(std::uint32_t{result.cqe.dw0} & 1, 1U) << "bit 0 set: not aborted";
}

TEST_F(EventsTest, AResetEndsEventRequestsWithoutHarm) {
  request_event();
  ASSERT_TRUE(disable(admin_));
  EXPECT_TRUE(enable(admin_));
}

// Proves: admin | Keep Alive | Base 2.0c 5.18
TEST_F(EventsTest, KeepAliveIsAnswered) {
  auto admin = open_admin({.subnqn = subsystem_nqn, .kato_ms = 10000});
  EXPECT_TRUE(succeeded(admin.run(admin_command(nvme::AdminOpcode::keep_alive))));
}

// Proves: controller | Keep Alive timeout | Base 2.0c 3.9
TEST_F(EventsTest, AHostThatFallsSilentLosesItsController) {
  std::uint16_t cntlid = 0;
  auto admin = open_admin({.subnqn = subsystem_nqn, .kato_ms = short_kato_ms}, &cntlid);
  auto io = open_io(cntlid);
  EXPECT_TRUE(admin.receive_until_closed(expiry_patience).has_value()) << "the keep-alive timer never expired";
  EXPECT_TRUE(io.receive_until_closed().has_value()) << "the I/O queue outlives the keep-alive time-out";
}

TEST_F(EventsTest, WithoutATimeoutSilenceIsAllowed) {
  auto silent = open_admin({.subnqn = subsystem_nqn, .kato_ms = 0});
  auto watched = open_admin({.subnqn = subsystem_nqn, .kato_ms = short_kato_ms});
  ASSERT_TRUE(watched.receive_until_closed(expiry_patience).has_value());
  EXPECT_TRUE(succeeded(identify(silent, nvme::Cns::controller)));
}

}  // namespace
}  // namespace catnap::protocol
