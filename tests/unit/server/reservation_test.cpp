// Reservations through queues, poll group and app_thread, on a virtual clock: commands and their checks, durable before published before completed,
// preempt and abort, notifications, features, Identify.
#include <gtest/gtest.h>

#include <cstring>

#include "server/reservations/notification_log.h"
#include "tests/unit/server/reservation_bench.h"

namespace catnap::server {
namespace {

using nvme::AcquireAction;
using nvme::ChangePersist;
using nvme::GenericStatus;
using nvme::IoOpcode;
using nvme::RegisterAction;
using nvme::ReleaseAction;
using nvme::ReservationNotice;
using nvme::ReservationType;

constexpr std::uint32_t reservation_event = 0x0080'0006;
const nvme::Status conflict(GenericStatus::reservation_conflict);

constexpr IoOpcode medium_commands[] = {IoOpcode::flush,       IoOpcode::write,  IoOpcode::read, IoOpcode::write_uncorrectable,
                                        IoOpcode::compare,     IoOpcode::verify, IoOpcode::copy, IoOpcode::dataset_management,
                                        IoOpcode::write_zeroes};

// Every command that touches the medium, by holder, registrant and stranger, under every type: a conflict exactly where the rules say so. What else a
// command may end with (an optional operation the block device lacks) is no business of this test.
// Proves: reservation | Command permissions | Base 8.19
TEST(Reservation, IsObeyedByEveryCommandOnTheMedium) {
  for (std::uint8_t type = 1; type <= nvme::last_reservation_type; ++type) {
    ReservationBench bench;
    const auto holder = bench.connect_host(1), registrant = bench.connect_host(2), stranger = bench.connect_host(3);
    ASSERT_TRUE(succeeded(bench.add(holder, 1)));
    ASSERT_TRUE(succeeded(bench.add(registrant, 2)));
    ASSERT_TRUE(succeeded(bench.acquire(holder, static_cast<ReservationType>(type), 1)));
    const auto state = bench.reservations->published();
    for (const IoOpcode opcode : medium_commands) {
      const std::uint8_t needs = access_of(static_cast<std::uint8_t>(opcode));
      for (const auto& host : {holder, registrant, stranger}) {
        const bool denied = (denied_access(*state, host.id) & needs) != 0;
        const Command& command = bench.io(host, opcode);
        EXPECT_EQ(is(command, conflict), denied) << "opcode " << static_cast<int>(opcode) << ", type " << int{type} << ", host " << int{host.id[0]};
        if (denied) {
          EXPECT_TRUE(command.status().dnr);
        }
      }
    }
    // A Flush of all namespaces is a Flush of this one.
    nvme::SubmissionEntry all = make_sqe(0x00, nvme::broadcast_nsid);
    EXPECT_EQ(is(bench.run(*stranger.io, all), conflict), (denied_access(*state, stranger.id) & deny_write) != 0);
  }
}

TEST(Reservation, FusedHalvesAreJudgedEach) {
  ReservationBench bench;
  const auto holder = bench.connect_host(1), stranger = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.add(holder, 1)));
  ASSERT_TRUE(succeeded(bench.acquire(holder, ReservationType::write_exclusive, 1)));
  nvme::SubmissionEntry compare = io_sqe(IoOpcode::compare, 0, 1);
  nvme::SubmissionEntry write = io_sqe(IoOpcode::write, 0, 1);
  compare.flags = static_cast<std::uint8_t>(compare.flags | 1U);
  write.flags = static_cast<std::uint8_t>(write.flags | 2U);
  const std::size_t before = bench.disk->seen.size();
  const Command& first = bench.run(*stranger.io, compare, std::vector<std::byte>(512));
  const Command& second = bench.run(*stranger.io, write, std::vector<std::byte>(512));
  EXPECT_TRUE(is(second, conflict) || is(second, GenericStatus::failed_fused));
  EXPECT_TRUE(first.done);
  EXPECT_FALSE(succeeded(first) && succeeded(second));
  for (std::size_t i = before; i < bench.disk->seen.size(); ++i) EXPECT_NE(bench.disk->seen[i].op, bdev::Op::write);
}

