// Who gets in, how often somebody may guess, and that a password once right costs no hashing again.
// Owner: the test's thread, by hand; hashing runs on real workers, which are waited for.
#include "web/authenticator.h"

#include <gtest/gtest.h>

#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "tests/unit/reactor/by_hand.h"

namespace catnap::web {
namespace {

constexpr const char* secret_hash = "$6$salt$egUxKNxDs8kPfh8iPMNcosMhb2eWah6d3R44JDm5Rj/j/XWR5E33QPd0YmHXoDHOIDR6kL5D3JcQcz0O8FHE00";
constexpr const char* abc_token = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr std::uint32_t max_failures = 3;

class AuthenticatorTest : public testing::Test {
 protected:
  using Outcome = Authenticator::Outcome;

  AuthenticatorTest() {
    auto credentials = Credentials::parse("f", std::string("root:admin:") + secret_hash + "\nscraper:read-only:" + abc_token);
    hand.on_thread([&] { authenticator = std::make_shared<Authenticator>(std::move(*credentials), max_failures, workers); });
  }

  // What becomes of it; nothing: it waits for a worker.
  std::optional<Outcome> ask(Presented presented, const std::string& address = "10.0.0.1") {
    auto answer = std::make_shared<std::optional<Outcome>>();
    hand.on_thread([&] {
      authenticator->check(std::move(presented), address, [this, answer](Authenticator::Answer got) {
        *answer = got.outcome;
        last = got.credential != nullptr ? got.credential->name : "";
      });
    });
    pending = answer;
    return *answer;
  }
  Outcome wait(Presented presented, const std::string& address = "10.0.0.1") {
    auto now = ask(std::move(presented), address);
    const auto answer = pending;
    while (!*answer) {
      hand.settle();
      std::this_thread::yield();
    }
    return now ? *now : **answer;
  }
  static Presented basic(std::string user, std::string password) { return {Presented::Scheme::basic, std::move(user), std::move(password)}; }
  static Presented bearer(std::string token) { return {Presented::Scheme::bearer, "", std::move(token)}; }

