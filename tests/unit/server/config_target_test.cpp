// Changes of the configuration: what each does, when the discovery log's generation goes up, and that a failing one leaves no trace.
// Owner: the test's thread.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include "server/names.h"
#include "tests/unit/server/config_fixture.h"

namespace catnap::server {
namespace {

// The accepted end of a TCP connection on loopback, with a packet received.
class ConnectedSocket {
 public:
  ConnectedSocket() {
    const int listening = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listening, generic, length), 0);
    EXPECT_EQ(::listen(listening, 1), 0);
    EXPECT_EQ(::getsockname(listening, generic, &length), 0);
    peer_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(peer_, generic, length), 0);
    fd_ = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    ::close(listening);
    char byte = 'x';
    EXPECT_EQ(::send(peer_, &byte, 1, 0), 1);
    EXPECT_EQ(::recv(fd_, &byte, 1, 0), 1);
  }
  ~ConnectedSocket() {
    ::close(peer_);
    ::close(fd_);
  }
  ConnectedSocket(const ConnectedSocket&) = delete;
  ConnectedSocket& operator=(const ConnectedSocket&) = delete;
  int fd() const { return fd_; }
  std::optional<unsigned> incoming_cpu() const {
    int cpu = -1;
    socklen_t length = sizeof cpu;
    if (::getsockopt(fd_, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &length) != 0 || cpu < 0) return std::nullopt;
    return static_cast<unsigned>(cpu);
  }

 private:
  int peer_ = -1;
  int fd_ = -1;
};

using testing::HasSubstr;

TEST_F(TargetTest, BeginsWithTheDiscoverySubsystemAlone) {
  ASSERT_EQ(target->current().subsystems.size(), 1U);
  const SubsystemSnapshot* discovery = target->current().find(discovery_nqn);
  ASSERT_NE(discovery, nullptr);
  EXPECT_TRUE(discovery->discovery);
  EXPECT_TRUE(discovery->allows_host(host));
  EXPECT_EQ(generation(), 1U);
}

TEST_F(TargetTest, ASubsystemIsMadeOnceAndDefaultsAreSpdks) {
  ASSERT_TRUE(create().has_value());
  const SubsystemSnapshot* made = target->current().find(nqn);
  ASSERT_NE(made, nullptr);
  EXPECT_EQ(made->max_namespaces, 32U);
  EXPECT_EQ(made->min_cntlid, 1);
  EXPECT_EQ(made->max_cntlid, 0xFFEF);
  EXPECT_FALSE(made->allows_host(host));
  const auto again = create();
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().err, EEXIST);
  EXPECT_THAT(again.error().message, HasSubstr(nqn));
}

TEST_F(TargetTest, WrongSubsystemOptionsAreRefusedAndChangeNothing) {
  const std::shared_ptr<const TargetSnapshot> before = target->publisher().current();
  using Spoil = void (*)(SubsystemOptions&);
  const std::pair<Spoil, const char*> table[] = {
      {[](SubsystemOptions& o) { o.nqn = "nope"; }, "NQN 'nope'"},
      {[](SubsystemOptions& o) { o.serial_number = std::string(21, 'x'); }, "serial_number"},
      {[](SubsystemOptions& o) { o.model_number = "\n"; }, "model_number"},
      {[](SubsystemOptions& o) { o.min_cntlid = 0; }, "min_cntlid 0 and max_cntlid 65519: not a range"},
      {[](SubsystemOptions& o) { o.max_cntlid = 0xFFF0; }, "min_cntlid 1 and max_cntlid 65520: not a range"},
      {[](SubsystemOptions& o) { o.min_cntlid = 9, o.max_cntlid = 8; }, "min_cntlid 9 and max_cntlid 8: not a range"},
      {[](SubsystemOptions& o) { o.max_namespaces = max_namespaces_limit + 1; }, "max_namespaces"},
  };
  for (const auto& [spoil, text] : table) {
    SubsystemOptions options;
    options.nqn = nqn;
    spoil(options);
    const auto refused = on_app([&] { return target->create_subsystem(options); });
    ASSERT_FALSE(refused.has_value()) << text;
    EXPECT_EQ(refused.error().err, EINVAL);
    EXPECT_THAT(refused.error().message, HasSubstr(text));
    EXPECT_EQ(target->publisher().current(), before);
  }
}

