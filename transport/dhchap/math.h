// The arithmetic of DH-HMAC-CHAP on OpenSSL: HMAC, finite-field Diffie-Hellman, responses.
// Source: NVMe Base 2.0, section 8.13.5; RFC 7919 (groups). Owner: none; functions block for as long as they compute (an 8192-bit group takes tens of
// milliseconds): on a worker. Left out: messages.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "keyring/secret.h"
#include "transport/dhchap/names.h"

namespace catnap::dhchap {

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

// Digests, challenges and responses: as many bytes as the hash has.
struct Digest {
  std::array<std::byte, max_hash_bytes> storage{};
  std::size_t size = 0;
  std::span<std::byte> bytes() { return std::span(storage).first(size); }
  std::span<const std::byte> bytes() const { return std::span(storage).first(size); }
};
// In constant time.
bool equal(std::span<const std::byte> a, std::span<const std::byte> b);
// False: OpenSSL has no randomness.
bool fill_random(std::span<std::byte> bytes);

// HMAC over the concatenation of `pieces`; `out` has the length of the hash. False: OpenSSL failed.
bool hmac(AuthHash hash, std::span<const std::byte> key, std::initializer_list<std::span<const std::byte>> pieces, std::span<std::byte> out);

// A key pair of one transaction. The private half is OpenSSL's, which clears it when this dies.
class DhPair {
 public:
  // `group` is not null. Errors: EIO.
  static Result<DhPair> generate(AuthGroup group);
  // As long as the group's prime, most significant byte first.
  std::span<const std::byte> public_value() const { return public_; }
  // g^xy, as long as the prime. Errors: EINVAL (the peer's value is not as long as the prime, or not within 2 … p-2), EIO, ENOMEM.
  Result<keyring::SecretBytes> agree(std::span<const std::byte> peer_public) const;

 private:
  struct Free {
    void operator()(void* pkey) const;
  };
  DhPair(AuthGroup group, void* pkey) : group_(group), pkey_(pkey) {}
  AuthGroup group_;
  std::unique_ptr<void, Free> pkey_;  // EVP_PKEY
  std::vector<std::byte> public_;
};

// Whose response, and over what.
struct ResponseInput {
  AuthHash hash = AuthHash::sha256;
  std::uint32_t seqnum = 0;
  std::uint16_t t_id = 0;
  std::uint8_t sc_c = 0;
  bool of_controller = false;  // the controller's, over the host's challenge; else the host's
  std::string hostnqn;
  std::string subnqn;
};
// `key` is transformed already; `dh_secret` empty with the null group. Errors: EIO.
Result<Digest> respond(const ResponseInput& input, std::span<const std::byte> key, std::span<const std::byte> dh_secret, const Digest& challenge);

}  // namespace catnap::dhchap
