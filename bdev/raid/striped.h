// What raid0 and concat share: each block stands on one member, so an I/O becomes at most one I/O per member, all at once.
//
// The blocks of a range that one member holds lie next to each other there, also where strips of others lie between them in the array; so a part has
// one range on its member, and its memory is gathered from the user's. Nothing is copied, and nothing is allocated once a channel has seen its peak.
//
// Owner: StripedLevel belongs to app_thread (its layout does not change while there are channels); channels to their
// threads. Left out: which block is where (StripedLayout, filled by raid0.cpp and concat.cpp).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bdev/raid/raid.h"
#include "bdev/raid/raid_bdev.h"
#include "bdev/raid/superblock.h"

namespace catnap::bdev {

// Blocks of the array that follow each other on one member.
struct StripedPiece {
  std::uint32_t slot = 0;
  std::uint64_t member_block = 0;  // without the member's data offset
  std::uint64_t blocks = 0;        // until the next piece
};

// Where blocks are. Looked up once per strip of an I/O.
struct StripedLayout {
  StripedLayout() = default;
  std::uint32_t strip_shift = 0;  // raid0: blocks per strip, as a power of two
  std::uint32_t members = 0;
  std::vector<std::uint64_t> starts;  // concat: first block of each member; empty: raid0

  StripedPiece piece_at(std::uint64_t block) const;
  // What one member holds of that range: one piece, or none (0 blocks).
  StripedPiece part_of(std::uint32_t slot, std::uint64_t block, std::uint64_t blocks) const;
};

class StripedLevel : public RaidLevel {
 public:
  using RaidLevel::RaidLevel;

  Result<void> shape(BdevInfo& info) override;
  Task<Result<bool>> ready(bool forced) final;
  Task<Result<void>> start(bool forced) final;
  Task<void> stop(bool deleting) final;
  std::unique_ptr<RaidChannel> make_channel(RaidBdev& bdev, Thread& thread) final;
  bool supports(Op op) const final;
  Task<bool> member_lost(std::uint32_t slot) final;
  Task<Result<void>> member_arrived(std::uint32_t slot, bool new_member) final;
  Task<Result<void>> remove_member(std::uint32_t slot) final;
  Task<Result<std::uint64_t>> grow() final;

 protected:
  // From members' data_blocks (already whole strips): the layout, and how many blocks the array has. raid0 sets them to what it uses.
  virtual std::uint64_t lay_out(StripedLayout& layout) const = 0;
  // How many blocks the array may have now that members have these sizes, with every block where it is.
  virtual std::uint64_t grown_size() const = 0;
  // Whole strips of a member behind its data offset, by its present size.
  std::uint64_t usable_blocks(const RaidMember& member) const;
  std::uint64_t strip_blocks() const { return std::uint64_t{1} << layout_.strip_shift; }

 private:
  Task<Result<void>> read_superblocks();
  Task<Result<void>> write_superblocks();
  Result<void> keep_newest(const RaidMember& member, const std::optional<Superblock>& found);

  StripedLayout layout_;
  std::optional<Superblock> superblock_;  // the newest of those read, or what was written last
  // Blocks that each member gave when the array was online before: later sizes must not move what is behind them.
  std::vector<std::uint64_t> known_blocks_;
};

std::unique_ptr<RaidLevel> make_raid0_level(RaidArray& array);
std::unique_ptr<RaidLevel> make_concat_level(RaidArray& array);

}  // namespace catnap::bdev