TEST_F(TargetTest, TheNumberOfSubsystemsIsBounded) {
  app.on_thread([this] { target->set_max_subsystems(1); });
  ASSERT_TRUE(create().has_value());
  const auto refused = create(other_nqn);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().err, ENOSPC);
}

TEST_F(TargetTest, UnknownSubsystemsAreNamedInEveryCall) {
  const auto check = [](const Target::Change& change) {
    ASSERT_FALSE(change.has_value());
    EXPECT_EQ(change.error().err, ENODEV);
    // spdk-csi and ceph look for these words.
    EXPECT_THAT(change.error().message, HasSubstr("Invalid parameters"));
    EXPECT_THAT(change.error().message, HasSubstr("Subsystem with NQN 'nqn.2026-11.io.catnap:one' not found"));
  };
  check(on_app([&] { return target->delete_subsystem(nqn); }));
  check(on_app([&] { return target->remove_namespace(nqn, 1); }));
  check(on_app([&] { return target->add_listener(nqn, address("127.0.0.1")); }));
  check(on_app([&] { return target->remove_listener(nqn, address("127.0.0.1")); }));
  check(on_app([&] { return target->add_host(nqn, host); }));
  check(on_app([&] { return target->remove_host(nqn, host); }));
  check(on_app([&] { return target->set_allow_any_host(nqn, true); }));
  EXPECT_FALSE(add_ns("any").has_value());
}

TEST_F(TargetTest, TheDiscoverySubsystemTakesListenersAndHostsAndNothingElse) {
  add_bdev("disk", uuid_1);
  ASSERT_TRUE(create_transport().has_value());
  EXPECT_EQ(on_app([&] { return target->delete_subsystem(discovery_nqn); }).error().err, EPERM);
  EXPECT_EQ(add_ns("disk", 0, discovery_nqn).error().err, EPERM);
  EXPECT_EQ(create(discovery_nqn).error().err, EEXIST);
  EXPECT_TRUE(add_listener("127.0.0.1", discovery_nqn).has_value());
}

// --- namespaces ---

TEST_F(TargetTest, TheLowestFreeNsidIsTakenAndIdentifiersComeFromTheBdev) {
  add_bdev("a", uuid_1);
  add_bdev("b", uuid_2);
  ASSERT_TRUE(create().has_value());
  ASSERT_EQ(add_ns("a", 2)->nsid, 2U);
  const auto added = add_ns("b");
  ASSERT_TRUE(added.has_value());
  EXPECT_EQ(added->nsid, 1U);
  const NamespaceConfig* config = target->current().find(nqn)->visible_namespace(1, host);
  ASSERT_NE(config, nullptr);
  EXPECT_EQ(uuid_text(config->uuid), uuid_2);
  EXPECT_EQ(hex_text(config->nguid), "22222222222242228222222222222222");
  EXPECT_EQ(config->anagrpid, 1U);
  EXPECT_EQ(config->attributes_generation, added->generation);
}

TEST_F(TargetTest, WrongNamespacesAreRefusedAndChangeNothing) {
  add_bdev("a", uuid_1);
  add_bdev("b", uuid_2);
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(create(other_nqn).has_value());
  ASSERT_TRUE(add_ns("a", 1).has_value());
  const std::shared_ptr<const TargetSnapshot> before = target->publisher().current();
  const auto expect = [&](const Result<Target::AddedNamespace>& refused, int err, const char* text) {
    ASSERT_FALSE(refused.has_value()) << text;
    EXPECT_EQ(refused.error().err, err) << text;
    EXPECT_THAT(refused.error().message, HasSubstr(text));
    EXPECT_EQ(target->publisher().current(), before);
    EXPECT_EQ(bdev::Registry::instance().claimed_by(*bdevs[1]), "") << "b must not stay open";
  };
  expect(add_ns("nope"), ENODEV, "'nope'");
  expect(add_ns("b", 1), EEXIST, "nsid 1");
  expect(add_ns("b", 33), EINVAL, "nsid 33");
  expect(add_ns("a", 2), EBUSY, "namespace 1 of subsystem");
  expect(add_ns("a", 2, other_nqn), EBUSY, nqn);
  expect(on_app([&] {
           NamespaceOptions options;
           options.bdev_name = "b";
           options.uuid = *parse_uuid(uuid_1);
           return target->add_namespace(nqn, options);
         }),
         EEXIST, "uuid");
  expect(on_app([&] {
           NamespaceOptions options;
           options.bdev_name = "b";
           options.anagrpid = 33;
           return target->add_namespace(nqn, options);
         }),
         EINVAL, "anagrpid 33");
}

