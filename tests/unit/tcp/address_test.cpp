// TRADDR, TRSVCID and ADRFAM, and what is said about wrong ones.
#include "transport/tcp/address.h"

#include <gtest/gtest.h>

namespace catnap::tcp {
namespace {

TEST(Address, ParsesAndFormatsBothFamilies) {
  for (const auto& [traddr, adrfam] :
       {std::pair{"127.0.0.1", "IPv4"}, std::pair{"::1", "IPv6"}, std::pair{"0.0.0.0", ""}, std::pair{"fe80::1", "ipv6"}}) {
    const auto address = parse_address(traddr, "4420", adrfam);
    ASSERT_TRUE(address.has_value()) << traddr;
    EXPECT_EQ(format_address(address->storage).traddr, traddr);
    EXPECT_EQ(format_address(address->storage).trsvcid, "4420");
  }
}

TEST(Address, WrongOnesAreNamed) {
  const auto expect_named = [](const char* traddr, const char* trsvcid, const char* adrfam, const char* named) {
    const auto address = parse_address(traddr, trsvcid, adrfam);
    ASSERT_FALSE(address.has_value()) << traddr << trsvcid << adrfam;
    EXPECT_EQ(address.error().err, EINVAL);
    EXPECT_NE(address.error().message.find(named), std::string::npos) << address.error().message;
  };
  expect_named("localhost", "4420", "IPv4", "traddr 'localhost'");
  expect_named("127.0.0.1", "4420", "IPv6", "traddr '127.0.0.1'");
  expect_named("::1", "4420", "IPv4", "traddr '::1'");
  expect_named("127.0.0.1", "0", "IPv4", "trsvcid '0'");
  expect_named("127.0.0.1", "65536", "IPv4", "trsvcid '65536'");
  expect_named("127.0.0.1", "44x", "IPv4", "trsvcid '44x'");
  expect_named("127.0.0.1", "", "IPv4", "trsvcid ''");
  expect_named("127.0.0.1", "4420", "FC", "adrfam 'FC'");
}

}  // namespace
}  // namespace catnap::tcp
