// Secrets in their text form "DHHC-1:HH:BASE64:" (NVMe Base 2.0, section 8.13.5.8), and what is made of them.
// Owner: none (functions). Blocking where said: on a worker. Left out: where the text comes from (keyring/keyring.h).
#pragma once

#include <string_view>

#include "keyring/keyring.h"
#include "transport/dhchap/names.h"

namespace catnap::dhchap {

struct Secret {
  AuthHash transform = AuthHash::none;
  keyring::SecretBytes key;  // 32, 48 or 64 bytes
};

// Errors, none of which shows the text: EINVAL (form, hash, length, CRC), ENOMEM.
Result<Secret> parse_secret(std::string_view text);
// The key as `nqn` uses it: as it is (hash none), or HMAC(key, NQN || "NVMe-over-Fabrics"). Errors: ENOMEM, EIO (OpenSSL).
Result<keyring::SecretBytes> transformed(const Secret& secret, std::string_view nqn);

// Reads a key of the keyring, now, and transforms it. Blocks. Errors as above, naming the key.
Result<keyring::SecretBytes> read_secret(const keyring::Key& key, std::string_view nqn);

}  // namespace catnap::dhchap
