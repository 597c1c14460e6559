// A namespace as a bdev: one bdev over all the paths on which it can be reached.
//
// Owner: NvmeBdev belongs to app_thread, which publishes what paths there are (PathSet) to the channels; an NvmeChannel, its path chooser and its
// I/Os belong to the channel's thread. Left out: controllers (controller.h), which path is taken (path_policy.h) and what is retried
// (retry_policy.h).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "bdev/association.h"
#include "bdev/bdev.h"
#include "bdev/nvme/controller.h"
#include "bdev/nvme/nvme_commands.h"
#include "bdev/nvme/path_policy.h"
#include "bdev/nvme/write_fence.h"

namespace catnap::bdev {

// One path of a bdev, as published.
struct PathEntry {
  std::shared_ptr<PortHub> hub;
  std::string name;  // of the address, for reports and the log
  std::uint16_t cntlid = 0;
  std::uint32_t nsid = 0;
  AnaState ana_state = AnaState::optimized;
  bool namespace_there = true;
  bool ana_being_read = false;
  bool ana_may_pass = true;  // NvmeController::ana_may_pass
  std::array<std::uint16_t, 3> crdt{};
};
// Immutable once published.
struct PathSet {
  std::vector<PathEntry> paths;  // the preferred one first
  MultipathOptions multipath;
  bool auto_failback = true;
  std::int32_t retry_count = 3;
  bool count_paths = false;  // io_path_stat
};

// Per path and channel, with io_path_stat; as bdev_nvme_get_path_iostat shows them.
struct PathStats {
  std::uint64_t bytes_read = 0, num_read_ops = 0, bytes_written = 0, num_write_ops = 0, bytes_unmapped = 0, num_unmap_ops = 0;
  std::uint64_t read_latency_ns = 0, write_latency_ns = 0, unmap_latency_ns = 0;
};

// What a namespace can do, of the controllers' Identify data: the same for all paths, or the least of them.
struct NamespaceShape {
  BdevInfo info;
  std::uint16_t oncs = 0;
  CommandLimits limits;
};
NamespaceShape shape_of(const NamespaceData& data, const NvmeController& controller, std::string name);

class NvmeBdev final : public Bdev, public Associated {
 public:
  NvmeBdev(NamespaceShape shape, NamespaceData data, std::string subnqn);
  ~NvmeBdev() override;

  bool supports(Op op) const override;
  std::string driver_specific_json() const override;
  std::string config_json() const override { return ""; }  // the attach call brings it back
  void destroy(std::move_only_function<void()> done) override;

  // --- on app_thread ---
  std::uint32_t nsid() const { return data_.nsid; }
  const NamespaceData& data() const { return data_; }
  std::shared_ptr<const PathSet> paths() const;  // any OS thread
  // Publishes: every channel has taken it over when `done` runs.
  void publish(PathSet paths, std::move_only_function<void()> done = nullptr);
  void resized(const NamespaceData& data);
  // The name under which its fences are kept when it goes.
  std::string fence_key() const;
  // How often controllers that lead here were associated anew, told before any I/O goes there again: counts for who stands on this (Associated).
  void reassociated(std::uint64_t total) {
    if (std::exchange(reassociations_, total) == total) return;
    count_association();
    tell_of_association();  // by message: the paths are published by then
  }
  // A write whose fate is unknown: every channel holds later ones of these blocks back when `done` runs, on the calling thread. Any lightweight
  // thread.
  void fence(const FencedRange& range, std::uint64_t now_ns, std::move_only_function<void()> done);
  std::shared_ptr<const WriteFences> fences() const;
  // Of a bdev of the same namespace that went before they were over; before the first channel.
  void inherit_fences(std::shared_ptr<const WriteFences> fences) { fences_ = std::move(fences); }
  std::uint16_t oncs() const { return shape_.oncs; }
  const CommandLimits& limits() const { return shape_.limits; }

 private:
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;

  std::uint64_t reassociations_ = 0;
  NamespaceShape shape_;
  NamespaceData data_;
  std::string subnqn_;
  mutable std::mutex mutex_;
  std::shared_ptr<const PathSet> paths_;
  std::shared_ptr<const WriteFences> fences_;  // null: none
};

// What bdev_nvme_get_io_paths and bdev_nvme_get_path_iostat ask each channel: on its thread (Bdev::for_each_channel, and this cast).
struct PathReport {
  std::string name;
  std::uint16_t cntlid = 0;
  bool current = false;
  bool connected = false;
  bool accessible = false;
  PathStats stats;
};
std::vector<PathReport> report_paths(Channel& channel);

}  // namespace catnap::bdev
