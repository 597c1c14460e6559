// See raid_bdev.h.
#include "bdev/raid/raid_bdev.h"

#include <algorithm>

#include "bdev/json_text.h"

namespace catnap::bdev {

RaidChannel::RaidChannel(RaidBdev& bdev, Thread& thread) : Channel(bdev, thread), raid_(bdev), lanes_(bdev.array().members().size()) {
  lane_bdevs_.resize(lanes_.size());
}

Result<void> RaidChannel::adopt_lanes() {
  fresh_ = false;
  Result<void> outcome;
  const std::vector<RaidBdev::Lane> wanted = raid_.lanes();
  for (std::uint32_t slot = 0; slot < wanted.size(); ++slot) {
    RaidLane& lane = lanes_[slot];
    if (lane_bdevs_[slot] == wanted[slot].bdev) continue;
    if (lane.channel) {
      lane_detaching(slot);
      lane.channel = {};
    }
    lane_bdevs_[slot] = wanted[slot].bdev;
    if (wanted[slot].bdev == nullptr) continue;
    auto opened = wanted[slot].bdev->get_channel();
    if (!opened) {
      if (outcome) outcome = std::unexpected(opened.error());
      continue;
    }
    lane.data_offset_blocks = wanted[slot].data_offset_blocks;
    lane.data_blocks = wanted[slot].data_blocks;
    lane.channel = std::move(*opened);
    lane_attached(slot);
  }
  return outcome;
}

RaidBdev::RaidBdev(BdevInfo info, std::shared_ptr<RaidArray> array)
    : Bdev(std::move(info)), array_(std::move(array)), lanes_(array_->members().size()) {
  for (const auto& member : array_->members()) {
    if (member->present()) level_ = std::max(level_, stack_level_of(member->bdev()) + 1);
  }
}

void RaidBdev::look_at_support() {
  std::uint32_t bits = 0;
  for (std::uint32_t op = 0; op < op_count; ++op) {
    if (array_->level().supports(static_cast<Op>(op))) bits |= 1u << op;
  }
  supported_.store(bits, std::memory_order_relaxed);
}

std::string RaidBdev::driver_specific_json() const { return JsonObject().add_raw("raid", array_->info_json()).text(); }

void RaidBdev::destroy(std::move_only_function<void()> done) { spawn(array_->bdev_gone(), std::move(done)); }

std::vector<RaidBdev::Lane> RaidBdev::lanes() const {
  const std::lock_guard lock(mutex_);
  return lanes_;
}

// The lanes are opened here for their errors; what changes until the core knows the channel is taken up before its first I/O.
Result<std::unique_ptr<Channel>> RaidBdev::create_channel(Thread& thread) {
  std::unique_ptr<RaidChannel> channel = array_->level().make_channel(*this, thread);
  if (auto opened = channel->adopt_lanes(); !opened) return std::unexpected(opened.error());
  channel->fresh_ = true;
  return channel;
}

namespace {

// What the threads say about a lane.
struct LaneRound {
  LaneRound() = default;
  std::mutex mutex;
  Result<void> outcome;
};

}  // namespace

void RaidBdev::set_lane(std::uint32_t slot) {
  const RaidMember& member = array_->member(slot);
  {
    const std::lock_guard lock(mutex_);
    lanes_[slot].bdev = member.bdev().shared_from_this();
    lanes_[slot].data_offset_blocks = member.data_offset_blocks;
    lanes_[slot].data_blocks = member.data_blocks;
  }
  look_at_support();
}

Task<Result<void>> RaidBdev::attach_lane(std::uint32_t slot) {
  set_lane(slot);
  auto round = std::make_shared<LaneRound>();
  const Promise<bool> all;
  for_each_channel(
      [round](Channel& channel) {
        auto adopted = static_cast<RaidChannel&>(channel).adopt_lanes();
        const std::lock_guard lock(round->mutex);
        if (!adopted && round->outcome) round->outcome = adopted;
      },
      [all] { all.set(true); });
  co_await all;
  if (!round->outcome) co_await detach_lane(slot);
  co_return round->outcome;
}

Task<void> RaidBdev::detach_lane(std::uint32_t slot) {
  {
    const std::lock_guard lock(mutex_);
    lanes_[slot].bdev = nullptr;
  }
  const Promise<bool> all;
  for_each_channel([](Channel& channel) { (void)static_cast<RaidChannel&>(channel).adopt_lanes(); }, [all] { all.set(true); });
  co_await all;
}

}  // namespace catnap::bdev
