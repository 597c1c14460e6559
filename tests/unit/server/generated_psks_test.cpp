// Keys that hosts have made by authenticating: found by their identity alone, replaced, bounded, and forgotten when nobody uses them.
#include "server/generated_psks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace catnap::server {
namespace {

constexpr const char* host = "nqn.2026-11.io.catnap:host";
constexpr const char* subsystem = "nqn.2026-11.io.catnap:subsystem";
constexpr std::uint64_t second_ns = 1'000'000'000;

using keyring::KeyRef;

class GeneratedPsksTest : public testing::Test {
 protected:
  std::string add(char fill, std::uint64_t now_ns = 0, const std::string& replaces = "", const std::string& hostnqn = host) {
    GeneratedPsks::Origin origin;
    origin.hostnqn = hostnqn;
    origin.subnqn = subsystem;
    origin.proven_by = key_;
    origin.replaces = replaces;
    origin.controller_subnqn = subsystem;
    origin.cntlid = 7;
    origin.timeout_ns = 10 * second_ns;
    const auto name = psks_.add(std::move(origin), tls::Hash::sha256, bytes(fill), now_ns);
    EXPECT_TRUE(name.has_value());
    return name.value_or("");
  }
  static std::vector<std::byte> bytes(char fill) { return {32, static_cast<std::byte>(fill)}; }
  static tls::Identity identity(char fill, const std::string& hostnqn = host) {
    return tls::generated_identity(tls::Hash::sha256, bytes(fill), hostnqn, subsystem);
  }
  bool knows(char fill) { return psks_.find(identity(fill)).has_value(); }
  std::optional<std::uint64_t> prune(std::uint64_t now_ns, const std::set<std::string>& used = {}, bool controller = false) {
    return psks_.prune(now_ns, [&](const GeneratedPsks::Shown& key) {
      return used.contains(key.name) || (controller && key.controller_subnqn == subsystem && key.cntlid == 7);
    });
  }

  KeyRef key_ = std::make_shared<const keyring::Key>("k");
  GeneratedPsks psks_;
};

TEST_F(GeneratedPsksTest, AreFoundByTheirWholeIdentity) {
  const std::string name = add('a');
  const auto found = psks_.find(identity('a'));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->name, name);
  EXPECT_EQ(found->proven_by, key_);
  EXPECT_TRUE(std::ranges::equal(found->psk->bytes(), bytes('a')));
  EXPECT_FALSE(knows('b'));
  EXPECT_FALSE(psks_.find(identity('a', "nqn.2026-11.io.catnap:other")).has_value());
  for (const auto spoil : {0, 1, 2}) {
    tls::Identity wrong = identity('a');
    if (spoil == 0) wrong.generated = false;
    if (spoil == 1) wrong.version = 0;
    if (spoil == 2) wrong.hash = tls::Hash::sha384;
    EXPECT_EQ(psks_.find(wrong).error().err, ENOENT) << spoil;
  }
}

TEST_F(GeneratedPsksTest, AnotherOneTakesTheOldOnesPlace) {
  const std::string first = add('a');
  const std::string second = add('b', 0, first);
  EXPECT_FALSE(knows('a'));
  EXPECT_TRUE(knows('b'));
  EXPECT_NE(first, second);
  add('c', 0, "generated-999");  // is not there any more
  EXPECT_EQ(psks_.size(), 2U);
}

TEST_F(GeneratedPsksTest, OldestGoBeyondTheBoundOfAHost) {
  for (std::size_t i = 0; i < GeneratedPsks::max_keys_of_host; ++i) add(static_cast<char>(i + 1));
  add('A', 0, "", "nqn.2026-11.io.catnap:other");
  EXPECT_TRUE(knows(1));
  add('z');
  EXPECT_FALSE(knows(1));
  EXPECT_TRUE(knows(2));
  EXPECT_TRUE(psks_.find(identity('A', "nqn.2026-11.io.catnap:other")).has_value()) << "another host's stay";
  EXPECT_EQ(psks_.size(), GeneratedPsks::max_keys_of_host + 1);
}

TEST_F(GeneratedPsksTest, OldestGoBeyondTheBoundOfAll) {
  for (std::size_t i = 0; i < GeneratedPsks::max_keys + 5; ++i) add('a', 0, "", host + std::to_string(i));
  EXPECT_EQ(psks_.size(), GeneratedPsks::max_keys);
  EXPECT_FALSE(psks_.find(identity('a', host + std::string("4"))).has_value());
  EXPECT_TRUE(psks_.find(identity('a', host + std::string("5"))).has_value());
}

TEST_F(GeneratedPsksTest, UnusedOnesAreForgottenInTime) {
  add('a', 0);
  add('b', 4 * second_ns);
  EXPECT_EQ(prune(5 * second_ns), 10 * second_ns);
  EXPECT_TRUE(knows('a'));
  EXPECT_EQ(prune(10 * second_ns), 14 * second_ns);
  EXPECT_FALSE(knows('a'));
  EXPECT_TRUE(knows('b'));
  EXPECT_EQ(prune(14 * second_ns), std::nullopt) << "nothing is left to wait for";
  EXPECT_EQ(psks_.size(), 0U);
}

TEST_F(GeneratedPsksTest, UsedOnesStayAndHaveTheirTimeAfterwards) {
  const std::string name = add('a', 0);
  EXPECT_EQ(prune(9 * second_ns, {name}), std::nullopt) << "a key in use waits for nothing";
  EXPECT_EQ(prune(100 * second_ns, {name}), std::nullopt);
  EXPECT_EQ(prune(101 * second_ns), 111 * second_ns) << "its controller has gone";
  EXPECT_TRUE(knows('a'));
  EXPECT_EQ(prune(105 * second_ns, {name}), std::nullopt) << "the host has come back with it";
  EXPECT_EQ(prune(106 * second_ns), 116 * second_ns);
  EXPECT_EQ(prune(116 * second_ns), std::nullopt);
  EXPECT_FALSE(knows('a'));
}

TEST_F(GeneratedPsksTest, AReplacementLivesAsLongAsTheControllerThatMadeIt) {
  const std::string first = add('a', 0);
  add('b', 0, first);
  EXPECT_EQ(prune(100 * second_ns, {}, true), std::nullopt);
  EXPECT_EQ(prune(101 * second_ns, {}, false), 111 * second_ns);
  EXPECT_EQ(prune(111 * second_ns), std::nullopt);
  EXPECT_FALSE(knows('b'));
  // One made over cleartext belongs to no controller yet, whatever number it has.
  add('c', 200 * second_ns);
  EXPECT_EQ(prune(201 * second_ns, {}, true), 210 * second_ns);
}

}  // namespace
}  // namespace catnap::server