  ByHand hand;
  WorkerPool workers{1};
  std::shared_ptr<Authenticator> authenticator;
  std::shared_ptr<std::optional<Outcome>> pending;
  std::string last;
};

TEST_F(AuthenticatorTest, RightOnesAreAccepted) {
  EXPECT_EQ(wait(basic("root", "secret")), Outcome::accepted);
  EXPECT_EQ(last, "root");
  EXPECT_EQ(wait(bearer("abc")), Outcome::accepted);
  EXPECT_EQ(last, "scraper");
  EXPECT_EQ(wait(basic("scraper", "abc")), Outcome::accepted);
}

TEST_F(AuthenticatorTest, WrongOnesAreNot) {
  EXPECT_EQ(wait(basic("root", "abc"), "a"), Outcome::refused);
  EXPECT_EQ(wait(basic("nobody", "secret"), "b"), Outcome::refused);
  EXPECT_EQ(wait(basic("root", ""), "c"), Outcome::refused);
  EXPECT_EQ(wait(bearer("secret"), "d"), Outcome::refused);
  EXPECT_EQ(wait(bearer(""), "e"), Outcome::refused);
  EXPECT_EQ(wait({Presented::Scheme::unknown, "", ""}, "g"), Outcome::refused);
}

TEST_F(AuthenticatorTest, APasswordIsHashedOnce) {
  EXPECT_EQ(wait(basic("root", "secret")), Outcome::accepted);
  // With the worker busy, what needs no hash is answered all the same, and nothing else.
  std::promise<void> free;
  workers.submit([busy = free.get_future()]() mutable { busy.wait(); });
  EXPECT_EQ(ask(basic("root", "secret")), Outcome::accepted) << "at once";
  EXPECT_FALSE(ask(basic("root", "wrong")).has_value());
  const auto hashed = pending;
  free.set_value();
  while (!*hashed) {
    hand.settle();
    std::this_thread::yield();
  }
  EXPECT_EQ(**hashed, Outcome::refused);
}

TEST_F(AuthenticatorTest, GuessersWaitAndOthersDoNot) {
  EXPECT_EQ(wait(basic("root", "secret")), Outcome::accepted);
  for (std::uint32_t i = 0; i < max_failures; ++i) EXPECT_EQ(wait(basic("root", "guess")), Outcome::refused);
  EXPECT_EQ(wait(basic("root", "guess")), Outcome::throttled);
  EXPECT_EQ(wait(bearer("abc")), Outcome::throttled) << "a guess that is right looks like one that is wrong";
  EXPECT_EQ(wait(basic("root", "secret")), Outcome::accepted) << "known before";
  EXPECT_EQ(wait(bearer("abc"), "10.0.0.2"), Outcome::accepted);
  hand.advance_us(60'000'000);
  EXPECT_EQ(wait(basic("root", "guess")), Outcome::refused);
}

TEST_F(AuthenticatorTest, AnIpv6NetworkCountsAsOne) {
  for (std::uint32_t i = 0; i < max_failures; ++i) EXPECT_EQ(wait(bearer("guess"), "2001:db8::" + std::to_string(i + 1)), Outcome::refused);
  EXPECT_EQ(wait(bearer("guess"), "2001:db8::ffff"), Outcome::throttled);
  EXPECT_EQ(wait(bearer("guess"), "2001:db8:0:1::1"), Outcome::refused);
}

TEST_F(AuthenticatorTest, FewWaitForAWorker) {
  std::promise<void> free;
  workers.submit([busy = free.get_future()]() mutable { busy.wait(); });
  std::vector<std::shared_ptr<std::optional<Outcome>>> waiting;
  std::size_t turned_away = 0;
  for (std::size_t i = 0; i < Authenticator::max_waiting + 5; ++i) {
    const auto now = ask(basic("root", "guess"), "host" + std::to_string(i));
    if (now == Outcome::throttled) ++turned_away;
    waiting.push_back(pending);
  }
  EXPECT_EQ(turned_away, 5U);
  free.set_value();
  for (const auto& each : waiting) {
    while (!*each) hand.settle();
  }
}

TEST_F(AuthenticatorTest, ReplacedCredentialsCountAtOnce) {
  const auto replace = [&](const std::string& text) {
    auto credentials = Credentials::parse("f", text);
    ASSERT_TRUE(credentials.has_value()) << credentials.error().message;
    hand.on_thread([&] { authenticator->replace(std::move(*credentials)); });
  };
  EXPECT_EQ(wait(basic("root", "secret")), Outcome::accepted);
  EXPECT_EQ(wait(bearer("abc")), Outcome::accepted);
  replace(std::string("scraper:admin:") + abc_token);
  EXPECT_EQ(ask(basic("root", "secret"), "b"), Outcome::refused) << "known before, and gone";
  EXPECT_EQ(ask(bearer("abc")), Outcome::accepted);
  replace(std::string("root:read-only:") + secret_hash);
  EXPECT_EQ(ask(bearer("abc"), "c"), Outcome::refused);
  EXPECT_EQ(wait(basic("root", "secret")), Outcome::accepted);
  // An entry that stays as it was needs no hashing again.
  replace(std::string("root:read-only:") + secret_hash + "\nscraper:admin:" + abc_token);
  EXPECT_EQ(ask(basic("root", "secret")), Outcome::accepted) << "at once";
}

TEST_F(AuthenticatorTest, WhatIsBeingHashedIsJudgedByTheNewCredentials) {
  std::promise<void> free;
  workers.submit([busy = free.get_future()]() mutable { busy.wait(); });
  std::vector<std::shared_ptr<std::optional<Outcome>>> waiting;
  for (const char* password : {"secret", "secret", "wrong"}) {
    EXPECT_FALSE(ask(basic("root", password)).has_value());
    waiting.push_back(pending);
  }
  auto credentials = Credentials::parse("f", std::string("other:admin:") + secret_hash + "\nscraper:read-only:" + abc_token);
  hand.on_thread([&] { authenticator->replace(std::move(*credentials)); });
  EXPECT_FALSE(ask(basic("other", "secret")).has_value());
  waiting.push_back(pending);
  free.set_value();
  for (const auto& each : waiting) {
    while (!*each) {
      hand.settle();
      std::this_thread::yield();
    }
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(**waiting[i], Outcome::refused) << "root is gone";
  EXPECT_EQ(**waiting[3], Outcome::accepted);
}

TEST_F(AuthenticatorTest, EndsWithWorkUnderWay) {
  std::promise<void> free;
  workers.submit([busy = free.get_future()]() mutable { busy.wait(); });
  EXPECT_FALSE(ask(basic("root", "secret")).has_value());
  const auto answer = pending;
  hand.on_thread([&] { authenticator.reset(); });
  free.set_value();
  // The worker's result finds nobody.
  bool worked = false;
  workers.submit(*hand.thread, [] { return true; }, [&](bool) { worked = true; });
  while (!worked) hand.settle();
  EXPECT_FALSE(answer->has_value());
}

}  // namespace
}  // namespace catnap::web
