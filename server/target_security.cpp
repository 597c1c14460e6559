// Secure channels: which addresses have them, whose keys are valid for an identity, and what becomes of accepted sockets. See target.h.
// Owner: app_thread. Left out: handshakes (transport/tcp/secure_acceptor.h).
#include <fmt/format.h>

#include <algorithm>

#include "server/names.h"
#include "server/target.h"
#include "transport/tcp/address.h"

namespace catnap::server {
namespace {

bool is_wildcard(const std::string& traddr) { return traddr == "0.0.0.0" || traddr == "::"; }

// Whether a connection can come in through both.
bool overlap(const ListenAddress& a, const ListenAddress& b) {
  return a.adrfam == b.adrfam && a.trsvcid == b.trsvcid && (a.traddr == b.traddr || is_wildcard(a.traddr) || is_wildcard(b.traddr));
}

const SubsystemSnapshot::ListenerEntry* listener_at(const TargetSnapshot& target, const transport::CommandQueue::Address& local) {
  for (const auto& [nqn, subsystem] : target.subsystems) {
    const auto* listener = subsystem->listener_for(local.traddr, local.trsvcid);
    if (listener != nullptr) return listener;
  }
  return nullptr;
}

}  // namespace

// What a host begins with is the same for all subsystems of an address: nobody knows yet which one it wants.
Result<void> Target::check_security(const ListenAddress& address, bool secure_channel) const {
  for (const auto& [nqn, subsystem] : current().subsystems) {
    for (const auto& listener : subsystem->listeners) {
      if (listener.secure_channel == secure_channel || !overlap(listener.address, address)) continue;
      return fail(EINVAL,
                  fmt::format("Invalid argument: secure_channel {}: subsystem '{}' listens on {} with secure_channel {}, and an address has one "
                              "of the two",
                              secure_channel, nqn, address_text(listener.address), listener.secure_channel));
    }
  }
  return {};
}

void Target::accepted(int fd) {
  if (refuse_if_full(fd)) return;
  const auto* listener = listener_at(current(), tcp::local_address_of(fd));
  if (listener == nullptr || !listener->secure_channel) return place(tcp::Incoming(fd));
  if (acceptor_ == nullptr) {
    acceptor_ = std::make_unique<tcp::SecureAcceptor>(
        app_thread_, transport_->tcp.secure, transport_->tcp.admission, [this](const tls::Identity& identity) { return keys_for(identity); },
        [this](tcp::Incoming incoming) { place(std::move(incoming)); });
  }
  acceptor_->take(fd);
}

std::vector<keyring::KeyRef> Target::keys_for(const tls::Identity& identity) const {
  const SubsystemSnapshot* subsystem = current().find(identity.subnqn);
  if (subsystem == nullptr || !subsystem->allows_host(identity.hostnqn)) return {};
  if (identity.generated) return {};  // would be of DH-HMAC-CHAP's secure channel concatenation, which is not there
  const HostKeys* of_host = subsystem->keys_of(identity.hostnqn);
  if (of_host == nullptr || of_host->psk == nullptr) return {};
  std::vector<keyring::KeyRef> keys = {of_host->psk};
  keys.insert(keys.end(), of_host->further_psks.begin(), of_host->further_psks.end());
  return keys;
}

}  // namespace catnap::server
