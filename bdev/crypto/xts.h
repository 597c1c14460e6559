// AES-XTS of whole blocks, each a data unit whose tweak is its block number: 64 bits little-endian, then 64 zero bits (SPDK's SIMPLE_LBA; IEEE
// 1619-2018 section 5.1, "plain64" of Linux' dm-crypt when blocks are of the same size).
// Owner: one thread. Left out: keys (keys.h), memory.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "bdev/crypto/keys.h"

struct evp_cipher_ctx_st;

namespace catnap::bdev {

class XtsCipher {
 public:
  // block_size: bytes, 512..65536 (of NIST SP 800-38E's limit of 2^20 AES blocks a data unit has at most 4096). Errors: ENOMEM, EIO with what OpenSSL
  // says.
  static Result<XtsCipher> create(const CryptoKey& key, std::uint32_t block_size);

  // `to` takes num_blocks encrypted blocks, from the scatter list `from_bytes` on. Source and destination must not overlap.
  void encrypt(const iovec* iov, std::uint32_t iov_count, std::uint64_t from_bytes, std::byte* to, std::uint64_t lba, std::uint64_t num_blocks);
  // Decrypts num_blocks in place, from the scatter list's byte `from_bytes` on.
  void decrypt(const iovec* iov, std::uint32_t iov_count, std::uint64_t from_bytes, std::uint64_t lba, std::uint64_t num_blocks);
  // One data unit of `length` bytes (≥ 16); for both `to` may be `from`.
  void encrypt_unit(const std::byte* from, std::byte* to, std::size_t length, std::uint64_t number);
  void decrypt_unit(const std::byte* from, std::byte* to, std::size_t length, std::uint64_t number);

 private:
  struct Free {
    void operator()(evp_cipher_ctx_st* context) const;
  };
  using Context = std::unique_ptr<evp_cipher_ctx_st, Free>;
  XtsCipher(Context encrypting, Context decrypting, std::uint32_t block_size);

  Context encrypting_;
  Context decrypting_;
  std::uint32_t block_size_;
  std::unique_ptr<std::byte[]> straddling_;  // a block that lies in several pieces of a scatter list
};

}  // namespace catnap::bdev
