// What a ClientHello offers, and whether its binder proves that the host has a PSK (RFC 8446, sections 4.1.2 and 4.2.11). It is looked at before the
// TLS library sees it: a host that cannot show a key costs no handshake state, of several keys of a host the right one is found, and each refusal has
// its name.
// Owner: none (pure functions). Left out: everything else of the handshake (OpenSSL's).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "transport/tls/digest.h"

namespace catnap::tls {

// {13h, 01h} and {13h, 02h}: the suites of NVMe/TCP.
inline constexpr std::uint16_t suite_aes_128_gcm_sha256 = 0x1301;
inline constexpr std::uint16_t suite_aes_256_gcm_sha384 = 0x1302;
constexpr std::uint16_t suite_of(Hash hash) { return hash == Hash::sha256 ? suite_aes_128_gcm_sha256 : suite_aes_256_gcm_sha384; }

// Identities of one ClientHello that are looked at: both versions with both hashes, for two keys.
inline constexpr std::size_t max_offers = 8;

struct ClientHello {
  struct Offer {
    Offer(std::string offered_identity, std::size_t begin, std::size_t length)
        : identity(std::move(offered_identity)), binder_at(begin), binder_bytes(length) {}
    std::string identity;
    std::size_t binder_at;  // in the message
    std::size_t binder_bytes;
  };

  bool tls13 = false;         // supported_versions has it
  bool psk_with_dhe = false;  // psk_key_exchange_modes has psk_dhe_ke
  bool early_data = false;
  std::vector<std::uint16_t> suites;
  std::vector<Offer> offers;        // at most max_offers
  std::size_t truncated_bytes = 0;  // of the message, in front of the binders: what they sign

  bool has_suite(std::uint16_t suite) const;
};

// `message`: with the 4 bytes of its handshake header. Nothing: it is malformed (or no ClientHello).
std::optional<ClientHello> parse_client_hello(Bytes message);

// The binder of an external PSK, computed over the first ClientHello. In time that does not depend on the bytes compared.
bool binder_fits(Bytes message, const ClientHello& hello, std::size_t offer, Hash hash, Bytes psk);

}  // namespace catnap::tls
