// See generated_psks.h.
#include "server/generated_psks.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace catnap::server {
namespace {

constexpr std::size_t page_bytes = 4096;

}  // namespace

Result<std::span<std::byte>> GeneratedPsks::take_cell() {
  if (free_cells_.empty()) {
    auto page = keyring::SecretBytes::create(page_bytes);
    if (!page) return std::unexpected(page.error());
    pages_.push_back(std::move(*page));
    const auto bytes = pages_.back().bytes();
    for (std::size_t at = 0; at + tls::max_hash_bytes <= bytes.size(); at += tls::max_hash_bytes) {
      free_cells_.push_back(bytes.subspan(at, tls::max_hash_bytes));
    }
  }
  const auto cell = free_cells_.back();
  free_cells_.pop_back();
  return cell;
}

void GeneratedPsks::forget(Entries::iterator at) {
  tls::wipe(at->cell);
  free_cells_.push_back(at->cell);
  entries_.erase(at);
}

void GeneratedPsks::make_room(const Origin& origin) {
  const auto same = [&](const Entry& entry) { return entry.origin.hostnqn == origin.hostnqn && entry.origin.subnqn == origin.subnqn; };
  const auto of_host = static_cast<std::size_t>(std::ranges::count_if(entries_, same));
  if (of_host >= max_keys_of_host) forget(std::ranges::find_if(entries_, same));
  if (entries_.size() >= max_keys) forget(entries_.begin());
}

Result<std::string> GeneratedPsks::add(Origin origin, tls::Hash hash, tls::Bytes psk, std::uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  if (!origin.replaces.empty()) {
    const auto replaced = std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.shown.name == origin.replaces; });
    if (replaced != entries_.end()) forget(replaced);
  }
  make_room(origin);
  const auto cell = take_cell();
  if (!cell) return std::unexpected(cell.error());
  Entry& entry = entries_.emplace_back();
  entry.cell = *cell;
  std::memcpy(entry.cell.data(), psk.data(), std::min(psk.size(), entry.cell.size()));
  entry.hash = hash;
  entry.identity = tls::generated_identity(hash, psk, origin.hostnqn, origin.subnqn).text();
  entry.shown.name = fmt::format("generated-{}", next_number_++);
  if (!origin.replaces.empty()) entry.shown.controller_subnqn = origin.controller_subnqn;
  entry.shown.cntlid = origin.cntlid;
  entry.idle_since_ns = now_ns;
  entry.origin = std::move(origin);
  return entry.shown.name;
}

Result<GeneratedPsks::Found> GeneratedPsks::find(const tls::Identity& identity) const {
  const std::string text = identity.text();
  const std::lock_guard lock(mutex_);
  const auto at = std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.identity == text; });
  if (at == entries_.end()) return fail(ENOENT, "no key of this identity has been generated, or it is no longer good");
  auto psk = keyring::SecretBytes::copy_of(at->cell.first(tls::hash_bytes(at->hash)));
  if (!psk) return std::unexpected(psk.error());
  Found found;
  found.name = at->shown.name;
  found.proven_by = at->origin.proven_by;
  found.psk = std::make_shared<const keyring::SecretBytes>(std::move(*psk));
  return found;
}

std::optional<std::uint64_t> GeneratedPsks::prune(std::uint64_t now_ns, const std::function<bool(const Shown& key)>& in_use) {
  std::optional<std::uint64_t> next_ns;
  const std::lock_guard lock(mutex_);
  for (auto at = entries_.begin(); at != entries_.end();) {
    Entry& entry = *at++;
    const bool used = in_use(entry.shown);
    if (std::exchange(entry.used, used) && !used) entry.idle_since_ns = now_ns;
    if (used) continue;
    const std::uint64_t until_ns = entry.idle_since_ns + entry.origin.timeout_ns;
    if (until_ns <= now_ns) {
      forget(std::prev(at));
    } else {
      next_ns = std::min(next_ns.value_or(until_ns), until_ns);
    }
  }
  return next_ns;
}

std::size_t GeneratedPsks::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

}  // namespace catnap::server
