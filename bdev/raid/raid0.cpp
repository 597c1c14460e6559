// raid0: strips of equal size on the members in turn. Members of different sizes give what the smallest has, times their number (as in SPDK); when
// all have grown the array grows. Owner: app_thread. Left out: I/O (striped_channel.cpp).
#include <algorithm>

#include "bdev/raid/striped.h"

namespace catnap::bdev {
namespace {

class Raid0Level final : public StripedLevel {
 public:
  using StripedLevel::StripedLevel;

  Result<void> shape(BdevInfo& info) override {
    auto shaped = StripedLevel::shape(info);
    info.optimal_io_boundary_blocks = static_cast<std::uint32_t>(strip_blocks());
    return shaped;
  }

 private:
  std::uint64_t lay_out(StripedLayout& layout) const override {
    layout.starts.clear();
    std::uint64_t least = ~std::uint64_t{0};
    for (const auto& member : array().members()) least = std::min(least, member->data_blocks);
    for (const auto& member : array().members()) member->data_blocks = least;
    return least * layout.members;
  }
  std::uint64_t grown_size() const override {
    std::uint64_t least = ~std::uint64_t{0};
    for (const auto& member : array().members()) least = std::min(least, usable_blocks(*member));
    for (const auto& member : array().members()) member->data_blocks = std::max(member->data_blocks, least);
    return least * array().members().size();
  }
};

}  // namespace

std::unique_ptr<RaidLevel> make_raid0_level(RaidArray& array) { return std::make_unique<Raid0Level>(array); }

}  // namespace catnap::bdev
