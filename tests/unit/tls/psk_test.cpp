// Keys of NVMe/TCP over TLS against published values: the interchange format and identities of version 1 are those of the TCP Transport specification
// (1.0c, section 3.6.1.5) and of libnvme's own tests (test/psk.c), TLS PSKs those of the Linux kernel's tests (drivers/nvme/common). Version 0 has no
// published values: it is computed here a second time, from RFC 5869 and RFC 8446.
// Owner: one thread. Left out: handshakes (stream_test.cpp).
#include "transport/tls/psk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <string>
#include <vector>

namespace catnap::tls {
namespace {

constexpr const char* host = "nqn.psk-test-host";
constexpr const char* subsystem = "nqn.psk-test-subsys";
constexpr const char* key_32_plain = "NVMeTLSkey-1:00:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:";
constexpr const char* key_32 = "NVMeTLSkey-1:01:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:";
constexpr const char* key_48 = "NVMeTLSkey-1:02:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwP/w0S89ELi3W2LxIcLXVsDn8kXZQ==:";

std::vector<std::byte> from_hex(std::string_view hex) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) bytes.push_back(static_cast<std::byte>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return bytes;
}

std::string hex_of(Bytes bytes) {
  std::string hex;
  for (const std::byte byte : bytes) {
    constexpr const char* digits = "0123456789abcdef";
    hex += digits[std::to_integer<unsigned>(byte) >> 4];
    hex += digits[std::to_integer<unsigned>(byte) & 15];
  }
  return hex;
}

ConfiguredPsk parsed(std::string_view text) {
  auto psk = parse_interchange(text);
  EXPECT_TRUE(psk.has_value()) << (psk ? "" : psk.error().message);
  return psk ? std::move(*psk) : ConfiguredPsk();
}

TEST(Interchange, PublishedFormsAreReadAndWritten) {
  for (const char* text : {key_32_plain, key_32, key_48}) {
    const ConfiguredPsk psk = parsed(text);
    EXPECT_EQ(hex_of(psk.key.bytes()).substr(0, 64), "5512dbb6737d0106f65975b773dfb011ffc344bcf442e2dd6d8bc4870b5d5b03");
    const auto again = format_interchange(psk);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->text(), text);
  }
  EXPECT_EQ(parsed(key_32_plain).retained_hash, std::nullopt);
  EXPECT_EQ(parsed(key_32).retained_hash, Hash::sha256);
  EXPECT_EQ(parsed(key_48).retained_hash, Hash::sha384);
  EXPECT_EQ(parsed(key_48).key.bytes().size(), 48U);
}

TEST(Interchange, EveryFlippedCharacterIsRefusedAndNothingOfTheKeyIsShown) {
  const std::string good = key_32;
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = bad[i] == 'A' ? 'B' : 'A';
    const auto result = parse_interchange(bad);
    ASSERT_FALSE(result.has_value()) << bad;
    EXPECT_EQ(result.error().err, EINVAL);
    EXPECT_THAT(result.error().message, testing::Not(testing::HasSubstr("VRLb")));
  }
  for (std::size_t i = 0; i < good.size(); ++i) EXPECT_FALSE(parse_interchange(std::string_view(good).substr(0, i)).has_value()) << i;
  EXPECT_FALSE(parse_interchange(good + ":").has_value());
  EXPECT_FALSE(parse_interchange("NVMeTLSkey-1:03:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:").has_value());
  EXPECT_FALSE(parse_interchange("NVMeTLSkey-1:01::").has_value());
}

// The last digit of a base64 text with padding has bits that belong to no byte; with others than zeroes there it would be a second text of one key.
TEST(Interchange, AKeyHasOneText) {
  EXPECT_TRUE(parse_interchange("NVMeTLSkey-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vcSEgBQ==:").has_value());
  EXPECT_FALSE(parse_interchange("NVMeTLSkey-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vcSEgBS==:").has_value());
}