TEST_F(TargetTest, ABdevClaimedByAnotherIsBusy) {
  add_bdev("a", uuid_1);
  ASSERT_TRUE(create().has_value());
  std::unique_ptr<bdev::Descriptor> other;
  app.on_thread([&] { other = std::move(*bdev::Registry::instance().open("a", "somebody else", true, [](bdev::Event) {})); });
  const auto refused = add_ns("a");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().err, EBUSY);
  EXPECT_THAT(refused.error().message, HasSubstr("somebody else"));
  app.on_thread([&] { other.reset(); });
  EXPECT_TRUE(add_ns("a").has_value());
}

TEST_F(TargetTest, AFullSubsystemHasNoSpaceLeft) {
  add_bdev("a", uuid_1);
  add_bdev("b", uuid_2);
  app.on_thread([this] {
    SubsystemOptions options;
    options.nqn = nqn;
    options.max_namespaces = 1;
    ASSERT_TRUE(target->create_subsystem(options).has_value());
  });
  ASSERT_TRUE(add_ns("a").has_value());
  const auto refused = add_ns("b");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().err, ENOSPC);
  EXPECT_THAT(refused.error().message, HasSubstr("No space left"));
}

TEST_F(TargetTest, ARemovedNamespaceClosesItsBdevWhenTheLastGroupLetsGo) {
  HandGroup& group = add_group("group");
  add_bdev("a", uuid_1);
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(add_ns("a").has_value());
  turn_all();
  ASSERT_TRUE(on_app([&] { return target->remove_namespace(nqn, 1); }).has_value());
  EXPECT_EQ(bdev::Registry::instance().claimed_by(*bdevs[0]), bdev_opener) << "the group still serves the old configuration";
  turn_all();
  EXPECT_EQ(group.held->generation, generation());
  EXPECT_EQ(bdev::Registry::instance().claimed_by(*bdevs[0]), "");
  EXPECT_EQ(on_app([&] { return target->remove_namespace(nqn, 1); }).error().err, ENODEV);
}

TEST_F(TargetTest, ADeletedBdevTakesItsNamespaceAlong) {
  add_group("group");
  add_bdev("a", uuid_1);
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(add_ns("a").has_value());
  turn_all();
  bool removed = false;
  app.on_thread([&] { bdev::Registry::instance().remove("a", [&](Result<void> outcome) { removed = outcome.has_value(); }); });
  EXPECT_TRUE(target->current().find(nqn)->namespaces.empty());
  EXPECT_FALSE(removed) << "the group has not let go yet";
  turn_all();
  EXPECT_TRUE(removed);
  bdevs.clear();
}

TEST_F(TargetTest, AResizedBdevGivesItsNamespaceANewAttributesGeneration) {
  add_bdev("a", uuid_1);
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(add_ns("a").has_value());
  const std::uint64_t before = target->current().find(nqn)->namespaces.at(1)->attributes_generation;
  const std::uint64_t discovery_before = discovery_generation();
  app.on_thread([this] { bdevs[0]->resize(2048); });
  const auto& config = target->current().find(nqn)->namespaces.at(1);
  EXPECT_GT(config->attributes_generation, before);
  EXPECT_EQ(config->attributes_generation, generation());
  EXPECT_EQ(discovery_generation(), discovery_before);
}

TEST_F(TargetTest, ANamespaceNotAutoVisibleIsHidden) {
  add_bdev("a", uuid_1);
  ASSERT_TRUE(create().has_value());
  app.on_thread([this] {
    NamespaceOptions options;
    options.bdev_name = "a";
    options.no_auto_visible = true;
    ASSERT_TRUE(target->add_namespace(nqn, options).has_value());
  });
  EXPECT_EQ(target->current().find(nqn)->visible_namespace(1, host), nullptr);
}

// --- listeners ---

