// Feeds what strangers choose of a secure channel: the first message of a handshake, identities, and keys in the interchange form. Owner: libFuzzer.
// Left out: what OpenSSL reads behind it.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "reactor/base/check.h"
#include "transport/tls/client_hello.h"
#include "transport/tls/psk.h"

using namespace catnap::tls;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const Bytes bytes = std::as_bytes(std::span(data + 1, size - 1));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (data[0] == 1) {
    const auto identity = parse_identity(text);
    if (identity) CATNAP_CHECK(text.starts_with(identity->text()));
    return 0;
  }
  if (data[0] == 2) {
    const auto psk = parse_interchange(text);
    if (psk) CATNAP_CHECK(format_interchange(*psk)->text() == text);
    return 0;
  }
  const auto hello = parse_client_hello(bytes);
  if (!hello) return 0;
  for (std::size_t i = 0; i < hello->offers.size(); ++i) {
    const auto& offer = hello->offers[i];
    CATNAP_CHECK(hello->truncated_bytes <= offer.binder_at && offer.binder_at + offer.binder_bytes <= bytes.size());
    for (const Hash hash : {Hash::sha256, Hash::sha384}) {
      constexpr std::byte guess[max_hash_bytes] = {};
      CATNAP_CHECK(!binder_fits(bytes, *hello, i, hash, Bytes(guess).first(hash_bytes(hash))));
    }
  }
  return 0;
}
