// The bdev of an array that is online, and a level's channels: one lane (a channel of the member) for each member that is there.
//
// Lanes come and go while I/O runs. RaidBdev keeps which members have lanes, with a number that changes with them; a channel looks at it when it is
// made and is told about each change by message, so that after attach_lane() every channel, also one made meanwhile, has the lane before its next
// I/O.
//
// Owner: RaidBdev belongs to app_thread, but for the table of lanes, which is guarded by a mutex and read when a channel is made or told about a
// change; RaidChannels belong to their threads. Left out: what an I/O becomes (the levels).
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bdev/raid/raid.h"
#include "bdev/stack/virtual_bdev.h"

namespace catnap::bdev {

// One member as a channel sees it.
struct RaidLane {
  RaidLane() = default;
  ChannelRef channel;                    // null: no member there
  std::uint64_t data_offset_blocks = 0;  // added to the blocks of what goes down
  std::uint64_t data_blocks = 0;
};

class RaidChannel : public Channel {
 protected:
  RaidChannel(RaidBdev& bdev, Thread& thread);

  // Levels implement this instead of execute(): lanes are up to date.
  virtual void start(BdevIo& io) = 0;
  // After a lane came; before one goes (I/O on it that is under way ends by itself, its channel stays until then).
  virtual void lane_attached(std::uint32_t slot) { (void)slot; }
  virtual void lane_detaching(std::uint32_t slot) { (void)slot; }

  // As many as the array has slots.
  std::vector<RaidLane>& lanes() { return lanes_; }
  RaidBdev& raid() const { return raid_; }

 private:
  friend class RaidBdev;
  void execute(BdevIo& io) final {
    if (fresh_) [[unlikely]]
      adopt_lanes();
    start(io);
  }
  // Takes over the bdev's table: opens and releases channels of members. The first that could not be opened is the error.
  Result<void> adopt_lanes();

  RaidBdev& raid_;
  std::vector<RaidLane> lanes_;
  std::vector<std::shared_ptr<Bdev>> lane_bdevs_;  // whose channel each lane is
  bool fresh_ = true;
};

class RaidBdev final : public Bdev, public StackLevel {
 public:
  // `info` as RaidLevel::shape() filled it, with name, UUID and product.
  RaidBdev(BdevInfo info, std::shared_ptr<RaidArray> array);

  RaidArray& array() const { return *array_; }
  std::uint32_t level() const override { return level_; }
  bool supports(Op op) const override { return (supported_.load(std::memory_order_relaxed) >> static_cast<unsigned>(op) & 1) != 0; }
  std::string driver_specific_json() const override;
  std::string config_json() const override { return ""; }  // RaidArrays shows it, which also knows arrays that are not online
  // Has the level stop, then tells the array.
  void destroy(std::move_only_function<void()> done) override;

  // Every channel has (has not) a lane to that member, when it is over. attach: the first error of a thread that could not open the member's channel
  // (the lane is detached again everywhere). On app_thread, one at a time.
  Task<Result<void>> attach_lane(std::uint32_t slot);
  Task<void> detach_lane(std::uint32_t slot);
  // The same before there are channels.
  void set_lane(std::uint32_t slot);
  // Asks the level again what is supported; done by attach and detach.
  void look_at_support();
  // Publishes a new size (RaidLevel::grow()).
  void publish_size(std::uint64_t num_blocks) { set_num_blocks(num_blocks); }

 private:
  friend class RaidChannel;
  struct Lane {
    Lane() = default;
    std::shared_ptr<Bdev> bdev;  // null: none
    std::uint64_t data_offset_blocks = 0;
    std::uint64_t data_blocks = 0;
  };
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;
  std::vector<Lane> lanes() const;

  std::shared_ptr<RaidArray> array_;
  std::uint32_t level_ = 1;
  std::atomic<std::uint32_t> supported_{0};  // bits by Op
  mutable std::mutex mutex_;
  std::vector<Lane> lanes_;
};

}  // namespace catnap::bdev
