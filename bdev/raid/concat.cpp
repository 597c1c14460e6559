// concat: one member's blocks behind the other's; members may have any sizes, rounded down to whole strips (as in SPDK). The array grows with its
// last member; what others grow by stays unused, since the blocks behind must stay where they are. Owner: app_thread. Left out: I/O
// (striped_channel.cpp).
#include "bdev/raid/striped.h"

namespace catnap::bdev {
namespace {

class ConcatLevel final : public StripedLevel {
 public:
  using StripedLevel::StripedLevel;

 private:
  std::uint64_t lay_out(StripedLayout& layout) const override {
    layout.starts.clear();
    std::uint64_t end = 0;
    for (const auto& member : array().members()) {
      layout.starts.push_back(end);
      end += member->data_blocks;
    }
    return end;
  }
  std::uint64_t grown_size() const override {
    std::uint64_t before = 0;
    for (const auto& member : array().members()) before += member->data_blocks;
    RaidMember& last = *array().members().back();
    before -= last.data_blocks;
    last.data_blocks = std::max(last.data_blocks, usable_blocks(last));
    return before + last.data_blocks;
  }
};

}  // namespace

std::unique_ptr<RaidLevel> make_concat_level(RaidArray& array) { return std::make_unique<ConcatLevel>(array); }

}  // namespace catnap::bdev