// Data on its way when the reservation came is refused as well.
TEST(Reservation, ComesBetweenACommandAndItsData) {
  ReservationBench bench;
  const auto holder = bench.connect_host(1), stranger = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.add(holder, 1)));
  Command late;
  late.request.sqe = io_sqe(IoOpcode::write, 0, 1);
  late.host_bytes.resize(512);
  bench.on(*bench.thread, [&] { stranger.io->plan_only(late); });
  ASSERT_FALSE(late.done);
  ASSERT_TRUE(succeeded(bench.acquire(holder, ReservationType::write_exclusive, 1)));
  bench.on(*bench.thread, [&] { stranger.io->execute_planned(late); });
  EXPECT_TRUE(is(late, conflict));
}

TEST(Reservation, HoldsForQueuesAndControllersThatComeLater) {
  ReservationBench bench;
  const auto holder = bench.connect_host(1);
  ASSERT_TRUE(succeeded(bench.add(holder, 1)));
  ASSERT_TRUE(succeeded(bench.acquire(holder, ReservationType::exclusive_access, 1)));
  EXPECT_TRUE(is(bench.io(bench.connect_host(2), IoOpcode::read), conflict));
  // The holder's second controller has the same HOSTID, so the same rights.
  EXPECT_TRUE(succeeded(bench.io(bench.connect_host(1), IoOpcode::read)));
}

// Proves: reservation | Register | Base 7.3
TEST(Reservation, OutlivesTheControllersOfItsHolder) {
  ReservationBench bench;
  const auto holder = bench.connect_host(1), stranger = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.add(holder, 1)));
  ASSERT_TRUE(succeeded(bench.acquire(holder, ReservationType::write_exclusive, 1)));
  bench.close(*holder.io);
  bench.close(*holder.admin);
  EXPECT_TRUE(is(bench.io(stranger, IoOpcode::write), conflict));
  EXPECT_TRUE(succeeded(bench.io(bench.connect_host(1), IoOpcode::write)));
}

// Proves: reservation | Report | Base 7.5
// Proves: reservation | Report with extended data | Base 7.5
TEST(Reservation, IsReported) {
  ReservationBench bench;
  const auto one = bench.connect_host(1), two = bench.connect_host(2);
  auto nothing = bench.report(one);
  EXPECT_EQ(nothing.head.gen, 0U);
  EXPECT_TRUE(nothing.entries.empty());
  ASSERT_TRUE(succeeded(bench.add(two, 0xAB)));
  ASSERT_TRUE(succeeded(bench.add(one, 0xCD)));
  ASSERT_TRUE(succeeded(bench.acquire(two, ReservationType::write_exclusive_registrants, 0xAB)));
  auto report = bench.report(one);
  EXPECT_EQ(report.head.gen, 2U);
  EXPECT_EQ(report.head.rtype, 3);
  EXPECT_EQ(report.head.ptpls, 0);
  ASSERT_EQ(report.entries.size(), 2U);
  EXPECT_EQ(report.entries[0].hostid, one.id);
  EXPECT_EQ(report.entries[0].rkey, 0xCDU);
  EXPECT_EQ(report.entries[0].rcsts, 0);
  EXPECT_EQ(report.entries[0].cntlid, 0xFFFFU);
  EXPECT_EQ(report.entries[1].hostid, two.id);
  EXPECT_EQ(report.entries[1].rcsts, nvme::rcsts_holder);
  // Too short for the entries: their number is told all the same.
  nvme::SubmissionEntry sqe = make_sqe(0x0E, 1, 16);
  sqe.cdw10 = 3U;
  sqe.cdw11 = nvme::report_eds;
  const Command& brief = bench.run(*one.io, sqe);
  ASSERT_TRUE(succeeded(brief));
  EXPECT_EQ(brief.page<nvme::ReservationStatus>().regctl[0], 2);
  // Over Fabrics host identifiers have 128 bits.
  sqe.cdw11 = 0U;
  EXPECT_TRUE(is(bench.run(*one.io, sqe), GenericStatus::host_id_inconsistent_format));
}

