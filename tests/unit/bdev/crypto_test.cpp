// Encryption against published vectors, keys and what is said about them, and what a crypto bdev leaves on its base.
#include "bdev/crypto/crypto.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "bdev/crypto/xts.h"
#include "bdev/malloc/malloc.h"
#include "tests/unit/bdev/bench.h"

namespace catnap::bdev {
namespace {

using Bytes = std::vector<std::byte>;

Bytes from_hex(std::string_view hex) {
  Bytes bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) bytes.push_back(static_cast<std::byte>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return bytes;
}

Bytes counting(std::size_t length) {
  Bytes bytes(length);
  for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

std::shared_ptr<const CryptoKey> make_key(std::string_view half, std::string_view other_half) {
  auto key = CryptoKey::create("k", half, other_half);
  EXPECT_TRUE(key.has_value());
  return *key;
}

// IEEE 1619-2018 annex B, XTS-AES.
struct Vector {
  const char* name;
  const char* key;
  const char* key2;
  std::uint64_t unit;
  Bytes plain;
  const char* cipher;
};

const std::vector<Vector>& vectors() {
  static const std::vector<Vector> all = {
      {"2", "11111111111111111111111111111111", "22222222222222222222222222222222", 0x3333333333, Bytes(32, std::byte{0x44}),
       "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0"},
      {"3", "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0", "22222222222222222222222222222222", 0x3333333333, Bytes(32, std::byte{0x44}),
       "af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89"},
      {"4", "27182818284590452353602874713526", "31415926535897932384626433832795", 0, counting(512),
       "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89cc78cf7f5e543445f8333d8fa7f56000005279fa5d8b5e4ad40e736ddb4d35412"
       "328063fd2aab53e5ea1e0a9f332500a5df9487d07a5c92cc512c8866c7e860ce93fdf166a24912b422976146ae20ce846bb7dc9ba94a767aaef20c0d61ad0265"
       "5ea92dc4c4e41a8952c651d33174be51a10c421110e6d81588ede82103a252d8a750e8768defffed9122810aaeb99f9172af82b604dc4b8e51bcb08235a6f434"
       "1332e4ca60482a4ba1a03b3e65008fc5da76b70bf1690db4eae29c5f1badd03c5ccf2a55d705ddcd86d449511ceb7ec30bf12b1fa35b913f9f747a8afd1b130e"
       "94bff94effd01a91735ca1726acd0b197c4e5b03393697e126826fb6bbde8ecc1e08298516e2c9ed03ff3c1b7860f6de76d4cecd94c8119855ef5297ca67e9f3"
       "e7ff72b1e99785ca0a7e7720c5b36dc6d72cac9574c8cbbc2f801e23e56fd344b07f22154beba0f08ce8891e643ed995c94d9a69c9f1b5f499027a78572aeebd"
       "74d20cc39881c213ee770b1010e4bea718846977ae119f7a023ab58cca0ad752afe656bb3c17256a9f6e9bf19fdd5a38fc82bbe872c5539edb609ef4f79c203e"
       "bb140f2e583cb2ad15b4aa5b655016a8449277dbd477ef2c8d6c017db738b18deb4a427d1923ce3ff262735779a418f20a282df920147beabe421ee5319d0568"},
      {"10", "2718281828459045235360287471352662497757247093699959574966967627", "3141592653589793238462643383279502884197169399375105820974944592",
       0xFF, counting(512),
       "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd"
       "5776926c49a3095eb108fd1098baec70aaa66999a72a82f27d848b21d4a741b0c5cd4d5fff9dac89aeba122961d03a757123e9870f8acf1000020887891429ca"
       "2a3e7a7d7df7b10355165c8b9a6d0a7de8b062c4500dc4cd120c0f7418dae3d0b5781c34803fa75421c790dfe1de1834f280d7667b327f6c8cd7557e12ac3a0f"
       "93ec05c52e0493ef31a12d3d9260f79a289d6a379bc70c50841473d1a8cc81ec583e9645e07b8d9670655ba5bbcfecc6dc3966380ad8fecb17b6ba02469a020a"
       "84e18e8f84252070c13e9f1f289be54fbc481457778f616015e1327a02b140f1505eb309326d68378f8374595c849d84f4c333ec4423885143cb47bd71c5edae"
       "9be69a2ffeceb1bec9de244fbe15992b11b77c040f12bd8f6a975a44a0f90c29a9abc3d4d893927284c58754cce294529f8614dcd2aba991925fedc4ae74ffac"
       "6e333b93eb4aff0479da9a410e4450e0dd7ae4c6e2910900575da401fc07059f645e8b7e9bfdef33943054ff84011493c27b3429eaedb4ed5376441a77ed4385"
       "1ad77f16f541dfd269d50d6a5f14fb0aab1cbb4c1550be97f7ab4066193c4caa773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151"}};
  return all;
}

TEST(Xts, AgreesWithThePublishedVectorsInBothDirections) {
  for (const Vector& vector : vectors()) {
    auto cipher = XtsCipher::create(*make_key(vector.key, vector.key2), 512);
    ASSERT_TRUE(cipher.has_value());
    Bytes result(vector.plain.size());
    cipher->encrypt_unit(vector.plain.data(), result.data(), result.size(), vector.unit);
    EXPECT_EQ(result, from_hex(vector.cipher)) << "vector " << vector.name;
    cipher->decrypt_unit(result.data(), result.data(), result.size(), vector.unit);
    EXPECT_EQ(result, vector.plain) << "vector " << vector.name;
  }
}

// However the memory is cut, and wherever a step begins.
TEST(Xts, DoesTheSameForEveryScatterShape) {
  constexpr std::uint32_t block = 512;
  constexpr std::uint64_t blocks = 9;
  auto cipher = XtsCipher::create(*make_key(vectors()[2].key, vectors()[2].key2), block);
  ASSERT_TRUE(cipher.has_value());
  const Bytes plain = counting(block * blocks);
  Bytes whole(plain.size());
  for (std::uint64_t i = 0; i < blocks; ++i) cipher->encrypt_unit(plain.data() + i * block, whole.data() + i * block, block, 1000 + i);
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    Bytes source = plain;
    std::vector<iovec> iov;
    for (std::size_t at = 0; at < source.size();) {
      const std::size_t piece = std::min<std::size_t>(source.size() - at, 1 + random() % 1500);
      iov.push_back({source.data() + at, piece});
      if (random() % 5 == 0) iov.push_back({source.data(), 0});
      at += piece;
    }
    const auto count = static_cast<std::uint32_t>(iov.size());
    const std::uint64_t first = random() % blocks;
    Bytes result((blocks - first) * block);
    cipher->encrypt(iov.data(), count, first * block, result.data(), 1000 + first, blocks - first);
    ASSERT_EQ(result, Bytes(whole.begin() + static_cast<std::ptrdiff_t>(first * block), whole.end())) << round;
    ASSERT_EQ(source, plain);
    std::ranges::copy(whole, source.begin());
    cipher->decrypt(iov.data(), count, first * block, 1000 + first, blocks - first);
    ASSERT_TRUE(std::equal(plain.begin() + static_cast<std::ptrdiff_t>(first * block), plain.end(),
                           source.begin() + static_cast<std::ptrdiff_t>(first * block)));
    ASSERT_TRUE(std::equal(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(first * block), source.begin()));
  }
}

TEST(Keys, WrongOnesAreRefusedWithoutBeingShown) {
  const std::string good(32, 'a');
  const std::string other(32, 'b');
  for (const auto& [key, key2, says] :
       {std::tuple{std::string(31, 'a'), other, "key has 31 digits"}, std::tuple{good, std::string(64, 'b'), "key2 has 64 digits"},
        std::tuple{std::string(30, 'a') + "xy", other, "key has something that is not a hexadecimal digit at place 30"},
        std::tuple{good, std::string(31, 'b') + "-", "key2 has something"}, std::tuple{good, good, "the same"},
        std::tuple{good, std::string(32, 'A'), "the same"}}) {
    const auto made = CryptoKey::create("k", key, key2);
    ASSERT_FALSE(made.has_value());
    EXPECT_EQ(made.error().err, EINVAL);
    EXPECT_NE(made.error().message.find(says), std::string::npos) << made.error().message;
    EXPECT_EQ(made.error().message.find("aaaa"), std::string::npos);
    EXPECT_EQ(made.error().message.find("bbbb"), std::string::npos);
  }
}

TEST(Keys, AreKeptByNameAndNotForgottenWhileInUse) {
  CryptoKeys keys;
  auto key = *CryptoKey::create("one", std::string(64, '1'), std::string(64, '2'));
  EXPECT_EQ(key->bits(), 256u);
  ASSERT_TRUE(keys.add(key).has_value());
  EXPECT_EQ(keys.add(key).error().err, EEXIST);
  EXPECT_EQ(keys.remove("one").error().err, EBUSY);
  key.reset();
  EXPECT_TRUE(keys.remove("one").has_value());
  EXPECT_EQ(keys.remove("one").error().err, ENOENT);
}

std::string key_file(const std::string& text, mode_t mode) {
  std::string path = testing::TempDir() + "/catnap_key_XXXXXX";
  const int fd = mkstemp(path.data());
  EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  EXPECT_EQ(fchmod(fd, mode), 0);
  close(fd);
  return path;
}

TEST(Keys, ComeFromFilesThatOnlyTheirOwnerReads) {
  const std::string good = std::string(32, 'c') + "\n" + std::string(32, 'd') + "\r\n";
  const std::string path = key_file(good, 0600);
  const auto text = read_key_file(path);
  ASSERT_TRUE(text.has_value()) << text.error().message;
  EXPECT_EQ(text->key, std::string(32, 'c'));
  EXPECT_EQ(text->key2, std::string(32, 'd'));
  for (const auto& [content, mode, says] :
       {std::tuple{good, mode_t{0640}, "mode 640"}, std::tuple{std::string("one line"), mode_t{0600}, "two lines"}}) {
    const std::string wrong = key_file(content, mode);
    const auto refused = read_key_file(wrong);
    ASSERT_FALSE(refused.has_value());
    EXPECT_NE(refused.error().message.find(says), std::string::npos) << refused.error().message;
    unlink(wrong.c_str());
  }
  EXPECT_EQ(read_key_file(path + "x").error().err, ENOENT);
  EXPECT_FALSE(read_key_file(testing::TempDir()).has_value());
  unlink(path.c_str());
}

// A malloc bdev below, the crypto bdev over it, and both at hand.
class CryptoBdevTest : public testing::Test {
 protected:
  void SetUp() override {
    bench_.on_thread([this] {
      MallocOptions memory;
      memory.name = "M0";
      memory.num_blocks = 8192;
      base_ = *MallocBdev::create(memory, nullptr);
      ASSERT_TRUE(Registry::instance().add(base_).has_value());
      auto key = CryptoKey::create("disk", vectors()[2].key, vectors()[2].key2);
      ASSERT_TRUE(CryptoKeys::instance().add(*key).has_value());
      CryptoOptions options;
      options.name = "C0";
      options.base_bdev_name = "M0";
      options.key_name = "disk";
      const auto names = VirtualBdevs::instance().create(CryptoBdev::recipe(options));
      ASSERT_TRUE(names.has_value());
      above_ = std::move(*Registry::instance().find("C0")->get_channel());
      below_ = std::move(*base_->get_channel());
    });
  }
  void TearDown() override {
    bool removed = false;
    bench_.on_thread([&] {
      above_ = {};
      below_ = {};
      EXPECT_TRUE(VirtualBdevs::instance().forget(CryptoBdev::product, "C0").has_value());
      Registry::instance().remove("M0", [&removed](Result<void>) { removed = true; });
    });
    bench_.until([&removed] { return removed; });
    base_.reset();
    bench_.settle();
    bench_.on_thread([] { EXPECT_TRUE(CryptoKeys::instance().remove("disk").has_value()); });
  }
  Status run(ChannelRef& channel, Op op, std::uint64_t offset, Bytes& bytes) {
    const iovec iov{bytes.data(), bytes.size()};
    bool done = false;
    BdevIo io;
    io.op = op;
    io.offset_blocks = offset;
    io.num_blocks = bytes.size() / 512;
    io.iov = &iov;
    io.iov_count = 1;
    io.context = &done;
    io.done = [](BdevIo& ended) { *static_cast<bool*>(ended.context) = true; };
    bench_.on_thread([&] { channel->submit(io); });
    bench_.until([&done] { return done; });
    return io.status;
  }

