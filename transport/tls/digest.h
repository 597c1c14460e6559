// HMAC and the HKDF steps of TLS 1.3 (RFC 5869; RFC 8446, section 7.1) over the two hashes of its AES-GCM suites.
// Owner: none (functions; blocking only by arithmetic). Left out: other hashes (transport/dhchap has its own set).
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

#include "keyring/secret.h"
#include "reactor/base/error.h"

namespace catnap::tls {

using Bytes = std::span<const std::byte>;

inline Bytes bytes_of(std::string_view text) { return {reinterpret_cast<const std::byte*>(text.data()), text.size()}; }

// As hash specifiers name them in PSK identities and in the interchange format: "01" and "02".
enum class Hash : std::uint8_t { sha256 = 1, sha384 = 2 };
inline constexpr std::size_t max_hash_bytes = 48;
constexpr std::size_t hash_bytes(Hash hash) { return hash == Hash::sha256 ? 32 : 48; }

// `out`: hash_bytes(hash) long.
void digest(Hash hash, std::initializer_list<Bytes> parts, std::span<std::byte> out);
void hmac(Hash hash, Bytes key, std::initializer_list<Bytes> parts, std::span<std::byte> out);
// HKDF-Extract without salt (RFC 5869, section 2.2: as many zeroes as the hash is long).
void hkdf_extract(Hash hash, Bytes input, std::span<std::byte> out);
// HKDF-Expand with `info` as it stands; `out`: at most 255 hashes.
void hkdf_expand(Hash hash, Bytes secret, std::initializer_list<Bytes> info, std::span<std::byte> out);
// HKDF-Expand-Label; `label` without "tls13 ", at most 249 bytes; `context` at most 255.
void hkdf_expand_label(Hash hash, Bytes secret, std::string_view label, Bytes context, std::span<std::byte> out);

// Bytes on the stack that are cleared at the end of the scope: for what lives no longer than one function.
template <std::size_t size>
class Wiped {
 public:
  Wiped() = default;
  Wiped(const Wiped&) = delete;
  Wiped& operator=(const Wiped&) = delete;
  ~Wiped();
  std::span<std::byte> first(std::size_t count) { return std::span(bytes_).first(count); }

 private:
  std::byte bytes_[size] = {};
};
void wipe(std::span<std::byte> bytes);
template <std::size_t size>
Wiped<size>::~Wiped() {
  wipe(bytes_);
}

}  // namespace catnap::tls
