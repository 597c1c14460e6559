// Little-endian integers for wire structs: the byte order stands in the type, alignment is 1, so structs of them have no padding.
// Owner: none (values). Left out: big-endian wire types (NVMe has none), arithmetic (convert first).
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstdint>

namespace catnap {

// An unsigned integer stored least significant byte first. Reads and writes convert; compilers make one move of it.
template <std::unsigned_integral T>
class LittleEndian {
 public:
  constexpr LittleEndian() = default;
  constexpr LittleEndian(T value) : bytes_(std::bit_cast<Bytes>(to_little(value))) {}  // implicit: a wire field is assigned like a number

  constexpr operator T() const { return to_little(std::bit_cast<T>(bytes_)); }

 private:
  using Bytes = std::array<std::uint8_t, sizeof(T)>;

  static constexpr T to_little(T value) {
    if constexpr (std::endian::native == std::endian::little) {
      return value;
    } else {
      return std::byteswap(value);
    }
  }

  Bytes bytes_{};
};

using le16 = LittleEndian<std::uint16_t>;
using le32 = LittleEndian<std::uint32_t>;
using le64 = LittleEndian<std::uint64_t>;

static_assert(sizeof(le16) == 2 && alignof(le16) == 1);
static_assert(sizeof(le32) == 4 && alignof(le32) == 1);
static_assert(sizeof(le64) == 8 && alignof(le64) == 1);

}  // namespace catnap
