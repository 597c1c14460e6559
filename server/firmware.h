// How catnap names itself to hosts: firmware revision and padded ASCII fields.
// Owner: none. Left out: serial and model number (configuration).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace catnap::server {

inline constexpr std::string_view firmware_revision = "0.1.0";  // the project's version, ≤ 8 characters

// ASCII fields are left justified and padded with spaces (Base 2.0 section 1.4.2).
template <std::size_t Size>
void pad_ascii(std::array<char, Size>& field, std::string_view text) {
  field.fill(' ');
  std::copy_n(text.begin(), std::min(Size, text.size()), field.begin());
}

}  // namespace catnap::server
