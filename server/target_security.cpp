// Secure channels: which addresses have them, whose keys are valid for an identity, and what becomes of accepted sockets. See target.h.
// Owner: app_thread. Left out: handshakes (transport/tcp/secure_acceptor.h).
#include <fmt/format.h>

#include <algorithm>

#include "server/happenings.h"
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

// In the words of nvmf_subsystem_add_listener.
const char* text_of(ChannelSecurity security) {
  constexpr const char* texts[] = {"secure_channel false", "secure_concatenation", "secure_channel true"};
  return texts[static_cast<std::size_t>(security)];
}

const SubsystemSnapshot::ListenerEntry* listener_at(const TargetSnapshot& target, const transport::CommandQueue::Address& local) {
  for (const auto& [nqn, subsystem] : target.subsystems) {
    const auto* listener = subsystem->listener_for(local.traddr, local.trsvcid);
    if (listener != nullptr) return listener;
  }
  return nullptr;
}

void tell_failed(const transport::CommandQueue::Address& peer, tcp::HandshakeEnd end, const tls::Identity* claimed, const std::string& why) {
  Happening happening(host_tls_failed, peer.traddr);
  happening.details.emplace_back("result", tcp::handshake_end_name(end));
  happening.details.emplace_back("reason", why);
  if (claimed != nullptr) {
    happening.details.emplace_back("host", claimed->hostnqn);
    happening.details.emplace_back("subsystem", claimed->subnqn);
  }
  Happenings::instance().tell_of_host(std::move(happening));
}

}  // namespace

// What a host begins with is the same for all subsystems of an address: nobody knows yet which one it wants.
Result<void> Target::check_security(const ListenAddress& address, ChannelSecurity security) const {
  for (const auto& [nqn, subsystem] : current().subsystems) {
    for (const auto& listener : subsystem->listeners) {
      if (listener.security() == security || !overlap(listener.address, address)) continue;
      return fail(EINVAL,
                  fmt::format("Invalid argument: {}: subsystem '{}' listens on {} with {}, and all at an address agree on what hosts begin with",
                              text_of(security), nqn, address_text(listener.address), text_of(listener.security())));
    }
  }
  return {};
}

void Target::accepted(int fd) {
  if (gathered_ != nullptr && early_.size() < limits_.max_connections) return early_.push_back(fd);
  if (refuse_if_full(fd)) return;
  const auto* listener = listener_at(current(), tcp::local_address_of(fd));
  const ChannelSecurity security = listener == nullptr ? ChannelSecurity::cleartext : listener->security();
  if (security == ChannelSecurity::cleartext) return place(tcp::Incoming(fd));
  if (acceptor_ == nullptr) {
    acceptor_ = std::make_unique<tcp::SecureAcceptor>(
        app_thread_, transport_->tcp.secure, transport_->tcp.admission, [this](const tls::Identity& identity) { return keys_for(identity); },
        [this](tcp::Incoming incoming) { place(std::move(incoming)); }, &tell_failed);
  }
  acceptor_->take(fd, security == ChannelSecurity::either);
}

tcp::KnownKeys Target::keys_for(const tls::Identity& identity) const {
  const SubsystemSnapshot* subsystem = current().find(identity.subnqn);
  if (subsystem == nullptr || !subsystem->allows_host(identity.hostnqn)) return {};
  const HostKeys* of_host = subsystem->keys_of(identity.hostnqn);
  tcp::KnownKeys keys;
  if (of_host == nullptr) return keys;
  if (identity.generated) {
    if (hooks_.generated_psks == nullptr) return keys;
    auto found = hooks_.generated_psks->find(identity);
    // A host that has another dhchap_key by now shows first that it knows that one.
    if (!found || found->proven_by != of_host->dhchap_key) return keys;
    keys.generated = std::move(found->psk);
    keys.generated_name = std::move(found->name);
    return keys;
  }
  if (of_host->psk == nullptr) return keys;
  keys.configured = {of_host->psk};
  keys.configured.insert(keys.configured.end(), of_host->further_psks.begin(), of_host->further_psks.end());
  return keys;
}

}  // namespace catnap::server
