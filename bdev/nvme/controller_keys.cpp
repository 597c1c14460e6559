// Keys of a controller: what its connections authenticate with, and authenticating live ones once more. See controller.h.
// Owner: app_thread; I/O queues authenticate on their threads. Left out: the exchange (transport/tcp/host_auth.h).
#include <fmt/core.h>

#include <memory>
#include <utility>
#include <vector>

#include "bdev/nvme/controller.h"
#include "bdev/nvme/module.h"

namespace catnap::bdev {

std::shared_ptr<const dhchap::HostCredentials> credentials_of(const ControllerOptions& options, const NvmeOptions& module) {
  if (options.dhchap_key == nullptr) return nullptr;
  auto credentials = std::make_shared<dhchap::HostCredentials>();
  credentials->key = options.dhchap_key;
  credentials->ctrlr_key = options.dhchap_ctrlr_key;
  credentials->allowed = module.dhchap;
  return credentials;
}

Result<void> check_keys(const keyring::KeyRef& dhchap_key, const keyring::KeyRef& dhchap_ctrlr_key) {
  if (dhchap_ctrlr_key == nullptr || dhchap_key != nullptr) return {};
  return fail(EINVAL, fmt::format("Invalid argument: dhchap_ctrlr_key '{}' needs a dhchap_key: a controller authenticates itself to hosts that do so",
                                  dhchap_ctrlr_key->name()));
}

// Connections that are there authenticate anew, the admin queue first; commands go on meanwhile. One that fails ends, and is made anew with the new
// keys like any lost one; the error says so.
Task<Result<void>> NvmeController::set_keys(keyring::KeyRef dhchap_key, keyring::KeyRef dhchap_ctrlr_key) {
  const auto keep = shared_from_this();
  options_.dhchap_key = std::move(dhchap_key);
  options_.dhchap_ctrlr_key = std::move(dhchap_ctrlr_key);
  const auto credentials = credentials_of(options_, module_.options());
  if (association_ == nullptr) co_return Result<void>();
  const auto association = association_;
  auto outcome = co_await association->authenticate(credentials);
  if (!outcome) co_return fail(outcome.error().err, fmt::format("controller {} at {}: {}", name_, id().text(), outcome.error().message));
  const auto ports = hub_->ports();
  for (const auto& port : ports) {
    Promise<Result<void>> done;
    port->thread().send([port, credentials, done] { port->authenticate(credentials, [done](const Result<void>& result) { done.set(result); }); });
    outcome = co_await done;
    if (!outcome) co_return fail(outcome.error().err, fmt::format("controller {} at {}, I/O queue: {}", name_, id().text(), outcome.error().message));
  }
  co_return Result<void>();
}

}  // namespace catnap::bdev
