// The rules of reservations as pure functions: the table of permissions, and each command's cases (NVMe Base 2.0, section 8.19).
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "server/reservations/rules.h"

namespace catnap::server {
namespace {

using nvme::AcquireAction;
using nvme::ChangePersist;
using nvme::RegisterAction;
using nvme::ReleaseAction;
using nvme::ReservationNotice;
using nvme::ReservationType;

constexpr HostId host_of(std::uint8_t number) {
  HostId id{};
  id.fill(number);
  return id;
}
constexpr HostId a = host_of(1), b = host_of(2), c = host_of(3);

ReservationOutcome enlist(ReservationState& state, const HostId& host, std::uint64_t key, RegisterAction action = RegisterAction::add,
                          std::uint64_t current = 0, bool ignore = false, ChangePersist persist = ChangePersist::keep, bool can_persist = false) {
  return apply(state, host, RegisterRequest{action, ignore, persist, current, key}, can_persist);
}
ReservationOutcome acquire(ReservationState& state, const HostId& host, std::uint64_t key, ReservationType type,
                           AcquireAction action = AcquireAction::acquire, std::uint64_t preempted = 0) {
  return apply(state, host, AcquireRequest{action, type, key, preempted});
}
ReservationOutcome release(ReservationState& state, const HostId& host, std::uint64_t key, ReservationType type,
                           ReleaseAction action = ReleaseAction::release) {
  return apply(state, host, ReleaseRequest{action, type, key});
}
bool is(const ReservationOutcome& outcome, nvme::GenericStatus status) { return outcome.error.status.same_code(status); }
bool is_conflict(const ReservationOutcome& outcome) { return is(outcome, nvme::GenericStatus::reservation_conflict) && outcome.error.status.dnr; }

// a has key 1, b key 2, c key 3.
ReservationState three() {
  ReservationState state;
  EXPECT_TRUE(enlist(state, a, 1).error.ok());
  EXPECT_TRUE(enlist(state, b, 2).error.ok());
  EXPECT_TRUE(enlist(state, c, 3).error.ok());
  return state;
}

// --- the table ---

constexpr ReservationType all_types[] = {ReservationType::write_exclusive,
                                         ReservationType::exclusive_access,
                                         ReservationType::write_exclusive_registrants,
                                         ReservationType::exclusive_access_registrants,
                                         ReservationType::write_exclusive_all,
                                         ReservationType::exclusive_access_all};

// Figure "Command behavior in the presence of a reservation": A allowed, C conflict. Columns as the figure has them: Write Exclusive, Exclusive
// Access, Write Exclusive of registrants (only, all), Exclusive Access of registrants (only, all); in each, no registrant and registrant.
struct Row {
  const char* command;
  std::uint8_t opcode;
  const char* write_exclusive;
  const char* exclusive_access;
  const char* write_exclusive_registrants;
  const char* exclusive_access_registrants;
};
constexpr Row figure[] = {
    {"Flush", 0x00, "CC", "CC", "CA", "CA"},
    {"Write", 0x01, "CC", "CC", "CA", "CA"},
    {"Read", 0x02, "AA", "CC", "AA", "CA"},
    {"Write Uncorrectable", 0x04, "CC", "CC", "CA", "CA"},
    {"Compare", 0x05, "AA", "CC", "AA", "CA"},
    {"Write Zeroes", 0x08, "CC", "CC", "CA", "CA"},
    {"Dataset Management", 0x09, "CC", "CC", "CA", "CA"},
    {"Verify", 0x0C, "AA", "CC", "AA", "CA"},
    {"Copy", 0x19, "CC", "CC", "CA", "CA"},
};

const char* cell(const Row& row, ReservationType type) {
  switch (type) {
    case ReservationType::write_exclusive:
      return row.write_exclusive;
    case ReservationType::exclusive_access:
      return row.exclusive_access;
    case ReservationType::write_exclusive_registrants:
    case ReservationType::write_exclusive_all:
      return row.write_exclusive_registrants;
    default:
      return row.exclusive_access_registrants;
  }
}

// Proves: reservation | Command permissions | Base 8.19
TEST(ReservationTable, EveryRoleTypeAndCommand) {
  for (const ReservationType type : all_types) {
    ReservationState state;
    enlist(state, a, 1);
    enlist(state, b, 2);
    ASSERT_TRUE(acquire(state, a, 1, type).error.ok());
    for (const Row& row : figure) {
      const std::uint8_t needs = access_of(row.opcode);
      const std::string where = std::string(row.command) + " under type " + std::to_string(static_cast<int>(type));
      EXPECT_EQ((denied_access(state, a) & needs) == 0, true) << where << " by the holder";
      EXPECT_EQ((denied_access(state, b) & needs) == 0, cell(row, type)[1] == 'A') << where << " by a registrant";
      EXPECT_EQ((denied_access(state, c) & needs) == 0, cell(row, type)[0] == 'A') << where << " by another host";
    }
  }
}

TEST(ReservationTable, WithoutAReservationNothingIsDenied) {
  ReservationState state = three();
  EXPECT_EQ(denied_access(state, a), 0);
  EXPECT_EQ(denied_access(state, host_of(9)), 0);
}

TEST(ReservationTable, EveryRegistrantHoldsAnAllRegistrantsReservation) {
  for (const ReservationType type : {ReservationType::write_exclusive_all, ReservationType::exclusive_access_all}) {
    ReservationState state = three();
    ASSERT_TRUE(acquire(state, a, 1, type).error.ok());
    EXPECT_TRUE(state.holds(a) && state.holds(b) && state.holds(c));
    EXPECT_FALSE(state.holds(host_of(9)));
  }
}

// --- Register ---

// Proves: reservation | Register | Base 7.3
TEST(ReservationRegister, AddsOnceAndTakesTheSameKeyAgain) {
  ReservationState state;
  EXPECT_TRUE(enlist(state, a, 7).changed);
  EXPECT_EQ(state.generation, 1U);
  EXPECT_TRUE(enlist(state, a, 7).error.ok());
  EXPECT_EQ(state.generation, 2U) << "GEN counts every Register that succeeds";
  EXPECT_TRUE(is_conflict(enlist(state, a, 8)));
  EXPECT_EQ(state.registrants.size(), 1U);
  EXPECT_EQ(state.find(a)->key, 7U);
  EXPECT_TRUE(is(enlist(state, b, 0), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(enlist(state, b, 7).error.ok()) << "two hosts may have one key";
}

// Proves: reservation | Register | Base 7.3
TEST(ReservationRegister, ReplacesWithTheKeyOrIgnoringIt) {
  ReservationState state;
  EXPECT_TRUE(is_conflict(enlist(state, a, 9, RegisterAction::replace)));
  ASSERT_TRUE(enlist(state, a, 7).error.ok());
  EXPECT_TRUE(is_conflict(enlist(state, a, 9, RegisterAction::replace, 8)));
  EXPECT_TRUE(enlist(state, a, 9, RegisterAction::replace, 7).error.ok());
  EXPECT_EQ(state.find(a)->key, 9U);
  EXPECT_TRUE(enlist(state, a, 10, RegisterAction::replace, 1, true).error.ok());
  EXPECT_EQ(state.find(a)->key, 10U);
  EXPECT_TRUE(is(enlist(state, a, 0, RegisterAction::replace, 10), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(enlist(state, b, 3, RegisterAction::replace, 0, true).error.ok()) << "IEKEY: whatever the host's registration is";
  EXPECT_EQ(state.find(b)->key, 3U);
}

// Proves: reservation | Register | Base 7.3
TEST(ReservationRegister, UnregisteringReleases) {
  for (const ReservationType type : all_types) {
    ReservationState state = three();
    ASSERT_TRUE(acquire(state, a, 1, type).error.ok());
    EXPECT_TRUE(is_conflict(enlist(state, a, 0, RegisterAction::remove, 9)));
    EXPECT_TRUE(is_conflict(enlist(state, host_of(9), 0, RegisterAction::remove, 1, true)));
    const ReservationOutcome outcome = enlist(state, a, 0, RegisterAction::remove, 9, true);
    ASSERT_TRUE(outcome.error.ok());
    const bool only = type == ReservationType::write_exclusive_registrants || type == ReservationType::exclusive_access_registrants;
    const bool all = type == ReservationType::write_exclusive_all || type == ReservationType::exclusive_access_all;
    EXPECT_EQ(state.type != ReservationType::none, all);
    const std::vector<HostNotice> told = {{b, ReservationNotice::reservation_released}, {c, ReservationNotice::reservation_released}};
    EXPECT_EQ(outcome.notices, only ? told : std::vector<HostNotice>{}) << static_cast<int>(type);
    ASSERT_TRUE(enlist(state, b, 0, RegisterAction::remove, 2).error.ok());
    ASSERT_TRUE(enlist(state, c, 0, RegisterAction::remove, 3).error.ok());
    EXPECT_EQ(state.type, ReservationType::none) << "without registrants nobody holds it";
  }
}

// Proves: reservation | Register | Base 7.3
TEST(ReservationRegister, ChangesPersistenceOnlyWithAFileAndOnlyWhenItSucceeds) {
  ReservationState state;
  EXPECT_TRUE(is(enlist(state, a, 1, RegisterAction::add, 0, false, ChangePersist::on, false), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(is(enlist(state, a, 1, RegisterAction::add, 0, false, ChangePersist::reserved, true), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(state.registrants.empty());
  EXPECT_TRUE(enlist(state, a, 1, RegisterAction::add, 0, false, ChangePersist::on, true).error.ok());
  EXPECT_TRUE(state.persist);
  EXPECT_TRUE(is_conflict(enlist(state, a, 2, RegisterAction::add, 0, false, ChangePersist::off, true)));
  EXPECT_TRUE(state.persist);
  EXPECT_TRUE(enlist(state, a, 1, RegisterAction::add, 0, false, ChangePersist::off, true).error.ok());
  EXPECT_FALSE(state.persist);
}

// Proves: reservation | Many registrants | Base 8.19
TEST(ReservationRegister, ThousandsMayRegisterAndTheLimitHolds) {
  ReservationState state;
  const auto numbered = [](std::size_t number) {
    HostId id{};
    id[0] = static_cast<std::uint8_t>(number);
    id[1] = static_cast<std::uint8_t>(number >> 8);
    return id;
  };
  for (std::size_t i = 0; i < max_registrants; ++i) ASSERT_TRUE(enlist(state, numbered(i), i + 1).error.ok()) << i;
  EXPECT_TRUE(is(enlist(state, numbered(max_registrants), 5), nvme::GenericStatus::internal_error));
  EXPECT_EQ(state.registrants.size(), max_registrants);
  for (std::size_t i = 0; i < max_registrants; i += 97) EXPECT_EQ(state.find(numbered(i))->key, i + 1);
  ASSERT_TRUE(enlist(state, numbered(17), 0, RegisterAction::remove, 18).error.ok());
  EXPECT_TRUE(enlist(state, numbered(max_registrants), 5).error.ok());
}

// --- Acquire ---

// Proves: reservation | Acquire | Base 7.2
TEST(ReservationAcquire, OneHolderAtATime) {
  ReservationState state = three();
  const std::uint32_t generation = state.generation;
  EXPECT_TRUE(is_conflict(acquire(state, host_of(9), 1, ReservationType::write_exclusive))) << "no registrant";
  EXPECT_TRUE(is_conflict(acquire(state, a, 2, ReservationType::write_exclusive))) << "not its key";
  EXPECT_TRUE(is(acquire(state, a, 1, ReservationType::none), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(is(acquire(state, a, 1, static_cast<ReservationType>(7)), nvme::GenericStatus::invalid_field));
  EXPECT_TRUE(acquire(state, a, 1, ReservationType::write_exclusive).changed);
  const ReservationOutcome again = acquire(state, a, 1, ReservationType::write_exclusive);
  EXPECT_TRUE(again.error.ok());
  EXPECT_FALSE(again.changed);
  EXPECT_TRUE(is_conflict(acquire(state, a, 1, ReservationType::exclusive_access))) << "its own, but of another type";
  EXPECT_TRUE(is_conflict(acquire(state, b, 2, ReservationType::write_exclusive)));
  EXPECT_EQ(state.generation, generation) << "GEN does not count Acquire";
}

TEST(ReservationAcquire, AllRegistrantsHoldSoTheSameTypeIsNoErrorForAny) {
  ReservationState state = three();
  ASSERT_TRUE(acquire(state, a, 1, ReservationType::write_exclusive_all).error.ok());
  EXPECT_TRUE(acquire(state, b, 2, ReservationType::write_exclusive_all).error.ok());
  EXPECT_TRUE(is_conflict(acquire(state, b, 2, ReservationType::exclusive_access_all)));
}

// Proves: reservation | Preempt | Base 7.2
TEST(ReservationPreempt, TakesTheReservationAndTheRegistrations) {
  ReservationState state = three();
  enlist(state, host_of(4), 1);  // another one with the holder's key
  ASSERT_TRUE(acquire(state, a, 1, ReservationType::write_exclusive).error.ok());
  const std::uint32_t generation = state.generation;
  const ReservationOutcome outcome = acquire(state, b, 2, ReservationType::exclusive_access, AcquireAction::preempt, 1);
  ASSERT_TRUE(outcome.error.ok());
  EXPECT_EQ(state.generation, generation + 1);
  EXPECT_TRUE(state.holds(b));
  EXPECT_EQ(state.type, ReservationType::exclusive_access);
  EXPECT_EQ(state.find(a), nullptr);
  EXPECT_EQ(state.find(host_of(4)), nullptr);
  EXPECT_NE(state.find(c), nullptr);
  EXPECT_EQ(outcome.unregistered, (std::vector<HostId>{a, host_of(4)}));
  const std::vector<HostNotice> told = {{a, ReservationNotice::registration_preempted},
                                        {host_of(4), ReservationNotice::registration_preempted},
                                        {c, ReservationNotice::reservation_released}};
  EXPECT_EQ(outcome.notices, told) << "the type changed, which remaining registrants hear of";
}

TEST(ReservationPreempt, OfAnotherKeyOnlyUnregisters) {
  ReservationState state = three();
  ASSERT_TRUE(acquire(state, a, 1, ReservationType::write_exclusive).error.ok());
  EXPECT_TRUE(is_conflict(acquire(state, b, 2, ReservationType::exclusive_access, AcquireAction::preempt, 99)));
  EXPECT_TRUE(is(acquire(state, b, 2, ReservationType::exclusive_access, AcquireAction::preempt, 0), nvme::GenericStatus::invalid_field));
  const ReservationOutcome outcome = acquire(state, b, 2, ReservationType::exclusive_access, AcquireAction::preempt, 3);
  ASSERT_TRUE(outcome.error.ok());
  EXPECT_EQ(state.find(c), nullptr);
  EXPECT_TRUE(state.holds(a));
  EXPECT_EQ(state.type, ReservationType::write_exclusive);
  EXPECT_EQ(outcome.notices, (std::vector<HostNotice>{{c, ReservationNotice::registration_preempted}}));
}

TEST(ReservationPreempt, WithoutAReservationOnlyUnregisters) {
  ReservationState state = three();
  ASSERT_TRUE(acquire(state, a, 1, ReservationType::write_exclusive, AcquireAction::preempt, 2).error.ok());
  EXPECT_EQ(state.type, ReservationType::none);
  EXPECT_EQ(state.find(b), nullptr);
  EXPECT_TRUE(is_conflict(acquire(state, a, 1, ReservationType::write_exclusive, AcquireAction::preempt, 2)));
}

TEST(ReservationPreempt, OfAllRegistrantsTakesKeyZeroForEverybody) {
  ReservationState state = three();
  ASSERT_TRUE(acquire(state, a, 1, ReservationType::exclusive_access_all).error.ok());
  const ReservationOutcome one = acquire(state, b, 2, ReservationType::write_exclusive, AcquireAction::preempt, 3);
  ASSERT_TRUE(one.error.ok());
  EXPECT_EQ(state.type, ReservationType::exclusive_access_all) << "a key of one of them leaves the reservation as it is";
  const ReservationOutcome everybody = acquire(state, b, 2, ReservationType::write_exclusive, AcquireAction::preempt, 0);
  ASSERT_TRUE(everybody.error.ok());
  EXPECT_EQ(state.registrants.size(), 1U);
  EXPECT_TRUE(state.holds(b));
  EXPECT_EQ(state.type, ReservationType::write_exclusive);
  EXPECT_EQ(everybody.notices, (std::vector<HostNotice>{{a, ReservationNotice::registration_preempted}}));
}

TEST(ReservationPreempt, TheHolderMayChangeItsType) {
  ReservationState state = three();
  ASSERT_TRUE(acquire(state, a, 1, ReservationType::write_exclusive_registrants).error.ok());
  const ReservationOutcome outcome = acquire(state, a, 1, ReservationType::exclusive_access, AcquireAction::preempt, 1);
  ASSERT_TRUE(outcome.error.ok());
  EXPECT_TRUE(state.holds(a));
  EXPECT_TRUE(outcome.unregistered.empty());
  EXPECT_EQ(outcome.notices.size(), 2U);
}

TEST(ReservationPreempt, TheIssuersOwnRegistrationGoesByItsKeyWithoutNoticeOrAbort) {
  ReservationState state = three();
  ASSERT_TRUE(acquire(state, a, 1, ReservationType::write_exclusive).error.ok());
  const ReservationOutcome outcome = acquire(state, b, 2, ReservationType::write_exclusive, AcquireAction::preempt_and_abort, 2);
  ASSERT_TRUE(outcome.error.ok());
  EXPECT_EQ(state.find(b), nullptr);
  EXPECT_TRUE(outcome.notices.empty());
  EXPECT_TRUE(outcome.unregistered.empty());
}

// --- Release ---

// Proves: reservation | Release | Base 7.4
TEST(ReservationRelease, OnlyTheHolderReleasesAndWhoIsConcernedIsTold) {
  for (const ReservationType type : all_types) {
    ReservationState state = three();
    ASSERT_TRUE(acquire(state, a, 1, type).error.ok());
    const std::uint32_t generation = state.generation;
    const bool all = state.all_registrants();
    EXPECT_TRUE(is_conflict(release(state, host_of(9), 1, type)));
    EXPECT_TRUE(is_conflict(release(state, a, 9, type)));
    if (!all) {
      EXPECT_TRUE(release(state, b, 2, type).error.ok()) << "no error, no effect";
      EXPECT_TRUE(state.holds(a));
    }
    const auto other = type == ReservationType::write_exclusive ? ReservationType::exclusive_access : ReservationType::write_exclusive;
    EXPECT_TRUE(is(release(state, a, 1, other), nvme::GenericStatus::invalid_field));
    const ReservationOutcome outcome = release(state, all ? b : a, all ? 2 : 1, type);
    ASSERT_TRUE(outcome.error.ok() && outcome.changed);
    EXPECT_EQ(state.type, ReservationType::none);
    EXPECT_EQ(state.registrants.size(), 3U);
    EXPECT_EQ(state.generation, generation);
    const bool tells = type != ReservationType::write_exclusive && type != ReservationType::exclusive_access;
    EXPECT_EQ(outcome.notices.size(), tells ? 2U : 0U);
    for (const HostNotice& each : outcome.notices) EXPECT_EQ(each.type, ReservationNotice::reservation_released);
    EXPECT_FALSE(release(state, a, 1, type).changed) << "nothing to release is no error";
  }
}

// Proves: reservation | Clear | Base 7.4
TEST(ReservationRelease, ClearTakesEverythingAndTellsTheOthers) {
  ReservationState state = three();
  ASSERT_TRUE(acquire(state, a, 1, ReservationType::exclusive_access).error.ok());
  EXPECT_TRUE(is_conflict(release(state, b, 9, ReservationType::none, ReleaseAction::clear)));
  const std::uint32_t generation = state.generation;
  const ReservationOutcome outcome = release(state, b, 2, ReservationType::none, ReleaseAction::clear);
  ASSERT_TRUE(outcome.error.ok());
  EXPECT_TRUE(state.registrants.empty());
  EXPECT_EQ(state.type, ReservationType::none);
  EXPECT_EQ(state.generation, generation + 1);
  EXPECT_EQ(outcome.notices, (std::vector<HostNotice>{{a, ReservationNotice::reservation_preempted}, {c, ReservationNotice::reservation_preempted}}));
}

}  // namespace
}  // namespace catnap::server
