// Discovery logs as bytes: what is taken from them, and what is left out with its reason; and the base64 of passthrough commands.
// Owner: the test. Left out: discovery services (tests/protocol/discovery_service_test.cpp).
#include "bdev/nvme/discovery_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "bdev/nvme/base64url.h"
#include "transport/nvme/log_page.h"

namespace catnap::bdev {
namespace {

using nvme::DiscoveryEntry;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

template <std::size_t size>
void put(std::array<char, size>& field, std::string_view text, char padding = ' ') {
  field.fill(padding);
  std::ranges::copy(text, field.begin());
}

DiscoveryEntry entry_of(nvme::DiscoverySubtype subtype, std::string_view traddr, std::string_view trsvcid = "4420",
                        std::string_view nqn = "nqn.2026-11.io.catnap:a") {
  DiscoveryEntry entry;
  entry.trtype = static_cast<std::uint8_t>(nvme::TransportType::tcp);
  entry.adrfam = static_cast<std::uint8_t>(traddr.find(':') == std::string_view::npos ? nvme::AddressFamily::ipv4 : nvme::AddressFamily::ipv6);
  entry.subtype = static_cast<std::uint8_t>(subtype);
  put(entry.traddr, traddr);
  put(entry.trsvcid, trsvcid);
  put(entry.subnqn, nqn, '\0');
  return entry;
}
DiscoveryEntry subsystem(std::string_view traddr, std::string_view trsvcid = "4420", std::string_view nqn = "nqn.2026-11.io.catnap:a") {
  return entry_of(nvme::DiscoverySubtype::nvm, traddr, trsvcid, nqn);
}

std::vector<std::byte> page_of(const std::vector<DiscoveryEntry>& entries, std::uint64_t genctr = 1) {
  nvme::DiscoveryHeader header;
  header.genctr = genctr;
  header.numrec = entries.size();
  std::vector<std::byte> page(sizeof(header) + entries.size() * sizeof(DiscoveryEntry));
  std::memcpy(page.data(), &header, sizeof(header));
  for (std::size_t at = 0; at < entries.size(); ++at)
    std::memcpy(page.data() + sizeof(header) + at * sizeof(DiscoveryEntry), &entries[at], sizeof(DiscoveryEntry));
  return page;
}

TransportId asked() {
  TransportId id;
  id.traddr = "192.0.2.9";
  id.trsvcid = "8009";
  id.adrfam = "IPv4";
  id.subnqn = discovery_subsystem_nqn;
  return id;
}

std::vector<std::string> texts(const std::vector<TransportId>& ids) {
  std::vector<std::string> all;
  for (const auto& id : ids) all.push_back(id.text() + " " + id.subnqn);
  return all;
}

TEST(DiscoveryLogPage, SubsystemsAndReferralsAreTold) {
  const auto page = page_of({entry_of(nvme::DiscoverySubtype::current_discovery, "192.0.2.9", "8009", discovery_subsystem_nqn),
                             subsystem("192.0.2.1"), subsystem("2001:db8::1", "4421"), subsystem("192.0.2.1"),
                             entry_of(nvme::DiscoverySubtype::referral, "192.0.2.10", "8009", discovery_subsystem_nqn)},
                            42);
  auto log = parse_discovery_log(page, asked());
  ASSERT_TRUE(log.has_value()) << log.error().message;
  EXPECT_EQ(log->genctr, 42U);
  EXPECT_THAT(texts(log->subsystems), ElementsAre("192.0.2.1:4420 nqn.2026-11.io.catnap:a", "2001:db8::1:4421 nqn.2026-11.io.catnap:a"))
      << "each once";
  EXPECT_THAT(texts(log->referrals), ElementsAre("192.0.2.10:8009 nqn.2014-08.org.nvmexpress.discovery"));
  EXPECT_THAT(log->left_out, IsEmpty());
}

TEST(DiscoveryLogPage, AWildcardIsTheAddressThatWasAsked) {
  auto log = parse_discovery_log(page_of({subsystem("0.0.0.0"), subsystem("::", "4421")}), asked());
  ASSERT_TRUE(log.has_value());
  EXPECT_THAT(texts(log->subsystems), ElementsAre("192.0.2.9:4420 nqn.2026-11.io.catnap:a", "192.0.2.9:4421 nqn.2026-11.io.catnap:a"));
}

TEST(DiscoveryLogPage, EntriesThatCannotBeUsedAreLeftOutWithTheirReason) {
  DiscoveryEntry rdma = subsystem("192.0.2.1"), family = subsystem("192.0.2.1"), kind = subsystem("192.0.2.1"), endless = subsystem("192.0.2.1");
  rdma.trtype = 1;
  family.adrfam = 3;
  kind.subtype = 9;
  endless.subnqn.fill('n');
  auto log = parse_discovery_log(page_of({rdma, family, kind, endless, subsystem("host.example"), subsystem("192.0.2.1", "70000"),
                                          subsystem("192.0.2.1", "4420", ""), subsystem("\x1b[31m"), subsystem("192.0.2.2")}),
                                 asked());
  ASSERT_TRUE(log.has_value());
  EXPECT_EQ(texts(log->subsystems).size(), 1U);
  ASSERT_EQ(log->left_out.size(), 8U);
  EXPECT_EQ(log->left_out[0], "entry 0: trtype 1 is not TCP");
  EXPECT_EQ(log->left_out[1], "entry 1: adrfam 3 is neither IPv4 nor IPv6");
  EXPECT_EQ(log->left_out[2], "entry 2: subtype 9 is not known");
  EXPECT_THAT(log->left_out[3], HasSubstr("entry 3: subnqn"));
  EXPECT_THAT(log->left_out[4], HasSubstr("host.example"));
  EXPECT_THAT(log->left_out[5], HasSubstr("70000"));
  EXPECT_THAT(log->left_out[6], HasSubstr("entry 6: subnqn is empty"));
  for (const auto& text : log->left_out) EXPECT_EQ(text.find('\x1b'), std::string::npos) << "no control characters into our log";
}

TEST(DiscoveryLogPage, BrokenPagesAreErrors) {
  auto page = page_of({subsystem("192.0.2.1")});
  EXPECT_THAT(parse_discovery_log(std::span(page).first(1000), asked()).error().message, HasSubstr("ends within its header"));
  EXPECT_THAT(parse_discovery_log(std::span(page).first(2047), asked()).error().message, HasSubstr("2047 bytes of 2048"));
  nvme::DiscoveryHeader header;
  header.recfmt = 1;
  std::memcpy(page.data(), &header, sizeof(header));
  EXPECT_THAT(parse_discovery_log(page, asked()).error().message, HasSubstr("record format 1"));
  header.recfmt = 0;
  header.numrec = ~std::uint64_t{0};
  std::memcpy(page.data(), &header, sizeof(header));
  EXPECT_EQ(parse_discovery_log(page, asked()).error().err, E2BIG);
  header.numrec = max_discovery_entries;
  std::memcpy(page.data(), &header, sizeof(header));
  EXPECT_EQ(parse_discovery_log(page, asked()).error().err, EPROTO);
}

TEST(DiscoveryLogPage, RandomBytesDoNoHarm) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    auto page = page_of({subsystem("192.0.2.1"), subsystem("2001:db8::1")});
    for (int change = 0; change < 20; ++change) page[random() % page.size()] = static_cast<std::byte>(random());
    auto log = parse_discovery_log(page, asked());
    if (log) {
      EXPECT_LE(log->subsystems.size() + log->referrals.size() + log->left_out.size(), 2U);
    }
  }
}

