// Secure channel concatenation: the generated PSK against the values of the Linux kernel's tests (drivers/nvme/common/tests/auth_kunit.c), and
// exchanges that leave one to both sides, or to none. Owner: one thread. Left out: TLS keys made of it (tests/unit/tls), exchanges without
// (exchange_test.cpp).
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <utility>

#include "tests/unit/dhchap/exchange_fixture.h"
#include "transport/dhchap/generated_psk.h"

namespace catnap::dhchap {
namespace {

std::string hex_of(std::span<const std::byte> bytes) {
  std::string hex;
  for (const std::byte byte : bytes) {
    constexpr const char* digits = "0123456789abcdef";
    hex += digits[std::to_integer<unsigned>(byte) >> 4];
    hex += digits[std::to_integer<unsigned>(byte) & 15];
  }
  return hex;
}

TEST(GeneratedPskTest, IsThatOfThePublishedValues) {
  struct Case {
    AuthHash hash;
    const char* psk;
  };
  const Case cases[] = {
      {AuthHash::sha256, "1733c59fa7f48fcf37f5f26fc4ff0268ad4f78e030f4f3b0bfd1d47e7bb1447a"},
      {AuthHash::sha384, "f14b2dd3234c459694d3bc63f8968bd6b37c2c6de849e22e118749001ce4bbe8640b9e3a748cb11ce4b1d71d359cce39"},
      {AuthHash::sha512,
       "9c9f089a618b47d2d75f4b6c28070424487b445dd96e70c4c09b55e8b6000152a3363c3454043f38f0b85036ded40655350aa87b8b6a282b5c1acae16233dd5b"},
  };
  for (const Case& each : cases) {
    std::array<std::byte, max_hash_bytes> session{};
    Digest c1, c2;
    c1.size = c2.size = hash_bytes(each.hash);
    for (std::size_t i = 0; i < max_hash_bytes; ++i) {
      session[i] = static_cast<std::byte>('A' + i);
      c1.storage[i] = static_cast<std::byte>(i);
      c2.storage[i] = static_cast<std::byte>(0xFF - i);
    }
    const auto psk = generate_psk(each.hash, std::span(session).first(hash_bytes(each.hash)), c1, c2);
    ASSERT_TRUE(psk.has_value());
    EXPECT_EQ(hex_of(psk->bytes()), each.psk);
  }
}

TEST(GeneratedPskTest, ALongSecretCountsAsItsHash) {
  const std::string secret(256, 'x');
  Digest c1, c2;
  c1.size = c2.size = 32;
  // SHA-256 of 256 times 'x', by sha256sum.
  constexpr std::array<unsigned char, 32> hashed = {0x85, 0xE6, 0x2A, 0xCD, 0x75, 0x0C, 0x4E, 0xB5, 0x6B, 0x7B, 0x6A, 0x1D, 0x66, 0xDC, 0xA5, 0xBF,
                                                    0xAA, 0xC5, 0xF0, 0x62, 0x60, 0x8A, 0x1A, 0x89, 0x34, 0x10, 0xD0, 0x28, 0x89, 0x36, 0xC0, 0x9A};
  const auto of_secret = generate_psk(AuthHash::sha256, bytes_of(secret), c1, c2);
  const auto of_hash = generate_psk(AuthHash::sha256, std::as_bytes(std::span(hashed)), c1, c2);
  ASSERT_TRUE(of_secret.has_value() && of_hash.has_value());
  EXPECT_EQ(hex_of(of_secret->bytes()), hex_of(of_hash->bytes()));
  EXPECT_FALSE(generate_psk(AuthHash::sha256, {}, c1, c2).has_value()) << "the null group has no session key";
}

class ConcatenationTest : public ExchangeTest {
 protected:
  TargetRules concatenating(const std::string& key = "host", const std::string& ctrlr_key = "ctrlr") {
    TargetRules both = rules(key, ctrlr_key);
    both.may_generate_psk = true;
    return both;
  }
};

TEST_F(ConcatenationTest, LeavesTheSameKeyToBoth) {
  for (const AuthHash hash : {AuthHash::sha256, AuthHash::sha384}) {
    for (const AuthGroup group : {AuthGroup::ffdhe2048, AuthGroup::ffdhe3072}) {
      for (const bool both : {false, true}) {
        HostCredentials mine = credentials("host", both ? "ctrlr" : "");
        mine.allowed.hashes = static_cast<std::uint8_t>(1U << static_cast<unsigned>(hash));
        mine.allowed.groups = static_cast<std::uint8_t>(1U << static_cast<unsigned>(group));
        HostExchange host(mine, host_nqn, sub_nqn, AuthConcatenation::new_tls_psk);
        TargetExchange target(host_nqn, sub_nqn);
        // Without a secret of its own the target need not prove itself, and the host's challenge serves the key alone.
        converse(host, target, both ? concatenating() : concatenating("host", ""));
        ASSERT_TRUE(host.outcome().has_value()) << host.outcome().error().message;
        EXPECT_EQ(target.state(), State::completed) << target.why();
        EXPECT_EQ(target.bidirectional(), both);
        EXPECT_EQ(target.concatenation(), AuthConcatenation::new_tls_psk);
        const auto of_host = host.take_psk();
        const auto of_target = target.take_psk();
        ASSERT_TRUE(of_host && of_target);
        EXPECT_EQ(of_host->hash, hash);
        EXPECT_EQ(of_target->hash, hash);
        EXPECT_EQ(hex_of(of_host->psk.bytes()), hex_of(of_target->psk.bytes()));
        EXPECT_EQ(of_host->psk.bytes().size(), hash_bytes(hash));
        EXPECT_FALSE(host.take_psk() || target.take_psk()) << "once";
      }
    }
  }
}

TEST_F(ConcatenationTest, EveryExchangeMakesAnotherKey) {
  std::string last;
  for (int i = 0; i < 3; ++i) {
    HostExchange host(credentials(), host_nqn, sub_nqn, AuthConcatenation::new_tls_psk);
    TargetExchange target(host_nqn, sub_nqn);
    converse(host, target, concatenating());
    const auto psk = target.take_psk();
    ASSERT_TRUE(psk.has_value()) << target.why();
    EXPECT_NE(hex_of(psk->psk.bytes()), last);
    last = hex_of(psk->psk.bytes());
  }
}

TEST_F(ConcatenationTest, TakesTheHostsFirstHashThatHasIdentities) {
  HostExchange host(credentials(), host_nqn, sub_nqn, AuthConcatenation::new_tls_psk);
  TargetExchange target(host_nqn, sub_nqn);
  TargetRules some = concatenating();
  some.allowed.groups = 0b111;
  // With SHA-512 before the others.
  converse(host, target, some, [](int number, Bytes& message) {
    if (number != 0) return;
    message[8 + 2] = std::byte{3};
    for (int i = 0; i < 3; ++i) message[static_cast<std::size_t>(8 + 4 + i)] = static_cast<std::byte>(3 - i);
  });
  EXPECT_EQ(target.state(), State::completed) << target.why();
  EXPECT_EQ(target.hash(), AuthHash::sha384);
  EXPECT_EQ(target.group(), AuthGroup::ffdhe3072);
}

TEST_F(ConcatenationTest, TheHostOffersNothingThatLeavesNoKey) {
  const HostExchange host(credentials(), host_nqn, sub_nqn, AuthConcatenation::new_tls_psk);
  const auto offer = read_negotiate(host.outgoing());
  ASSERT_TRUE(offer.has_value());
  EXPECT_EQ(offer->concatenation, AuthConcatenation::new_tls_psk);
  for (const AuthHash hash : offer->hashes) EXPECT_TRUE(can_concatenate(hash)) << name_of(hash);
  for (const AuthGroup group : offer->groups) EXPECT_TRUE(can_concatenate(group)) << name_of(group);
  EXPECT_EQ(offer->hashes.size(), 2U);
  EXPECT_EQ(offer->groups.size(), 5U);
}

TEST_F(ConcatenationTest, WhatTheQueueMayNotAskForIsRefused) {
  struct Case {
    const char* what;
    std::uint8_t sc_c;
    bool generate, replace, must;
    AuthExplanation explanation;
  };
  const Case cases[] = {
      {"a new key where there are none", 2, false, false, false, AuthExplanation::concatenation_mismatch},
      {"a new key within TLS", 2, false, true, false, AuthExplanation::concatenation_mismatch},
      {"another key without one", 3, true, false, false, AuthExplanation::concatenation_mismatch},
      {"nothing, where it is required", 0, true, false, true, AuthExplanation::concatenation_mismatch},
      {"of a kind that is not TLS", 1, true, true, false, AuthExplanation::concatenation_mismatch},
      {"of a kind that nobody knows", 4, true, true, false, AuthExplanation::concatenation_mismatch},
      {"of another kind that nobody knows", 255, true, true, true, AuthExplanation::concatenation_mismatch},
  };
  for (const Case& each : cases) {
    HostExchange host(credentials(), host_nqn, sub_nqn, AuthConcatenation::new_tls_psk);
    TargetExchange target(host_nqn, sub_nqn);
    TargetRules some = rules();
    some.may_generate_psk = each.generate;
    some.may_replace_psk = each.replace;
    some.must_concatenate = each.must;
    converse(host, target, some, [&](int number, Bytes& message) {
      if (number == 0) message[6] = std::byte{each.sc_c};
    });
    EXPECT_EQ(target.explanation(), each.explanation) << each.what;
    EXPECT_EQ(target.state(), State::failure1) << each.what;
    EXPECT_FALSE(host.outcome().has_value());
    EXPECT_FALSE(host.take_psk() || target.take_psk()) << each.what;
  }
}

// Somebody in between turns the request off, on, or into another one: both sides compute with what they saw.
TEST_F(ConcatenationTest, AChangedRequestIsFound) {
  for (const auto& [asked, arrives] : {std::pair{2, 0}, std::pair{0, 2}, std::pair{2, 3}, std::pair{3, 2}}) {
    HostCredentials mine = credentials("host", "ctrlr");
    mine.allowed.hashes = 0b0110;
    mine.allowed.groups = 0b10;
    HostExchange host(mine, host_nqn, sub_nqn, static_cast<AuthConcatenation>(asked));
    TargetExchange target(host_nqn, sub_nqn);
    TargetRules all = concatenating();
    all.may_replace_psk = true;
    converse(host, target, all, [&, to = arrives](int number, Bytes& message) {
      if (number == 0) message[6] = static_cast<std::byte>(to);
    });
    EXPECT_EQ(target.state(), State::failure1) << asked << " " << arrives;
    EXPECT_EQ(target.explanation(), AuthExplanation::authentication_failed) << target.why();
    EXPECT_FALSE(host.outcome().has_value());
    EXPECT_FALSE(host.take_psk() || target.take_psk());
  }
}

TEST_F(ConcatenationTest, NothingIsLeftOfWhatFails) {
  // The host's challenge is missing; the group that makes no key; the hash without identities; a wrong controller, which the host finds.
  {
    HostExchange host(credentials("host", ""), host_nqn, sub_nqn, AuthConcatenation::new_tls_psk);
    TargetExchange target(host_nqn, sub_nqn);
    converse(host, target, concatenating(), [](int number, Bytes& message) {
      if (number == 2) message[8] = std::byte{0};  // CVALID
    });
    EXPECT_EQ(target.explanation(), AuthExplanation::incorrect_payload) << target.why();
    EXPECT_FALSE(host.take_psk() || target.take_psk());
  }
  for (const bool of_group : {false, true}) {
    HostExchange host(credentials(), host_nqn, sub_nqn);
    TargetExchange target(host_nqn, sub_nqn);
    TargetRules only = concatenating();
    (of_group ? only.allowed.groups : only.allowed.hashes) = of_group ? 0b1 : 0b1000;
    converse(host, target, only, [](int number, Bytes& message) {
      if (number == 0) message[6] = std::byte{2};
    });
    EXPECT_EQ(target.explanation(), of_group ? AuthExplanation::group_not_usable : AuthExplanation::hash_not_usable);
    EXPECT_FALSE(target.take_psk());
  }
  {
    HostExchange host(credentials("host", "wrong"), host_nqn, sub_nqn, AuthConcatenation::new_tls_psk);
    TargetExchange target(host_nqn, sub_nqn);
    converse(host, target, concatenating());
    EXPECT_EQ(target.state(), State::error) << "the host says that it was not convinced";
    EXPECT_FALSE(host.take_psk() || target.take_psk());
  }
}

// A controller, or somebody in between, may not choose what makes no key.
TEST_F(ConcatenationTest, TheHostRefusesAChoiceThatLeavesNoKey) {
  for (const bool null_group : {true, false}) {
    HostExchange fresh(credentials(), host_nqn, sub_nqn, AuthConcatenation::new_tls_psk);
    Challenge challenge;
    challenge.t_id = read_negotiate(fresh.outgoing())->t_id;
    challenge.hash = null_group ? AuthHash::sha256 : AuthHash::sha512;
    challenge.group = null_group ? AuthGroup::null : AuthGroup::ffdhe2048;
    challenge.seqnum = 1;
    challenge.value.size = hash_bytes(challenge.hash);
    challenge.public_value.assign(group_bytes(challenge.group), std::byte{7});
    fresh.sent();
    run(fresh.received(write(challenge)));
    ASSERT_EQ(fresh.next(), Next::send);
    EXPECT_EQ(read_failure(fresh.outgoing()), null_group ? AuthExplanation::group_not_usable : AuthExplanation::hash_not_usable);
    EXPECT_FALSE(fresh.outcome().has_value());
  }
}

}  // namespace
}  // namespace catnap::dhchap
