// See xts.h.
#include "bdev/crypto/xts.h"

#include <fmt/core.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "bdev/iov.h"
#include "reactor/base/check.h"

namespace catnap::bdev {
namespace {

std::string openssl_says() {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  return text.data();
}

void transform(EVP_CIPHER_CTX* context, const std::byte* from, std::byte* to, std::size_t length, std::uint64_t number) {
  std::array<unsigned char, 16> tweak{};
  for (std::size_t i = 0; i < 8; ++i) tweak[i] = static_cast<unsigned char>(number >> (8 * i));
  int written = 0;
  // Neither can fail once the key is set and the length is that of a data unit; a block that would pass unencrypted must not go anywhere.
  CATNAP_CHECK(EVP_CipherInit_ex2(context, nullptr, nullptr, tweak.data(), -1, nullptr) == 1);
  CATNAP_CHECK(EVP_CipherUpdate(context, reinterpret_cast<unsigned char*>(to), &written, reinterpret_cast<const unsigned char*>(from),
                                static_cast<int>(length)) == 1 &&
               static_cast<std::size_t>(written) == length);
}

// Finds one block after another in a scatter list.
class BlockWalk {
 public:
  BlockWalk(const iovec* iov, std::uint32_t count, std::uint64_t from_bytes) : iov_(iov), end_(iov + count) { step(from_bytes); }

  // Where the next `length` bytes lie in one piece; null: in several (then use cursor()).
  std::byte* in_one_piece(std::size_t length) {
    if (iov_ == end_ || iov_->iov_len - used_ < length) return nullptr;
    return static_cast<std::byte*>(iov_->iov_base) + used_;
  }
  // A cursor that stands where this walk does.
  IovCursor cursor() const {
    IovCursor cursor(iov_, static_cast<std::uint32_t>(end_ - iov_));
    cursor.skip(used_);
    return cursor;
  }
  void step(std::uint64_t length) {
    used_ += length;
    while (iov_ != end_ && used_ >= iov_->iov_len) {
      used_ -= iov_->iov_len;
      ++iov_;
    }
  }

 private:
  const iovec* iov_;
  const iovec* end_;
  std::uint64_t used_ = 0;
};

}  // namespace

void XtsCipher::Free::operator()(evp_cipher_ctx_st* context) const { EVP_CIPHER_CTX_free(context); }

XtsCipher::XtsCipher(Context encrypting, Context decrypting, std::uint32_t block_size)
    : encrypting_(std::move(encrypting)),
      decrypting_(std::move(decrypting)),
      block_size_(block_size),
      straddling_(std::make_unique<std::byte[]>(block_size)) {}

Result<XtsCipher> XtsCipher::create(const CryptoKey& key, std::uint32_t block_size) {
  const EVP_CIPHER* cipher = key.bits() == 128 ? EVP_aes_128_xts() : EVP_aes_256_xts();
  const auto* halves = reinterpret_cast<const unsigned char*>(key.halves().data());
  Context contexts[2];
  for (const int encrypts : {0, 1}) {
    Context& context = contexts[encrypts];
    context.reset(EVP_CIPHER_CTX_new());
    if (context == nullptr) return fail(ENOMEM, "Cannot allocate memory: a cipher context");
    if (EVP_CipherInit_ex2(context.get(), cipher, halves, nullptr, encrypts, nullptr) != 1) {
      return fail(EIO, fmt::format("Input/output error: OpenSSL cannot use key '{}': {}", key.name(), openssl_says()));
    }
  }
  return XtsCipher(std::move(contexts[1]), std::move(contexts[0]), block_size);
}

void XtsCipher::encrypt_unit(const std::byte* from, std::byte* to, std::size_t length, std::uint64_t number) {
  transform(encrypting_.get(), from, to, length, number);
}

void XtsCipher::decrypt_unit(const std::byte* from, std::byte* to, std::size_t length, std::uint64_t number) {
  transform(decrypting_.get(), from, to, length, number);
}

void XtsCipher::encrypt(const iovec* iov, std::uint32_t iov_count, std::uint64_t from_bytes, std::byte* to, std::uint64_t lba,
                        std::uint64_t num_blocks) {
  BlockWalk walk(iov, iov_count, from_bytes);
  for (std::uint64_t i = 0; i < num_blocks; ++i, to += block_size_) {
    const std::byte* from = walk.in_one_piece(block_size_);
    if (from == nullptr) {
      walk.cursor().copy_out(to, block_size_);
      from = to;
    }
    encrypt_unit(from, to, block_size_, lba + i);
    walk.step(block_size_);
  }
}

void XtsCipher::decrypt(const iovec* iov, std::uint32_t iov_count, std::uint64_t from_bytes, std::uint64_t lba, std::uint64_t num_blocks) {
  BlockWalk walk(iov, iov_count, from_bytes);
  for (std::uint64_t i = 0; i < num_blocks; ++i) {
    if (std::byte* place = walk.in_one_piece(block_size_); place != nullptr) {
      decrypt_unit(place, place, block_size_, lba + i);
    } else {
      walk.cursor().copy_out(straddling_.get(), block_size_);
      decrypt_unit(straddling_.get(), straddling_.get(), block_size_, lba + i);
      walk.cursor().copy_in(straddling_.get(), block_size_);
    }
    walk.step(block_size_);
  }
}

}  // namespace catnap::bdev