std::vector<std::byte> bytes_of_text(std::string_view text) {
  std::vector<std::byte> bytes;
  for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
  return bytes;
}

TEST(Base64Url, ThereAndBack) {
  // RFC 4648 section 10.
  const std::pair<const char*, const char*> rows[] = {
      {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : rows) {
    EXPECT_EQ(to_base64url(bytes_of_text(plain)), encoded);
    EXPECT_EQ(from_base64url(encoded), bytes_of_text(plain));
    std::string bare = encoded;
    std::erase(bare, '=');
    EXPECT_EQ(from_base64url(bare), bytes_of_text(plain));
  }
  const std::vector<std::byte> high{std::byte{0xFB}, std::byte{0xFF}, std::byte{0xFE}};
  EXPECT_EQ(to_base64url(high), "-__-");
  std::mt19937 random(3);
  for (std::size_t size = 0; size < 100; ++size) {
    std::vector<std::byte> bytes(size);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random());
    EXPECT_EQ(from_base64url(to_base64url(bytes)), bytes);
  }
}

TEST(Base64Url, WhatIsNoneIsRefused) {
  for (const char* text : {"A", "AAAAA", "+/+/", "Zm9v Zg", "Zh==", "=", "====", "Zm=v"}) EXPECT_FALSE(from_base64url(text).has_value()) << text;
}

}  // namespace
}  // namespace catnap::bdev
