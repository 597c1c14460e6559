// All arrays, and how members find them: by the names that create calls gave, and by the superblocks on bdevs, in any order of arrival.
// Owner: app_thread. Left out: what an array does (raid.h), JSON-RPC (raid_rpc.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bdev/raid/raid.h"
#include "bdev/raid/superblock.h"

namespace catnap::bdev {

class RaidArrays {
 public:
  static RaidArrays& instance();

  // The array is there afterwards: online, or configuring when members are missing. Errors: EEXIST (name or UUID taken), those of RaidArray::make()
  // and of its start with members that are there. After an error nothing is left of it.
  Task<Result<void>> create(RaidOptions options);
  // The name is free again when the answer comes. Errors: ENODEV, EALREADY.
  Task<Result<void>> remove(std::string name, bool clear_superblock);
  // Assembles here the array of another host (raid_host.h) whose superblock stands on that bdev; it may wait for members. Errors: ENODEV, ENOENT (no
  // superblock), EEXIST (it is here already), EBUSY (somebody has claimed the bdev).
  Task<Result<void>> take_over(std::string bdev_name);
  // By name or UUID; not those that are being removed. Null: none.
  std::shared_ptr<RaidArray> find(std::string_view name_or_uuid) const;
  // In the order of their creation.
  std::vector<std::shared_ptr<RaidArray>> all() const { return arrays_; }
  // Which array has that bdev (a name, alias or UUID; there or not) in which slot. `array_name` empty: any.
  Result<std::pair<std::shared_ptr<RaidArray>, std::uint32_t>> place_of(const std::string& bdev_name, const std::string& array_name) const;
  // The calls that make them again, as JSON texts. Arrays with superblocks that have been online are found on their members instead.
  std::vector<std::string> config_calls() const;

 private:
  RaidArrays();
  Task<void> examine(std::shared_ptr<Bdev> bdev);
  Task<void> adopt(std::shared_ptr<Bdev> bdev, Superblock superblock);

  std::vector<std::shared_ptr<RaidArray>> arrays_;
  std::vector<std::shared_ptr<RaidArray>> leaving_;
  std::vector<std::string> taken_over_;  // UUIDs of arrays of other hosts that are ours by request
};

}  // namespace catnap::bdev
