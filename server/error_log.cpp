// The ring behind the error information log. See error_log.h.
// Owner: shared, any OS thread. Left out: persistence.
#include "server/error_log.h"

#include <algorithm>

namespace catnap::server {

void ErrorLog::record(nvme::ErrorEntry entry) {
  const std::lock_guard lock(mutex_);
  entry.error_count = ++count_;
  ring_[(count_ - 1) % capacity] = entry;
}

std::vector<nvme::ErrorEntry> ErrorLog::newest_first() const {
  const std::lock_guard lock(mutex_);
  std::vector<nvme::ErrorEntry> entries;
  const std::uint64_t kept = std::min<std::uint64_t>(count_, capacity);
  for (std::uint64_t back = 0; back < kept; ++back) entries.push_back(ring_[(count_ - 1 - back) % capacity]);
  return entries;
}

std::uint64_t ErrorLog::count() const {
  const std::lock_guard lock(mutex_);
  return count_;
}

}  // namespace catnap::server
