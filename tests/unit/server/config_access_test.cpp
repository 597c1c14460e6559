// Who sees what, as the configuration decides it: namespaces shown one by one, hosts of the discovery subsystem, referrals, discovery records per
// host, removal of a host with a bound, wildcard listeners, and settings of the target. Owner: the test's thread; groups and app_thread are turned by
// hand.
#include <gmock/gmock.h>

#include "server/discovery_view.h"
#include "server/host_directory.h"
#include "server/names.h"
#include "tests/unit/server/config_fixture.h"

namespace catnap::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* other_host = "nqn.2026-11.io.catnap:other-host";

class AccessTest : public TargetTest {
 protected:
  void SetUp() override {
    add_bdev("disk", uuid_1);
    ASSERT_TRUE(create_transport().has_value());
    ASSERT_TRUE(create().has_value());
  }
  auto add_masked(std::uint32_t nsid = 1) {
    return on_app([&] {
      NamespaceOptions options;
      options.bdev_name = "disk";
      options.nsid = nsid;
      options.no_auto_visible = true;
      return target->add_namespace(nqn, options);
    });
  }
  auto set_visible(const char* name, bool visible, std::uint32_t nsid = 1) {
    return on_app([&] { return target->set_namespace_visible(nqn, nsid, name, visible); });
  }
  bool sees(const char* name) { return target->current().find(nqn)->visible_namespace(1, name) != nullptr; }
  auto listen_at(const std::string& traddr, const std::string& trsvcid = "4420", const std::string& name = nqn) {
    return on_app([&] {
      ListenAddress where;
      where.adrfam.clear();
      where.traddr = traddr;
      where.trsvcid = trsvcid;
      return target->add_listener(name, where);
    });
  }
  static Referral referral(const std::string& traddr = "192.0.2.7") {
    Referral made;
    made.address.traddr = traddr;
    made.address.trsvcid = "8009";
    return made;
  }
  auto add_referral(const Referral& made) {
    return on_app([&] { return target->add_referral(made); });
  }
  // Runs remove_host's wait; what came out of it, if it is over.
  void wait_for_host(std::uint64_t change, std::uint64_t timeout_us) {
    app.on_thread([=, this] {
      spawn<Result<void>>(target->host_gone(change, nqn, host, timeout_us), [this](Result<void> result) { outcome = std::move(result); });
    });
  }
  static transport::CommandQueue::Address local(const std::string& traddr = "127.0.0.1", const std::string& trsvcid = "4420") {
    return {traddr, trsvcid, traddr.find(':') == std::string::npos ? "IPv4" : "IPv6"};
  }
  std::vector<std::string> shown(const char* name, const transport::CommandQueue::Address& at = local(), bool port_local = false) {
    std::vector<std::string> texts;
    for (const DiscoveryRecord& record : discovery_records(target->current(), name, at, port_local))
      texts.push_back(std::to_string(static_cast<int>(record.subtype)) + " " + address_text(record.address) + " " + record.subnqn);
    return texts;
  }

  std::optional<Result<void>> outcome;
};

// --- namespaces ---

TEST_F(AccessTest, AMaskedNamespaceIsSeenByThoseOnItsListAlone) {
  ASSERT_TRUE(add_masked().has_value());
  EXPECT_FALSE(sees(host));
  ASSERT_TRUE(set_visible(other_host, true).has_value());
  ASSERT_TRUE(set_visible(host, true).has_value());
  EXPECT_TRUE(sees(host));
  EXPECT_TRUE(sees(other_host));
  EXPECT_FALSE(sees("nqn.2026-11.io.catnap:third"));
  ASSERT_TRUE(set_visible(host, false).has_value());
  EXPECT_FALSE(sees(host));
  EXPECT_TRUE(sees(other_host));
}

TEST_F(AccessTest, ShowingTwiceOrHidingTwiceChangesNothing) {
  ASSERT_TRUE(add_masked().has_value());
  ASSERT_TRUE(set_visible(host, true).has_value());
  const std::uint64_t before = generation();
  EXPECT_EQ(set_visible(host, true).value(), before);
  EXPECT_EQ(set_visible(other_host, false).value(), before);
  EXPECT_EQ(generation(), before);
}

