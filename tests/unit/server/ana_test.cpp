// ANA through queues and the log page, on a virtual clock: what each state does to each class of commands, change counts, events.
#include "server/ana.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/unit/server/controller_bench.h"

namespace catnap::server {
namespace {

using nvme::IoOpcode;

constexpr std::uint32_t ana_event = 0x000C'0302;
constexpr AnaState all_states[] = {AnaState::optimized, AnaState::non_optimized, AnaState::inaccessible, AnaState::persistent_loss, AnaState::change};

bool serves(AnaState state) { return state == AnaState::optimized || state == AnaState::non_optimized; }
nvme::Status status_in(AnaState state) {
  switch (state) {
    case AnaState::inaccessible:
      return nvme::PathStatus::ana_inaccessible;
    case AnaState::persistent_loss:
      return nvme::PathStatus::ana_persistent_loss;
    case AnaState::change:
      return nvme::PathStatus::ana_transition;
    default:
      return {};
  }
}

// Publishes as Target does: the change, then its counts.
void change(ControllerBench& bench, const std::function<void(SubsystemSnapshot&)>& edit) {
  const auto old = bench.snapshot;
  bench.publish([&](TargetSnapshot&, SubsystemSnapshot& subsystem) {
    edit(subsystem);
    count_ana_changes(old->find(test_nqn), subsystem);
  });
}
void set_state(ControllerBench& bench, std::uint32_t group, AnaState state) {
  change(bench, [&](SubsystemSnapshot& subsystem) { subsystem.listeners[0].ana_states[group] = state; });
}
void switch_on(ControllerBench& bench) {
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.ana_reporting = true; });
}

struct Log {
  nvme::AnaHeader header;
  struct Group {
    nvme::AnaGroup head;
    std::vector<std::uint32_t> nsids;
  };
  std::vector<Group> groups;
};
Log read_log(ControllerBench& bench, FakeQueue& admin, bool groups_only = false) {
  nvme::SubmissionEntry sqe = make_sqe(0x02, nvme::broadcast_nsid, 4096);
  sqe.cdw10 = 0x0CU | (groups_only ? 1U << 8 : 0U) | 1023U << 16;
  const Command& command = bench.run(admin, sqe);
  EXPECT_TRUE(command.done && command.status().is_success());
  Log log;
  const std::byte* at = command.buffer.data();
  std::memcpy(&log.header, at, sizeof(log.header));
  at += sizeof(log.header);
  for (unsigned i = 0; i < log.header.ngrps; ++i) {
    Log::Group group;
    std::memcpy(&group.head, at, sizeof(group.head));
    at += sizeof(group.head);
    for (unsigned n = 0; n < group.head.nnsids; ++n, at += 4) {
      le32 nsid;
      std::memcpy(&nsid, at, sizeof(nsid));
      group.nsids.push_back(nsid);
    }
    log.groups.push_back(std::move(group));
  }
  return log;
}

// Proves: ana | Commands per state | Base 8.1.3
TEST(Ana, EveryIoCommandInEveryState) {
  ControllerBench bench;
  switch_on(bench);
  const auto pair = bench.connect_io();
  constexpr IoOpcode opcodes[] = {IoOpcode::flush,
                                  IoOpcode::write,
                                  IoOpcode::read,
                                  IoOpcode::write_uncorrectable,
                                  IoOpcode::compare,
                                  IoOpcode::write_zeroes,
                                  IoOpcode::dataset_management,
                                  IoOpcode::verify,
                                  IoOpcode::copy,
                                  IoOpcode::reservation_register,
                                  IoOpcode::reservation_report,
                                  IoOpcode::reservation_acquire,
                                  IoOpcode::reservation_release};
  for (const AnaState state : all_states) {
    set_state(bench, 1, state);
    for (const IoOpcode opcode : opcodes) {
      nvme::SubmissionEntry sqe = io_sqe(opcode, 0, 1);
      sqe.sgl.length = 4096;
      if (opcode == IoOpcode::reservation_report) sqe.cdw11 = nvme::report_eds;
      const Command& command = bench.run(*pair.io, sqe, std::vector<std::byte>(4096));
      ASSERT_TRUE(command.done);
      if (serves(state)) {
        EXPECT_NE(command.status().sct, nvme::StatusCodeType::path) << static_cast<int>(opcode);
      } else {
        EXPECT_TRUE(command.status().same_code(status_in(state))) << static_cast<int>(opcode) << " in " << ana_state_name(state);
        EXPECT_FALSE(command.status().dnr) << "another path may serve it";
      }
    }
  }
}