TEST(Reservation, RefusesWhatIsMalformed) {
  ReservationBench bench;
  const auto host = bench.connect_host(1);
  ASSERT_TRUE(succeeded(bench.add(host, 1)));
  EXPECT_TRUE(is(bench.send_register(host, static_cast<RegisterAction>(3), 1, 2), GenericStatus::invalid_field));
  EXPECT_TRUE(is(bench.acquire(host, static_cast<AcquireAction>(3), ReservationType::write_exclusive, 1), GenericStatus::invalid_field));
  EXPECT_TRUE(is(bench.release(host, static_cast<ReleaseAction>(2), ReservationType::write_exclusive, 1), GenericStatus::invalid_field));
  for (const std::uint8_t opcode : {0x11, 0x15}) {
    nvme::SubmissionEntry sqe = make_sqe(opcode, 1, 16);
    sqe.cdw10 = nvme::reservation_iekey | 1U << 8;
    EXPECT_TRUE(is(bench.run(*host.io, sqe, std::vector<std::byte>(16)), GenericStatus::invalid_field)) << "IEKEY";
  }
  nvme::SubmissionEntry brief = make_sqe(0x0D, 1, 8);
  EXPECT_TRUE(is(bench.run(*host.io, brief, std::vector<std::byte>(8)), GenericStatus::data_sgl_length_invalid));
  nvme::SubmissionEntry nowhere = make_sqe(0x0D, 7, 16);
  EXPECT_TRUE(is(bench.run(*host.io, nowhere, std::vector<std::byte>(16)), GenericStatus::invalid_namespace_or_format));
  // HOSTID 0 is nobody in particular.
  EXPECT_TRUE(is(bench.add(bench.connect_host(0), 5), GenericStatus::operation_denied));
}

// --- durable, published, completed ---

// Proves: reservation | Persist through power loss | Base 8.19
TEST(ReservationOrder, DurableThenPublishedThenCompleted) {
  ReservationBench bench("/file");
  const auto holder = bench.connect_host(1), stranger = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.send_register(holder, RegisterAction::add, 0, 1, false, ChangePersist::on)));
  ASSERT_EQ(bench.hub->written.size(), 1U);
  bench.hub->hold = true;
  Command& acquired = bench.acquire(holder, ReservationType::write_exclusive, 1);
  Command& next = bench.add(stranger, 2);  // waits behind it
  ASSERT_EQ(bench.hub->held.size(), 1U);
  EXPECT_FALSE(acquired.done) << "completed before it was durable";
  EXPECT_EQ(bench.reservations->published()->type, ReservationType::none) << "published before it was durable";
  EXPECT_TRUE(succeeded(bench.io(stranger, IoOpcode::write)));
  bench.on(*bench.app, [&] { bench.hub->finish_writes(); });
  EXPECT_TRUE(succeeded(acquired));
  EXPECT_TRUE(is(bench.io(stranger, IoOpcode::write), conflict));
  EXPECT_FALSE(next.done);
  bench.on(*bench.app, [&] { bench.hub->finish_writes(); });
  EXPECT_TRUE(succeeded(next));
  const auto image = decode_ptpl(bench.hub->written.back().bytes);
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->state, *bench.reservations->published());
  EXPECT_EQ(bench.hub->written.back().path, "/file");
}

// A group that has not looked yet: the completion waits for it.
TEST(ReservationOrder, CompletedOnlyWhenEveryGroupObeys) {
  ReservationBench bench;
  const auto holder = bench.connect_host(1), stranger = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.add(holder, 1)));
  Command acquire;
  acquire.request.sqe = make_sqe(0x11, 1, 16);
  acquire.request.sqe.cdw10 = 1U << 8;
  acquire.host_bytes.assign(16, std::byte{0});
  acquire.host_bytes[0] = std::byte{1};
  bool obeyed_at_completion = false;
  // Looks at the completion from within the turn in which it comes.
  bench.thread->send([&] { holder.io->start(acquire); });
  for (int turn = 0; turn < 100 && !acquire.done; ++turn) bench.reactor.turn(0);
  ASSERT_TRUE(succeeded(acquire));
  Command write;
  write.request.sqe = io_sqe(IoOpcode::write, 0, 1);
  write.host_bytes.resize(512);
  bench.on(*bench.thread, [&] {
    stranger.io->start(write);
    obeyed_at_completion = is(write, conflict);
  });
  EXPECT_TRUE(obeyed_at_completion);
}