  Bench bench_;
  std::shared_ptr<Bdev> base_;
  ChannelRef above_, below_;
};

TEST_F(CryptoBdevTest, WhatLiesBelowIsTheVectorAndWhatTheHostGaveIsUntouched) {
  Bytes plain = vectors()[2].plain;
  ASSERT_EQ(run(above_, Op::write, 0, plain), Status::ok);  // block 0, as in vector 4
  EXPECT_EQ(plain, vectors()[2].plain);
  Bytes found(512);
  ASSERT_EQ(run(below_, Op::read, 0, found), Status::ok);
  EXPECT_EQ(found, from_hex(vectors()[2].cipher));
  ASSERT_EQ(run(above_, Op::read, 0, found), Status::ok);
  EXPECT_EQ(found, plain);
}

TEST_F(CryptoBdevTest, EqualBlocksLookDifferentAndZeroesAreEncrypted) {
  Bytes same(2 * 512, std::byte{0x77});
  ASSERT_EQ(run(above_, Op::write, 10, same), Status::ok);
  Bytes found(2 * 512);
  ASSERT_EQ(run(below_, Op::read, 10, found), Status::ok);
  EXPECT_NE(std::memcmp(found.data(), found.data() + 512, 512), 0);
  Bytes nothing(512);
  ASSERT_EQ(run(above_, Op::write_zeroes, 20, nothing), Status::ok);
  Bytes below(512);
  ASSERT_EQ(run(below_, Op::read, 20, below), Status::ok);
  EXPECT_NE(below, Bytes(512));
  ASSERT_EQ(run(above_, Op::read, 20, below), Status::ok);
  EXPECT_EQ(below, Bytes(512));
}

// 1 MiB: encrypted and decrypted in steps with turns of the reactor between them.
TEST_F(CryptoBdevTest, ALargeIoLetsTheReactorTurnBetweenItsSteps) {
  Bytes large(1 << 20, std::byte{0x31});
  const iovec iov{large.data(), large.size()};
  for (const Op op : {Op::write, Op::read}) {
    bool done = false;
    BdevIo io;
    io.op = op;
    io.num_blocks = large.size() / 512;
    io.iov = &iov;
    io.iov_count = 1;
    io.context = &done;
    io.done = [](BdevIo& ended) { *static_cast<bool*>(ended.context) = true; };
    bench_.on_thread([&] { above_->submit(io); });
    std::size_t turns = 0;
    for (; !done && turns < 1000; ++turns) bench_.reactor.turn(0);
    EXPECT_TRUE(done);
    EXPECT_GE(turns, large.size() / CryptoBdev::step_bytes - 2) << op_name(op);
  }
  EXPECT_EQ(large, Bytes(1 << 20, std::byte{0x31}));
}

}  // namespace
}  // namespace catnap::bdev
