// See generated_keys.h.
#include "transport/tls/generated_keys.h"

#include <algorithm>
#include <utility>

#include "reactor/clock.h"
#include "reactor/thread.h"

namespace catnap::tls {
namespace {

// Expiry is minutes away; keys that came together go together.
constexpr std::uint64_t grid_ns = 10 * ns_per_s;

}  // namespace

// Never destroyed: connections of any order of destruction hold keys.
GeneratedKeys& GeneratedKeys::instance() {
  static auto* keys = new GeneratedKeys;
  return *keys;
}

void GeneratedKeys::add(std::string hostnqn, std::string subnqn, Hash hash, SecretBytes psk, std::uint64_t lifetime_us) {
  const Name name{std::move(hostnqn), std::move(subnqn), hash};
  if (keys_.size() >= max_keys && !keys_.contains(name)) {
    keys_.erase(std::ranges::min_element(keys_, {}, [](const auto& entry) { return entry.second.until_ns; }));
  }
  keys_.insert_or_assign(name, Entry{std::make_shared<const SecretBytes>(std::move(psk)), Thread::current()->now_ns() + lifetime_us * ns_per_us});
  watch();
}

void GeneratedKeys::remove(const std::string& hostnqn, const std::string& subnqn) {
  std::erase_if(keys_, [&](const auto& entry) { return entry.first.hostnqn == hostnqn && entry.first.subnqn == subnqn; });
  watch();
}

std::shared_ptr<const SecretBytes> GeneratedKeys::find(const Identity& identity) const {
  const auto found = keys_.find(Name{identity.hostnqn, identity.subnqn, identity.hash});
  if (found == keys_.end() || found->second.until_ns <= Thread::current()->now_ns()) return nullptr;
  return found->second.psk;
}

void GeneratedKeys::watch() {
  if (keys_.empty()) return timer_.disarm();
  const auto first = std::ranges::min_element(keys_, {}, [](const auto& entry) { return entry.second.until_ns; });
  Thread::current()->arm_at(timer_, (first->second.until_ns + grid_ns - 1) / grid_ns * grid_ns);
}

void GeneratedKeys::expire() {
  const std::uint64_t now_ns = Thread::current()->now_ns();
  std::erase_if(keys_, [&](const auto& entry) { return entry.second.until_ns <= now_ns; });
  watch();
}

}  // namespace catnap::tls
