// See client_hello.h.
#include "transport/tls/client_hello.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>

namespace catnap::tls {
namespace {

constexpr std::uint8_t handshake_client_hello = 1;
constexpr std::uint16_t extension_early_data = 42, extension_supported_versions = 43, extension_psk_modes = 45, extension_psk = 41;
constexpr std::uint16_t tls13_version = 0x0304;
constexpr std::uint8_t psk_dhe_ke = 1;
constexpr std::size_t random_bytes = 32, header_bytes = 4;

// A stretch of the message that is read from its front; `at` counts from the message's first byte. Reading past the end makes it bad, and gives
// zeroes.
class Reader {
 public:
  Reader(Bytes bytes, std::size_t at) : bytes_(bytes), at_(at) {}

  bool good() const { return good_; }
  bool empty() const { return bytes_.empty(); }
  Bytes rest() const { return bytes_; }
  std::size_t at() const { return at_; }
  std::uint32_t number(std::size_t length) {
    std::uint32_t value = 0;
    for (const std::byte byte : take(length)) value = value << 8 | static_cast<std::uint8_t>(byte);
    return value;
  }
  Bytes take(std::size_t length) {
    if (length > bytes_.size()) {
      good_ = false;
      bytes_ = {};
      return {};
    }
    const Bytes taken = bytes_.first(length);
    bytes_ = bytes_.subspan(length);
    at_ += length;
    return taken;
  }
  // A vector with a length of `length_bytes` in front.
  Reader vector(std::size_t length_bytes) {
    const std::size_t length = number(length_bytes);
    const std::size_t from = at_;
    Reader inner(take(length), from);
    inner.good_ = good_;
    return inner;
  }

 private:
  Bytes bytes_;
  std::size_t at_;
  bool good_ = true;
};

// Section 4.2.11: OfferedPsks, the last extension of the message.
bool read_offers(Reader extension, ClientHello& hello) {
  Reader identities = extension.vector(2);
  hello.truncated_bytes = extension.at();
  Reader binders = extension.vector(2);
  if (!binders.good() || !extension.empty()) return false;
  while (!identities.empty()) {
    const Bytes identity = identities.vector(2).rest();
    identities.number(4);  // obfuscated ticket age
    Reader binder = binders.vector(1);
    const std::size_t binder_at = binder.at();
    const std::size_t binder_bytes = binder.rest().size();
    if (!identities.good() || !binders.good() || identity.empty() || binder_bytes == 0) return false;
    if (hello.offers.size() == max_offers) continue;
    hello.offers.emplace_back(std::string(reinterpret_cast<const char*>(identity.data()), identity.size()), binder_at, binder_bytes);
  }
  return binders.empty() && !hello.offers.empty();
}

bool read_extension(std::uint32_t type, Reader body, ClientHello& hello) {
  if (type == extension_psk) return read_offers(body, hello);
  if (type == extension_early_data) hello.early_data = true;
  if (type == extension_supported_versions) {
    Reader versions = body.vector(1);
    while (versions.good() && !versions.empty()) hello.tls13 = versions.number(2) == tls13_version || hello.tls13;
    return versions.good();
  }
  if (type == extension_psk_modes) {
    Reader modes = body.vector(1);
    while (modes.good() && !modes.empty()) hello.psk_with_dhe = modes.number(1) == psk_dhe_ke || hello.psk_with_dhe;
    return modes.good();
  }
  return true;
}

}  // namespace

bool ClientHello::has_suite(std::uint16_t suite) const { return std::ranges::find(suites, suite) != suites.end(); }

std::optional<ClientHello> parse_client_hello(Bytes message) {
  Reader reader(message, 0);
  const std::uint32_t type = reader.number(1);
  const std::uint32_t length = reader.number(3);
  if (!reader.good() || type != handshake_client_hello || length != message.size() - header_bytes) return std::nullopt;
  ClientHello hello;
  reader.number(2);  // legacy_version
  reader.take(random_bytes);
  reader.vector(1);  // legacy_session_id
  Reader suites = reader.vector(2);
  while (suites.good() && !suites.empty()) hello.suites.push_back(static_cast<std::uint16_t>(suites.number(2)));
  reader.vector(1);  // legacy_compression_methods
  if (!reader.good() || !suites.good()) return std::nullopt;
  if (reader.empty()) return hello;  // TLS 1.2 and before may have no extensions
  Reader extensions = reader.vector(2);
  if (!reader.good() || !reader.empty()) return std::nullopt;
  while (!extensions.empty()) {
    const std::uint32_t extension = extensions.number(2);
    const Reader body = extensions.vector(2);
    if (!extensions.good() || !read_extension(extension, body, hello)) return std::nullopt;
    if (extension == extension_psk && !extensions.empty()) return std::nullopt;  // it must be the last
  }
  return hello;
}

bool binder_fits(Bytes message, const ClientHello& hello, std::size_t offer, Hash hash, Bytes psk) {
  const ClientHello::Offer& offered = hello.offers[offer];
  const std::size_t size = hash_bytes(hash);
  if (offered.binder_bytes != size) return false;
  // Section 7.1: early secret, binder key; section 4.4.4: the key of its MAC.
  Wiped<max_hash_bytes> early, binder_key, finished_key;
  std::array<std::byte, max_hash_bytes> of_nothing{}, of_message{}, binder{};
  hkdf_extract(hash, psk, early.first(size));
  digest(hash, {}, std::span(of_nothing).first(size));
  hkdf_expand_label(hash, early.first(size), "ext binder", Bytes(of_nothing).first(size), binder_key.first(size));
  hkdf_expand_label(hash, binder_key.first(size), "finished", {}, finished_key.first(size));
  digest(hash, {message.first(hello.truncated_bytes)}, std::span(of_message).first(size));
  hmac(hash, finished_key.first(size), {Bytes(of_message).first(size)}, std::span(binder).first(size));
  return CRYPTO_memcmp(binder.data(), message.data() + offered.binder_at, size) == 0;
}

}  // namespace catnap::tls
