// Both sides of the exchange against each other, by hand: every hash and group in both directions, wrong keys, and what each side makes of messages
// that are truncated, replayed, out of order or not what was agreed.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/unit/dhchap/exchange_fixture.h"

namespace catnap::dhchap {
namespace {

TEST_F(ExchangeTest, EveryHashAndGroupBothWays) {
  for (const AuthHash hash : hashes_by_strength) {
    for (const AuthGroup group : groups_by_strength) {
      for (const bool both : {false, true}) {
        HostCredentials mine = credentials("host", both ? "ctrlr" : "");
        mine.allowed.hashes = static_cast<std::uint8_t>(1U << static_cast<unsigned>(hash));
        mine.allowed.groups = static_cast<std::uint8_t>(1U << static_cast<unsigned>(group));
        HostExchange host(mine, host_nqn, sub_nqn);
        TargetExchange target(host_nqn, sub_nqn);
        converse(host, target, rules());
        EXPECT_TRUE(host.outcome().has_value()) << name_of(hash) << " " << name_of(group) << ": " << host.outcome().error().message;
        EXPECT_EQ(target.state(), State::completed) << target.why();
        EXPECT_EQ(target.hash(), hash);
        EXPECT_EQ(target.group(), group);
        EXPECT_EQ(target.bidirectional(), both);
      }
    }
  }
}

TEST_F(ExchangeTest, TheStrongestInCommonIsTaken) {
  HostExchange host(credentials(), host_nqn, sub_nqn);
  TargetExchange target(host_nqn, sub_nqn);
  TargetRules most = rules();
  most.allowed.hashes = 0b0110;
  most.allowed.groups = 0b000111;
  converse(host, target, most);
  EXPECT_EQ(target.state(), State::completed);
  EXPECT_EQ(target.hash(), AuthHash::sha384);
  EXPECT_EQ(target.group(), AuthGroup::ffdhe3072);
}

struct Wrong {
  const char* what;
  const char* host_key;
  const char* host_ctrlr_key;
  const char* target_key;
  const char* target_ctrlr_key;
  State ends;
};
class WrongKeys : public ExchangeTest, public testing::WithParamInterface<Wrong> {};

TEST_P(WrongKeys, AreRefused) {
  const Wrong& wrong = GetParam();
  HostCredentials mine = credentials(wrong.host_key, wrong.host_ctrlr_key);
  mine.allowed.groups = 0b11;
  HostExchange host(mine, host_nqn, sub_nqn);
  TargetExchange target(host_nqn, sub_nqn);
  converse(host, target, rules(wrong.target_key, wrong.target_ctrlr_key));
  ASSERT_FALSE(host.outcome().has_value()) << wrong.what;
  EXPECT_EQ(host.outcome().error().err, EACCES) << host.outcome().error().message;
  EXPECT_EQ(target.state(), wrong.ends) << wrong.what;
  EXPECT_EQ(target.explanation(), AuthExplanation::authentication_failed);
  EXPECT_FALSE(target.why().empty());
}
INSTANTIATE_TEST_SUITE_P(All, WrongKeys,
                         testing::Values(Wrong{"of the host", "wrong", "", "host", "", State::failure1},
                                         Wrong{"of the controller", "host", "wrong", "host", "ctrlr", State::error},
                                         Wrong{"none of the host's", "host", "", "", "", State::failure1},
                                         Wrong{"none of the controller's", "host", "ctrlr", "host", "", State::failure1},
                                         Wrong{"taken for the other", "ctrlr", "host", "host", "ctrlr", State::failure1}));

TEST_F(ExchangeTest, AnotherNameIsAnotherHost) {
  HostExchange host(credentials(), host_nqn, sub_nqn);
  TargetExchange target(std::string(host_nqn) + "2", sub_nqn);
  converse(host, target, rules());
  EXPECT_FALSE(host.outcome().has_value());
  EXPECT_EQ(target.state(), State::failure1);
}

TEST_F(ExchangeTest, NothingInCommon) {
  TargetRules strict = rules();
  strict.allowed.hashes = 0b1000;
  HostCredentials weak = credentials();
  weak.allowed.hashes = 0b0010;
  {
    HostExchange host(weak, host_nqn, sub_nqn);
    TargetExchange target(host_nqn, sub_nqn);
    converse(host, target, strict);
    EXPECT_EQ(target.explanation(), AuthExplanation::hash_not_usable);
    EXPECT_NE(host.outcome().error().message.find("hash function not usable"), std::string::npos) << host.outcome().error().message;
  }
  strict.allowed.hashes = 0b1110;
  strict.allowed.groups = 0b111110;
  weak.allowed.groups = 0b1;
  HostExchange host(weak, host_nqn, sub_nqn);
  TargetExchange target(host_nqn, sub_nqn);
  converse(host, target, strict);
  EXPECT_EQ(target.explanation(), AuthExplanation::group_not_usable);
}

// Somebody in between makes the host's offer weaker than what the target allows, or the target's choice one that the host did not offer.
TEST_F(ExchangeTest, DowngradesAreRefused) {
  TargetRules strict = rules();
  strict.allowed.groups = 0b110000;
  HostExchange host(credentials(), host_nqn, sub_nqn);
  TargetExchange target(host_nqn, sub_nqn);
  converse(host, target, strict, [](int number, Bytes& message) {
    if (number == 0) message[8 + 3] = std::byte{1}, message[8 + 34] = std::byte{0};  // only the null group
  });
  EXPECT_EQ(target.explanation(), AuthExplanation::group_not_usable);

  HostCredentials picky = credentials();
  picky.allowed.hashes = 0b1000;
  HostExchange other(picky, host_nqn, sub_nqn);
  TargetExchange lax(host_nqn, sub_nqn);
  converse(other, lax, rules(), [](int number, Bytes& message) {
    if (number == 1) message[8] = std::byte{1}, message[6] = std::byte{32};
  });
  EXPECT_FALSE(other.outcome().has_value());
  EXPECT_NE(lax.state(), State::completed);
}

// Any message cut anywhere, or with a byte changed, ends in a failure on both sides, never in success and never in a crash.
TEST_F(ExchangeTest, NoSpoiltMessagePasses) {
  std::mt19937 random(20261121);
  HostCredentials mine = credentials("host", "ctrlr");
  mine.allowed.groups = 0b10;
  for (int round = 0; round < 300; ++round) {
    HostExchange host(mine, host_nqn, sub_nqn);
    TargetExchange target(host_nqn, sub_nqn);
    const int victim = static_cast<int>(random() % 5);
    const bool cut = random() % 3 == 0;
    const std::size_t meaningful[] = {0, 16 + 64 + 256, 0, 16 + 64};  // bytes of the controller's messages, before the zeroes
    bool spoilt = false;
    converse(host, target, rules(), [&](int number, Bytes& message) {
      if (number != victim) return;
      if (cut) {
        message.resize(random() % (number % 2 == 0 ? message.size() : meaningful[number]));
        spoilt = true;
        return;
      }
      // Of fields that mean something: reserved ones may be anything.
      const std::size_t at = number == 0   ? (random() % 2 == 0 ? 7 : 1)
                             : number == 1 ? 16 + random() % 64
                             : number == 2 ? 16 + random() % 128
                             : number == 3 ? 16 + random() % 64
                                           : random() % 2;
      message[at] ^= static_cast<std::byte>(1U << random() % 8);
      spoilt = true;
    });
    EXPECT_FALSE(spoilt && victim < 4 && host.outcome().has_value()) << "message " << victim << (cut ? " cut" : " changed");
    EXPECT_FALSE(spoilt && target.state() == State::completed) << "message " << victim << (cut ? " cut" : " changed");
  }
}

// Messages in every state in which they do not belong.
TEST_F(ExchangeTest, OutOfOrderIsRefusedInEveryState) {
  HostCredentials mine = credentials("host", "ctrlr");
  mine.allowed.groups = 0b10;
  std::vector<Bytes> seen;  // of the host: negotiate, reply, success2
  {
    HostExchange host(mine, host_nqn, sub_nqn);
    TargetExchange target(host_nqn, sub_nqn);
    converse(host, target, rules(), [&](int, Bytes& message) {
      if (message.size() != 4096) seen.push_back(message);
    });
    ASSERT_EQ(seen.size(), 3U);
  }
  seen.push_back(write_failure(AuthId::failure2, 1, AuthExplanation::authentication_failed));
  seen.push_back(write_failure(AuthId::failure1, 1, AuthExplanation::authentication_failed));
  seen.push_back(Bytes(6, std::byte{0xFF}));
  for (int steps = 0; steps < 5; ++steps) {
    for (std::size_t which = 0; which < seen.size(); ++which) {
      HostExchange host(mine, host_nqn, sub_nqn);
      TargetExchange target(host_nqn, sub_nqn);
      converse(host, target, rules(), {}, steps);
      const State at = target.state();
      if (at == State::completed || (at == State::negotiate && which == 0)) continue;
      // A replayed message of an earlier transaction has the right kind, and fails all the same.
      run(target.take(seen[which], rules()));
      EXPECT_TRUE(target.state() == State::failure1 || target.state() == State::error)
          << "message " << which << " in " << TargetExchange::name_of(at);
      const Bytes said = target.give(4096);
      EXPECT_TRUE(read_failure(said).has_value());
    }
  }
}

TEST_F(ExchangeTest, AskingOutOfTurnIsRefused) {
  TargetExchange target(host_nqn, sub_nqn);
  const Bytes said = target.give(4096);
  EXPECT_EQ(read_failure(said), AuthExplanation::incorrect_message);
  EXPECT_TRUE(target.give(4).empty()) << "not even room for a failure";
}

TEST_F(ExchangeTest, AChallengeThatDoesNotFitFails) {
  HostExchange host(credentials(), host_nqn, sub_nqn);
  TargetExchange target(host_nqn, sub_nqn);
  run(target.take(host.outgoing(), rules()));
  run(target.prepare());
  EXPECT_EQ(read_failure(target.give(64)), AuthExplanation::incorrect_payload);
}

TEST_F(ExchangeTest, ConcatenationIsRefusedAndNotIgnored) {
  HostExchange host(credentials(), host_nqn, sub_nqn);
  TargetExchange target(host_nqn, sub_nqn);
  converse(host, target, rules(), [](int number, Bytes& message) {
    if (number == 0) message[6] = std::byte{2};
  });
  EXPECT_EQ(target.explanation(), AuthExplanation::concatenation_mismatch);
}

TEST_F(ExchangeTest, TransactionNumbersMustAgree) {
  HostCredentials mine = credentials("host", "ctrlr");
  mine.allowed.groups = 0b1;
  for (const int victim : {1, 2, 3, 4}) {
    HostExchange host(mine, host_nqn, sub_nqn);
    TargetExchange target(host_nqn, sub_nqn);
    converse(host, target, rules(), [victim](int number, Bytes& message) {
      if (number == victim) message[4] ^= std::byte{1};
    });
    EXPECT_NE(target.state(), State::completed) << victim;
  }
}

// A second message while a worker still computes for the first.
TEST_F(ExchangeTest, ImpatienceIsRefused) {
  HostCredentials mine = credentials();
  mine.allowed.groups = 0b10;
  HostExchange host(mine, host_nqn, sub_nqn);
  TargetExchange target(host_nqn, sub_nqn);
  converse(host, target, rules(), {}, 2);
  ASSERT_EQ(target.state(), State::reply);
  auto work = target.take(host.outgoing(), rules());
  ASSERT_TRUE(work.has_value());
  EXPECT_FALSE(target.take(host.outgoing(), rules()).has_value());
  EXPECT_EQ(target.state(), State::failure1);
  run(std::move(work));
  EXPECT_EQ(target.state(), State::failure1) << "what comes back late changes nothing";
}

TEST_F(ExchangeTest, ATransactionGivenUpMeanwhileStaysSo) {
  HostCredentials mine = credentials();
  mine.allowed.groups = 0b10;
  HostExchange host(mine, host_nqn, sub_nqn);
  TargetExchange target(host_nqn, sub_nqn);
  converse(host, target, rules(), {}, 2);
  auto work = target.take(host.outgoing(), rules());
  target.give_up();
  run(std::move(work));
  EXPECT_EQ(target.state(), State::completed);
}

TEST_F(ExchangeTest, KeysCountAsTheyAreAtTheReply) {
  HostCredentials mine = credentials();
  mine.allowed.groups = 0b1;
  HostExchange host(mine, host_nqn, sub_nqn);
  TargetExchange target(host_nqn, sub_nqn);
  converse(host, target, rules(), {}, 2);
  ASSERT_TRUE(ring_.remove("host").has_value());
  EXPECT_FALSE(host.outgoing().empty());
  TargetRules changed = rules("wrong");
  run(target.take(host.outgoing(), changed));
  EXPECT_EQ(target.state(), State::failure1);
}

}  // namespace
}  // namespace catnap::dhchap