TEST_F(AccessTest, WrongMaskingIsRefusedWithItsReason) {
  ASSERT_TRUE(add_ns("disk", 2).has_value());
  const auto everybody = set_visible(host, true, 2);
  EXPECT_EQ(everybody.error().err, EPERM);
  EXPECT_THAT(everybody.error().message, HasSubstr("no_auto_visible"));
  EXPECT_EQ(set_visible(host, true, 9).error().err, ENODEV);
  EXPECT_THAT(set_visible(host, true, 9).error().message, HasSubstr("nsid 9"));
  EXPECT_EQ(set_visible("no nqn", true, 2).error().err, EINVAL);
}

// --- hosts ---

TEST_F(AccessTest, TheDiscoverySubsystemMayHaveHostsOfItsOwn) {
  ASSERT_TRUE(on_app([&] { return target->add_host(discovery_nqn, host); }).has_value());
  ASSERT_TRUE(on_app([&] { return target->set_allow_any_host(discovery_nqn, false); }).has_value());
  EXPECT_TRUE(target->current().find(discovery_nqn)->allows_host(host));
  EXPECT_FALSE(target->current().find(discovery_nqn)->allows_host(other_host));
}

TEST_F(AccessTest, RemovingAHostTellsGroupsHowLongItsQueuesMayTake) {
  HandGroup& group = add_group("group");
  ASSERT_TRUE(on_app([&] { return target->add_host(nqn, host); }).has_value());
  ASSERT_TRUE(on_app([&] { return target->remove_host(nqn, host, 7'000'000); }).has_value());
  turn_all();
  EXPECT_EQ(group.held->ending_grace_us, 7'000'000U);
  ASSERT_TRUE(on_app([&] { return target->set_allow_any_host(nqn, true); }).has_value());
  turn_all();
  EXPECT_EQ(group.held->ending_grace_us, 0U) << "of that one change only";
}