TEST(ReservationOrder, WhatCannotBeWrittenDidNotHappen) {
  ReservationBench bench("/file");
  const auto one = bench.connect_host(1), two = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.send_register(one, RegisterAction::add, 0, 1, false, ChangePersist::on)));
  ASSERT_TRUE(succeeded(bench.acquire(one, ReservationType::write_exclusive, 1)));
  const ReservationState before = *bench.reservations->published();
  bench.hub->fail_with = ENOSPC;
  EXPECT_TRUE(is(bench.release(one, ReleaseAction::release, ReservationType::write_exclusive, 1), GenericStatus::internal_error));
  EXPECT_TRUE(is(bench.add(two, 2), GenericStatus::internal_error));
  EXPECT_EQ(*bench.reservations->published(), before);
  EXPECT_TRUE(is(bench.io(two, IoOpcode::write), conflict)) << "as protected as before";
  bench.hub->fail_with = 0;
  EXPECT_TRUE(succeeded(bench.release(one, ReleaseAction::release, ReservationType::write_exclusive, 1)));
  EXPECT_TRUE(succeeded(bench.io(two, IoOpcode::write)));
}

TEST(ReservationOrder, WritesOnlyWhatIsToPersistAndItsEnd) {
  ReservationBench bench("/file");
  const auto host = bench.connect_host(1);
  ASSERT_TRUE(succeeded(bench.add(host, 1)));
  EXPECT_TRUE(bench.hub->written.empty());
  ASSERT_TRUE(succeeded(bench.send_register(host, RegisterAction::replace, 1, 2, false, ChangePersist::on)));
  ASSERT_EQ(bench.hub->written.size(), 1U);
  ASSERT_TRUE(succeeded(bench.send_register(host, RegisterAction::replace, 2, 3, false, ChangePersist::off)));
  ASSERT_EQ(bench.hub->written.size(), 2U);
  const auto image = decode_ptpl(bench.hub->written.back().bytes);
  ASSERT_TRUE(image.has_value());
  EXPECT_TRUE(image->state.registrants.empty()) << "a power cut now must not bring them back";
  ASSERT_TRUE(succeeded(bench.send_register(host, RegisterAction::replace, 3, 4)));
  EXPECT_EQ(bench.hub->written.size(), 2U);
}

TEST(ReservationOrder, RestoredStateHoldsFromTheStart) {
  ReservationState restored;
  restored.generation = 9;
  restored.persist = true;
  HostId one{};
  one.fill(1);
  restored.registrants = {{one, 0x11}};
  restored.type = ReservationType::write_exclusive;
  restored.holder = one;
  ReservationBench bench("/file", restored);
  EXPECT_TRUE(is(bench.io(bench.connect_host(2), IoOpcode::write), conflict));
  const auto holder = bench.connect_host(1);
  EXPECT_TRUE(succeeded(bench.io(holder, IoOpcode::write)));
  EXPECT_EQ(bench.report(holder).head.gen, 9U);
}

// --- preempt and abort ---

// Proves: reservation | Preempt and Abort | Base 7.2
TEST(ReservationAbort, EndsWhatWaitsAndWaitsForWhatRuns) {
  ReservationBench bench;
  const auto victim = bench.connect_host(1), other = bench.connect_host(2), bystander = bench.connect_host(3);
  ASSERT_TRUE(succeeded(bench.add(victim, 1)));
  ASSERT_TRUE(succeeded(bench.add(other, 2)));
  ASSERT_TRUE(succeeded(bench.acquire(victim, ReservationType::write_exclusive_registrants, 1)));
  Command waits_for_data;
  waits_for_data.request.sqe = io_sqe(IoOpcode::write, 0, 1);
  waits_for_data.request.sqe.cid = 0xFF01;
  waits_for_data.host_bytes.resize(512);
  bench.on(*bench.thread, [&] { victim.io->plan_only(waits_for_data); });
  bench.disk->hold = true;
  bench.disk->gives_back = false;
  Command& runs = bench.io(victim, IoOpcode::write, 8);
  Command& read = bench.io(bystander, IoOpcode::read, 16);
  ASSERT_FALSE(runs.done || read.done);
  Command& preempt = bench.acquire(other, AcquireAction::preempt_and_abort, ReservationType::write_exclusive, 2, 1);
  EXPECT_TRUE(is(waits_for_data, GenericStatus::aborted_preempt));
  EXPECT_FALSE(preempt.done) << "completed while the victim's write may still land";
  EXPECT_FALSE(read.done) << "a bystander's command is none of its business";
  EXPECT_EQ(bench.reservations->published()->holder, other.id);
  // Meanwhile others' reservation commands go on, and new writes of the victim do not.
  EXPECT_TRUE(succeeded(bench.add(bystander, 3)));
  EXPECT_TRUE(is(bench.io(victim, IoOpcode::write), conflict));
  bench.disk->hold = false;
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  EXPECT_TRUE(runs.done);
  EXPECT_TRUE(succeeded(read));
  EXPECT_TRUE(succeeded(preempt));
}

