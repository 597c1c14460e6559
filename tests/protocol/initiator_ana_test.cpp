// What the initiator knows of namespaces and their ANA states, however the controller tells of it: events that come together, while it is being
// connected, or before a look that fails; states that do not pass; sizes that are hidden where a namespace cannot be reached.
// Owner: the test's thread. Left out: which path is taken (tests/unit/bdev_nvme), a target that is wrong (hostile_controller_test.cpp).
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "tests/protocol/fake/fake_controller.h"
#include "tests/protocol/initiator_fixture.h"
#include "transport/nvme/features.h"
#include "transport/nvme/identify.h"
#include "transport/nvme/log_page.h"

namespace catnap::protocol {
namespace {

constexpr std::uint8_t optimized = 0x1, inaccessible = 0x3, persistent_loss = 0x4, changing = 0xF;
constexpr std::uint32_t namespaces_changed =
    nvme::async_event_dw0(nvme::AsyncEventType::notice, static_cast<std::uint8_t>(nvme::AsyncNoticeInfo::namespace_attribute_changed),
                          static_cast<std::uint8_t>(nvme::LogPage::changed_namespaces));
constexpr std::uint32_t ana_changed = nvme::async_event_dw0(
    nvme::AsyncEventType::notice, static_cast<std::uint8_t>(nvme::AsyncNoticeInfo::ana_changed), static_cast<std::uint8_t>(nvme::LogPage::ana));

// An ANA log of one group with namespace 1 in it.
Bytes ana_log(std::uint8_t state, std::size_t size) {
  Bytes page(size);
  nvme::AnaHeader header;
  header.ngrps = std::uint16_t{1};
  nvme::AnaGroup group;
  group.grpid = 1U;
  group.nnsids = 1U;
  group.state = state;
  const le32 nsid = 1U;
  std::memcpy(page.data(), &header, sizeof header);
  std::memcpy(page.data() + sizeof header, &group, sizeof group);
  std::memcpy(page.data() + sizeof header + sizeof group, &nsid, sizeof nsid);
  return page;
}

template <typename Page, typename Change>
void alter(Bytes& data, Change change) {
  Page page;
  std::memcpy(static_cast<void*>(&page), data.data(), sizeof page);
  change(page);
  std::memcpy(data.data(), &page, sizeof page);
}

// A controller with ANA, whose only namespace is in this state now, and may show no size there.
class AnaOfController : public InitiatorTest {
 protected:
  void play(std::uint8_t state, bool hides_size = false) {
    state_ = state;
    hides_size_ = hides_size;
    controller_.change_answers([this](const std::string& step, nvme::CompletionEntry&, Bytes& data) {
      if (step == "Get Log Page 0Ch") {
        data = ana_log(state_, data.size());
        if (next_state_ != 0) state_ = next_state_.exchange(0);
      }
      if (step == "Identify CNS 00h" && hides_size_ && state_ != optimized) {
        alter<nvme::IdentifyNamespace>(data, [](auto& page) { page.nsze = page.ncap = page.nuse = std::uint64_t{0}; });
      }
      if (step != "Identify CNS 01h") return;
      alter<nvme::IdentifyController>(data, [](auto& page) {
        page.cmic |= nvme::cmic_ana;
        page.oaes = nvme::oaes_namespace_attribute | nvme::oaes_ana_change;
        page.anatt = 1;
        page.nanagrpid = page.mnan = 1U;
        page.anagrpmax = 1U;
      });
    });
  }
  void attach() {
    must("bdev_nvme_attach_controller",
         path_to(controller_.port(), controller_.options().subnqn, R"({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})"));
  }
  std::string shown_state() {
    const auto bdev = call("bdev_get_bdevs", json(R"({"name": "Nvme0n1"})"));
    return bdev ? (*bdev)[0]["driver_specific"]["nvme"][0]["ns_data"]["ana_state"].asString() : "no bdev";
  }
  std::size_t times(const std::string& step) const {
    const auto all = controller_.seen();
    return static_cast<std::size_t>(std::ranges::count_if(all, [&step](const auto& seen) { return seen.step == step; }));
  }

