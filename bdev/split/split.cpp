// See split.h.
#include "bdev/split/split.h"

#include <fmt/core.h>

#include "bdev/json_text.h"

namespace catnap::bdev {
namespace {

constexpr std::uint64_t mib_bytes = std::uint64_t{1} << 20;

class SplitChannel final : public StackedChannel {
 public:
  SplitChannel(Bdev& bdev, Thread& thread, ChannelRef base_channel, std::uint64_t start_blocks)
      : StackedChannel(bdev, thread, std::move(base_channel)), start_blocks_(start_blocks) {}

 private:
  // Flush and reset may be about the whole (no blocks named).
  void execute(BdevIo& io) override { forward(io, io.num_blocks > 0 ? start_blocks_ : 0); }

  const std::uint64_t start_blocks_;
};

// How many blocks each part has. Errors: EINVAL.
Result<std::uint64_t> part_blocks(const SplitOptions& options, const Bdev& base) {
  const std::uint64_t most = base.num_blocks() / options.count;
  std::uint64_t blocks = most;
  if (options.size_mib > 0) {
    blocks = options.size_mib * mib_bytes / base.block_size();
    if (options.size_mib > (std::uint64_t{1} << 40) || blocks > most) {
      return fail(EINVAL, fmt::format("Invalid argument: {} parts of split_size_mb {} do not fit bdev '{}' of {} blocks of {} bytes", options.count,
                                      options.size_mib, base.name(), base.num_blocks(), base.block_size()));
    }
  }
  if (const std::uint64_t boundary = base.info().optimal_io_boundary_blocks; boundary > 0) blocks -= blocks % boundary;
  if (blocks == 0) {
    return fail(EINVAL, fmt::format("Invalid argument: split_count {} leaves no blocks for each part of bdev '{}' of {} blocks of {} bytes",
                                    options.count, base.name(), base.num_blocks(), base.block_size()));
  }
  return blocks;
}

}  // namespace

Result<VirtualRecipe::Made> SplitBdev::create(const SplitOptions& options, const std::shared_ptr<Bdev>& base) {
  const auto blocks = part_blocks(options, *base);
  if (!blocks) return std::unexpected(blocks.error());
  VirtualRecipe::Made parts;
  for (std::uint32_t number = 0; number < options.count; ++number) {
    auto claimed = claim_base(*base, product, Claim::shared);
    if (!claimed) return std::unexpected(claimed.error());
    BdevInfo info = info_over(*base, fmt::format("{}p{}", base->name(), number), product, "", number);
    info.num_blocks = *blocks;
    parts.push_back(std::shared_ptr<SplitBdev>(new SplitBdev(std::move(info), std::move(*claimed), number * *blocks)));
  }
  return parts;
}

VirtualRecipe SplitBdev::recipe(SplitOptions options) {
  VirtualRecipe recipe;
  recipe.name = recipe.base_name = options.base_bdev_name;
  recipe.product_name = product;
  recipe.makes_one = false;
  recipe.make = [options](const std::shared_ptr<Bdev>& base) { return create(options, base); };
  recipe.config_json = [options] {
    JsonObject params;
    params.add("base_bdev", options.base_bdev_name).add("split_count", options.count).add("split_size_mb", options.size_mib);
    return config_call("bdev_split_create", params);
  };
  return recipe;
}

Result<std::unique_ptr<Channel>> SplitBdev::create_channel(Thread& thread) {
  auto below = base_channel();
  if (!below) return std::unexpected(below.error());
  return std::make_unique<SplitChannel>(*this, thread, std::move(*below), start_blocks_);
}

std::string SplitBdev::driver_specific_json() const {
  return JsonObject().add_raw("split", JsonObject().add("base_bdev", base().name()).add("offset_blocks", start_blocks_).text()).text();
}

}  // namespace catnap::bdev
