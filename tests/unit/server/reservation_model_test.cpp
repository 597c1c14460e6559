// Random reservation commands and I/O of several hosts against a small model of the rules, written down from the specification a second time and in
// another form. Failures print the seed and the step.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>

#include "tests/unit/server/reservation_bench.h"

namespace catnap::server {
namespace {

using nvme::AcquireAction;
using nvme::IoOpcode;
using nvme::RegisterAction;
using nvme::ReleaseAction;
using nvme::ReservationType;

constexpr int hosts = 4;
enum class Answer { ok, conflict, invalid };

// The specification's sentences, with hosts as numbers and types as numbers (1..6).
struct Model {
  std::map<int, unsigned> keys;
  int type = 0;
  int holder = -1;  // of types 1 to 4
  unsigned gen = 0;
  std::map<int, std::map<int, unsigned>> told;  // by host, by notice type

  bool everybody() const { return type >= 5; }
  bool holds(int host) const { return type != 0 && keys.contains(host) && (everybody() || holder == host); }
  void settle() {
    if (type != 0 && (everybody() ? keys.empty() : !keys.contains(holder))) type = 0;
    if (type == 0 || everybody()) holder = -1;
  }
  void tell_others(int except, int notice) {
    for (const auto& [host, key] : keys) {
      if (host != except) ++told[host][notice];
    }
  }

  Answer enlist(int host, int action, unsigned current, unsigned next, bool ignore) {
    const bool known = keys.contains(host);
    if (action != 1 && next == 0) return Answer::invalid;
    if (action == 0) {
      if (known && keys[host] != next) return Answer::conflict;
      keys[host] = next;
    } else if (action == 2) {
      if (!ignore && (!known || keys[host] != current)) return Answer::conflict;
      keys[host] = next;
    } else {
      if (!known || (!ignore && keys[host] != current)) return Answer::conflict;
      const bool only_registrants = type == 3 || type == 4;
      const bool held = holds(host);
      keys.erase(host);
      if (held && only_registrants) tell_others(host, 2);
      settle();
    }
    ++gen;
    return Answer::ok;
  }

  Answer acquire(int host, int action, int wanted, unsigned current, unsigned victim) {
    if (wanted < 1 || wanted > 6) return Answer::invalid;
    if (!keys.contains(host) || keys[host] != current) return Answer::conflict;
    if (action == 0) {
      if (type == 0) {
        type = wanted;
        holder = host;
        settle();
        return Answer::ok;
      }
      return holds(host) && type == wanted ? Answer::ok : Answer::conflict;
    }
    const bool of_holder = type != 0 && (everybody() ? victim == 0 : keys[holder] == victim && victim != 0);
    if (type != 0 && !everybody() && victim == 0) return Answer::invalid;
    bool any = false;
    for (auto at = keys.begin(); at != keys.end();) {
      const bool matches = of_holder ? at->first != host && (everybody() || at->second == victim) : at->second == victim;
      if (!matches) {
        ++at;
        continue;
      }
      any = true;
      if (at->first != host) ++told[at->first][1];
      at = keys.erase(at);
    }
    if (!of_holder && !any) return Answer::conflict;
    ++gen;
    if (of_holder) {
      if (type != wanted) tell_others(host, 2);
      type = wanted;
      holder = host;
    }
    settle();
    return Answer::ok;
  }

  Answer release(int host, int action, int wanted, unsigned current) {
    if (!keys.contains(host) || keys[host] != current) return Answer::conflict;
    if (action == 1) {
      tell_others(host, 3);
      keys.clear();
      settle();
      ++gen;
      return Answer::ok;
    }
    if (!holds(host)) return Answer::ok;
    if (wanted != type) return Answer::invalid;
    if (type >= 3) tell_others(host, 2);
    type = 0;
    settle();
    return Answer::ok;
  }

  bool may(int host, bool write) const {
    if (type == 0 || holds(host)) return true;
    if (type >= 3 && keys.contains(host)) return true;
    const bool exclusive_access = type == 2 || type == 4 || type == 6;
    return !write && !exclusive_access;
  }
};

class Walk {
 public:
  explicit Walk(unsigned seed) : random_(seed) {
    for (int i = 0; i < hosts; ++i) hosts_.push_back(bench_.connect_host(static_cast<std::uint8_t>(i + 1)));
  }

