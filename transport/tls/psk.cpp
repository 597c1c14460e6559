// See psk.h.
#include "transport/tls/psk.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "keyring/interchange.h"

namespace catnap::tls {
namespace {

constexpr std::string_view interchange_prefix = "NVMeTLSkey-1:";
constexpr std::string_view digest_suffix = "NVMe-over-Fabrics";
constexpr std::string_view retained_label = "HostNQN";
constexpr std::string_view tls_label = "nvme-tls-psk";
constexpr std::size_t max_context_bytes = 255;

Error malformed(const char* what) {
  return {EINVAL, fmt::format("Invalid argument: the TLS key is not of the form NVMeTLSkey-1:hh:BASE64: ({})", what)};
}

std::string base64(Bytes bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

// HKDF-Extract, then HKDF-Expand-Label as this derivation has it.
void derive(Hash hash, Bytes input, std::string_view label, Bytes context, Derivation derivation, std::span<std::byte> out) {
  Wiped<max_hash_bytes> secret;
  const auto prk = secret.first(hash_bytes(hash));
  hkdf_extract(hash, input, prk);
  if (derivation == Derivation::specification) return hkdf_expand_label(hash, prk, label, context, out);
  const auto low = static_cast<std::byte>(out.size()), high = static_cast<std::byte>(out.size() >> 8);
  const bool network_order = derivation == Derivation::early_linux;
  const std::array<std::byte, 2> length = {network_order ? high : low, network_order ? low : high};
  hkdf_expand(hash, prk, {length, bytes_of("tls13 "), bytes_of(label), context}, out);
}

const char* specifier(Hash hash) { return hash == Hash::sha256 ? "01" : "02"; }

}  // namespace

// --- configured PSK ---

Result<ConfiguredPsk> parse_interchange(std::string_view text) {
  if (!text.starts_with(interchange_prefix)) return std::unexpected(malformed("it begins otherwise"));
  text.remove_prefix(interchange_prefix.size());
  if (text.size() < 4 || text[2] != ':') return std::unexpected(malformed("no two digits and colon behind the version"));
  const std::string_view hh = text.substr(0, 2);
  ConfiguredPsk psk;
  if (hh == "01") {
    psk.retained_hash = Hash::sha256;
  } else if (hh == "02") {
    psk.retained_hash = Hash::sha384;
  } else if (hh != "00") {
    return std::unexpected(malformed("the hash is none of 00, 01 and 02"));
  }
  if (text.back() != ':') return std::unexpected(malformed("no colon at the end"));
  auto key = keyring::decode_key(text.substr(3, text.size() - 4));
  if (!key) return std::unexpected(key.error());
  if (key->bytes().size() != hash_bytes(Hash::sha256) && key->bytes().size() != hash_bytes(Hash::sha384))
    return std::unexpected(malformed("the key has neither 32 nor 48 bytes"));
  psk.key = std::move(*key);
  return psk;
}

Result<SecretBytes> format_interchange(const ConfiguredPsk& psk) {
  std::string text =
      fmt::format("{}{}:{}:", interchange_prefix, psk.retained_hash ? specifier(*psk.retained_hash) : "00", keyring::encode_key(psk.key.bytes()));
  auto secret = SecretBytes::copy_of(bytes_of(text));
  wipe(std::as_writable_bytes(std::span(text)));
  return secret;
}

// --- identities ---

std::string Identity::text() const {
  std::string text = fmt::format("NVMe{}{}{} {} {}", version, generated ? 'G' : 'R', specifier(hash), hostnqn, subnqn);
  if (version == 1) text += " " + digest;
  return text;
}

std::optional<Identity> parse_identity(std::string_view text) {
  if (text.ends_with('\0')) text.remove_suffix(1);  // section 3.6.1.3, element 9: some send it
  if (text.size() < 9 || !text.starts_with("NVMe") || text[8] != ' ') return std::nullopt;
  Identity identity;
  if (text[4] != '0' && text[4] != '1') return std::nullopt;
  identity.version = static_cast<std::uint8_t>(text[4] - '0');
  if (text[5] != 'R' && text[5] != 'G') return std::nullopt;
  identity.generated = text[5] == 'G';
  const std::string_view hash = text.substr(6, 2);
  if (hash != "01" && hash != "02") return std::nullopt;
  identity.hash = hash == "01" ? Hash::sha256 : Hash::sha384;
  text.remove_prefix(9);
  const auto host_end = text.find(' ');
  if (host_end == std::string_view::npos) return std::nullopt;
  identity.hostnqn = text.substr(0, host_end);
  text.remove_prefix(host_end + 1);
  const auto sub_end = text.find(' ');
  if ((sub_end != std::string_view::npos) != (identity.version == 1)) return std::nullopt;
  identity.subnqn = text.substr(0, sub_end);
  if (identity.version == 1) identity.digest = text.substr(sub_end + 1);
  const bool whole = !identity.hostnqn.empty() && !identity.subnqn.empty() && (identity.version == 0 || !identity.digest.empty()) &&
                     identity.digest.find(' ') == std::string::npos;
  return whole ? std::optional(identity) : std::nullopt;
}

// --- derivations ---

Result<SecretBytes> retained_psk(const ConfiguredPsk& configured, std::string_view hostnqn, Derivation derivation) {
  if (!configured.retained_hash) return SecretBytes::copy_of(configured.key.bytes());
  auto retained = SecretBytes::create(configured.key.bytes().size());
  if (!retained) return retained;
  derive(*configured.retained_hash, configured.key.bytes(), retained_label, bytes_of(hostnqn), derivation, retained->bytes());
  return retained;
}

std::string psk_digest(Hash hash, Bytes input_psk, std::string_view hostnqn, std::string_view subnqn) {
  std::array<std::byte, max_hash_bytes> mac{};
  const auto out = std::span(mac).first(hash_bytes(hash));
  hmac(hash, input_psk, {bytes_of(hostnqn), bytes_of(" "), bytes_of(subnqn), bytes_of(" "), bytes_of(digest_suffix)}, out);
  return base64(out);
}

Result<SecretBytes> tls_psk(const Identity& identity, Bytes input_psk, Derivation derivation) {
  const std::string context = identity.version == 0 ? identity.text() : fmt::format("{} {}", specifier(identity.hash), identity.digest);
  if (context.size() > max_context_bytes) {
    return fail(EINVAL, fmt::format("Invalid argument: host NQN and subsystem NQN are too long for a TLS identity of version 0: {} bytes, at most {} "
                                    "(version 1 has no such limit)",
                                    context.size(), max_context_bytes));
  }
  auto psk = SecretBytes::create(hash_bytes(identity.hash));
  if (psk) derive(identity.hash, input_psk, tls_label, bytes_of(context), derivation, psk->bytes());
  return psk;
}

Result<TlsKey> host_key(const ConfiguredPsk& configured, std::string_view hostnqn, std::string_view subnqn, std::uint8_t version,
                        Derivation derivation) {
  TlsKey key;
  key.identity.version = version;
  key.identity.hash = configured.natural_hash();
  key.identity.hostnqn = hostnqn;
  key.identity.subnqn = subnqn;
  const auto retained = retained_psk(configured, hostnqn, derivation);
  if (!retained) return std::unexpected(retained.error());
  if (version == 1) key.identity.digest = psk_digest(key.identity.hash, retained->bytes(), hostnqn, subnqn);
  auto psk = tls_psk(key.identity, retained->bytes(), derivation);
  if (!psk) return std::unexpected(psk.error());
  key.psk = std::move(*psk);
  return key;
}

// --- generated PSK ---

Identity generated_identity(Hash hash, Bytes generated_psk, std::string_view hostnqn, std::string_view subnqn) {
  Identity identity;
  identity.generated = true;
  identity.hash = hash;
  identity.hostnqn = hostnqn;
  identity.subnqn = subnqn;
  identity.digest = psk_digest(hash, generated_psk, hostnqn, subnqn);
  return identity;
}

Result<TlsKey> generated_key(Hash hash, Bytes generated_psk, std::string_view hostnqn, std::string_view subnqn) {
  TlsKey key;
  key.identity = generated_identity(hash, generated_psk, hostnqn, subnqn);
  auto psk = tls_psk(key.identity, generated_psk, Derivation::specification);
  if (!psk) return std::unexpected(psk.error());
  key.psk = std::move(*psk);
  return key;
}

}  // namespace catnap::tls
