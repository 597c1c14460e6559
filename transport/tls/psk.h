// The keys of NVMe/TCP over TLS 1.3: the interchange format of a configured PSK, the retained PSK, identities, and the TLS PSK
// (TCP Transport 1.0c, sections 3.6.1.3 to 3.6.1.5; identities of version 1: TP 8018, TCP Transport 1.1).
// Owner: none (functions over values). Left out: which key belongs to whom (the configuration), generated PSKs' making (transport/dhchap).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "keyring/secret.h"
#include "reactor/base/error.h"
#include "transport/tls/digest.h"

namespace catnap::tls {

using keyring::SecretBytes;

// What the administrator gives: "NVMeTLSkey-1:hh:base64(key, CRC-32 of the key):".
struct ConfiguredPsk {
  ConfiguredPsk() = default;
  std::optional<Hash> retained_hash;  // hh 01 or 02; none (00): the configured PSK is the retained PSK
  SecretBytes key;                    // 32 or 48 bytes

  // The hash whose length the key has: that of the cipher suite a host offers with it.
  Hash natural_hash() const { return key.bytes().size() == hash_bytes(Hash::sha384) ? Hash::sha384 : Hash::sha256; }
};
// Errors: EINVAL that says what is wrong with the form, and shows nothing of the key; ENOMEM.
Result<ConfiguredPsk> parse_interchange(std::string_view text);
// The same, back to text. Errors: ENOMEM.
Result<SecretBytes> format_interchange(const ConfiguredPsk& psk);

// How HKDF-Expand-Label is computed. libnvme before 1.15 left the length bytes of label and context out, and wrote the length in the byte order of
// the machine; hosts with it can only be served by doing the same. Linux before 6.18 left the length bytes of label and context of generated PSKs
// out.
enum class Derivation : std::uint8_t { specification, early_libnvme, early_linux };

// A TLS identity: "NVMe0R01 HOSTNQN SUBNQN", or "NVMe1R01 HOSTNQN SUBNQN DIGEST".
struct Identity {
  std::uint8_t version = 1;  // 0 or 1
  bool generated = false;    // 'G': made by DH-HMAC-CHAP; 'R': retained
  Hash hash = Hash::sha256;
  std::string hostnqn;
  std::string subnqn;
  std::string digest;  // of version 1

  std::string text() const;
};
// Nothing: no identity of NVMe/TCP.
std::optional<Identity> parse_identity(std::string_view text);

// Of the configured PSK, for this host. Errors: ENOMEM.
Result<SecretBytes> retained_psk(const ConfiguredPsk& configured, std::string_view hostnqn, Derivation derivation);
// The digest in an identity of version 1: Base64 of an HMAC over both NQNs, keyed with the retained or generated PSK.
std::string psk_digest(Hash hash, Bytes input_psk, std::string_view hostnqn, std::string_view subnqn);
// Errors: EINVAL (an identity of version 0 that is longer than the 255 bytes HKDF-Expand-Label takes), ENOMEM.
Result<SecretBytes> tls_psk(const Identity& identity, Bytes input_psk, Derivation derivation);

// An identity and its TLS PSK.
struct TlsKey {
  TlsKey() = default;
  Identity identity;
  SecretBytes psk;
};
// What a host offers with this key: the suite is that of the key's length. Errors: as tls_psk().
Result<TlsKey> host_key(const ConfiguredPsk& configured, std::string_view hostnqn, std::string_view subnqn, std::uint8_t version,
                        Derivation derivation = Derivation::specification);

// A PSK that DH-HMAC-CHAP generated.
struct GeneratedPsk {
  GeneratedPsk() = default;
  Hash hash = Hash::sha256;
  SecretBytes psk;  // as long as the hash
};
// Of one, as long as `hash` (transport/dhchap/generated_psk.h): always of version 1.
Identity generated_identity(Hash hash, Bytes generated_psk, std::string_view hostnqn, std::string_view subnqn);
// Errors: ENOMEM.
Result<TlsKey> generated_key(Hash hash, Bytes generated_psk, std::string_view hostnqn, std::string_view subnqn);

}  // namespace catnap::tls
