// Forms of NQNs, serial numbers, identifiers and listen addresses, right and wrong, by table.
// Owner: the test's thread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/names.h"

namespace catnap::server {
namespace {

using testing::HasSubstr;

TEST(Nqn, TakesWhatTheSpecificationAllows) {
  const std::string longest = "nqn.2014-08.org.example:" + std::string(max_nqn_bytes - 24, 'x');
  ASSERT_EQ(longest.size(), max_nqn_bytes);
  for (const std::string& nqn : {std::string("nqn.2016-06.io.spdk:cnode1"), std::string("nqn.2026-11.io.catnap:demo"), std::string(discovery_nqn),
                                 std::string("nqn.2014-08.org.nvmexpress:uuid:0190b3e1-58a0-7c11-9bd9-3f1e2d4c5b6a"), std::string("nqn.2001-01.a:b"),
                                 std::string("nqn.2001-01.3com.x-y:a:b c"), std::string("nqn.2014-08.org.example:\xC3\xA4"), longest}) {
    EXPECT_TRUE(validate_nqn(nqn).has_value()) << nqn;
  }
}

struct BadNqn {
  const char* nqn;
  const char* reason;
};

TEST(Nqn, RefusesAndSaysWhy) {
  const BadNqn table[] = {
      {"", "empty"},
      {"iqn.2016-06.io.spdk:x", "must begin with"},
      {"nqn.2016-6.io.spdk:x", "yyyy-mm"},
      {"nqn.2016-13.io.spdk:x", "month"},
      {"nqn.2016-00.io.spdk:x", "month"},
      {"nqn.2016-06-io.spdk:x", "'.' must follow"},
      {"nqn.2016-06.io.spdk", "':'"},
      {"nqn.2016-06.io.spdk:", "':'"},
      {"nqn.2016-06.:x", "empty label"},
      {"nqn.2016-06.io..spdk:x", "empty label"},
      {"nqn.2016-06.io.-spdk:x", "begin and end"},
      {"nqn.2016-06.io.spdk-:x", "begin and end"},
      {"nqn.2016-06.io.sp_dk:x", "only letters"},
      {"nqn.2016-06.io.spdk:a\nb", "UTF-8 without control"},
      {"nqn.2016-06.io.spdk:\xFF", "UTF-8"},
      {"nqn.2016-06.io.spdk:\xC0\x80", "UTF-8"},
      {"nqn.2016-06.io.spdk:\xED\xA0\x80", "UTF-8"},
      {"nqn.2016-06.io.spdk:\xE2\x82", "UTF-8"},
      {"nqn.2014-08.org.nvmexpress:uuid:0190b3e1-58a0-7c11-9bd9-3f1e2d4c5b6", "UUID"},
      {"nqn.2014-08.org.nvmexpress:uuid:0190b3e1058a0-7c11-9bd9-3f1e2d4c5b6a", "UUID"},
  };
  for (const auto& [nqn, reason] : table) {
    const auto valid = validate_nqn(nqn);
    ASSERT_FALSE(valid.has_value()) << nqn;
    EXPECT_EQ(valid.error().err, EINVAL);
    EXPECT_THAT(valid.error().message, HasSubstr(reason)) << nqn;
  }
}

TEST(Nqn, ALabelMayHave63CharactersAndAnNqn223) {
  EXPECT_TRUE(validate_nqn("nqn.2016-06." + std::string(63, 'a') + ":x").has_value());
  EXPECT_FALSE(validate_nqn("nqn.2016-06." + std::string(64, 'a') + ":x").has_value());
  EXPECT_FALSE(validate_nqn("nqn.2016-06.a:" + std::string(max_nqn_bytes - 13, 'x')).has_value());
}

TEST(Nqn, AMessageShowsNoControlCharactersAndNoMegabytes) {
  const auto valid = validate_nqn("\x1b[31m" + std::string(100000, 'x'));
  ASSERT_FALSE(valid.has_value());
  EXPECT_EQ(valid.error().message.find('\x1b'), std::string::npos);
  EXPECT_LT(valid.error().message.size(), 500U);
}

TEST(Ascii, BoundsAndCharacters) {
  EXPECT_TRUE(validate_ascii("serial_number", std::string(20, 'S'), max_serial_number_bytes).has_value());
  EXPECT_TRUE(validate_ascii("serial_number", "", max_serial_number_bytes).has_value());
  const auto too_long = validate_ascii("serial_number", std::string(21, 'S'), max_serial_number_bytes);
  ASSERT_FALSE(too_long.has_value());
  EXPECT_THAT(too_long.error().message, HasSubstr("serial_number"));
  EXPECT_FALSE(validate_ascii("model_number", "caf\xC3\xA9", max_model_number_bytes).has_value());
  EXPECT_FALSE(validate_ascii("model_number", "a\tb", max_model_number_bytes).has_value());
}

TEST(Identifiers, UuidReadsAndWrites) {
  const auto uuid = parse_uuid("CECCF520-691e-4b46-9546-34af789907c5");
  ASSERT_TRUE(uuid.has_value());
  EXPECT_EQ(uuid_text(*uuid), "ceccf520-691e-4b46-9546-34af789907c5");
  const auto plain = parse_uuid("ceccf520691e4b46954634af789907c5");
  ASSERT_TRUE(plain.has_value());
  EXPECT_EQ(*plain, *uuid);
  for (const char* wrong :
       {"", "ceccf520", "ceccf520-691e-4b46-9546-34af789907c", "ceccf520-691e-4b46-9546-34af789907cg", "ceccf520_691e_4b46_9546_34af789907c5",
        "ceccf520691e-4b46-9546-34af7-899-07c5", "ceccf520-691e-4b46-9546-34af789907c5 "}) {
    EXPECT_FALSE(parse_uuid(wrong).has_value()) << wrong;
  }
}

TEST(Identifiers, HexBytesAreCountedExactly) {
  std::array<std::uint8_t, 8> eui64{};
  EXPECT_TRUE(parse_hex_bytes("eui64", "0011223344556677", eui64).has_value());
  EXPECT_EQ(eui64[7], 0x77);
  EXPECT_EQ(hex_text(eui64), "0011223344556677");
  EXPECT_TRUE(parse_hex_bytes("eui64", "aA-11-22-33-44-55-66-77", eui64).has_value());
  for (const char* wrong :
       {"", "001122334455667", "001122334455667788", "0x11223344556677", "-0011223344556677", "0011223344556677-", "00112233445566zz"}) {
    const auto parsed = parse_hex_bytes("eui64", wrong, eui64);
    ASSERT_FALSE(parsed.has_value()) << wrong;
    EXPECT_THAT(parsed.error().message, HasSubstr("eui64"));
  }
}

ListenAddress address(const char* trtype, const char* adrfam, const char* traddr, const char* trsvcid) {
  ListenAddress made;
  made.trtype = trtype;
  made.adrfam = adrfam;
  made.traddr = traddr;
  made.trsvcid = trsvcid;
  return made;
}

TEST(ListenAddresses, HaveOneSpelling) {
  const auto v4 = normalise_listen_address(address("tcp", "", "127.0.0.1", "04420"));
  ASSERT_TRUE(v4.has_value());
  EXPECT_EQ(*v4, address("TCP", "IPv4", "127.0.0.1", "4420"));
  const auto v6 = normalise_listen_address(address("Tcp", "ipv6", "0:0::1", "4420"));
  ASSERT_TRUE(v6.has_value());
  EXPECT_EQ(*v6, address("TCP", "IPv6", "::1", "4420"));
  EXPECT_EQ(address_text(*v6), "[::1]:4420");
}

struct BadAddress {
  ListenAddress given;
  int err;
  const char* reason;
};

TEST(ListenAddresses, RefusedWithTheFieldNamed) {
  const BadAddress table[] = {
      {address("RDMA", "IPv4", "127.0.0.1", "4420"), ENOTSUP, "RDMA"},
      {address("VFIOUSER", "", "/var/run/vm", ""), ENOTSUP, "VFIOUSER"},
      {address("carrier pigeon", "IPv4", "127.0.0.1", "4420"), EINVAL, "carrier pigeon"},
      {address("TCP", "ib", "127.0.0.1", "4420"), EINVAL, "adrfam 'ib'"},
      {address("TCP", "IPv6", "127.0.0.1", "4420"), EINVAL, "traddr '127.0.0.1'"},
      {address("TCP", "IPv4", "localhost", "4420"), EINVAL, "traddr 'localhost'"},
      {address("TCP", "IPv4", "", "4420"), EINVAL, "traddr ''"},
      {address("TCP", "IPv4", "127.0.0.1", ""), EINVAL, "trsvcid ''"},
      {address("TCP", "IPv4", "127.0.0.1", "0"), EINVAL, "trsvcid '0'"},
      {address("TCP", "IPv4", "127.0.0.1", "65536"), EINVAL, "trsvcid '65536'"},
      {address("TCP", "IPv4", "127.0.0.1", "4420x"), EINVAL, "trsvcid '4420x'"},
      {address("TCP", "IPv4", "127.0.0.1", "-1"), EINVAL, "trsvcid '-1'"},
  };
  for (const auto& [given, err, reason] : table) {
    const auto refused = normalise_listen_address(given);
    ASSERT_FALSE(refused.has_value()) << reason;
    EXPECT_EQ(refused.error().err, err) << reason;
    EXPECT_THAT(refused.error().message, HasSubstr(reason));
  }
}

}  // namespace
}  // namespace catnap::server