TEST(IdentityOfVersion1, LibnvmesPublishedValues) {
  const struct {
    const char* key;
    Derivation derivation;
    const char* identity;
  } cases[] = {
      {key_32, Derivation::specification, "NVMe1R01 nqn.psk-test-host nqn.psk-test-subsys iSbjiStwJ/1TrTvDlt2fjFmzvsytOJelidNnA+X5lEU="},
      {key_48, Derivation::specification,
       "NVMe1R02 nqn.psk-test-host nqn.psk-test-subsys QhW2+Rp6RzHlNtCslyRxMnwJ11tKKhz8JCAQpQ+XUD8f9td1VeH5h53yz2wKJG1a"},
      {key_32, Derivation::early_libnvme, "NVMe1R01 nqn.psk-test-host nqn.psk-test-subsys 66GuqV08TsAGII39teWUfwQwizjv06Jy8jOcX3NAAzM="},
      {key_48, Derivation::early_libnvme,
       "NVMe1R02 nqn.psk-test-host nqn.psk-test-subsys RsKmYJ3nAn1ApjjMloJFbAkLPivONDAX/xW327YBUsn2eGShXSjCZvBaOxscLqmz"},
  };
  for (const auto& each : cases) {
    const auto key = host_key(parsed(each.key), host, subsystem, 1, each.derivation);
    ASSERT_TRUE(key.has_value());
    EXPECT_EQ(key->identity.text(), each.identity);
  }
}

// The kernel's tests derive these from generated PSKs.
TEST(TlsPsk, TheKernelsPublishedValues) {
  const struct {
    Hash hash;
    const char* input;
    const char* digest;
    const char* psk;
  } cases[] = {
      {Hash::sha256, "1733c59fa7f48fcf37f5f26fc4ff0268ad4f78e030f4f3b0bfd1d47e7bb1447a",
       "OldoKuTfKddMuyCznAZojkWD7P4D9/AtzDzLimtOxqI=", "3c17da628474a04d2247c4cab47968c915388193f7c071bd9489cc3666cd7cc8"},
      {Hash::sha384, "f14b2dd3234c459694d3bc63f8968bd6b37c2c6de849e22e118749001ce4bbe8640b9e3a748cb11ce4b1d71d359cce39",
       "cffMWk8TSS7HOQebjgYEIkrPrjWPV4JE5cdPB8WhEvY4JBW5YynKyv66XscN4A9n",
       "277475323353 7b3fa50eb7d16a8e43457d85f4906c005b2236616c5d80939d0898fff15bb8b77119d2be0aac423e7590"},
  };
  for (const auto& each : cases) {
    const auto input = from_hex(each.input);
    Identity identity;
    identity.generated = true;
    identity.hash = each.hash;
    identity.hostnqn = "hostnqn";
    identity.subnqn = "subsysnqn";
    identity.digest = psk_digest(each.hash, input, identity.hostnqn, identity.subnqn);
    EXPECT_EQ(identity.digest, each.digest);
    const auto psk = tls_psk(identity, input, Derivation::specification);
    ASSERT_TRUE(psk.has_value());
    std::string expected = each.psk;
    std::erase(expected, ' ');
    EXPECT_EQ(hex_of(psk->bytes()), expected);
    const auto key = generated_key(each.hash, input, identity.hostnqn, identity.subnqn);
    ASSERT_TRUE(key.has_value());
    EXPECT_EQ(key->identity.text(), std::string("NVMe1G") + (each.hash == Hash::sha256 ? "01" : "02") + " hostnqn subsysnqn " + each.digest);
    EXPECT_EQ(hex_of(key->psk.bytes()), expected);
    const auto read = parse_identity(key->identity.text());
    ASSERT_TRUE(read.has_value());
    EXPECT_TRUE(read->generated);
    EXPECT_EQ(read->text(), key->identity.text());
  }
}

// HKDF-Expand-Label in one block, with OpenSSL's one-shot HMAC.
std::string expand_label(const EVP_MD* md, const std::string& input, const std::string& label, const std::string& context) {
  const auto mac = [md](const std::string& key, const std::string& text) {
    unsigned char out[64];
    unsigned length = 0;
    HMAC(md, key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()), text.size(), out, &length);
    return std::string(reinterpret_cast<char*>(out), length);
  };
  const auto size = static_cast<std::size_t>(EVP_MD_get_size(md));
  const std::string prk = mac(std::string(size, '\0'), input);
  std::string info = {'\0', static_cast<char>(size), static_cast<char>(6 + label.size())};
  info += "tls13 " + label + static_cast<char>(context.size()) + context + '\1';
  return mac(prk, info);
}