  FakeController controller_;
  std::atomic<std::uint8_t> state_{optimized};
  std::atomic<std::uint8_t> next_state_{0};  // after the ANA log was read once more; 0: the same
  std::atomic<bool> hides_size_{false};
};

// A state that should pass within ANATT and does not: I/O waits so long and no longer. A persistent loss passes never.
TEST_F(AnaOfController, IoWaitsNoLongerThanAStateMayTake) {
  const std::pair<std::uint8_t, const char*> states[] = {{inaccessible, "inaccessible"}, {changing, "change"}, {persistent_loss, "persistent_loss"}};
  for (const auto& [state, name] : states) {
    SCOPED_TRACE(name);
    play(state);
    attach();
    EXPECT_EQ(shown_state(), name);
    if (state == inaccessible) {
      Host host = connect_host(serve("Nvme0n1"));
      EXPECT_FALSE(read(host.io, 0, 4096).ok());
      EXPECT_FALSE(read(host.io, 0, 4096).ok()) << "nor any other";
    }
    must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
  }
}

// The controller tells each kind of change once, until its log page was read. What it tells while it is being set up counts as well.
TEST_F(AnaOfController, EventsWhileConnectingAreNotForgotten) {
  play(inaccessible);
  next_state_ = optimized;  // it changes when the log has been read
  controller_.raise_event_before("Get Log Page 0Ch", 1, ana_changed);
  attach();
  EXPECT_TRUE(eventually([&] { return shown_state() == "optimized"; }));
  Host host = connect_host(serve("Nvme0n1"));
  EXPECT_TRUE(read(host.io, 0, 4096).ok());
  controller_.forget();
  play(optimized);
  controller_.raise_event_before("Get Log Page 0Ch", 1, namespaces_changed);
  must("bdev_nvme_reset_controller", R"({"name": "Nvme0"})");
  EXPECT_TRUE(eventually([&] { return times("Get Log Page 04h") > 0; })) << "it would not tell again otherwise";
  EXPECT_TRUE(read(host.io, 0, 4096).ok());
}

TEST_F(AnaOfController, ALookThatFailsIsRepeated) {
  play(inaccessible);
  attach();
  for (const char* step : {"Get Log Page 0Ch", "Get Log Page 04h", "Identify CNS 02h"}) {
    SCOPED_TRACE(step);
    controller_.forget();
    play(inaccessible);
    ASSERT_TRUE(controller_.raise_event(ana_changed));
    ASSERT_TRUE(eventually([&] { return shown_state() == "inaccessible" && times("Get Log Page 0Ch") > 0; }));
    controller_.forget();
    play(optimized);
    controller_.misbehave(step, 1, Deed::error_status);
    ASSERT_TRUE(controller_.raise_event(step == std::string("Get Log Page 0Ch") ? ana_changed : namespaces_changed));
    EXPECT_TRUE(eventually([&] { return shown_state() == "optimized"; }));
    EXPECT_TRUE(eventually([&] { return times(step) > 1; }));
  }
}

// A namespace that cannot be identified for a moment is what it was: its users' I/O goes on.
TEST_F(AnaOfController, ANamespaceThatCannotBeReadForAMomentStays) {
  play(optimized);
  attach();
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(write(host.io, 0, pattern(4096, 1)).ok());
  controller_.forget();
  play(optimized);
  controller_.misbehave("Identify CNS 00h", 1, Deed::error_status);
  ASSERT_TRUE(controller_.raise_event(namespaces_changed));
  EXPECT_TRUE(eventually([&] { return times("Identify CNS 00h") > 1 && times("Get Log Page 0Ch") > 1; })) << "asked for again";
  EXPECT_EQ(read(host.io, 0, 4096).data, pattern(4096, 1));
  controller_.forget();  // and is not asked for ever
  play(optimized);
  ASSERT_TRUE(controller_.raise_event(ana_changed));
  ASSERT_TRUE(eventually([&] { return times("Get Log Page 0Ch") > 0; }));
  EXPECT_EQ(times("Identify CNS 00h"), 0U);
}

// Where a namespace cannot be reached its controller may show no size. It becomes a bdev when it can be reached, and stays one when it cannot any
// more.
TEST_F(AnaOfController, SizesMayBeHiddenWhereANamespaceCannotBeReached) {
  play(inaccessible, true);
  attach();
  EXPECT_EQ(shown_state(), "no bdev");
  state_ = optimized;
  ASSERT_TRUE(controller_.raise_event(ana_changed));
  ASSERT_TRUE(eventually([&] { return shown_state() == "optimized"; }));
  Host host = connect_host(serve("Nvme0n1"));
  ASSERT_TRUE(write(host.io, 0, pattern(4096, 1)).ok());
  state_ = inaccessible;
  ASSERT_TRUE(controller_.raise_event(namespaces_changed));
  ASSERT_TRUE(eventually([&] { return shown_state() == "inaccessible"; }));
  EXPECT_EQ(must("bdev_get_bdevs", R"({"name": "Nvme0n1"})")[0]["num_blocks"].asUInt64(), controller_.options().blocks);
  controller_.resize(controller_.options().blocks * 2);
  state_ = optimized;
  ASSERT_TRUE(controller_.raise_event(ana_changed));
  EXPECT_TRUE(eventually([&] { return read(host.io, 0, 4096).data == pattern(4096, 1); }));
  EXPECT_TRUE(
      eventually([&] { return must("bdev_get_bdevs", R"({"name": "Nvme0n1"})")[0]["num_blocks"].asUInt64() == controller_.options().blocks; }));
}

// --- a catnapd that attaches what it exports ---

class AnaOfItself : public InitiatorTest {
 protected:
  static constexpr int most = 6;
  void SetUp() override {
    InitiatorTest::SetUp();
    port_ = free_port();
    must("nvmf_create_transport", R"({"trtype": "TCP"})");
    must("nvmf_create_subsystem", nqn() + R"(, "allow_any_host": true, "ana_reporting": true, "max_namespaces": 8})");
    must("nvmf_subsystem_add_listener", nqn() + ", " + address() + "}");
    for (int nsid = 1; nsid <= most; ++nsid) {
      must("bdev_malloc_create", R"({"name": "Disk)" + std::to_string(nsid) + R"(", "num_blocks": 2048, "block_size": 512})");
    }
  }
  static std::string nqn() { return R"({"nqn": "nqn.2026-11.io.catnap:itself")"; }
  std::string address() const {
    return R"("listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port_) + "\"}";
  }
  // With a UUID of its own: that of the disk is taken in this process.
  void add(int nsid, int group) {
    const std::string number = std::to_string(nsid);
    must("nvmf_subsystem_add_ns", nqn() + R"(, "namespace": {"nsid": )" + number + R"(, "bdev_name": "Disk)" + number + R"(", "anagrpid": )" +
                                      std::to_string(group) + R"(, "uuid": "11111111-2222-4333-8444-00000000000)" + number + "\"}}");
    groups_[nsid] = group;
  }
  void remove(int nsid) {
    must("nvmf_subsystem_remove_ns", nqn() + R"(, "nsid": )" + std::to_string(nsid) + "}");
    groups_.erase(nsid);
  }
  void move(int nsid, int group) {
    must("nvmf_subsystem_set_ns_ana_group", nqn() + R"(, "nsid": )" + std::to_string(nsid) + R"(, "anagrpid": )" + std::to_string(group) + "}");
    groups_[nsid] = group;
  }
  void set_state(int group, const std::string& state) {
    must("nvmf_subsystem_listener_set_ana_state",
         nqn() + ", " + address() + R"(, "ana_state": ")" + state + R"(", "anagrpid": )" + std::to_string(group) + "}");
    states_[group] = state;
  }
  Json::Value attach_params() const { return path_to(port_, "nqn.2026-11.io.catnap:itself", tried_for_ever); }
  void attach() { must("bdev_nvme_attach_controller", attach_params()); }
  std::uint16_t export_again(const std::string& bdev) {
    const std::uint16_t port = free_port();
    const std::string front = std::string(R"({"nqn": ")") + front_nqn + "\"";
    must("nvmf_create_subsystem", front + R"(, "allow_any_host": true})");
    must("nvmf_subsystem_add_ns", front + R"(, "namespace": {"nsid": 1, "bdev_name": ")" + bdev + "\"}}");
    must("nvmf_subsystem_add_listener",
         front + R"(, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": ")" + std::to_string(port) + R"("}})");
    return port;
  }
  // Over a socket of its own.
  bool attach_aside() const {
    auto aside = RpcClient::open(server_->rpc_socket());
    return aside.has_value() && aside->call("bdev_nvme_attach_controller", attach_params()).has_value();
  }
  // What the target has, and what the initiator makes of it: bdevs and the states of their paths.
  std::map<std::string, std::string> wanted() const {
    std::map<std::string, std::string> all;
    for (const auto& [nsid, group] : groups_) {
      const auto state = states_.find(group);
      all["Nvme0n" + std::to_string(nsid)] = state == states_.end() ? "optimized" : state->second;
    }
    return all;
  }
  std::map<std::string, std::string> known() {
    std::map<std::string, std::string> all;
    for (const auto& bdev : must("bdev_get_bdevs")) {
      const std::string name = bdev["name"].asString();
      if (name.starts_with("Nvme0n")) all[name] = bdev["driver_specific"]["nvme"][0]["ns_data"]["ana_state"].asString();
    }
    return all;
  }
  void agree(const std::string& when) {
    EXPECT_TRUE(eventually([&] { return known() == wanted(); }))
        << when << ": the initiator knows " << text(known()) << ", the target has " << text(wanted());
  }
  static std::string text(const std::map<std::string, std::string>& all) {
    std::string words;
    for (const auto& [name, state] : all) words += name + " " + state + "; ";
    return words;
  }

  static constexpr const char* tried_for_ever = R"({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1})";
  std::uint16_t port_ = 0;
  std::map<int, int> groups_;  // by nsid
  std::map<int, std::string> states_;
};

