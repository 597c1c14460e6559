// Listening addresses, and which Host and Origin headers mean this server.
// Owner: none. Left out: sockets (tests/protocol/web).
#include "web/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace catnap::web {
namespace {

using testing::HasSubstr;

TEST(WebAddress, IsNumbersAndAPort) {
  for (const char* text : {"127.0.0.1:9420", "[::1]:9420", "0.0.0.0:1", "[2001:db8::1]:65535", "127.0.0.1:0"}) {
    const auto address = Address::parse(text);
    ASSERT_TRUE(address.has_value()) << address.error().message;
    EXPECT_EQ(address->text(), text);
  }
  EXPECT_EQ(Address::parse("localhost:80")->text(), "127.0.0.1:80");
}

TEST(WebAddress, WhatIsNoneIsNamed) {
  for (const char* text : {"", "9420", ":9420", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:80x", "::1:9420", "[::1]",
                           "[::1]9420", "[127.0.0.1]:80", "example.org:80", "127.0.0.1 :80"}) {
    const auto address = Address::parse(text);
    ASSERT_FALSE(address.has_value()) << text;
    EXPECT_EQ(address.error().err, EINVAL);
    EXPECT_THAT(address.error().message, HasSubstr("'" + std::string(text) + "'"));
  }
}

TEST(WebAddress, KnowsLoopback) {
  EXPECT_TRUE(Address::parse("127.0.0.1:1")->is_loopback());
  EXPECT_TRUE(Address::parse("127.200.0.9:1")->is_loopback());
  EXPECT_TRUE(Address::parse("[::1]:1")->is_loopback());
  EXPECT_FALSE(Address::parse("0.0.0.0:1")->is_loopback());
  EXPECT_FALSE(Address::parse("[::]:1")->is_loopback());
  EXPECT_FALSE(Address::parse("10.0.0.1:1")->is_loopback());
}

TEST(WebAddress, OnlyNamesOfTheLoopbackAreItsNames) {
  for (const char* host : {"localhost", "localhost:9420", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9420", "127.1.2.3", "[::1]", "[::1]:9420"}) {
    EXPECT_TRUE(names_loopback(host)) << host;
  }
  for (const char* host :
       {"", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9420", "10.0.0.1", "[::2]:1", "0.0.0.0", "[", "::1"}) {
    EXPECT_FALSE(names_loopback(host)) << host;
  }
}

TEST(WebAddress, OriginIsTheSameServer) {
  EXPECT_TRUE(same_origin("http://127.0.0.1:9420", "127.0.0.1:9420", false));
  EXPECT_TRUE(same_origin("http://LocalHost:9420", "localhost:9420", false));
  EXPECT_TRUE(same_origin("https://localhost", "localhost:443", true));
  EXPECT_TRUE(same_origin("https://[::1]:9420", "[::1]:9420", true));
  EXPECT_FALSE(same_origin("http://127.0.0.1:9420", "127.0.0.1:9420", true));
  EXPECT_FALSE(same_origin("http://127.0.0.1:9421", "127.0.0.1:9420", false));
  EXPECT_FALSE(same_origin("http://evil.example", "127.0.0.1:9420", false));
  EXPECT_FALSE(same_origin("http://127.0.0.1:9420.evil.example", "127.0.0.1:9420", false));
  EXPECT_FALSE(same_origin("null", "127.0.0.1:9420", false));
  EXPECT_FALSE(same_origin("", "", false));
}

}  // namespace
}  // namespace catnap::web