TEST_F(AccessTest, RemovingAHostWaitsForItsControllers) {
  host_controllers = 2;
  ASSERT_TRUE(on_app([&] { return target->add_host(nqn, host); }).has_value());
  const auto change = on_app([&] { return target->remove_host(nqn, host, 1'000'000); });
  wait_for_host(*change, 1'000'000);
  app.advance_us(500'000);
  app.settle();
  EXPECT_FALSE(outcome.has_value());
  host_controllers = 0;
  app.advance_us(3'000);
  app.settle();
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->has_value());
}

TEST_F(AccessTest, TheWaitForAHostIsBoundedAndSaysWhatIsLeft) {
  host_controllers = 2;
  ASSERT_TRUE(on_app([&] { return target->add_host(nqn, host); }).has_value());
  const auto change = on_app([&] { return target->remove_host(nqn, host, 250'000); });
  wait_for_host(*change, 250'000);
  app.advance_us(249'000);
  app.settle();
  EXPECT_FALSE(outcome.has_value());
  for (int look = 0; look < 3; ++look) {
    app.advance_us(2'000);
    app.settle();
  }
  ASSERT_TRUE(outcome.has_value());
  ASSERT_FALSE(outcome->has_value());
  EXPECT_EQ(outcome->error().err, ETIMEDOUT);
  EXPECT_THAT(outcome->error().message, testing::AllOf(HasSubstr("Timeout reached during host removal"), HasSubstr("2 of its controllers"),
                                                       HasSubstr("250 ms"), HasSubstr(host)));
}

TEST_F(AccessTest, AHostThatIsAllowedAnywayIsNotWaitedFor) {
  host_controllers = 2;
  ASSERT_TRUE(on_app([&] { return target->add_host(nqn, host); }).has_value());
  ASSERT_TRUE(on_app([&] { return target->set_allow_any_host(nqn, true); }).has_value());
  const auto change = on_app([&] { return target->remove_host(nqn, host, 250'000); });
  wait_for_host(*change, 250'000);
  app.settle();
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->has_value());
}

// --- listeners ---

TEST_F(AccessTest, AWildcardServesSingleAddressesAndStaysForThem) {
  ASSERT_TRUE(listen_at("0.0.0.0").has_value());
  ASSERT_TRUE(create(other_nqn).has_value());
  ASSERT_TRUE(listen_at("127.0.0.1", "4420", other_nqn).has_value());
  EXPECT_EQ(listening, 1) << "the kernel would refuse a second";
  ASSERT_TRUE(listen_at("127.0.0.1", "4421", other_nqn).has_value());
  EXPECT_EQ(listening, 2);
  ASSERT_TRUE(on_app([&] { return target->remove_listener(nqn, address("0.0.0.0")); }).has_value());
  EXPECT_EQ(listening, 2) << "127.0.0.1:4420 lives on it";
  ASSERT_TRUE(on_app([&] { return target->remove_listener(other_nqn, address("127.0.0.1")); }).has_value());
  EXPECT_EQ(listening, 1);
}

TEST_F(AccessTest, AWildcardTakesThePlaceOfSingleAddressesOrLeavesThemAsTheyAre) {
  ASSERT_TRUE(listen_at("127.0.0.1").has_value());
  ASSERT_TRUE(listen_at("127.0.0.2").has_value());
  EXPECT_EQ(listening, 2);
  refused_address = "0.0.0.0";
  EXPECT_EQ(listen_at("0.0.0.0").error().err, EADDRINUSE);
  EXPECT_EQ(listening, 2) << "both are there again";
  refused_address.clear();
  ASSERT_TRUE(listen_at("0.0.0.0").has_value());
  EXPECT_EQ(listening, 1);
}

TEST_F(AccessTest, WildcardsAreOfOneFamily) {
  ASSERT_TRUE(listen_at("::").has_value());
  const SubsystemSnapshot& only6 = *target->current().find(nqn);
  EXPECT_NE(only6.listener_for("::1", "4420"), nullptr);
  EXPECT_EQ(only6.listener_for("127.0.0.1", "4420"), nullptr);
  ASSERT_TRUE(listen_at("0.0.0.0").has_value());
  const SubsystemSnapshot& both = *target->current().find(nqn);
  EXPECT_EQ(both.listener_for("127.0.0.1", "4420"), &both.listeners[1]);
  EXPECT_EQ(both.listener_for("::1", "4420"), &both.listeners[0]);
}

// --- referrals ---

TEST_F(AccessTest, AReferralIsAddedOnce) {
  ASSERT_TRUE(add_referral(referral()).has_value());
  const std::uint64_t before = generation();
  EXPECT_EQ(add_referral(referral()).value(), before) << "the same once more changes nothing";
  EXPECT_EQ(generation(), before);
  Referral secure = referral();
  secure.secure_channel = true;
  EXPECT_EQ(add_referral(secure).error().err, EEXIST);
  ASSERT_EQ(target->current().referrals.size(), 1U);
  EXPECT_EQ(target->current().referrals[0].subnqn, discovery_nqn);
  ASSERT_TRUE(on_app([&] { return target->remove_referral(referral().address, ""); }).has_value());
  EXPECT_EQ(on_app([&] { return target->remove_referral(referral().address, ""); }).error().err, ENODEV);
}

TEST_F(AccessTest, WrongReferralsAreRefused) {
  const auto refused = [&](auto spoil, const char* word) {
    Referral made = referral();
    spoil(made);
    const auto change = add_referral(made);
    ASSERT_FALSE(change.has_value()) << word;
    EXPECT_THAT(change.error().message, HasSubstr(word));
  };
  refused([](Referral& r) { r.address.traddr = "0.0.0.0"; }, "0.0.0.0");
  refused([](Referral& r) { r.address.traddr = "somewhere"; }, "traddr 'somewhere'");
  refused([](Referral& r) { r.address.trsvcid = ""; }, "trsvcid ''");
  refused([](Referral& r) { r.address.adrfam = "IPv6"; }, "not an IPv6 address");
  refused([](Referral& r) { r.address.trtype = "FC"; }, "trtype 'FC'");
  refused([](Referral& r) { r.subnqn = "x"; }, "NQN 'x'");
  refused([](Referral& r) { r.hosts = {"y"}; }, "NQN 'y'");
  EXPECT_TRUE(target->current().referrals.empty());
}

TEST_F(AccessTest, ReferralsMayBeForSomeHosts) {
  Referral made = referral();
  made.allow_any_host = false;
  made.hosts = {host};
  ASSERT_TRUE(add_referral(made).has_value());
  EXPECT_THAT(shown(host), testing::Contains(std::string("1 192.0.2.7:8009 ") + discovery_nqn));
  EXPECT_THAT(shown(other_host), ElementsAre(std::string("3 127.0.0.1:4420 ") + discovery_nqn));
  ASSERT_TRUE(on_app([&] { return target->set_referral_host(made.address, "", other_host, true); }).has_value());
  EXPECT_EQ(shown(other_host).size(), 2U);
  EXPECT_EQ(on_app([&] { return target->set_referral_host(made.address, "", other_host, true); }).error().err, EEXIST);
  ASSERT_TRUE(on_app([&] { return target->set_referral_host(made.address, "", other_host, false); }).has_value());
  EXPECT_EQ(on_app([&] { return target->set_referral_host(made.address, "", other_host, false); }).error().err, ENOENT);
  EXPECT_EQ(shown(other_host).size(), 1U);
  ASSERT_TRUE(on_app([&] { return target->set_referral_allow_any_host(made.address, "", true); }).has_value());
  EXPECT_EQ(shown(other_host).size(), 2U);
}

TEST_F(AccessTest, AReferralMayPointToAnNvmSubsystemAndToRdma) {
  Referral made = referral();
  made.address.trtype = "rdma";
  made.subnqn = other_nqn;
  ASSERT_TRUE(add_referral(made).has_value());
  EXPECT_THAT(shown(host), testing::Contains(std::string("2 192.0.2.7:8009 ") + other_nqn));
  EXPECT_EQ(discovery_records(target->current(), host, local()).back().address.trtype, "RDMA");
}

TEST_F(AccessTest, ReferralsAreBounded) {
  TargetLimits limits;
  for (unsigned i = 0; i < limits.max_referrals; ++i) {
    Referral made = referral();
    made.address.trsvcid = std::to_string(1000 + i);
    ASSERT_TRUE(add_referral(made).has_value());
  }
  EXPECT_EQ(add_referral(referral()).error().err, ENOSPC);
}

// --- what a host reads ---

TEST_F(AccessTest, TheLogBeginsWithThisDiscoveryServiceWhereItWasReached) {
  ASSERT_TRUE(listen_at("127.0.0.1").has_value());
  ASSERT_TRUE(on_app([&] { return target->set_allow_any_host(nqn, true); }).has_value());
  ASSERT_TRUE(listen_at("127.0.0.1", "8009", discovery_nqn).has_value());
  EXPECT_THAT(shown(host), ElementsAre(std::string("3 127.0.0.1:4420 ") + discovery_nqn, std::string("3 127.0.0.1:8009 ") + discovery_nqn,
                                       std::string("2 127.0.0.1:4420 ") + nqn));
  EXPECT_EQ(shown(host, local("127.0.0.1", "8009")).size(), 2U) << "reached through its own listener, it is listed once";
  const auto records = discovery_records(target->current(), host, local());
  EXPECT_EQ(records[0].eflags, nvme::discovery_eflag_duplicate_info | nvme::discovery_eflag_explicit_persistent);
  EXPECT_EQ(records[1].port_id, 1);
  EXPECT_THAT(shown(host, local(), true), ElementsAre(std::string("2 127.0.0.1:4420 ") + nqn)) << "port local entries";
}

TEST_F(AccessTest, WhereTheAddressMattersTheInformationIsNotCalledTheSame) {
  ASSERT_TRUE(listen_at("0.0.0.0").has_value());
  EXPECT_EQ(discovery_records(target->current(), host, local())[0].eflags, nvme::discovery_eflag_explicit_persistent);
  ASSERT_TRUE(on_app([&] { return target->remove_listener(nqn, address("0.0.0.0")); }).has_value());
  app.on_thread([this] { target->set_discovery_filters(discovery_match_address); });
  EXPECT_EQ(discovery_records(target->current(), host, local())[0].eflags, nvme::discovery_eflag_explicit_persistent);
}

// Proves: access | Discovery filters | Base 3.1.2.3
TEST_F(AccessTest, FiltersKeepWhatEqualsTheConnection) {
  ASSERT_TRUE(on_app([&] { return target->set_allow_any_host(nqn, true); }).has_value());
  ASSERT_TRUE(listen_at("127.0.0.1").has_value());
  ASSERT_TRUE(listen_at("127.0.0.1", "4421").has_value());
  ASSERT_TRUE(listen_at("127.0.0.2").has_value());
  ASSERT_TRUE(listen_at("::1").has_value());
  const auto count = [&](std::uint8_t filters) {
    app.on_thread([&] { target->set_discovery_filters(filters); });
    return shown(host).size() - 1;
  };
  EXPECT_EQ(count(discovery_match_any), 4U);
  EXPECT_EQ(count(discovery_match_transport), 3U);
  EXPECT_EQ(count(discovery_match_address), 2U);
  EXPECT_EQ(count(discovery_match_svcid), 3U);
  EXPECT_EQ(count(discovery_match_address | discovery_match_svcid), 1U);
}

TEST_F(AccessTest, ALinkLocalAddressIsToldWithoutOurInterface) {
  ASSERT_TRUE(on_app([&] { return target->set_allow_any_host(nqn, true); }).has_value());
  ASSERT_TRUE(listen_at("fe80::1%lo").has_value());
  const auto texts = shown(host, local("fe80::1%lo"));
  EXPECT_THAT(texts, ElementsAre(std::string("3 [fe80::1]:4420 ") + discovery_nqn, std::string("2 [fe80::1]:4420 ") + nqn));
}

TEST_F(AccessTest, AHostIsToldOnlyOfWhatItReads) {
  ASSERT_TRUE(listen_at("127.0.0.1").has_value());
  const auto differs_by = [&](auto change) {
    const auto before = target->publisher().current();
    const std::uint64_t genctr = discovery_generation();
    EXPECT_TRUE(on_app(change).has_value());
    const TargetSnapshot& now = target->current();
    EXPECT_EQ(discovery_generation() != genctr, discovery_view_differs(*before, now)) << "GENCTR goes with the contents";
    return std::pair(discovery_view_differs(*before, now, host, local()), discovery_view_differs(*before, now, other_host, local()));
  };
  const std::pair<bool, bool> nobody(false, false);
  const std::pair<bool, bool> the_first(true, false);
  const std::pair<bool, bool> both(true, true);
  EXPECT_EQ(differs_by([&] { return target->add_host(nqn, host); }), the_first);
  EXPECT_EQ(differs_by([&] { return target->set_allow_any_host(nqn, true); }), std::pair(false, true));
  EXPECT_EQ(differs_by([&] { return target->add_host(nqn, other_host); }), nobody);
  EXPECT_EQ(differs_by([&] { return target->set_allow_any_host(nqn, false); }), nobody);
  Referral made = referral();
  made.allow_any_host = false;
  made.hosts = {host};
  EXPECT_EQ(differs_by([&] { return target->add_referral(made); }), the_first);
  EXPECT_EQ(differs_by([&] { return target->set_referral_allow_any_host(made.address, "", true); }), std::pair(false, true));
  EXPECT_EQ(differs_by([&] { return target->remove_referral(made.address, ""); }), both);
  EXPECT_EQ(differs_by([&] { return target->add_host(discovery_nqn, host); }), nobody);
}

// --- the target as a whole ---

TEST_F(AccessTest, TheDiscoverySubsystemMayHaveANameOfItsOwn) {
  constexpr const char* unique = "nqn.2026-11.io.catnap:discovery";
  const auto name_it = [&](const char* name) { return on_app([&] { return target->set_discovery_nqn(name); }); };
  ASSERT_TRUE(name_it(unique).has_value());
  EXPECT_EQ(target->current().find(unique), target->current().find(discovery_nqn));
  EXPECT_EQ(target->current().find(unique)->shown_nqn(), unique);
  EXPECT_THAT(shown(host), ElementsAre(std::string("3 127.0.0.1:4420 ") + unique));
  EXPECT_EQ(create(unique).error().err, EEXIST);
  EXPECT_EQ(name_it(nqn).error().err, EEXIST);
  EXPECT_EQ(name_it("x").error().err, EINVAL);
  ASSERT_TRUE(name_it(discovery_nqn).has_value());
  EXPECT_EQ(target->current().find(unique), nullptr);
}

TEST_F(AccessTest, LabelsHaveFourTo256Characters) {
  const auto make = [&](const std::string& label) {
    return on_app([&] {
      SubsystemOptions options;
      options.nqn = other_nqn;
      options.admin_label = label;
      return target->create_subsystem(options);
    });
  };
  EXPECT_THAT(make("abc").error().message, HasSubstr("admin_label 'abc'"));
  EXPECT_EQ(make(std::string(257, 'a')).error().err, EINVAL);
  EXPECT_EQ(make("a\nbcd").error().err, EINVAL);
  EXPECT_TRUE(make(std::string(256, 'a')).has_value());
}

TEST_F(AccessTest, DuplicateHostsAndRetryDelaysAreSetForTheTarget) {
  app.on_thread([this] {
    target->set_crdt({1, 2, 3});
    target->set_dup_host_policy(DupHostPolicy::restrict_per_listener);
  });
  EXPECT_EQ(target->current().crdt_100ms, (std::array<std::uint16_t, 3>{1, 2, 3}));
  ASSERT_TRUE(create(other_nqn).has_value());
  EXPECT_TRUE(target->current().find(other_nqn)->one_controller_per_host);
  EXPECT_FALSE(target->current().find(nqn)->one_controller_per_host) << "made before";
}

// --- addresses ---

TEST(LinkLocal, AnAddressOfOneLinkNeedsItsInterfaceAndOthersHaveNone) {
  const auto normal = [](const char* traddr) {
    ListenAddress given;
    given.adrfam = "ipv6";
    given.traddr = traddr;
    given.trsvcid = "4420";
    return normalise_listen_address(given);
  };
  EXPECT_EQ(normal("FE80:0::1%lo")->traddr, "fe80::1%lo");
  EXPECT_EQ(normal("fe80::1%1")->traddr, "fe80::1%lo") << "1 is the index of the loopback interface";
  EXPECT_EQ(normal("fe80::1%not_there")->traddr, "fe80::1%not_there") << "so that its listener can be removed";
  EXPECT_THAT(normal("fe80::1").error().message, HasSubstr("it needs its interface, as in fe80::1%eth0"));
  EXPECT_THAT(normal("::1%lo").error().message, HasSubstr("only link-local addresses"));
  EXPECT_THAT(normal("fe80::1%").error().message, HasSubstr("interface of 1 to 15 characters"));
  EXPECT_THAT(normal("fe80::1%0123456789abcdef").error().message, HasSubstr("interface of 1 to 15 characters"));
  EXPECT_EQ(traddr_without_interface("fe80::1%lo"), "fe80::1");
}

TEST(ListenAddress, PortsAndFamiliesAreChecked) {
  const auto refusal = [](const char* adrfam, const char* traddr, const char* trsvcid) {
    ListenAddress given;
    given.adrfam = adrfam;
    given.traddr = traddr;
    given.trsvcid = trsvcid;
    return normalise_listen_address(given).error().message;
  };
  EXPECT_THAT(refusal("", "127.0.0.1", "0"), HasSubstr("trsvcid '0' is not a TCP port (1 to 65535)"));
  EXPECT_THAT(refusal("IPv4", "::1", "4420"), HasSubstr("traddr '::1' is not an IPv4 address"));
  EXPECT_THAT(refusal("IPv6", "127.0.0.1", "4420"), HasSubstr("traddr '127.0.0.1' is not an IPv6 address"));
  EXPECT_THAT(refusal("IPv4", "fe80::1%lo", "4420"), HasSubstr("traddr 'fe80::1%lo'"));
}

// --- hosts that are there ---

TEST(HostDirectory, ShowsAHostItselfAndThoseOfSubsystemsThatItMayEnter) {
  HostDirectory directory;
  directory.add("a", "first", {"10.0.0.1", "50000", "IPv4"});
  directory.add("a", "first", {"10.0.0.1", "50001", "IPv4"});
  directory.add("b", "second", {"fe80::2%lo", "50000", "IPv6"});
  const auto nowhere = [](const std::string&) { return false; };
  const auto into_b = [](const std::string& subnqn) { return subnqn == "b"; };
  const HostDirectory::Host first{"first", "IPv4", "10.0.0.1"};
  const HostDirectory::Host second{"second", "IPv6", "fe80::2"};
  EXPECT_THAT(directory.seen_by("third", nowhere).hosts, IsEmpty());
  EXPECT_THAT(directory.seen_by("first", nowhere).hosts, ElementsAre(first));
  EXPECT_THAT(directory.seen_by("first", into_b).hosts, ElementsAre(first, second));
  const std::uint64_t generation = directory.seen_by("first", into_b).generation;
  directory.remove("a", "first", {"10.0.0.1", "50000", "IPv4"});
  EXPECT_EQ(directory.seen_by("first", into_b).generation, generation) << "one of two: nothing to be seen";
  directory.remove("a", "first", {"10.0.0.1", "50001", "IPv4"});
  EXPECT_GT(directory.seen_by("first", into_b).generation, generation);
  EXPECT_THAT(directory.seen_by("first", into_b).hosts, ElementsAre(second));
}

}  // namespace
}  // namespace catnap::server