TEST_F(AnaOfItself, WhatCouldNotBeReachedAtFirstIsUsableWhenItCan) {
  add(1, 1);
  add(2, 2);
  add(3, 3);
  set_state(2, "inaccessible");
  set_state(3, "persistent_loss");
  attach();
  agree("attached");
  Host host = connect_host(export_again("Nvme0n3"));
  EXPECT_FALSE(read(host.io, 0, 512).ok()) << "a persistent loss is not waited for";
  set_state(3, "optimized");
  EXPECT_TRUE(eventually([&] { return read(host.io, 0, 512).ok(); }));
  // Both kinds of events at once, in either order.
  add(4, 2);
  move(3, 2);
  move(4, 1);
  agree("added, then moved");
  move(3, 1);
  add(5, 4);
  set_state(4, "non_optimized");
  agree("moved, then added");
  EXPECT_TRUE(eventually([&] { return read(host.io, 0, 512).ok(); }));
  remove(1);
  set_state(2, "optimized");
  agree("removed, then changed");
}

// Whatever is done to namespaces and states, however fast, and while the controller is connected anew: in the end the initiator knows what is there.
TEST_F(AnaOfItself, WhateverChangesIsKnownInTheEnd) {
  const char* const seed_text = std::getenv("CATNAP_SEED");
  const auto seed = static_cast<unsigned>(seed_text != nullptr ? std::strtoul(seed_text, nullptr, 10) : std::random_device()());
  printf("CATNAP_SEED=%u\n", seed);
  std::mt19937 random(seed);
  const auto any = [&random](int from, int to) { return std::uniform_int_distribution<int>(from, to)(random); };
  const int rounds = std::getenv("CATNAP_SOAK") != nullptr ? 200 : 8;
  const char* const states[] = {"optimized", "non_optimized", "inaccessible", "persistent_loss"};
  add(1, 1);
  attach();
  bool attached = false;
  for (int round = 0; round < rounds; ++round) {
    const bool anew = any(0, 2) == 0;
    // Its answer comes when the controller is ready, and what follows meanwhile falls into its connecting.
    if (anew) must("bdev_nvme_detach_controller", R"({"name": "Nvme0"})");
    std::thread attaching;
    if (anew) attaching = std::thread([&] { attached = attach_aside(); });
    for (int i = any(1, 8); i > 0; --i) {
      const int nsid = any(1, most);
      if (!groups_.contains(nsid)) {
        add(nsid, any(1, 4));
      } else if (any(0, 3) == 0) {
        remove(nsid);
      } else if (any(0, 1) == 0) {
        move(nsid, any(1, 4));
      } else {
        set_state(any(1, 4), states[any(0, 3)]);
      }
    }
    if (anew) {
      attaching.join();
      EXPECT_TRUE(attached);
    }
    agree("round " + std::to_string(round));
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace catnap::protocol
