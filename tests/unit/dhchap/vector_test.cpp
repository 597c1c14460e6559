// Secrets, responses and groups against values that Python's own HMAC and arithmetic gave (generate_vectors.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "keyring/interchange.h"
#include "tests/unit/dhchap/vectors.h"
#include "transport/dhchap/math.h"
#include "transport/dhchap/secret.h"

namespace catnap::dhchap {
namespace {

std::vector<std::byte> from_hex(std::string_view hex) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) bytes.push_back(static_cast<std::byte>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return bytes;
}

Digest digest_from(std::string_view hex) {
  Digest digest;
  const auto bytes = from_hex(hex);
  digest.size = bytes.size();
  std::ranges::copy(bytes, digest.storage.begin());
  return digest;
}

bool same(std::span<const std::byte> a, std::string_view hex) { return equal(a, from_hex(hex)); }

TEST(Secret, IsTakenApartAndTransformedAsPublished) {
  for (const auto& vector : vectors::secrets) {
    const auto secret = parse_secret(vector.text);
    ASSERT_TRUE(secret.has_value()) << secret.error().message;
    EXPECT_EQ(static_cast<int>(secret->transform), vector.transform);
    EXPECT_TRUE(same(transformed(*secret, vectors::host)->bytes(), vector.host_key)) << vector.text;
    EXPECT_TRUE(same(transformed(*secret, vectors::subsystem)->bytes(), vector.subsystem_key)) << vector.text;
  }
}

TEST(Secret, IsRefusedWithoutBeingShown) {
  const std::string good = vectors::secrets[0].text;
  std::string bad_crc = good;
  bad_crc[20] = bad_crc[20] == 'A' ? 'B' : 'A';
  std::string no_base64 = good;
  no_base64[20] = '!';
  const std::string body = good.substr(10, good.size() - 11);
  for (const std::string& text :
       {std::string(), std::string("DHHC-1"), good.substr(1), "DHHC-2" + good.substr(6), good.substr(0, good.size() - 1), bad_crc, no_base64,
        "DHHC-1:04:" + body + ":", "DHHC-1:0:" + body + ":", "DHHC-1:1f:" + body + ":", "DHHC-1:00:" + body + body + ":", std::string("DHHC-1:00::"),
        "DHHC-1:00:" + keyring::encode_key(from_hex("00112233")) + ":", good + good, std::string(2000, 'A')}) {
    const auto refused = parse_secret(text);
    ASSERT_FALSE(refused.has_value()) << text;
    EXPECT_EQ(refused.error().err, EINVAL);
    EXPECT_EQ(refused.error().message.find(body.substr(0, 8)), std::string::npos) << refused.error().message;
  }
}

TEST(Interchange, GoesBothWays) {
  for (std::size_t length : {1UL, 31UL, 32UL, 33UL, 48UL, 63UL, 64UL}) {
    std::vector<std::byte> key(length);
    fill_random(key);
    const auto back = keyring::decode_key(keyring::encode_key(key));
    ASSERT_TRUE(back.has_value());
    EXPECT_TRUE(equal(back->bytes(), key));
  }
}

TEST(Response, IsThePublishedOne) {
  for (const auto& vector : vectors::responses) {
    ResponseInput input;
    input.hash = static_cast<AuthHash>(vector.hash);
    input.seqnum = vector.seqnum;
    input.t_id = vector.t_id;
    input.hostnqn = vectors::host;
    input.subnqn = vectors::subsystem;
    const auto key = from_hex(vector.key);
    const auto dh_secret = from_hex(vector.dh_secret);
    const Digest challenge = digest_from(vector.challenge);
    EXPECT_TRUE(same(respond(input, key, dh_secret, challenge)->bytes(), vector.of_host)) << vector.hash;
    input.of_controller = true;
    EXPECT_TRUE(same(respond(input, key, dh_secret, challenge)->bytes(), vector.of_controller)) << vector.hash;
  }
}

TEST(Groups, AgreeAndTakeNoDegenerateValue) {
  for (const auto& vector : vectors::primes) {
    const auto group = static_cast<AuthGroup>(vector.group);
    const auto one = DhPair::generate(group);
    const auto other = DhPair::generate(group);
    ASSERT_TRUE(one.has_value() && other.has_value());
    EXPECT_FALSE(equal(one->public_value(), other->public_value()));
    EXPECT_TRUE(equal(one->agree(other->public_value())->bytes(), other->agree(one->public_value())->bytes()));
    const std::vector<std::byte> prime = from_hex(vector.prime);
    ASSERT_EQ(prime.size(), group_bytes(group));
    std::vector<std::byte> value(prime.size());
    EXPECT_EQ(one->agree(value).error().err, EINVAL) << "0";
    value.back() = std::byte{1};
    EXPECT_EQ(one->agree(value).error().err, EINVAL) << "1";
    value = prime;
    EXPECT_EQ(one->agree(value).error().err, EINVAL) << "p";
    value.back() = static_cast<std::byte>(std::to_integer<int>(value.back()) - 1);
    EXPECT_EQ(one->agree(value).error().err, EINVAL) << "p-1";
    value.back() = static_cast<std::byte>(std::to_integer<int>(value.back()) - 1);
    EXPECT_TRUE(one->agree(value).has_value()) << "p-2";
    EXPECT_EQ(one->agree(std::vector<std::byte>(prime.size(), std::byte{0xFF})).error().err, EINVAL) << "beyond p";
    value.push_back(std::byte{0});
    EXPECT_EQ(one->agree(value).error().err, EINVAL) << "a byte too long";
    EXPECT_EQ(one->agree({}).error().err, EINVAL) << "nothing";
  }
}

TEST(Names, GoBothWaysAndAreRefusedInWords) {
  EXPECT_EQ(*parse_hashes("dhchap_digests", {"sha256", "sha512"}), 0b1010);
  EXPECT_EQ(*parse_groups("dhchap_dhgroups", {"null", "ffdhe8192"}), 0b100001);
  EXPECT_EQ(hash_names(0b1110), (std::vector<std::string>{"sha256", "sha384", "sha512"}));
  EXPECT_EQ(group_names(0b100001), (std::vector<std::string>{"null", "ffdhe8192"}));
  EXPECT_NE(parse_hashes("dhchap_digests", {"md5"}).error().message.find("dhchap_digests has 'md5'"), std::string::npos);
  EXPECT_EQ(parse_groups("dhchap_dhgroups", {}).error().err, EINVAL);
}

}  // namespace
}  // namespace catnap::dhchap
