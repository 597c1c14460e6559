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
// keys like any lost one; the error says so. One that is being made with the old keys and is refused is made once more with the new ones.
Task<Result<void>> NvmeController::set_keys(keyring::KeyRef dhchap_key, keyring::KeyRef dhchap_ctrlr_key) {
  const auto keep = shared_from_this();
  options_.dhchap_key = std::move(dhchap_key);
  options_.dhchap_ctrlr_key = std::move(dhchap_ctrlr_key);
  const std::uint64_t version = ++keys_version_;
  try_new_keys();
  while (changing_keys_) {
    const Promise<bool> turn;
    keys_waiters_.push_back(turn);
    const bool come = co_await turn;
    static_cast<void>(come);
  }
  if (keys_version_ != version) co_return fail(ECANCELED, fmt::format("controller {} at {}: newer keys were set meanwhile", name_, id().text()));
  changing_keys_ = true;
  const auto credentials = credentials_of(options_, module_.options());
  auto outcome = co_await authenticate_live(credentials);
  changing_keys_ = false;
  for (const Promise<bool>& waiter : std::exchange(keys_waiters_, {})) waiter.set(true);
  co_return outcome;
}

// What is not connected may be so because its keys were refused: it need not wait for its next attempt, or for somebody's reset.
void NvmeController::try_new_keys() {
  for (const auto& port : hub_->ports()) {
    port->thread().send([port] { port->keys_changed(); });
  }
  if (state_ == State::waiting && attempt_timer_.armed()) module_.app_thread().arm_in_us(attempt_timer_, 0);
  if (state_ != State::failed) return;
  auto ended = [](Result<void>) {};
  spawn<Result<void>>(reset(), ended);
}

// Of a connection that this side has ended meanwhile, to make another: that one begins with the new keys.
bool NvmeController::is_made_anew(const Error& why) const { return state_ != State::detaching && (why.err == ESHUTDOWN || why.err == ECONNABORTED); }

Task<Result<void>> NvmeController::authenticate_live(std::shared_ptr<const dhchap::HostCredentials> credentials) {
  const auto keep = shared_from_this();
  const auto association = association_;
  if (association == nullptr) co_return Result<void>();
  auto outcome = co_await association->authenticate(credentials);
  if (!outcome && is_made_anew(outcome.error())) co_return Result<void>();
  if (!outcome) co_return fail(outcome.error().err, fmt::format("controller {} at {}: {}", name_, id().text(), outcome.error().message));
  const auto ports = hub_->ports();
  for (const auto& port : ports) {
    Promise<Result<void>> done;
    const bool sent =
        port->thread().send([port, credentials, done] { port->authenticate(credentials, [done](const Result<void>& result) { done.set(result); }); });
    if (!sent) continue;  // the thread has ended, and its queue with it
    outcome = co_await done;
    if (!outcome && is_made_anew(outcome.error())) continue;  // or nobody uses it any more
    if (!outcome) co_return fail(outcome.error().err, fmt::format("controller {} at {}, I/O queue: {}", name_, id().text(), outcome.error().message));
  }
  co_return Result<void>();
}

}  // namespace catnap::bdev
