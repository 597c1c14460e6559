// The generated PSK: what an authentication with secure channel concatenation leaves to both sides, and TLS goes on with (transport/tls/psk.h).
// Source: NVMe Base 2.0, section 8.13.5.9. Owner: none (functions; a hash or two of arithmetic). Left out: who keeps it, and for how long.
#pragma once

#include <span>

#include "keyring/secret.h"
#include "transport/dhchap/math.h"

namespace catnap::dhchap {

// As long as the hash.
struct GeneratedPsk {
  GeneratedPsk() = default;
  AuthHash hash{};
  keyring::SecretBytes psk;
};

// TLS identities know SHA-256 and SHA-384; without a group there is no session key that others do not know.
constexpr bool can_concatenate(AuthHash hash) { return hash == AuthHash::sha256 || hash == AuthHash::sha384; }
constexpr bool can_concatenate(AuthGroup group) { return group != AuthGroup::null; }

// HMAC(KS, C1 || C2). `session_key`: KS, or the Diffie-Hellman secret that KS is the hash of: it is longer than a block of the hash, and HMAC hashes
// such keys itself. `c1` is the controller's challenge, `c2` the host's. Errors: EIO (OpenSSL), ENOMEM.
Result<keyring::SecretBytes> generate_psk(AuthHash hash, std::span<const std::byte> session_key, const Digest& c1, const Digest& c2);

}  // namespace catnap::dhchap
