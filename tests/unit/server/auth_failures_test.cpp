// The limit of failed authentications: by host and address, for a minute, and nobody is kept out by what others do.
#include "server/auth_failures.h"

#include <gtest/gtest.h>

#include <string>

namespace catnap::server {
namespace {

constexpr const char* host = "nqn.2026-11.io.catnap:host";
constexpr const char* other_host = "nqn.2026-11.io.catnap:other";
constexpr const char* address = "192.0.2.1";
constexpr std::uint32_t most = 3;

class AuthFailuresTest : public testing::Test {
 protected:
  void fail(std::uint32_t times, const std::string& hostnqn, const std::string& from, std::uint64_t now_ns = 0) {
    for (std::uint32_t i = 0; i < times; ++i) failures_.note(hostnqn, from, now_ns);
  }
  bool kept_out(const std::string& hostnqn, const std::string& from, std::uint64_t now_ns = 0) {
    return failures_.too_many(hostnqn, from, now_ns, most);
  }
  AuthFailures failures_;
};

TEST_F(AuthFailuresTest, CountForHostAndAddressTogether) {
  fail(most - 1, host, address);
  EXPECT_FALSE(kept_out(host, address));
  fail(1, host, address);
  EXPECT_TRUE(kept_out(host, address));
  // Whoever claims to be the host elsewhere keeps itself out; and what fails as another host from here does not count for this one.
  EXPECT_FALSE(kept_out(host, "192.0.2.2"));
  EXPECT_FALSE(kept_out(other_host, address));
  EXPECT_FALSE(failures_.too_many(host, address, 0, 0)) << "0 is no limit";
}

TEST_F(AuthFailuresTest, AreForgottenAfterTheMinuteSuccessOrNewKeys) {
  fail(most, host, address, 5);
  EXPECT_TRUE(kept_out(host, address, AuthFailures::window_ns + 4));
  EXPECT_FALSE(kept_out(host, address, AuthFailures::window_ns + 5));
  fail(most, host, address);
  failures_.forget(host, address);
  EXPECT_FALSE(kept_out(host, address));
  fail(most, host, address);
  fail(most, host, "192.0.2.2");
  fail(most, other_host, address);
  failures_.forget_host(host);
  EXPECT_FALSE(kept_out(host, address));
  EXPECT_FALSE(kept_out(host, "192.0.2.2"));
  EXPECT_TRUE(kept_out(other_host, address));
}

TEST_F(AuthFailuresTest, OfACrowdOfAddressesKeepNobodyElseOut) {
  const auto of_crowd = [](std::size_t number) { return "2001:db8::" + std::to_string(number); };
  for (std::size_t i = 0; i < 2 * AuthFailures::max_keys; ++i) fail(most + 1, host, of_crowd(i), i);
  const std::uint64_t now_ns = 2 * AuthFailures::max_keys;
  EXPECT_FALSE(kept_out(host, address, now_ns));
  EXPECT_FALSE(kept_out(other_host, address, now_ns));
  EXPECT_TRUE(kept_out(host, of_crowd(2 * AuthFailures::max_keys - 1), now_ns));
  EXPECT_TRUE(kept_out(host, of_crowd(AuthFailures::max_keys), now_ns));
  EXPECT_FALSE(kept_out(host, of_crowd(AuthFailures::max_keys - 1), now_ns)) << "there is room for so many, and the first is forgotten first";
}

}  // namespace
}  // namespace catnap::server
