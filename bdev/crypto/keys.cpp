// See keys.h.
#include "bdev/crypto/keys.h"

#include <fmt/core.h>
#include <openssl/crypto.h>

#include <cerrno>

#include "keyring/keyring.h"

namespace catnap::bdev {
namespace {

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Errors name the field and what is wrong with it, never its digits.
Result<void> take_hex(std::string_view field, std::string_view text, std::span<std::byte> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    const int high = digit_of(text[2 * i]);
    const int low = digit_of(text[2 * i + 1]);
    if (high < 0 || low < 0) {
      return fail(EINVAL,
                  fmt::format("Invalid argument: {} has something that is not a hexadecimal digit at place {}", field, 2 * i + (high < 0 ? 0 : 1)));
    }
    to[i] = static_cast<std::byte>(high * 16 + low);
  }
  return {};
}

std::string_view trimmed(std::string_view line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
  return line;
}

}  // namespace

Result<std::shared_ptr<const CryptoKey>> CryptoKey::create(std::string name, std::string_view key_hex, std::string_view key2_hex) {
  if (name.empty()) return fail(EINVAL, "Invalid argument: name '' is empty");
  if (key_hex.size() != 32 && key_hex.size() != 64) {
    return fail(EINVAL, fmt::format("Invalid argument: key has {} digits, AES_XTS takes 32 (AES-128) or 64 (AES-256)", key_hex.size()));
  }
  if (key2_hex.size() != key_hex.size()) {
    return fail(EINVAL, fmt::format("Invalid argument: key2 has {} digits, AES_XTS takes as many as key has, {}", key2_hex.size(), key_hex.size()));
  }
  const std::size_t half = key_hex.size() / 2;
  auto halves = SecretBytes::create(2 * half);
  if (!halves) return std::unexpected(halves.error());
  const std::span<std::byte> bytes = halves->bytes();
  if (auto taken = take_hex("key", key_hex, bytes.first(half)); !taken) return std::unexpected(taken.error());
  if (auto taken = take_hex("key2", key2_hex, bytes.last(half)); !taken) return std::unexpected(taken.error());
  if (CRYPTO_memcmp(bytes.data(), bytes.data() + half, half) == 0) {
    return fail(EINVAL, "Invalid argument: key and key2 are the same, which makes AES-XTS unsafe");
  }
  return std::shared_ptr<const CryptoKey>(new CryptoKey(std::move(name), std::move(*halves)));
}

// Never destroyed: bdevs of any order of destruction hold keys.
CryptoKeys& CryptoKeys::instance() {
  static auto* keys = new CryptoKeys;
  return *keys;
}

Result<void> CryptoKeys::add(std::shared_ptr<const CryptoKey> key) {
  const std::string name = key->name();
  if (!keys_.emplace(name, std::move(key)).second) return fail(EEXIST, fmt::format("File exists: there is a key '{}' already", name));
  return {};
}

std::shared_ptr<const CryptoKey> CryptoKeys::find(std::string_view name) const {
  const auto found = keys_.find(name);
  return found != keys_.end() ? found->second : nullptr;
}

Result<void> CryptoKeys::remove(std::string_view name) {
  const auto found = keys_.find(name);
  if (found == keys_.end()) return fail(ENOENT, fmt::format("No such file or directory: there is no key '{}'", name));
  if (found->second.use_count() > 1) return fail(EBUSY, fmt::format("Device or resource busy: key '{}' is used by a crypto bdev", name));
  keys_.erase(found);
  return {};
}

std::vector<std::shared_ptr<const CryptoKey>> CryptoKeys::all() const {
  std::vector<std::shared_ptr<const CryptoKey>> all;
  for (const auto& [name, key] : keys_) all.push_back(key);
  return all;
}

Result<KeyText> read_key_file(const std::string& path) {
  auto text = keyring::read_key_file(path);
  if (!text) return std::unexpected(text.error());
  KeyText keys;
  const std::string_view all = text->text();
  const std::size_t first_end = all.find('\n');
  const std::string_view rest = first_end == std::string_view::npos ? std::string_view() : all.substr(first_end + 1);
  keys.key = trimmed(all.substr(0, first_end));
  keys.key2 = trimmed(rest.substr(0, rest.find('\n')));
  keys.text = std::move(*text);
  if (keys.key2.empty()) return fail(EINVAL, fmt::format("Invalid argument: key_file '{}' does not have two lines, key and key2", path));
  return keys;
}

}  // namespace catnap::bdev