TEST(ReservationAbort, WhatTheBlockDeviceGivesBackEndsAtOnce) {
  ReservationBench bench;
  const auto victim = bench.connect_host(1), again = bench.connect_host(1), other = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.add(victim, 1)));
  ASSERT_TRUE(succeeded(bench.add(other, 2)));
  bench.disk->hold = true;
  Command& write = bench.io(victim, IoOpcode::write);
  Command& read = bench.io(again, IoOpcode::read);
  Command& others = bench.io(other, IoOpcode::read);
  EXPECT_TRUE(succeeded(bench.acquire(other, AcquireAction::preempt_and_abort, ReservationType::write_exclusive, 2, 1)));
  EXPECT_TRUE(is(write, GenericStatus::aborted_preempt));
  EXPECT_TRUE(is(read, GenericStatus::aborted_preempt)) << "through each of the host's controllers";
  EXPECT_FALSE(others.done);
  bench.disk->hold = false;
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  EXPECT_TRUE(succeeded(others));
}

TEST(ReservationAbort, WithoutOutstandingCommandsEndsAtOnce) {
  ReservationBench bench;
  const auto victim = bench.connect_host(1), other = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.add(victim, 1)));
  ASSERT_TRUE(succeeded(bench.add(other, 2)));
  EXPECT_TRUE(succeeded(bench.acquire(other, AcquireAction::preempt_and_abort, ReservationType::write_exclusive, 2, 1)));
  EXPECT_EQ(bench.report(other).entries.size(), 1U);
}

TEST(ReservationAbort, PlainPreemptLeavesRunningCommandsAlone) {
  ReservationBench bench;
  const auto victim = bench.connect_host(1), other = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.add(victim, 1)));
  ASSERT_TRUE(succeeded(bench.add(other, 2)));
  bench.disk->hold = true;
  Command& runs = bench.io(victim, IoOpcode::write);
  EXPECT_TRUE(succeeded(bench.acquire(other, AcquireAction::preempt, ReservationType::write_exclusive, 2, 1)));
  EXPECT_FALSE(runs.done);
  bench.disk->hold = false;
  bench.on(*bench.thread, [&] { bench.disk->release(); });
  EXPECT_TRUE(succeeded(runs));
}

// --- notifications ---

// Proves: log | Reservation Notification | Base 5.16.1.24
// Proves: event | Reservation Log Page Available | Base 5.2
TEST(ReservationNotices, GoToEveryControllerOfTheHostOnce) {
  ReservationBench bench;
  const auto one = bench.connect_host(1), again = bench.connect_host(1), two = bench.connect_host(2), three = bench.connect_host(3);
  Command& event = bench.async_event(*one.admin);
  Command& event_again = bench.async_event(*again.admin);
  Command& event_two = bench.async_event(*two.admin);
  Command& event_three = bench.async_event(*three.admin);
  EXPECT_EQ(bench.notice(one).count, 0U) << "an empty log";
  ASSERT_TRUE(succeeded(bench.add(one, 1)));
  ASSERT_TRUE(succeeded(bench.add(two, 2)));
  ASSERT_TRUE(succeeded(bench.add(three, 3)));
  EXPECT_FALSE(event.done || event_two.done || event_three.done);
  ASSERT_TRUE(succeeded(bench.acquire(two, AcquireAction::preempt, ReservationType::write_exclusive, 2, 1)));
  ASSERT_TRUE(event.done && event_again.done);
  EXPECT_EQ(event.dw0(), reservation_event);
  EXPECT_FALSE(event_two.done) << "the issuer knows";
  EXPECT_FALSE(event_three.done);
  for (const auto& host : {one, again}) {
    const auto log = bench.notice(host);
    EXPECT_EQ(log.count, 1U);
    EXPECT_EQ(log.type, static_cast<std::uint8_t>(ReservationNotice::registration_preempted));
    EXPECT_EQ(log.nsid, 1U);
    EXPECT_EQ(log.available, 0);
    EXPECT_EQ(bench.notice(host).count, 0U) << "taken";
  }
  ASSERT_TRUE(succeeded(bench.release(two, ReleaseAction::clear, ReservationType::none, 2)));
  ASSERT_TRUE(event_three.done);
  EXPECT_EQ(bench.notice(three).type, static_cast<std::uint8_t>(ReservationNotice::reservation_preempted));
}