// Proves: ana | Commands per state | Base 8.1.3
TEST(Ana, AdminCommandsInEveryState) {
  ControllerBench bench;
  switch_on(bench);
  FakeQueue& admin = bench.connect_admin();
  const auto feature = [&](std::uint8_t opcode, std::uint8_t fid, std::uint32_t nsid) {
    nvme::SubmissionEntry sqe = make_sqe(opcode, nsid);
    sqe.cdw10 = std::uint32_t{fid};
    return bench.run(admin, sqe).status();
  };
  for (const AnaState state : all_states) {
    set_state(bench, 1, state);
    const Command& identify = bench.identify(admin, 0x00, 1);
    ASSERT_TRUE(identify.status().is_success()) << "exempt";
    const auto page = identify.page<nvme::IdentifyNamespace>();
    EXPECT_EQ(page.nsze, 4096U) << "the size stays, or hosts would drop the disk";
    EXPECT_EQ(page.nuse, serves(state) ? 4096U : 0U);
    EXPECT_EQ(page.anagrpid, 1U);
    EXPECT_TRUE(bench.log_page(admin, 0x0C, 48, false, 0, nvme::broadcast_nsid).status().is_success()) << "exempt";
    EXPECT_TRUE(bench.log_page(admin, 0x02, 512, false, 0, nvme::broadcast_nsid).status().is_success()) << "exempt";
    EXPECT_TRUE(bench.get_feature(admin, nvme::Feature::arbitration).status().is_success()) << "of the controller";
    // Features of the namespace: Error Recovery, Reservation Notification Mask, Reservation Persistence.
    for (const std::uint8_t fid : {0x05, 0x82, 0x83}) {
      EXPECT_TRUE(feature(0x0A, fid, 1).same_code(status_in(state))) << int{fid} << " read in " << ana_state_name(state);
      EXPECT_TRUE(feature(0x09, fid, 1).same_code(status_in(state))) << int{fid} << " set in " << ana_state_name(state);
      EXPECT_TRUE(feature(0x09, fid, nvme::broadcast_nsid).same_code(status_in(state))) << int{fid} << " set for all in " << ana_state_name(state);
    }
  }
}

TEST(Ana, IdentifyTellsWhatThereIs) {
  ControllerBench bench;
  switch_on(bench);
  FakeQueue& admin = bench.connect_admin();
  const auto page = bench.identify(admin, 0x01).page<nvme::IdentifyController>();
  EXPECT_NE(page.cmic & nvme::cmic_ana, 0);
  EXPECT_EQ(page.anacap, 0x1F) << "all five states; a namespace's group may change";
  EXPECT_EQ(page.anatt, ana_transition_limit_s);
  EXPECT_EQ(page.anagrpmax, page.nn);
  EXPECT_EQ(page.nanagrpid, page.nn);
  EXPECT_NE(page.oaes & nvme::oaes_ana_change, 0U);
}

// Proves: log | Asymmetric Namespace Access | Base 5.16.1.13
TEST(Ana, TheLogCountsEachChangeOnce) {
  ControllerBench bench;
  switch_on(bench);
  change(bench, [&](SubsystemSnapshot& subsystem) {
    subsystem.namespaces[2] = bench.make_namespace(2, bench.disk);
    subsystem.namespaces[3] = bench.make_namespace(3, bench.disk);
  });
  FakeQueue& admin = bench.connect_admin();
  const Log before = read_log(bench, admin);
  ASSERT_EQ(before.groups.size(), 3U);
  const std::uint64_t base = before.header.chgcnt;
  for (std::uint64_t i = 1; i <= 100; ++i) {
    set_state(bench, 2, i % 2 == 1 ? AnaState::inaccessible : AnaState::non_optimized);
    const Log log = read_log(bench, admin);
    EXPECT_EQ(log.header.chgcnt, base + i);
    EXPECT_EQ(log.groups[1].head.chgcnt, base + i);
    EXPECT_EQ(log.groups[0].head.chgcnt, before.groups[0].head.chgcnt) << "another group did not change";
  }
  set_state(bench, 2, AnaState::non_optimized);
  EXPECT_EQ(read_log(bench, admin).header.chgcnt, base + 100) << "as it was: no change";
  set_state(bench, 17, AnaState::inaccessible);
  EXPECT_EQ(read_log(bench, admin).header.chgcnt, base + 100) << "a group without namespaces is not in the log";
  const Log brief = read_log(bench, admin, true);
  ASSERT_EQ(brief.groups.size(), 3U);
  for (const auto& group : brief.groups) EXPECT_EQ(group.head.nnsids, 0U) << "RGO";
  EXPECT_EQ(brief.groups[1].head.state, 2);
}

