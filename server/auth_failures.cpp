// See auth_failures.h.
#include "server/auth_failures.h"

namespace catnap::server {
namespace {

// Neither part has a blank.
std::string key_of(const std::string& hostnqn, const std::string& address) { return address + ' ' + hostnqn; }

}  // namespace

AuthFailures& AuthFailures::instance() {
  static AuthFailures failures;
  return failures;
}

AuthFailures::Window* AuthFailures::window_of(const std::string& key, std::uint64_t now_ns, bool make) {
  const auto is_over = [now_ns](const Window& window) { return now_ns - window.began_ns >= window_ns; };
  auto found = windows_.find(key);
  if (found != windows_.end() && is_over(found->second)) {
    windows_.erase(found);
    found = windows_.end();
  }
  if (found != windows_.end()) return &found->second;
  if (windows_.size() >= max_keys) std::erase_if(windows_, [&](const auto& entry) { return is_over(entry.second); });
  if (windows_.size() >= max_keys) {
    if (is_over(others_)) others_ = Window{now_ns, 0};
    return &others_;
  }
  return make ? &windows_.emplace(key, Window{now_ns, 0}).first->second : nullptr;
}

void AuthFailures::note(const std::string& hostnqn, const std::string& address, std::uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  ++window_of(key_of(hostnqn, address), now_ns, true)->count;
}

bool AuthFailures::too_many(const std::string& hostnqn, const std::string& address, std::uint64_t now_ns, std::uint32_t per_minute) {
  if (per_minute == 0) return false;
  const std::lock_guard lock(mutex_);
  const Window* window = window_of(key_of(hostnqn, address), now_ns, false);
  return window != nullptr && window->count >= per_minute;
}

void AuthFailures::forget(const std::string& hostnqn, const std::string& address) {
  const std::lock_guard lock(mutex_);
  windows_.erase(key_of(hostnqn, address));
}

void AuthFailures::forget_host(const std::string& hostnqn) {
  const std::lock_guard lock(mutex_);
  std::erase_if(windows_, [end = key_of(hostnqn, "")](const auto& entry) { return entry.first.ends_with(end); });
}

}  // namespace catnap::server
