// Who may come in and what they see: hosts of subsystems, hosts of namespaces, referrals and their hosts. See target.h.
// Owner: app_thread. Left out: keys of hosts (target_keys.cpp); ending connections, which poll groups do when they take a snapshot up.
#include <fmt/format.h>

#include <algorithm>

#include "server/draft.h"
#include "server/names.h"
#include "server/target.h"

namespace catnap::server {
namespace {

// How often a wait for the controllers of a removed host looks again, as in settled_and_released().
constexpr std::uint64_t host_look_us = 2'000;

bool has(const std::vector<std::string>& sorted, const std::string& name) { return std::binary_search(sorted.begin(), sorted.end(), name); }

void insert_sorted(std::vector<std::string>& sorted, const std::string& name) {
  sorted.insert(std::lower_bound(sorted.begin(), sorted.end(), name), name);
}

std::string referral_text(const ListenAddress& address, const std::string& subnqn) {
  return fmt::format("{} {}, subnqn '{}'", address.trtype, address_text(address), subnqn);
}

}  // namespace

// --- hosts of a subsystem ---

Target::Change Target::add_host(const std::string& nqn, const std::string& host_nqn, HostKeys keys) {
  const auto found = find(nqn);
  if (!found) return std::unexpected(found.error());
  if (auto valid = validate_nqn(host_nqn); !valid) return std::unexpected(valid.error());
  if (has((*found)->hosts, host_nqn)) return fail(EEXIST, fmt::format("File exists: subsystem '{}' allows host '{}' already", nqn, host_nqn));
  if (auto fit = check_keys(host_nqn, keys); !fit) return std::unexpected(fit.error());
  Draft draft(*this);
  SubsystemSnapshot& edited = draft.edit(nqn);
  insert_sorted(edited.hosts, host_nqn);
  if (!keys.empty()) edited.host_keys[host_nqn] = std::make_shared<const HostKeys>(std::move(keys));
  return publish(std::move(draft));
}

Target::Change Target::remove_host(const std::string& nqn, const std::string& host_nqn, std::uint64_t grace_us) {
  const auto found = find(nqn);
  if (!found) return std::unexpected(found.error());
  Draft draft(*this);
  SubsystemSnapshot& edited = draft.edit(nqn);
  if (std::erase(edited.hosts, host_nqn) == 0) {
    return fail(ENOENT, fmt::format("subsystem '{}' has no host '{}' in its list", nqn, host_nqn));
  }
  edited.host_keys.erase(host_nqn);
  draft.target().ending_grace_us = grace_us;
  return publish(std::move(draft));
}

Target::Change Target::set_allow_any_host(const std::string& nqn, bool allow) {
  const auto found = find(nqn);
  if (!found) return std::unexpected(found.error());
  if ((*found)->allow_any_host == allow) return current().generation;
  Draft draft(*this);
  draft.edit(nqn).allow_any_host = allow;
  return publish(std::move(draft));
}

Task<Result<void>> Target::host_gone(std::uint64_t generation, std::string nqn, std::string host_nqn, std::uint64_t timeout_us) {
  const std::uint64_t deadline_ns = app_thread_.now_ns() + timeout_us * ns_per_us;
  if (gathered_ != nullptr) co_return Result<void>();  // there are no connections yet
  Result<void> committed = co_await publisher_.committed(generation, limits_.commit_timeout_us);
  if (!committed) co_return committed;
  for (;;) {
    // Allowed by another rule, or again meanwhile: its connections stay.
    const SubsystemSnapshot* subsystem = current().find(nqn);
    const bool stays = subsystem != nullptr && subsystem->allows_host(host_nqn);
    const std::size_t left = stays || !hooks_.controllers_of_host ? 0 : hooks_.controllers_of_host(nqn, host_nqn);
    if (left == 0) co_return Result<void>();
    if (app_thread_.now_ns() >= deadline_ns) {
      co_return fail(ETIMEDOUT,
                     fmt::format("Timeout reached during host removal: host '{}' is off the list of subsystem '{}' and its connections are "
                                 "closed, but {} of its controllers still wait for I/O in flight after {} ms and end with it",
                                 host_nqn, nqn, left, timeout_us / 1000));
    }
    SleepFor look_again(host_look_us);
    co_await look_again;
  }
}

// --- hosts of a namespace ---

Target::Change Target::set_namespace_visible(const std::string& nqn, std::uint32_t nsid, const std::string& host_nqn, bool visible) {
  const auto found = find_editable(nqn);
  if (!found) return std::unexpected(found.error());
  if (auto valid = validate_nqn(host_nqn); !valid) return std::unexpected(valid.error());
  const auto at = (*found)->namespaces.find(nsid);
  if (at == (*found)->namespaces.end()) return fail(ENODEV, fmt::format("No such device: subsystem '{}' has no namespace with nsid {}", nqn, nsid));
  const NamespaceConfig& config = *at->second;
  if (!config.no_auto_visible) {
    return fail(EPERM,
                fmt::format("namespace {} of subsystem '{}' is visible to every host: only one added with no_auto_visible has a list", nsid, nqn));
  }
  if (has(config.visible_hosts, host_nqn) == visible) return current().generation;  // as SPDK: nothing to do is no error
  Draft draft(*this);
  auto edited = std::make_shared<NamespaceConfig>(config);
  if (visible) {
    insert_sorted(edited->visible_hosts, host_nqn);
  } else {
    std::erase(edited->visible_hosts, host_nqn);
  }
  draft.edit(nqn).namespaces[nsid] = std::move(edited);
  return publish(std::move(draft));
}

// --- referrals ---

Target::Change Target::add_referral(const Referral& given) {
  Referral referral = given;
  if (referral.subnqn.empty()) referral.subnqn = discovery_nqn;
  if (auto valid = validate_nqn(referral.subnqn); !valid) return std::unexpected(valid.error());
  auto address = normalise_referral_address(given.address);
  if (!address) return std::unexpected(address.error());
  referral.address = std::move(*address);
  std::sort(referral.hosts.begin(), referral.hosts.end());
  referral.hosts.erase(std::unique(referral.hosts.begin(), referral.hosts.end()), referral.hosts.end());
  for (const std::string& host : referral.hosts) {
    if (auto valid = validate_nqn(host); !valid) return std::unexpected(valid.error());
  }
  for (const Referral& present : current().referrals) {
    if (!present.same_place(referral.address, referral.subnqn)) continue;
    const bool same =
        present.secure_channel == referral.secure_channel && present.allow_any_host == referral.allow_any_host && present.hosts == referral.hosts;
    if (same) return current().generation;  // as SPDK: no action
    return fail(EEXIST,
                fmt::format("File exists: there is a referral to {} already, with other options", referral_text(referral.address, referral.subnqn)));
  }
  if (current().referrals.size() >= limits_.max_referrals)
    return fail(ENOSPC, fmt::format("No space left: there are {} referrals already, the most there may be", limits_.max_referrals));
  Draft draft(*this);
  draft.target().referrals.push_back(std::move(referral));
  return publish(std::move(draft));
}

Result<std::size_t> Target::find_referral(const ListenAddress& given, const std::string& subnqn) const {
  const auto address = normalise_referral_address(given);
  if (!address) return std::unexpected(address.error());
  const std::string wanted = subnqn.empty() ? discovery_nqn : subnqn;
  const auto& referrals = current().referrals;
  const auto found = std::find_if(referrals.begin(), referrals.end(), [&](const Referral& each) { return each.same_place(*address, wanted); });
  if (found != referrals.end()) return static_cast<std::size_t>(found - referrals.begin());
  return fail(ENODEV, fmt::format("No such device: there is no referral to {}", referral_text(*address, wanted)));
}

Target::Change Target::remove_referral(const ListenAddress& address, const std::string& subnqn) {
  const auto found = find_referral(address, subnqn);
  if (!found) return std::unexpected(found.error());
  Draft draft(*this);
  auto& referrals = draft.target().referrals;
  referrals.erase(referrals.begin() + static_cast<std::ptrdiff_t>(*found));
  return publish(std::move(draft));
}

Target::Change Target::set_referral_host(const ListenAddress& address, const std::string& subnqn, const std::string& host_nqn, bool shown) {
  const auto found = find_referral(address, subnqn);
  if (!found) return std::unexpected(found.error());
  if (auto valid = validate_nqn(host_nqn); !valid) return std::unexpected(valid.error());
  const Referral& present = current().referrals[*found];
  if (has(present.hosts, host_nqn) == shown) {
    const std::string place = referral_text(present.address, present.subnqn);
    if (shown) return fail(EEXIST, fmt::format("File exists: the referral to {} has host '{}' in its list already", place, host_nqn));
    return fail(ENOENT, fmt::format("the referral to {} has no host '{}' in its list", place, host_nqn));
  }
  Draft draft(*this);
  auto& hosts = draft.target().referrals[*found].hosts;
  if (shown) {
    insert_sorted(hosts, host_nqn);
  } else {
    std::erase(hosts, host_nqn);
  }
  return publish(std::move(draft));
}

Target::Change Target::set_referral_allow_any_host(const ListenAddress& address, const std::string& subnqn, bool allow) {
  const auto found = find_referral(address, subnqn);
  if (!found) return std::unexpected(found.error());
  Draft draft(*this);
  draft.target().referrals[*found].allow_any_host = allow;
  return publish(std::move(draft));
}

// --- the target as a whole ---

void Target::set_discovery_filters(std::uint8_t filters) {
  Draft draft(*this);
  draft.target().discovery_filters = filters;
  publish(std::move(draft));
}

Result<void> Target::set_discovery_nqn(const std::string& nqn) {
  const std::string unique = nqn == discovery_nqn ? std::string() : nqn;
  if (!unique.empty()) {
    if (auto valid = validate_nqn(unique); !valid) return std::unexpected(valid.error());
    const SubsystemSnapshot* taken = current().find(unique);
    if (taken != nullptr && !taken->discovery) return fail(EEXIST, fmt::format("File exists: there is a subsystem with NQN '{}' already", unique));
  }
  Draft draft(*this);
  draft.edit(discovery_nqn).unique_nqn = unique;
  publish(std::move(draft));
  return {};
}

void Target::set_crdt(const std::array<std::uint16_t, 3>& delays_100ms) {
  Draft draft(*this);
  draft.target().crdt_100ms = delays_100ms;
  publish(std::move(draft));
}

}  // namespace catnap::server
