// See secret.h.
#include "transport/dhchap/secret.h"

#include <fmt/core.h>

#include <string>

#include "keyring/interchange.h"
#include "transport/dhchap/math.h"

namespace catnap::dhchap {
namespace {

constexpr std::string_view prefix = "DHHC-1:";
constexpr std::string_view transform_suffix = "NVMe-over-Fabrics";

}  // namespace

Result<Secret> parse_secret(std::string_view text) {
  if (!text.starts_with(prefix)) return fail(EINVAL, "Invalid argument: the key does not begin with DHHC-1:");
  text.remove_prefix(prefix.size());
  if (text.size() < 4 || text[0] != '0' || text[1] < '0' || text[1] > '3' || text[2] != ':') {
    return fail(EINVAL, "Invalid argument: the hash of the key is not 00 (none), 01 (SHA-256), 02 (SHA-384) or 03 (SHA-512)");
  }
  Secret secret;
  secret.transform = static_cast<AuthHash>(text[1] - '0');
  text.remove_prefix(3);
  if (!text.ends_with(':')) return fail(EINVAL, "Invalid argument: the key does not end with a colon");
  text.remove_suffix(1);
  auto key = keyring::decode_key(text);
  if (!key) return std::unexpected(key.error());
  const std::size_t length = key->bytes().size();
  if (length != 32 && length != 48 && length != 64) {
    return fail(EINVAL, fmt::format("Invalid argument: the key has {} bytes, 32, 48 and 64 are possible", length));
  }
  // A transformation with a hash of another length is unusual, but what both sides take the same way (Linux and SPDK do).
  secret.key = std::move(*key);
  return secret;
}

Result<keyring::SecretBytes> transformed(const Secret& secret, std::string_view nqn) {
  if (secret.transform == AuthHash::none) return keyring::SecretBytes::copy_of(secret.key.bytes());
  auto out = keyring::SecretBytes::create(hash_bytes(secret.transform));
  if (!out) return out;
  if (!hmac(secret.transform, secret.key.bytes(), {bytes_of(nqn), bytes_of(transform_suffix)}, out->bytes())) return fail(EIO, "HMAC failed");
  return out;
}

Result<keyring::SecretBytes> read_secret(const keyring::Key& key, std::string_view nqn) {
  auto text = key.read();
  if (!text) return text;
  auto secret = parse_secret(text->text());
  if (!secret) return fail(secret.error().err, fmt::format("{} (key '{}')", secret.error().message, key.name()));
  return transformed(*secret, nqn);
}

}  // namespace catnap::dhchap
