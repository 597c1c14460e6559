// The error information log of one controller: the newest failed commands, of all its queues.
// Owner: shared; any OS thread (a mutex, taken only when a command fails or the log is read). Left out: persistence over the controller's end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "transport/nvme/log_page.h"

namespace catnap::server {

class ErrorLog {
 public:
  // ELPE + 1; 64 is what most drives keep, and one page of 4 KiB.
  static constexpr std::size_t capacity = 64;

  // `entry.error_count` is filled in.
  void record(nvme::ErrorEntry entry);
  std::vector<nvme::ErrorEntry> newest_first() const;
  std::uint64_t count() const;  // ever recorded

 private:
  mutable std::mutex mutex_;
  std::uint64_t count_ = 0;
  std::array<nvme::ErrorEntry, capacity> ring_{};
};

}  // namespace catnap::server
