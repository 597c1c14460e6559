// The crypto bdev: what is written is encrypted on its way down (AES-XTS), what is read decrypted on its way up.
//
// A write is encrypted into memory of ours: the caller's bytes stay as they are. The memory is one buffer of the reactor's pool, as large as the I/O;
// when the pool is at its cap, the channel's own reserve of one step, so that a write always goes on, in parts. Encrypting and decrypting go in steps
// of step_bytes, one per turn for what is longer, so that a large I/O does not hold up the reactor. A read goes to the reader's memory and is
// decrypted there.
//
// Compare, write zeroes, copy and the like are done by the core with reads and writes of this bdev, since zeroes, and the same bytes elsewhere, look
// different when encrypted. Unmap goes to the base: unmapped blocks then read as something that nobody may rely on.
//
// Owner: a CryptoBdev belongs to app_thread, its channels to their threads. Left out: integrity (XTS finds no tampering), key change in place.
#pragma once

#include <memory>
#include <string>

#include "bdev/crypto/keys.h"
#include "bdev/stack/virtual_bdev.h"
#include "bdev/stack/virtual_bdevs.h"

namespace catnap::bdev {

struct CryptoOptions {
  CryptoOptions() = default;
  std::string name;
  std::string base_bdev_name;
  std::string key_name;
  std::string uuid;  // empty: made from the base's
};

class CryptoBdev final : public VirtualBdev {
 public:
  static constexpr const char* product = "crypto";
  // Some 30 us with AES instructions; the largest block fits. Also the size of a channel's reserve.
  static constexpr std::uint32_t step_bytes = 65536;

  // Over that base, which it claims; not yet registered. Errors: ENOKEY (no such key yet), VirtualBdev::claim_base()'s.
  static Result<std::shared_ptr<CryptoBdev>> create(const CryptoOptions& options, const std::shared_ptr<Bdev>& base);
  static VirtualRecipe recipe(CryptoOptions options);

  bool supports(Op op) const override;
  std::string driver_specific_json() const override;

 private:
  CryptoBdev(BdevInfo info, std::shared_ptr<StackedBase> base, std::shared_ptr<const CryptoKey> key)
      : VirtualBdev(std::move(info), std::move(base)), key_(std::move(key)) {}
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;

  std::shared_ptr<const CryptoKey> key_;
};

}  // namespace catnap::bdev