std::string text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// drivers/nvme/common/auth.c of Linux 6.15: the length in two bytes, most significant first, then label and context without theirs.
TEST(TlsPsk, EarlyLinuxLeavesLengthsOut) {
  const auto input = from_hex("1733c59fa7f48fcf37f5f26fc4ff0268ad4f78e030f4f3b0bfd1d47e7bb1447a");
  const Identity identity = generated_identity(Hash::sha256, input, "hostnqn", "subsysnqn");
  const auto psk = tls_psk(identity, input, Derivation::early_linux);
  ASSERT_TRUE(psk.has_value());
  // By Python: hmac.digest(hmac.digest(bytes(32), input, "sha256"), b"\0\x20tls13 nvme-tls-psk01 " + digest + b"\1", "sha256").
  EXPECT_EQ(hex_of(psk->bytes()), "bfc8def3bb5120bf5c99d6c8d54d61b3efcf3ebece1f00b93a1324c75d749364");
}

TEST(TlsPsk, Version0IsWhatTheRfcsSay) {
  for (const auto& [text, md] : {std::pair{key_32, EVP_sha256()}, std::pair{key_48, EVP_sha384()}}) {
    const ConfiguredPsk configured = parsed(text);
    const auto key = host_key(configured, host, subsystem, 0);
    ASSERT_TRUE(key.has_value());
    const std::string specifier = md == EVP_sha256() ? "01" : "02";
    EXPECT_EQ(key->identity.text(), "NVMe0R" + specifier + " nqn.psk-test-host nqn.psk-test-subsys");
    const std::string retained = expand_label(md, text_of(configured.key.bytes()), "HostNQN", host);
    EXPECT_EQ(text_of(key->psk.bytes()), expand_label(md, retained, "nvme-tls-psk", key->identity.text()));
  }
}

TEST(TlsPsk, WithoutATransformTheConfiguredPskIsTheRetainedOne) {
  const ConfiguredPsk configured = parsed(key_32_plain);
  const auto retained = retained_psk(configured, host, Derivation::specification);
  ASSERT_TRUE(retained.has_value());
  EXPECT_EQ(text_of(retained->bytes()), text_of(configured.key.bytes()));
}

TEST(TlsPsk, AnIdentityTooLongForVersion0IsRefusedAndFineForVersion1) {
  const ConfiguredPsk configured = parsed(key_32);
  const std::string long_host = "nqn.2014-08." + std::string(200, 'h');
  const auto old = host_key(configured, long_host, "nqn.2014-08." + std::string(100, 's'), 0);
  ASSERT_FALSE(old.has_value());
  EXPECT_THAT(old.error().message, testing::HasSubstr("too long for a TLS identity of version 0"));
  EXPECT_TRUE(host_key(configured, long_host, "nqn.2014-08." + std::string(100, 's'), 1).has_value());
}

TEST(IdentityText, IsReadBackAndGarbageIsNot) {
  for (const char* text : {"NVMe0R01 nqn.a nqn.b", "NVMe0R02 nqn.a nqn.b", "NVMe1R01 nqn.a nqn.b ZGlnZXN0", "NVMe1G02 nqn.a nqn.b ZGlnZXN0"}) {
    const auto identity = parse_identity(text);
    ASSERT_TRUE(identity.has_value()) << text;
    EXPECT_EQ(identity->text(), text);
  }
  EXPECT_TRUE(parse_identity(std::string("NVMe0R01 nqn.a nqn.b") + '\0').has_value());
  for (const char* text : {"", "NVMe", "NVMe0R01", "NVMe0R01 ", "NVMe0R01 a", "NVMe0R01 a ", "NVMe0R01  b", "NVMe0R01 a b c", "NVMe1R01 a b",
                           "NVMe1R01 a b ", "NVMe1R01 a b c d", "NVMe2R01 a b", "NVMe0X01 a b", "NVMe0R03 a b", "NVMe0R00 a b", "nvme0R01 a b"})
    EXPECT_FALSE(parse_identity(text).has_value()) << text;
}

}  // namespace
}  // namespace catnap::tls
