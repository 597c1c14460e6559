// See log_limit.h.
#include "reactor/base/log_limit.h"

#include <chrono>

namespace catnap {

LogLimit::Window& LogLimit::window_of(std::string_view key, std::uint64_t now_ns) {
  const auto found = windows_.find(key);
  if (found != windows_.end()) return found->second;
  if (windows_.size() >= max_keys) {
    std::erase_if(windows_, [&](const auto& entry) { return now_ns - entry.second.began_ns >= interval_ns_; });
    if (windows_.size() >= max_keys) return others_;
  }
  Window& made = windows_[std::string(key)];
  made.began_ns = now_ns;
  return made;
}

std::optional<std::uint64_t> LogLimit::allow(std::string_view key, std::uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  Window& window = window_of(key, now_ns);
  if (now_ns - window.began_ns >= interval_ns_) window = {now_ns, 0};
  if (window.said >= burst_) {
    ++unsaid_;
    ++suppressed_;
    return std::nullopt;
  }
  ++window.said;
  return std::exchange(unsaid_, 0);
}

std::optional<std::uint64_t> LogLimit::allow(std::string_view key) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return allow(key, static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count()));
}

std::uint64_t LogLimit::suppressed() const {
  const std::lock_guard lock(mutex_);
  return suppressed_;
}

}  // namespace catnap
