// See digest.h.
#include "transport/tls/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "reactor/base/check.h"

namespace catnap::tls {
namespace {

constexpr std::string_view label_prefix = "tls13 ";

const EVP_MD* md_of(Hash hash) { return hash == Hash::sha256 ? EVP_sha256() : EVP_sha384(); }

const unsigned char* in(Bytes bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
unsigned char* out_of(std::span<std::byte> bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

// Fetched once: a fetch searches all providers.
EVP_MAC* hmac_algorithm() {
  static EVP_MAC* const algorithm = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  CATNAP_CHECK(algorithm != nullptr);
  return algorithm;
}

struct FreeMac {
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};
struct FreeMd {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

}  // namespace

void wipe(std::span<std::byte> bytes) { OPENSSL_cleanse(bytes.data(), bytes.size()); }

void digest(Hash hash, std::initializer_list<Bytes> parts, std::span<std::byte> out) {
  CATNAP_CHECK(out.size() == hash_bytes(hash));
  const std::unique_ptr<EVP_MD_CTX, FreeMd> context(EVP_MD_CTX_new());
  CATNAP_CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), md_of(hash), nullptr) == 1);
  for (const Bytes part : parts) CATNAP_CHECK(EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1);
  CATNAP_CHECK(EVP_DigestFinal_ex(context.get(), out_of(out), nullptr) == 1);
}

void hmac(Hash hash, Bytes key, std::initializer_list<Bytes> parts, std::span<std::byte> out) {
  CATNAP_CHECK(out.size() == hash_bytes(hash));
  std::array<char, 8> name{};
  std::strcpy(name.data(), hash == Hash::sha256 ? "SHA256" : "SHA384");
  const std::array<OSSL_PARAM, 2> params = {OSSL_PARAM_construct_utf8_string("digest", name.data(), 0), OSSL_PARAM_construct_end()};
  const std::unique_ptr<EVP_MAC_CTX, FreeMac> context(EVP_MAC_CTX_new(hmac_algorithm()));
  CATNAP_CHECK(context != nullptr && EVP_MAC_init(context.get(), in(key), key.size(), params.data()) == 1);
  for (const Bytes part : parts) CATNAP_CHECK(EVP_MAC_update(context.get(), in(part), part.size()) == 1);
  std::size_t length = 0;
  CATNAP_CHECK(EVP_MAC_final(context.get(), out_of(out), &length, out.size()) == 1 && length == out.size());
}

void hkdf_extract(Hash hash, Bytes input, std::span<std::byte> out) {
  const std::array<std::byte, max_hash_bytes> no_salt{};
  hmac(hash, Bytes(no_salt).first(hash_bytes(hash)), {input}, out);
}

void hkdf_expand(Hash hash, Bytes secret, std::initializer_list<Bytes> info, std::span<std::byte> out) {
  constexpr std::size_t most_parts = 8;
  CATNAP_CHECK(info.size() <= most_parts);
  const std::size_t step = hash_bytes(hash);
  std::array<std::byte, 514 + 64> joined{};  // the longest HkdfLabel
  std::size_t length = 0;
  for (const Bytes part : info) {
    CATNAP_CHECK(length + part.size() <= joined.size());
    std::copy(part.begin(), part.end(), joined.begin() + static_cast<std::ptrdiff_t>(length));
    length += part.size();
  }
  Wiped<max_hash_bytes> block;
  Bytes previous;
  for (std::size_t done = 0, count = 1; done < out.size(); ++count) {
    const auto counter = static_cast<std::byte>(count);
    Wiped<max_hash_bytes> next;
    hmac(hash, secret, {previous, Bytes(joined).first(length), Bytes(&counter, 1)}, next.first(step));
    std::ranges::copy(next.first(step), block.first(step).begin());
    previous = block.first(step);
    const std::size_t part = std::min(step, out.size() - done);
    std::copy_n(previous.begin(), part, out.begin() + static_cast<std::ptrdiff_t>(done));
    done += part;
  }
}

void hkdf_expand_label(Hash hash, Bytes secret, std::string_view label, Bytes context, std::span<std::byte> out) {
  CATNAP_CHECK(label_prefix.size() + label.size() <= 255 && context.size() <= 255 && out.size() <= 0xFFFF);
  const std::array<std::byte, 3> head = {static_cast<std::byte>(out.size() >> 8), static_cast<std::byte>(out.size()),
                                         static_cast<std::byte>(label_prefix.size() + label.size())};
  const auto context_length = static_cast<std::byte>(context.size());
  hkdf_expand(hash, secret, {head, bytes_of(label_prefix), bytes_of(label), Bytes(&context_length, 1), context}, out);
}

}  // namespace catnap::tls