TEST(ReservationNotices, AreToldOnceUntilReadAndNoneIsLost) {
  ReservationBench bench;
  const auto holder = bench.connect_host(1), other = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.add(holder, 1)));
  ASSERT_TRUE(succeeded(bench.add(other, 2)));
  Command& first = bench.async_event(*other.admin);
  Command& second = bench.async_event(*other.admin);
  const auto cycle = [&] {
    ASSERT_TRUE(succeeded(bench.acquire(holder, ReservationType::write_exclusive_registrants, 1)));
    ASSERT_TRUE(succeeded(bench.release(holder, ReleaseAction::release, ReservationType::write_exclusive_registrants, 1)));
  };
  for (int i = 0; i < 3; ++i) cycle();
  EXPECT_TRUE(first.done);
  EXPECT_FALSE(second.done);
  const auto kept = bench.log_page(*other.admin, 0x80, 64, true).page<nvme::ReservationLog>();
  EXPECT_EQ(kept.count, 1U);
  EXPECT_EQ(kept.available, 2) << "RAE keeps it";
  for (std::uint64_t expected = 1; expected <= 3; ++expected) {
    const auto log = bench.notice(other);
    EXPECT_EQ(log.count, expected);
    EXPECT_EQ(log.available, 3 - expected);
    EXPECT_EQ(log.type, static_cast<std::uint8_t>(ReservationNotice::reservation_released));
  }
  EXPECT_FALSE(second.done) << "nothing new";
  cycle();
  EXPECT_TRUE(second.done);
  EXPECT_EQ(bench.notice(other).count, 4U);
}

TEST(ReservationNotices, WhatFindsNoRoomLeavesAGap) {
  ReservationBench bench;
  const auto holder = bench.connect_host(1), other = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.add(holder, 1)));
  ASSERT_TRUE(succeeded(bench.add(other, 2)));
  constexpr std::size_t lost = 5;
  for (std::size_t i = 0; i < NotificationLog::capacity + lost; ++i) {
    ASSERT_TRUE(succeeded(bench.acquire(holder, ReservationType::write_exclusive_registrants, 1)));
    ASSERT_TRUE(succeeded(bench.release(holder, ReleaseAction::release, ReservationType::write_exclusive_registrants, 1)));
  }
  for (std::uint64_t expected = 1; expected <= NotificationLog::capacity; ++expected) EXPECT_EQ(bench.notice(other).count, expected);
  EXPECT_EQ(bench.notice(other).count, 0U);
  ASSERT_TRUE(succeeded(bench.acquire(holder, ReservationType::write_exclusive_registrants, 1)));
  ASSERT_TRUE(succeeded(bench.release(holder, ReleaseAction::release, ReservationType::write_exclusive_registrants, 1)));
  EXPECT_EQ(bench.notice(other).count, NotificationLog::capacity + lost + 1);
}

