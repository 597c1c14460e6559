// The look at a ClientHello: what OpenSSL's own offers, its binder, and every way to spoil one.
// Owner: one thread. Left out: handshakes (stream_test.cpp).
#include "transport/tls/client_hello.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "transport/tls/psk.h"
#include "transport/tls/stream.h"

namespace catnap::tls {
namespace {

constexpr std::size_t record_header_bytes = 5;

SecretBytes psk_of(Hash hash, std::byte fill) {
  auto psk = SecretBytes::create(hash_bytes(hash));
  for (std::byte& byte : psk->bytes()) byte = fill;
  return std::move(*psk);
}

TlsKey key_of(Hash hash, std::byte fill) {
  TlsKey key;
  key.identity.version = 0;
  key.identity.hash = hash;
  key.identity.hostnqn = "nqn.a";
  key.identity.subnqn = "nqn.b";
  key.psk = psk_of(hash, fill);
  return key;
}

// The message of the ClientHello that OpenSSL sends with this key.
std::vector<std::byte> hello_with(Hash hash, std::byte fill) {
  auto stream = Stream::connect(key_of(hash, fill), {});
  std::vector<std::byte> out;
  EXPECT_EQ((*stream)->shake({}, out), Stream::Step::more);
  return {out.begin() + record_header_bytes, out.end()};
}

class HelloOfEachHash : public testing::TestWithParam<Hash> {};

TEST_P(HelloOfEachHash, TheHelloOfOpensslIsUnderstood) {
  const auto message = hello_with(GetParam(), std::byte{7});
  const auto hello = parse_client_hello(message);
  ASSERT_TRUE(hello.has_value());
  EXPECT_TRUE(hello->tls13);
  EXPECT_TRUE(hello->psk_with_dhe);
  EXPECT_FALSE(hello->early_data);
  EXPECT_TRUE(hello->has_suite(suite_of(GetParam())));
  ASSERT_EQ(hello->offers.size(), 1U);
  EXPECT_EQ(hello->offers[0].identity, GetParam() == Hash::sha256 ? "NVMe0R01 nqn.a nqn.b" : "NVMe0R02 nqn.a nqn.b");
  EXPECT_TRUE(binder_fits(message, *hello, 0, GetParam(), psk_of(GetParam(), std::byte{7}).bytes()));
  EXPECT_FALSE(binder_fits(message, *hello, 0, GetParam(), psk_of(GetParam(), std::byte{8}).bytes()));
  const Hash other = GetParam() == Hash::sha256 ? Hash::sha384 : Hash::sha256;
  EXPECT_FALSE(binder_fits(message, *hello, 0, other, psk_of(other, std::byte{7}).bytes()));
}

TEST_P(HelloOfEachHash, EveryTruncationIsMalformed) {
  const auto message = hello_with(GetParam(), std::byte{7});
  for (std::size_t i = 0; i < message.size(); ++i) {
    auto cut = std::vector<std::byte>(message.begin(), message.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_FALSE(parse_client_hello(cut).has_value()) << i;
    if (i < 4) continue;
    // With a length that fits, so that the reading goes as far as it can.
    cut[1] = std::byte{0};
    cut[2] = static_cast<std::byte>((i - 4) >> 8);
    cut[3] = static_cast<std::byte>(i - 4);
    const auto hello = parse_client_hello(cut);
    if (hello) {
      EXPECT_TRUE(hello->offers.empty()) << i;
    }
  }
}

TEST_P(HelloOfEachHash, NoByteCanBeChangedWithoutTheBinderNoticing) {
  const auto message = hello_with(GetParam(), std::byte{7});
  const auto psk = psk_of(GetParam(), std::byte{7});
  for (std::size_t i = 0; i < message.size(); ++i) {
    auto spoiled = message;
    spoiled[i] ^= std::byte{0x40};
    const auto hello = parse_client_hello(spoiled);
    const bool accepted = hello && !hello->offers.empty() && binder_fits(spoiled, *hello, 0, GetParam(), psk.bytes());
    EXPECT_FALSE(accepted) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(ClientHello, HelloOfEachHash, testing::Values(Hash::sha256, Hash::sha384));

TEST(ClientHello, RandomBytesNeverReachBeyondTheMessage) {
  std::mt19937 random(7);
  const auto message = hello_with(Hash::sha256, std::byte{7});
  for (int round = 0; round < 20'000; ++round) {
    auto spoiled = message;
    for (int changes = 1 + static_cast<int>(random() % 4); changes > 0; --changes)
      spoiled[random() % spoiled.size()] = static_cast<std::byte>(random());
    spoiled.resize(4 + random() % (spoiled.size() - 3));
    spoiled[1] = std::byte{0};
    spoiled[2] = static_cast<std::byte>((spoiled.size() - 4) >> 8);
    spoiled[3] = static_cast<std::byte>(spoiled.size() - 4);
    const auto hello = parse_client_hello(spoiled);
    if (!hello) continue;
    for (const auto& offer : hello->offers) {
      EXPECT_LE(offer.binder_at + offer.binder_bytes, spoiled.size());
      EXPECT_LE(hello->truncated_bytes, offer.binder_at);
    }
  }
}

}  // namespace
}  // namespace catnap::tls
