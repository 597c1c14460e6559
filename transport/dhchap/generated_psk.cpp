// See generated_psk.h.
#include "transport/dhchap/generated_psk.h"

#include <cerrno>

namespace catnap::dhchap {

Result<keyring::SecretBytes> generate_psk(AuthHash hash, std::span<const std::byte> session_key, const Digest& c1, const Digest& c2) {
  auto psk = keyring::SecretBytes::create(hash_bytes(hash));
  if (!psk) return psk;
  if (session_key.empty() || !hmac(hash, session_key, {c1.bytes(), c2.bytes()}, psk->bytes())) {
    return fail(EIO, "OpenSSL could not compute the generated PSK");
  }
  return psk;
}

}  // namespace catnap::dhchap
