// Keys of hosts and the rules of authentication. See target.h.
// Owner: app_thread. Left out: the keys themselves (keyring/keyring.h); connections, which go by the new keys when they authenticate next.
#include <fmt/format.h>

#include <algorithm>

#include "server/draft.h"
#include "server/target.h"

namespace catnap::server {

Result<void> Target::check_keys(const std::string& host_nqn, const HostKeys& keys) {
  if (keys.dhchap_ctrlr_key == nullptr || keys.dhchap_key != nullptr) return {};
  return fail(EINVAL,
              fmt::format("Invalid argument: host '{}' has dhchap_ctrlr_key '{}' but no dhchap_key: the controller authenticates itself to hosts "
                          "that have authenticated themselves",
                          host_nqn, keys.dhchap_ctrlr_key->name()));
}

Target::Change Target::set_keys(const std::string& nqn, const std::string& host_nqn, keyring::KeyRef dhchap_key, keyring::KeyRef dhchap_ctrlr_key,
                                const std::optional<std::vector<keyring::KeyRef>>& psks) {
  const auto found = find(nqn);
  if (!found) return std::unexpected(found.error());
  const auto& hosts = (*found)->hosts;
  if (!std::binary_search(hosts.begin(), hosts.end(), host_nqn)) {
    return fail(ENOENT, fmt::format("subsystem '{}' has no host '{}' in its list", nqn, host_nqn));
  }
  const HostKeys* present = (*found)->keys_of(host_nqn);
  HostKeys keys = present == nullptr ? HostKeys() : *present;
  keys.dhchap_key = std::move(dhchap_key);
  keys.dhchap_ctrlr_key = std::move(dhchap_ctrlr_key);
  if (psks) keys.set_psks(*psks);
  if (auto fit = check_keys(host_nqn, keys); !fit) return std::unexpected(fit.error());
  Draft draft(*this);
  auto& host_keys = draft.edit(nqn).host_keys;
  if (keys.empty()) {
    host_keys.erase(host_nqn);
  } else {
    host_keys[host_nqn] = std::make_shared<const HostKeys>(std::move(keys));
  }
  return publish(std::move(draft));
}

void Target::set_authentication(const AuthenticationRules& rules) {
  if (rules == current().authentication) return;
  Draft draft(*this);
  draft.target().authentication = rules;
  publish(std::move(draft));
}

}  // namespace catnap::server
