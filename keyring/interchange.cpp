// See interchange.h.
#include "keyring/interchange.h"

#include <isa-l/crc.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>

namespace catnap::keyring {
namespace {

constexpr std::size_t crc_bytes = 4;
// Base64 of the longest key: four characters for each three bytes begun.
constexpr std::size_t max_text = (max_interchange_bytes + 2) / 3 * 4;

// CRC-32 of ISO 3309 (as in zlib), little-endian behind the key.
std::array<std::byte, crc_bytes> crc_of(std::span<const std::byte> key) {
  const std::uint32_t crc = crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(key.data()), key.size());
  std::array<std::byte, crc_bytes> bytes{};
  for (std::size_t i = 0; i < crc_bytes; ++i) bytes[i] = static_cast<std::byte>(crc >> (8 * i));
  return bytes;
}

bool is_base64(std::string_view text) {
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  const std::string_view digits = text.substr(0, text.size() - padding);
  return text.size() % 4 == 0 && std::ranges::all_of(digits, [](char c) {
           return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
         });
}

}  // namespace

Result<SecretBytes> decode_key(std::string_view base64) {
  if (base64.empty() || base64.size() > max_text || !is_base64(base64)) return fail(EINVAL, "Invalid argument: the key is not in base64");
  auto secret = SecretBytes::create(max_text / 4 * 3);
  if (!secret) return secret;
  auto* to = reinterpret_cast<unsigned char*>(secret->bytes().data());
  const int length = EVP_DecodeBlock(to, reinterpret_cast<const unsigned char*>(base64.data()), static_cast<int>(base64.size()));
  const std::size_t padding = base64.ends_with("==") ? 2 : base64.ends_with('=') ? 1 : 0;
  if (length < 0) return fail(EINVAL, "Invalid argument: the key is not in base64");
  const std::size_t bytes = static_cast<std::size_t>(length) - padding;
  // Bits of the last digit that belong to no byte: one key has one text.
  if (std::ranges::any_of(secret->bytes().subspan(bytes, padding), [](std::byte each) { return each != std::byte{0}; }))
    return fail(EINVAL, "Invalid argument: the key is not in base64");
  if (bytes <= crc_bytes || bytes > max_interchange_bytes) return fail(EINVAL, "Invalid argument: the key has a length that no key has");
  const auto key = secret->bytes().first(bytes - crc_bytes);
  const auto crc = crc_of(key);
  if (!std::ranges::equal(crc, secret->bytes().subspan(key.size(), crc_bytes))) return fail(EINVAL, "Invalid argument: the CRC of the key is wrong");
  secret->shrink(key.size());
  return secret;
}

std::string encode_key(std::span<const std::byte> key) {
  std::string raw(reinterpret_cast<const char*>(key.data()), key.size());
  const auto crc = crc_of(key);
  raw.append(reinterpret_cast<const char*>(crc.data()), crc.size());
  std::string text((raw.size() + 2) / 3 * 4 + 1, '\0');  // one for the NUL that EVP_EncodeBlock writes
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), reinterpret_cast<const unsigned char*>(raw.data()), static_cast<int>(raw.size()));
  OPENSSL_cleanse(raw.data(), raw.size());
  text.pop_back();
  return text;
}

}  // namespace catnap::keyring
