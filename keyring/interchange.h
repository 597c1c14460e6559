// The part that the text forms of NVMe keys share: base64 of the key followed by its CRC-32, as in "DHHC-1:00:…:" and "NVMeTLSkey-1:01:…:".
// Owner: none (pure functions). Left out: the fields before it (transport/dhchap/secret.h, TLS).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "keyring/secret.h"

namespace catnap::keyring {

// The longest key that either form knows, and its CRC.
inline constexpr std::size_t max_interchange_bytes = 64 + 4;

// The key without its CRC, which was right. Errors, none of which shows the text: EINVAL (not base64, no CRC, longer than max_interchange_bytes, CRC
// wrong), ENOMEM.
Result<SecretBytes> decode_key(std::string_view base64);
// The reverse, for tools and tests. The result is a secret too.
std::string encode_key(std::span<const std::byte> key);

}  // namespace catnap::keyring
