// CRC32C, little-endian types, CPU masks, log levels.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "reactor/base/crc32c.h"
#include "reactor/base/le.h"
#include "reactor/base/log.h"
#include "reactor/cpumask.h"

namespace catnap {
namespace {

// One bit at a time, from the polynomial: what the fast ones must agree with.
std::uint32_t crc_bitwise(const std::vector<std::byte>& bytes) {
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const std::byte byte : bytes) {
    crc ^= std::to_integer<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0);
  }
  return ~crc;
}

TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(crc32c("123456789", 9), 0xE3069283u);
  const std::vector<std::byte> zeroes(32);
  EXPECT_EQ(crc32c(zeroes.data(), zeroes.size()), 0x8A9136AAu);
  EXPECT_EQ(crc32c(nullptr, 0), 0u);
}

TEST(Crc32c, AgreesWithTheBitwiseOneAtEveryLengthAndCut) {
  std::mt19937 random(1);
  for (std::size_t length = 0; length < 600; length += 1 + length / 40) {
    std::vector<std::byte> bytes(length);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random());
    const std::uint32_t expected = crc_bitwise(bytes);
    EXPECT_EQ(crc32c(bytes.data(), length), expected) << length;
    const std::size_t cut = length == 0 ? 0 : random() % length;
    Crc32c pieces;
    pieces.update(bytes.data(), cut);
    pieces.update(bytes.data() + cut, length - cut);
    EXPECT_EQ(pieces.value(), expected) << length << " cut at " << cut;
  }
}

TEST(LittleEndian, LowByteFirstWhateverTheHost) {
  const le32 value = 0x11223344u;
  std::uint8_t bytes[4];
  std::memcpy(bytes, &value, 4);
  EXPECT_EQ(bytes[0], 0x44);
  EXPECT_EQ(bytes[3], 0x11);
  EXPECT_EQ(value, 0x11223344u);
}

TEST(CpuMask, BothSpellings) {
  EXPECT_EQ(CpuMask::parse("0x3")->cpus(), (std::vector<unsigned>{0, 1}));
  EXPECT_EQ(CpuMask::parse("f0")->cpus(), (std::vector<unsigned>{4, 5, 6, 7}));
  EXPECT_EQ(CpuMask::parse("[0,2-3]")->cpus(), (std::vector<unsigned>{0, 2, 3}));
  EXPECT_EQ(CpuMask::parse("[ 1 , 5 - 6 ]")->cpus(), (std::vector<unsigned>{1, 5, 6}));
  EXPECT_EQ(CpuMask::parse("0x100000000")->cpus(), (std::vector<unsigned>{32}));
  EXPECT_EQ(CpuMask::parse("0xa5")->hex(), "a5");
}

TEST(CpuMask, WrongOnesAreNamed) {
  for (const char* text : {"", "0x", "0", "0x0", "[", "[]", "[3-1]", "[0,]", "[a]", "xyz", "[1024]", "0x1g", "[0-99999]"}) {
    const auto mask = CpuMask::parse(text);
    ASSERT_FALSE(mask.has_value()) << text;
    EXPECT_EQ(mask.error().err, EINVAL);
    EXPECT_NE(mask.error().message.find("'" + std::string(text) + "'"), std::string::npos) << mask.error().message;
  }
}

TEST(Log, LevelsByName) {
  EXPECT_EQ(log_level_from_name("debug"), LogLevel::debug);
  EXPECT_EQ(log_level_from_name("DISABLED"), LogLevel::disabled);
  EXPECT_FALSE(log_level_from_name("loud").has_value());
}

}  // namespace
}  // namespace catnap