// Proves: feature | Reservation Notification Mask | Base 5.27.1.26
TEST(ReservationNotices, MaskedOnesAreNotLogged) {
  ReservationBench bench;
  const auto holder = bench.connect_host(1), other = bench.connect_host(2);
  ASSERT_TRUE(succeeded(bench.add(holder, 1)));
  ASSERT_TRUE(succeeded(bench.add(other, 2)));
  const auto feature = [&](std::uint8_t opcode, std::uint32_t nsid, std::uint32_t value) -> Command& {
    nvme::SubmissionEntry sqe = make_sqe(opcode, nsid);
    sqe.cdw10 = 0x82U;
    sqe.cdw11 = value;
    return bench.run(*other.admin, sqe);
  };
  EXPECT_TRUE(is(feature(0x09, 1, 1), GenericStatus::invalid_field));
  EXPECT_TRUE(is(feature(0x09, 7, 2), GenericStatus::invalid_namespace_or_format));
  ASSERT_TRUE(succeeded(feature(0x09, 1, nvme::mask_reservation_released)));
  EXPECT_EQ(feature(0x0A, 1, 0).dw0(), nvme::mask_reservation_released);
  Command& event = bench.async_event(*other.admin);
  ASSERT_TRUE(succeeded(bench.acquire(holder, ReservationType::write_exclusive_registrants, 1)));
  ASSERT_TRUE(succeeded(bench.release(holder, ReleaseAction::release, ReservationType::write_exclusive_registrants, 1)));
  EXPECT_FALSE(event.done);
  EXPECT_EQ(bench.notice(other).count, 0U);
  ASSERT_TRUE(succeeded(bench.release(holder, ReleaseAction::clear, ReservationType::none, 1)));
  EXPECT_TRUE(event.done) << "another type of notice is not masked";
  EXPECT_EQ(bench.notice(other).count, 1U);
  ASSERT_TRUE(succeeded(feature(0x09, nvme::broadcast_nsid, 0)));
  EXPECT_EQ(feature(0x0A, 1, 0).dw0(), 0U);
}

// Proves: feature | Reservation Persistence | Base 5.27.1.27
TEST(ReservationFeatures, PersistenceIsOnDiskBeforeItIsAnswered) {
  ReservationBench bench("/file");
  const auto host = bench.connect_host(1);
  ASSERT_TRUE(succeeded(bench.add(host, 1)));
  bench.hub->hold = true;
  nvme::SubmissionEntry sqe = make_sqe(0x09, 1);
  sqe.cdw10 = 0x83U;
  sqe.cdw11 = nvme::persist_through_power_loss;
  Command& set = bench.run(*host.admin, sqe);
  EXPECT_FALSE(set.done);
  bench.on(*bench.app, [&] { bench.hub->finish_writes(); });
  EXPECT_TRUE(succeeded(set));
  EXPECT_EQ(bench.report(host).head.ptpls, 1);
  nvme::SubmissionEntry get = make_sqe(0x0A, 1);
  get.cdw10 = 0x83U;
  EXPECT_EQ(bench.run(*host.admin, get).dw0(), 1U);
  bench.hub->hold = false;
  bench.hub->fail_with = EIO;
  sqe.cdw11 = 0U;
  EXPECT_TRUE(is(bench.run(*host.admin, sqe), GenericStatus::internal_error));
  EXPECT_EQ(bench.report(host).head.ptpls, 1);
  bench.hub->fail_with = 0;
  sqe.nsid = nvme::broadcast_nsid;
  EXPECT_TRUE(succeeded(bench.run(*host.admin, sqe)));
  EXPECT_EQ(bench.report(host).head.ptpls, 0);
}

TEST(ReservationFeatures, PersistenceNeedsAFile) {
  ReservationBench bench;
  const auto host = bench.connect_host(1);
  nvme::SubmissionEntry sqe = make_sqe(0x09, 1);
  sqe.cdw10 = 0x83U;
  sqe.cdw11 = nvme::persist_through_power_loss;
  EXPECT_TRUE(is(bench.run(*host.admin, sqe), GenericStatus::invalid_field));
  EXPECT_TRUE(is(bench.send_register(host, RegisterAction::add, 0, 1, false, ChangePersist::on), GenericStatus::invalid_field));
}

TEST(ReservationFeatures, IdentifyTells) {
  for (const bool with_file : {false, true}) {
    ReservationBench bench(with_file ? "/file" : "");
    const auto host = bench.connect_host(1);
    const auto rescap = bench.identify(*host.admin, 0x00, 1).page<nvme::IdentifyNamespace>().rescap;
    EXPECT_EQ(rescap, with_file ? 0xFF : 0xFE);
    EXPECT_EQ(bench.identify(*host.admin, 0x08, 1).page<nvme::IndependentNamespace>().rescap, rescap);
    EXPECT_NE(bench.identify(*host.admin, 0x01).page<nvme::IdentifyController>().oncs & nvme::oncs_reservations, 0);
  }
}

}  // namespace
}  // namespace catnap::server
