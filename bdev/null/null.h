// The null bdev: a disk of any size that forgets what is written. For measuring everything around a disk, and for tests.
//
// Reads give zeroes (SPDK's leaves the buffer as it is, which would show a host memory of others); writes, flush, unmap and write zeroes do
// nothing; compare finds zeroes. Everything completes within submit(), so it holds no resource, no fd, no timer: it sleeps when nobody asks.
// Reads may be lent from one shared area of zeroes.
//
// Owner: a NullBdev belongs to app_thread, its channels to their threads. Left out: metadata and protection information (refused by name).
#pragma once

#include <memory>
#include <string>

#include "bdev/bdev.h"

namespace catnap::bdev {

struct NullOptions {
  std::string name;
  std::uint32_t block_size = 512;         // bytes
  std::uint32_t physical_block_size = 0;  // bytes; 0: block_size
  std::uint64_t num_blocks = 0;
  std::string uuid;  // empty: made up
};

class NullBdev final : public Bdev {
 public:
  // Errors: EINVAL (sizes, named). Not yet in the Registry.
  static Result<std::shared_ptr<NullBdev>> create(NullOptions options);

  bool supports(Op op) const override;
  std::string config_json() const override;
  // On app_thread. Errors: EINVAL (zero), EBUSY (smaller while somebody has it open).
  Result<void> resize(std::uint64_t num_blocks);

 private:
  explicit NullBdev(BdevInfo info) : Bdev(std::move(info)) {}
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;
};

}  // namespace catnap::bdev
