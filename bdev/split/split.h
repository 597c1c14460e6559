// The split bdev: cuts a base into parts of equal size, named as the base with p0, p1, … behind it.
//
// A part is the base with another origin: flush, reset, and what the medium promises are the base's. Parts start at multiples of the base's optimal
// boundary where it has one. The parts stay as they were cut when the base grows; what lies behind the end of a base that shrank gives the
// base's error.
//
// Owner: a SplitBdev belongs to app_thread, its channels to their threads. Left out: parts of different sizes, tables on the disk.
#pragma once

#include <memory>
#include <string>

#include "bdev/stack/virtual_bdev.h"
#include "bdev/stack/virtual_bdevs.h"

namespace catnap::bdev {

struct SplitOptions {
  // More parts than this are a mistake, and each is a bdev with its own channels.
  static constexpr std::uint32_t max_count = 1024;

  SplitOptions() = default;
  std::string base_bdev_name;
  std::uint32_t count = 0;     // 1..max_count
  std::uint64_t size_mib = 0;  // of each part; 0: as large as fits
};

class SplitBdev final : public VirtualBdev {
 public:
  static constexpr const char* product = "Split Disk";

  // All parts, which claim the base together; not yet registered. Errors: EINVAL naming sizes that do not fit the base, VirtualBdev::claim_base()'s.
  static Result<VirtualRecipe::Made> create(const SplitOptions& options, const std::shared_ptr<Bdev>& base);
  static VirtualRecipe recipe(SplitOptions options);

  std::uint64_t start_blocks() const { return start_blocks_; }
  std::string driver_specific_json() const override;

 private:
  SplitBdev(BdevInfo info, std::shared_ptr<StackedBase> base, std::uint64_t start_blocks)
      : VirtualBdev(std::move(info), std::move(base)), start_blocks_(start_blocks) {}
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;
  void base_resized(std::uint64_t) override {}

  std::uint64_t start_blocks_;
};

}  // namespace catnap::bdev
