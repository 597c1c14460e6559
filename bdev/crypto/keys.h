// Keys by name, as the accel_crypto_key_* methods make them. A key is never shown: not in answers, logs, errors or the configuration.
// Owner: app_thread; a CryptoKey is immutable and may be read from any thread that holds it. Left out: ciphers other than AES-XTS, tweak modes other
// than the block number (SPDK's SIMPLE_LBA); encryption itself (xts.h).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "keyring/secret.h"

namespace catnap::bdev {

using keyring::SecretBytes;

class CryptoKey {
 public:
  // Both halves in hexadecimal, 32 digits each for AES-128 and 64 for AES-256. Errors: EINVAL saying which half is wrong in what, but not what it is
  // (equal halves too: IEEE 1619-2018 section 5.1, NIST SP 800-38E), ENOMEM.
  static Result<std::shared_ptr<const CryptoKey>> create(std::string name, std::string_view key_hex, std::string_view key2_hex);

  const std::string& name() const { return name_; }
  // Bits of one half: 128 or 256.
  std::uint32_t bits() const { return static_cast<std::uint32_t>(halves_.bytes().size() * 4); }
  // Data key, then tweak key.
  std::span<const std::byte> halves() const { return halves_.bytes(); }
  // The file it is read from again when the configuration is loaded; empty: it was given in the call, and must be given again.
  const std::string& path() const { return path_; }
  void set_path(std::string path) { path_ = std::move(path); }

 private:
  CryptoKey(std::string name, SecretBytes halves) : name_(std::move(name)), halves_(std::move(halves)) {}

  std::string name_;
  SecretBytes halves_;
  std::string path_;
};

class CryptoKeys {
 public:
  static CryptoKeys& instance();

  // Errors: EEXIST.
  Result<void> add(std::shared_ptr<const CryptoKey> key);
  // Null: none of that name.
  std::shared_ptr<const CryptoKey> find(std::string_view name) const;
  // Errors: ENOENT, EBUSY (a bdev uses it).
  Result<void> remove(std::string_view name);
  std::vector<std::shared_ptr<const CryptoKey>> all() const;

 private:
  std::map<std::string, std::shared_ptr<const CryptoKey>, std::less<>> keys_;
};

// Both halves in hexadecimal, from a file of two lines under the keyring's rules (keyring/keyring.h); blocks. Errors: EINVAL (not two lines), those
// of keyring::read_key_file(), all naming the path.
struct KeyText {
  KeyText() = default;
  SecretBytes text;
  std::string_view key;
  std::string_view key2;
};
Result<KeyText> read_key_file(const std::string& path);

}  // namespace catnap::bdev