TEST(Ana, ChangesAtAnotherListenerAreNotOurs) {
  ControllerBench bench;
  switch_on(bench);
  change(bench, [](SubsystemSnapshot& subsystem) {
    subsystem.listeners.push_back({});
    subsystem.listeners.back().address = {"TCP", "IPv4", "127.0.0.2", "4420"};
  });
  FakeQueue& admin = bench.connect_admin();
  EXPECT_TRUE(bench.set_feature(admin, nvme::Feature::async_event_configuration, nvme::aec_ana_change).status().is_success());
  Command& event = bench.async_event(admin);
  const std::uint64_t base = read_log(bench, admin).header.chgcnt;
  change(bench, [](SubsystemSnapshot& subsystem) { subsystem.listeners[1].ana_default = AnaState::inaccessible; });
  EXPECT_FALSE(event.done);
  EXPECT_EQ(read_log(bench, admin).header.chgcnt, base);
  EXPECT_EQ(read_log(bench, admin).groups[0].head.state, 1);
  change(bench, [](SubsystemSnapshot& subsystem) { subsystem.listeners[0].ana_default = AnaState::inaccessible; });
  ASSERT_TRUE(event.done);
  EXPECT_EQ(event.dw0(), ana_event);
  EXPECT_EQ(read_log(bench, admin).groups[0].head.state, 3);
}

// Proves: event | Asymmetric Namespace Access Change | Base 5.2
TEST(Ana, EventsAreToldOnceAndNotForWhatHasAnEventOfItsOwn) {
  ControllerBench bench;
  switch_on(bench);
  FakeQueue& admin = bench.connect_admin();
  EXPECT_TRUE(bench.set_feature(admin, nvme::Feature::async_event_configuration, nvme::aec_ana_change).status().is_success());
  Command& first = bench.async_event(admin);
  Command& second = bench.async_event(admin);
  change(bench, [&](SubsystemSnapshot& subsystem) { subsystem.namespaces[2] = bench.make_namespace(2, bench.disk); });
  EXPECT_FALSE(first.done) << "a new namespace is told as such";
  set_state(bench, 2, AnaState::change);
  ASSERT_TRUE(first.done);
  for (int i = 0; i < 10; ++i) set_state(bench, 2, i % 2 == 0 ? AnaState::optimized : AnaState::inaccessible);
  EXPECT_FALSE(second.done) << "masked until the log is read";
  read_log(bench, admin);
  set_state(bench, 2, AnaState::optimized);
  EXPECT_TRUE(second.done);
}

// Proves: ana | Groups and moving a namespace | Base 8.1.2
TEST(Ana, ANamespaceMovesBetweenGroups) {
  ControllerBench bench;
  switch_on(bench);
  set_state(bench, 5, AnaState::inaccessible);
  const auto pair = bench.connect_io();
  EXPECT_TRUE(bench.set_feature(*pair.admin, nvme::Feature::async_event_configuration, nvme::aec_ana_change | nvme::aec_namespace_attribute)
                  .status()
                  .is_success());
  Command& event = bench.async_event(*pair.admin);
  const std::uint64_t base = read_log(bench, *pair.admin).header.chgcnt;
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1)).status().is_success());
  const auto move = [&](std::uint32_t group) {
    change(bench, [group](SubsystemSnapshot& subsystem) {
      auto moved = std::make_shared<NamespaceConfig>(*subsystem.namespaces.at(1));
      moved->anagrpid = group;
      subsystem.namespaces[1] = std::move(moved);
    });
  };
  move(5);
  ASSERT_TRUE(event.done);
  EXPECT_EQ(event.dw0(), ana_event) << "and not a namespace attribute change";
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1)).status().same_code(nvme::PathStatus::ana_inaccessible));
  const Log log = read_log(bench, *pair.admin);
  ASSERT_EQ(log.groups.size(), 1U);
  EXPECT_EQ(log.groups[0].head.grpid, 5U);
  EXPECT_EQ(log.groups[0].nsids, std::vector<std::uint32_t>{1});
  EXPECT_EQ(log.header.chgcnt, base + 1);
  EXPECT_EQ(log.groups[0].head.chgcnt, base + 1);
  EXPECT_EQ(bench.identify(*pair.admin, 0x00, 1).page<nvme::IdentifyNamespace>().anagrpid, 5U);
  move(1);
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1)).status().is_success());
}

TEST(Ana, WithoutReportingThereAreNoStates) {
  ControllerBench bench;
  bench.publish([](TargetSnapshot&, SubsystemSnapshot& subsystem) { subsystem.listeners[0].ana_default = AnaState::inaccessible; });
  const auto pair = bench.connect_io();
  EXPECT_TRUE(bench.run(*pair.io, io_sqe(IoOpcode::read, 0, 1)).status().is_success());
  EXPECT_TRUE(bench.log_page(*pair.admin, 0x0C, 48, false, 0, nvme::broadcast_nsid).status().same_code(nvme::CommandStatus::invalid_log_page));
}

}  // namespace
}  // namespace catnap::server
