// See auth_failures.h.
#include "server/auth_failures.h"

#include <algorithm>

namespace catnap::server {
namespace {

// Neither part has a blank.
std::string key_of(const std::string& hostnqn, const std::string& address) { return address + ' ' + hostnqn; }

}  // namespace

AuthFailures& AuthFailures::instance() {
  static AuthFailures failures;
  return failures;
}

AuthFailures::Window* AuthFailures::find(const std::string& key, std::uint64_t now_ns) {
  const auto found = windows_.find(key);
  if (found == windows_.end()) return nullptr;
  if (now_ns - found->second.began_ns < window_ns) return &found->second;
  windows_.erase(found);
  return nullptr;
}

void AuthFailures::note(const std::string& hostnqn, const std::string& address, std::uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  const std::string key = key_of(hostnqn, address);
  Window* window = find(key, now_ns);
  if (window == nullptr) {
    if (windows_.size() >= max_keys) windows_.erase(std::ranges::min_element(windows_, {}, [](const auto& entry) { return entry.second.began_ns; }));
    window = &windows_.emplace(key, Window{now_ns, 0}).first->second;
  }
  ++window->count;
}

bool AuthFailures::too_many(const std::string& hostnqn, const std::string& address, std::uint64_t now_ns, std::uint32_t per_minute) {
  if (per_minute == 0) return false;
  const std::lock_guard lock(mutex_);
  const Window* window = find(key_of(hostnqn, address), now_ns);
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