TEST_F(TargetTest, OneSocketServesAllSubsystemsOfAnAddress) {
  ASSERT_TRUE(create_transport().has_value());
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(create(other_nqn).has_value());
  ASSERT_TRUE(add_listener("127.0.0.1", nqn).has_value());
  ASSERT_TRUE(add_listener("127.0.0.1", other_nqn).has_value());
  EXPECT_EQ(opened.size(), 1U);
  EXPECT_EQ(listening, 1);
  ASSERT_TRUE(add_listener("127.0.0.2", nqn).has_value());
  EXPECT_EQ(listening, 2);
  EXPECT_EQ(target->current().find(nqn)->listeners[0].port_id, target->current().find(other_nqn)->listeners[0].port_id);
  EXPECT_NE(target->current().find(nqn)->listeners[0].port_id, target->current().find(nqn)->listeners[1].port_id);
  ASSERT_TRUE(on_app([&] { return target->remove_listener(nqn, address("127.0.0.1")); }).has_value());
  EXPECT_EQ(listening, 2);
  ASSERT_TRUE(on_app([&] { return target->delete_subsystem(other_nqn); }).has_value());
  EXPECT_EQ(listening, 1);
}

TEST_F(TargetTest, WrongListenersAreRefusedAndChangeNothing) {
  ASSERT_TRUE(create().has_value());
  EXPECT_EQ(add_listener().error().err, ENODEV) << "no transport yet";
  ASSERT_TRUE(create_transport().has_value());
  ASSERT_TRUE(add_listener().has_value());
  const std::shared_ptr<const TargetSnapshot> before = target->publisher().current();
  EXPECT_EQ(add_listener().error().err, EEXIST);
  EXPECT_EQ(add_listener("nowhere").error().err, EINVAL);
  listen_error = EADDRNOTAVAIL;
  const auto refused = add_listener("192.0.2.1");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().err, EADDRNOTAVAIL);
  EXPECT_THAT(refused.error().message, HasSubstr("Cannot assign requested address"));
  EXPECT_THAT(refused.error().message, HasSubstr("192.0.2.1:4420"));
  EXPECT_EQ(on_app([&] { return target->remove_listener(nqn, address("127.0.0.9")); }).error().err, ENODEV);
  EXPECT_EQ(target->publisher().current(), before);
  EXPECT_EQ(listening, 1);
}

TEST_F(TargetTest, AListenerIsFoundByExactAddressThenByWildcard) {
  ASSERT_TRUE(create_transport().has_value());
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(add_listener("0.0.0.0").has_value());
  ASSERT_TRUE(add_listener("127.0.0.1").has_value());
  const SubsystemSnapshot& subsystem = *target->current().find(nqn);
  EXPECT_EQ(subsystem.listener_for("127.0.0.1", "4420"), &subsystem.listeners[1]);
  EXPECT_EQ(subsystem.listener_for("10.0.0.1", "4420"), &subsystem.listeners[0]);
  EXPECT_EQ(subsystem.listener_for("10.0.0.1", "4421"), nullptr);
  EXPECT_EQ(subsystem.listener_for("::1", "4420"), nullptr);
}

TEST_F(TargetTest, ConnectionsGoToTheGroupWithTheFewest) {
  HandGroup& first = add_group("first");
  HandGroup& second = add_group("second");
  first.given = {-1};
  ASSERT_TRUE(create_transport().has_value());
  EXPECT_EQ(first.starts, 1);
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(add_listener().has_value());
  app.on_thread([this] {
    for (int fd : {100, 101, 102}) accept(fd);
  });
  EXPECT_EQ(first.given, (std::vector<int>{-1, 101}));
  EXPECT_EQ(second.given, (std::vector<int>{100, 102}));
}

TEST_F(TargetTest, ConnectionsThatComeAndGoByOnesVisitAllGroups) {
  HandGroup& first = add_group("first");
  HandGroup& second = add_group("second");
  ASSERT_TRUE(create_transport().has_value());
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(add_listener().has_value());
  std::vector<int> order;
  for (int fd = 100; fd < 104; ++fd) {
    app.on_thread([&] { accept(fd); });
    order.push_back(first.given.empty() ? 2 : 1);
    first.given.clear();
    second.given.clear();
  }
  EXPECT_EQ(order, (std::vector<int>{1, 2, 1, 2}));
}

// A real socket, so that it has a CPU on which its packets arrive; which one is the kernel's matter, so every CPU gets its turn as the second
// group's.
TEST_F(TargetTest, AmongEqualsTheIncomingCpuDecidesIfAsked) {
  HandGroup& first = add_group("first");
  HandGroup& second = add_group("second");
  ASSERT_TRUE(create_transport().has_value());
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(add_listener().has_value());
  const ConnectedSocket socket;
  const auto incoming = socket.incoming_cpu();
  ASSERT_TRUE(incoming.has_value());
  second.on_cpu = incoming;
  first.on_cpu = *incoming + 1;
  app.on_thread([&] {
    target->set_prefer_incoming_cpu(true);
    accept(socket.fd());
  });
  EXPECT_EQ(second.given, std::vector<int>{socket.fd()}) << "on the CPU of the packets, although it is the first group's turn";
  app.on_thread([&] { accept(socket.fd()); });
  EXPECT_EQ(first.given, std::vector<int>{socket.fd()}) << "fewest connections come first";
}

