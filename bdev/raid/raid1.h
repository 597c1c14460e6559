// raid1 as a level of the frame (raid.h): members' channels, the engine (raid1_core.h), and what is shown of it.
// Owner: Raid1Level belongs to app_thread, channels to their threads. Left out: the engine itself; JSON-RPC (raid_rpc.cpp).
#pragma once

#include <memory>
#include <vector>

#include "bdev/raid/raid.h"
#include "bdev/raid/raid1_core.h"
#include "bdev/raid/raid1_threads.h"
#include "bdev/raid/raid_bdev.h"

namespace catnap::bdev {

// Regions of at least 256 KiB; larger ones for arrays beyond 256 GiB, so that a bitmap has at most 2^20 bits (docs/raid.md, "Region size").
inline constexpr std::uint64_t raid1_least_region_bytes = 256 << 10;
inline constexpr std::uint64_t raid1_most_regions = 1 << 20;
std::uint64_t raid1_default_region_bytes(std::uint64_t array_bytes);
// Largest unmap or zeroing that goes to members at once; what is larger goes in parts.
inline constexpr std::uint64_t raid1_zero_step_bytes = 64 << 20;

class Raid1Channel final : public RaidChannel, public raid1::LaneHost {
 public:
  Raid1Channel(RaidBdev& bdev, Thread& thread, const std::shared_ptr<raid1::Core>& core);
  ~Raid1Channel() override;

 private:
  void start(BdevIo& io) override { lane_->start(io); }
  bool abort_in_module(BdevIo& io) override { return lane_->abort(io); }
  void lane_attached(std::uint32_t slot) override;
  void lane_detaching(std::uint32_t slot) override;
  void complete_io(BdevIo& io, Status status) override { complete(io, status); }

  std::vector<raid1::ChannelPort> ports_;
  std::shared_ptr<raid1::Lane> lane_;
};

class Raid1Level final : public RaidLevel, public raid1::CoreListener {
 public:
  explicit Raid1Level(RaidArray& array);
  ~Raid1Level() override;

  Result<void> shape(BdevInfo& info) override;
  Task<Result<bool>> ready(bool forced) override;
  Task<Result<void>> start(bool forced) override;
  Task<void> stop(bool deleting) override;
  std::unique_ptr<RaidChannel> make_channel(RaidBdev& bdev, Thread& thread) override;
  bool supports(Op op) const override;
  Task<bool> member_lost(std::uint32_t slot) override;
  Task<Result<void>> member_arrived(std::uint32_t slot, bool new_member) override;
  void member_found_again(std::uint32_t slot) override;
  Task<Result<void>> remove_member(std::uint32_t slot) override;
  bool grows_by_itself() const override { return false; }
  Task<Result<std::uint64_t>> grow() override;
  Task<void> bitmap_lost() override;
  Task<void> bitmap_returned() override;
  bool stopped_whole() const override { return stopped_whole_ && record() == raid1::Record::memory; }
  std::optional<RaidProgress> progress() const override;
  RaidProgress copied_so_far() const;
  std::string bitmap_kind() const override;
  Result<std::string> bitmap_json(bool with_ranges) const override;
  std::string info_json() const override;
  Result<void> start_scrub(const ScrubOptions& options) override;
  Result<void> stop_scrub() override;
  void settings_changed() override;

  void slot_changed(std::uint32_t slot, SlotState state, const std::string& reason) override;
  void process_changed(const char* type, bool running, const std::string& how) override;
  void frozen_changed() override { array().tell_state(); }

 private:
  raid1::Record record() const;
  // Block counts of what stands before the data, for an array of that size.
  struct Layout {
    std::uint64_t region_blocks = 0;
    std::uint64_t bitmap_offset_blocks = 0;
    std::uint32_t bitmap_blocks = 0;
    std::uint64_t data_offset_blocks = 0;
  };
  Layout lay_out(std::uint64_t member_blocks, std::uint32_t block_size) const;
  std::uint64_t capacity_blocks() const;
  Superblock identity(const BdevInfo& info) const;
  Result<void> check_members(BdevInfo& info) const;
  Result<raid1::ChannelPort*> open_port(std::uint32_t slot);
  void close_port(std::uint32_t slot);
  Task<Result<void>> read_superblocks();
  Task<std::optional<FoundSuperblock>> read_area(std::shared_ptr<raid1::ChannelPort> port, std::uint32_t block_size);
  Task<Result<bool>> ready_external(bool forced);
  Result<bool> follow_plan(StartPlan plan);
  bool unmaps(const Bdev& bdev) const;
  bool members_are_equal() const;

  std::shared_ptr<raid1::ThreadExecutor> executor_;
  std::shared_ptr<raid1::Core> core_;                       // while starting, online and stopping
  std::vector<std::unique_ptr<raid1::ChannelPort>> ports_;  // the core's, by slot
  std::vector<std::unique_ptr<raid1::ChannelPort>> retired_;
  std::unique_ptr<raid1::ChannelPort> external_;
  Layout layout_;
  std::uint64_t num_blocks_ = 0;
  std::uint32_t block_size_ = 0;
  bool started_before_ = false;
  bool stopped_whole_ = false;
  // What ready() found.
  std::vector<FoundMember> found_;
  std::vector<std::uint32_t> copies_;
  std::optional<StartPlan> plan_;  // none: a new array
};

std::unique_ptr<RaidLevel> make_raid1_level(RaidArray& array);

}  // namespace catnap::bdev
