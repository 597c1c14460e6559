// Base64 with the URL and filename safe alphabet (RFC 4648 section 5), in which bdev_nvme_send_cmd carries commands and data.
// Owner: none (functions of values). Left out: the other alphabets, line breaks.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace catnap::bdev {

// Padded with '=' to a multiple of four, as SPDK and Python write it.
std::string to_base64url(std::span<const std::byte> bytes);
// Padding may be missing. None for other characters, a length that no bytes have, or bits that no byte takes.
std::optional<std::vector<std::byte>> from_base64url(std::string_view text);

}  // namespace catnap::bdev
