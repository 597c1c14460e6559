// raid1 over thousands of lives that end in crashes, and the proof that each step of its order of operations is needed: without it the simulation
// finds what goes wrong.
//
// A failure prints its seed; CATNAP_SIM_SEED=<seed> runs that one alone and prints its events.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "reactor/base/log.h"
#include "tests/sim/raid1_world.h"

namespace catnap::sim {
namespace {

bool soak() { return std::getenv("CATNAP_SOAK") != nullptr; }

struct Totals {
  void add(const Raid1Outcome& outcome) {
    ++runs;
    crashes += outcome.crashes;
    operations += outcome.device_operations;
    reads += outcome.reads;
    writes += outcome.writes;
    faults += outcome.member_faults;
    rebuilds += outcome.rebuilds;
    scrubs += outcome.scrubs;
    exchanges += outcome.exchanges;
  }
  void print(const char* what) const {
    fmt::print("{}: {} runs, {} crashes, {} device operations, {} blocks read, {} writes, {} member faults, {} rebuilds, {} scrubs, {} exchanges\n",
               what, runs, crashes, operations, reads, writes, faults, rebuilds, scrubs, exchanges);
  }
  std::uint64_t runs = 0, crashes = 0, operations = 0, reads = 0, writes = 0, faults = 0, rebuilds = 0, scrubs = 0, exchanges = 0;
};

class Raid1Sim : public testing::Test {
 protected:
  void SetUp() override { log_set_level(LogLevel::disabled), log_set_print_level(LogLevel::disabled); }
};

class LongRuns : public Raid1Sim {
 protected:
  static void run(const char* what, bdev::raid1::Record record, std::uint64_t in_ci, std::uint64_t in_soak, bool operators = false) {
    Totals totals;
    const char* chosen = std::getenv("CATNAP_SIM_SEED");
    const std::uint64_t first = chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : 1;
    const std::uint64_t last = chosen != nullptr ? first : soak() ? in_soak : in_ci;
    for (std::uint64_t seed = first; seed <= last; ++seed) {
      Raid1Options options;
      options.seed = seed;
      options.record = record;
      options.operators = operators;
      options.assume_clean = operators && seed % 2 == 0;
      if (record == bdev::raid1::Record::memory) options.lives = 1;  // it knows nothing of earlier ones
      const Raid1Outcome outcome = Raid1World(options).run();
      totals.add(outcome);
      if (chosen != nullptr) fmt::print("{}", outcome.log);
      ASSERT_EQ(outcome.failure, "") << "CATNAP_SIM_SEED=" << seed << " replays it; the last events:\n" << outcome.log;
    }
    totals.print(what);
  }
};

TEST_F(LongRuns, CrashesAnywhereAndMembersThatFailAndReturn) { run("long runs", bdev::raid1::Record::members, 150, 35'000); }

// What longer runs have found and was mended: members that came back alone and served, or counted as in sync, though they had been left out; a new
// member that was known before the loss of the old one was; a read that failed though its block had been written meanwhile, and was well; one that
// was answered while the loss of a member could not be recorded, which came back and said something else. (With the bitmap on another device it was
// the world that was wrong: a lane that has not heard yet that writes go on still gives errors.)
TEST_F(LongRuns, SeedsThatOnceFoundSomething) {
  using bdev::raid1::Record;
  const std::pair<Record, std::vector<std::uint64_t>> found[] = {
      {Record::members, {1023, 1130, 1861, 5466, 6899, 8059, 16379}}, {Record::external, {126, 4536}}, {Record::memory, {1230}}};
  for (const auto& [record, seeds] : found) {
    for (const std::uint64_t seed : seeds) {
      Raid1Options options;
      options.seed = seed;
      options.record = record;
      if (record == Record::memory) options.lives = 1;
      EXPECT_EQ(Raid1World(options).run().failure, "") << "record " << static_cast<int>(record) << ", seed " << seed;
    }
  }
}

TEST_F(LongRuns, WithTheBitmapOnAnotherDevice) { run("external bitmap", bdev::raid1::Record::external, 60, 15'000); }

TEST_F(LongRuns, MarksInMemoryServeMembersThatComeAndGo) { run("marks in memory", bdev::raid1::Record::memory, 60, 10'000); }

// Seed 85 found that an array did not start beside a disk that had been taken out of it.
TEST_F(LongRuns, ScrubsAndExchangedMembersAmidWritesFaultsAndCrashes) {
  run("with operators", bdev::raid1::Record::members, 100, 10'000, true);
  run("with operators, marks in memory", bdev::raid1::Record::memory, 30, 5'000, true);
}

// Two lives, and the power goes at each device operation of either in turn, while it begins and while it ends; the third life is quiet and checks.
// Arrays with a bitmap of two pages have 4,000 regions, and are created equal here: their first copy would be 20,000 operations, of which each run
// goes through all (one page and a first copy: the other nine of ten seeds).
TEST_F(Raid1Sim, ShortRunsWithACrashAtEveryDeviceOperation) {
  Totals totals;
  const std::uint64_t last = soak() ? 40 : 2;
  for (std::uint64_t seed = 1; seed <= last; ++seed) {
    Raid1Options options;
    options.seed = seed;
    options.lives = 3;
    options.actions = 12;
    options.crash_at = ~std::uint64_t{0};
    options.assume_clean = Raid1World(options).has_two_pages();
    const std::uint64_t operations = Raid1World(options).run().before_last_life;
    for (std::uint64_t at = 1; at <= operations; ++at) {
      options.crash_at = at;
      const Raid1Outcome outcome = Raid1World(options).run();
      totals.add(outcome);
      ASSERT_EQ(outcome.failure, "") << "seed " << seed << ", crash at device operation " << at << ":\n" << outcome.log;
    }
    // It takes long: what was done counts also when the rest is ended by the clock.
    if (!soak()) continue;
    totals.print(("short runs, seeds 1 to " + std::to_string(seed)).c_str());
    std::fflush(stdout);
  }
  totals.print("short runs");
}

TEST_F(Raid1Sim, ASeedGivesTheSameEventsAgain) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Raid1Options options;
    options.seed = seed;
    EXPECT_EQ(Raid1World(options).run().log, Raid1World(options).run().log) << "seed " << seed;
  }
}

struct Mutation {
  const char* name;
  bool bdev::raid1::Steps::* step;
};

class WithoutAStep : public Raid1Sim, public testing::WithParamInterface<Mutation> {};

TEST_P(WithoutAStep, TheSimulationFindsWhatGoesWrong) {
  constexpr std::uint64_t enough_seeds = 2'000;
  for (std::uint64_t seed = 1; seed <= enough_seeds; ++seed) {
    Raid1Options options;
    options.seed = seed;
    options.steps.*GetParam().step = false;
    const Raid1Outcome outcome = Raid1World(options).run();
    if (outcome.failure.empty()) continue;
    fmt::print("without {}: seed {}: {}\n", GetParam().name, seed, outcome.failure);
    EXPECT_EQ(Raid1World(options).run().failure, outcome.failure) << "the seed does not find it again";
    return;
  }
  FAIL() << "without " << GetParam().name << " nothing goes wrong in " << enough_seeds << " runs";
}

using bdev::raid1::Steps;
INSTANTIATE_TEST_SUITE_P(Raid1, WithoutAStep,
                         testing::Values(Mutation{"mark_before_data", &Steps::mark_before_data}, Mutation{"flush_marks", &Steps::flush_marks},
                                         Mutation{"serialise_overlaps", &Steps::serialise_overlaps},
                                         Mutation{"clear_without_writes", &Steps::clear_without_writes},
                                         Mutation{"flush_before_clear", &Steps::flush_before_clear},
                                         Mutation{"keep_marks_while_missing", &Steps::keep_marks_while_missing},
                                         Mutation{"durable_drop", &Steps::durable_drop}, Mutation{"single_source", &Steps::single_source},
                                         Mutation{"flush_resync", &Steps::flush_resync}, Mutation{"check_association", &Steps::check_association},
                                         Mutation{"two_copies", &Steps::two_copies}, Mutation{"wait_for_members", &Steps::wait_for_members}),
                         [](const auto& mutation) { return std::string(mutation.param.name); });

}  // namespace
}  // namespace catnap::sim