TEST_F(TargetTest, AGroupThatComesLaterIsStartedAndBroughtUpToDate) {
  ASSERT_TRUE(create_transport().has_value());
  ASSERT_TRUE(create().has_value());
  HandGroup& late = add_group("late");
  turn_all();
  EXPECT_EQ(late.starts, 1);
  ASSERT_NE(late.held, nullptr);
  EXPECT_EQ(late.held->generation, generation());
}

TEST_F(TargetTest, ASecondTransportIsRefusedInTheWordsThatLonghornLooksFor) {
  ASSERT_TRUE(create_transport().has_value());
  const auto again = create_transport();
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().message, "Transport type 'TCP' already exists");
}

// --- hosts ---

TEST_F(TargetTest, HostsAreAllowedByListOrAll) {
  ASSERT_TRUE(create().has_value());
  ASSERT_TRUE(on_app([&] { return target->add_host(nqn, host); }).has_value());
  ASSERT_TRUE(on_app([&] { return target->add_host(nqn, "nqn.2026-11.io.catnap:a"); }).has_value());
  const auto allows = [&](const char* name) { return target->current().find(nqn)->allows_host(name); };
  EXPECT_TRUE(allows(host));
  EXPECT_TRUE(allows("nqn.2026-11.io.catnap:a"));
  EXPECT_FALSE(allows("nqn.2026-11.io.catnap:b"));
  EXPECT_EQ(on_app([&] { return target->add_host(nqn, host); }).error().err, EEXIST);
  EXPECT_EQ(on_app([&] { return target->add_host(nqn, "no nqn"); }).error().err, EINVAL);
  EXPECT_EQ(on_app([&] { return target->remove_host(nqn, other_nqn); }).error().err, ENOENT);
  ASSERT_TRUE(on_app([&] { return target->remove_host(nqn, host); }).has_value());
  EXPECT_FALSE(allows(host));
  ASSERT_TRUE(on_app([&] { return target->set_allow_any_host(nqn, true); }).has_value());
  EXPECT_TRUE(allows(host));
}

// --- the discovery log's generation ---

TEST_F(TargetTest, TheDiscoveryGenerationGoesUpExactlyWhenAHostSeesAnotherLog) {
  add_bdev("a", uuid_1);
  ASSERT_TRUE(create_transport().has_value());
  std::uint64_t last = discovery_generation();
  const auto goes_up = [&](bool expected, const char* step) {
    EXPECT_EQ(discovery_generation(), last + (expected ? 1 : 0)) << step;
    last = discovery_generation();
  };
  ASSERT_TRUE(create().has_value());
  goes_up(false, "a subsystem without listener and hosts");
  ASSERT_TRUE(add_ns("a").has_value());
  goes_up(false, "a namespace");
  ASSERT_TRUE(add_listener().has_value());
  goes_up(false, "a listener of a subsystem that no host may use");
  ASSERT_TRUE(on_app([&] { return target->add_host(nqn, host); }).has_value());
  goes_up(true, "the first host");
  ASSERT_TRUE(on_app([&] { return target->set_allow_any_host(nqn, true); }).has_value());
  goes_up(true, "any host");
  ASSERT_TRUE(on_app([&] { return target->set_allow_any_host(nqn, true); }).has_value());
  goes_up(false, "any host again");
  ASSERT_TRUE(on_app([&] { return target->add_host(nqn, other_nqn); }).has_value());
  goes_up(false, "a host more where any may");
  ASSERT_TRUE(add_listener("127.0.0.2").has_value());
  goes_up(true, "a second listener");
  ASSERT_TRUE(on_app([&] { return target->remove_namespace(nqn, 1); }).has_value());
  goes_up(false, "a namespace less");
  ASSERT_TRUE(on_app([&] { return target->delete_subsystem(nqn); }).has_value());
  goes_up(true, "the subsystem less");
  EXPECT_FALSE(create("bad").has_value());
  goes_up(false, "a change that failed");
}

}  // namespace
}  // namespace catnap::server