  void step() {
    const int host = draw(0, hosts - 1);
    switch (draw(0, 9)) {
      case 0:
      case 1:
      case 2:
        return expect_answer(enlist(host));
      case 3:
      case 4:
      case 5:
        return expect_answer(acquire(host));
      case 6:
        return expect_answer(release(host));
      default:
        return touch(host);
    }
  }
  void compare_reports() {
    const auto report = bench_.report(hosts_[static_cast<std::size_t>(draw(0, hosts - 1))]);
    EXPECT_EQ(report.head.gen, model_.gen);
    EXPECT_EQ(report.head.rtype, model_.type);
    ASSERT_EQ(report.entries.size(), model_.keys.size());
    for (const auto& entry : report.entries) {
      const int host = entry.hostid[0] - 1;
      ASSERT_TRUE(model_.keys.contains(host));
      EXPECT_EQ(entry.rkey, model_.keys.at(host));
      EXPECT_EQ(entry.rcsts != 0, model_.holds(host));
    }
  }
  // Everything that was told was told once, and nothing else.
  void compare_notices() {
    for (int host = 0; host < hosts; ++host) {
      std::map<int, unsigned> seen;
      for (;;) {
        const auto log = bench_.notice(hosts_[static_cast<std::size_t>(host)]);
        if (log.count == 0) break;
        ++seen[log.type];
      }
      EXPECT_EQ(seen, model_.told[host]) << "host " << host;
    }
    model_.told.clear();
  }

 private:
  struct Pair {
    const Command* command;
    Answer expected;
  };

  int draw(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  unsigned any_key() { return static_cast<unsigned>(draw(0, 3)); }
  // The host's own more often than not.
  unsigned key_of(int host) { return draw(0, 4) == 0 || !model_.keys.contains(host) ? any_key() : model_.keys.at(host); }
  const ReservationBench::Host& at(int host) const { return hosts_[static_cast<std::size_t>(host)]; }

  Pair enlist(int host) {
    const int action = draw(0, 2);
    const unsigned current = key_of(host);
    const unsigned next = any_key();
    const bool ignore = draw(0, 3) == 0;
    const Command& command = bench_.send_register(at(host), static_cast<RegisterAction>(action), current, next, ignore);
    return {&command, model_.enlist(host, action, current, next, ignore)};
  }
  Pair acquire(int host) {
    const int action = draw(0, 2);
    const int type = draw(0, 20) == 0 ? draw(0, 8) : draw(1, 6);
    const unsigned current = key_of(host);
    const unsigned victim = any_key();
    const Command& command = bench_.acquire(at(host), static_cast<AcquireAction>(action), static_cast<ReservationType>(type), current, victim);
    return {&command, model_.acquire(host, action, type, current, victim)};
  }
  Pair release(int host) {
    const int action = draw(0, 5) == 0 ? 1 : 0;
    const int type = draw(0, 2) == 0 ? draw(0, 7) : model_.type;
    const unsigned current = key_of(host);
    const Command& command = bench_.release(at(host), static_cast<ReleaseAction>(action), static_cast<ReservationType>(type), current);
    return {&command, model_.release(host, action, type, current)};
  }
  static void expect_answer(Pair pair) {
    const nvme::Status expected = pair.expected == Answer::ok         ? nvme::Status()
                                  : pair.expected == Answer::conflict ? nvme::Status(nvme::GenericStatus::reservation_conflict)
                                                                      : nvme::Status(nvme::GenericStatus::invalid_field);
    EXPECT_TRUE(is(*pair.command, expected)) << "status " << int{pair.command->status().sc} << " instead of " << int{expected.sc};
  }
  void touch(int host) {
    const bool write = draw(0, 1) == 1;
    const Command& command = bench_.io(at(host), write ? IoOpcode::write : IoOpcode::read);
    EXPECT_EQ(succeeded(command), model_.may(host, write));
    EXPECT_EQ(is(command, nvme::GenericStatus::reservation_conflict), !model_.may(host, write));
  }

  ReservationBench bench_;
  std::vector<ReservationBench::Host> hosts_;
  Model model_;
  std::mt19937 random_;
};

// Proves: reservation | Command permissions | Base 8.19
// Proves: reservation | Preempt | Base 7.2
TEST(ReservationModel, AgreesStepByStep) {
  const bool soak = std::getenv("CATNAP_SOAK") != nullptr;
  const int walks = soak ? 200 : 4;
  constexpr int steps = 5000;  // of one walk: the bench keeps every command
  const char* given = std::getenv("CATNAP_SEED");
  const unsigned first_seed = given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device()();
  for (int walk = 0; walk < walks; ++walk) {
    const unsigned seed = first_seed + static_cast<unsigned>(walk);
    Walk steps_of_seed(seed);
    for (int step = 0; step < steps; ++step) {
      steps_of_seed.step();
      if (step % 7 == 0) steps_of_seed.compare_reports();
      if (step % 50 == 49) steps_of_seed.compare_notices();
      ASSERT_FALSE(testing::Test::HasFailure()) << "CATNAP_SEED=" << seed << ", step " << step;
    }
  }
  printf("%d steps, seeds from %u\n", walks * steps, first_seed);
}

}  // namespace
}  // namespace catnap::server
