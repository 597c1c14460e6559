// TLS of a host's queue pair: between TCP and ICReq. See host_queue.h.
#include <fmt/core.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "transport/tcp/host_queue.h"
#include "transport/tls/psk.h"

namespace catnap::tcp {
namespace {

// Of a key that has no name of the keyring.
const std::string generated_name = "generated";

template <std::size_t size>
std::string text_of(const std::array<char, size>& field) {
  return {field.data(), strnlen(field.data(), size)};
}

}  // namespace

// What the handshake is made with; shared with the worker, which fills in what it found out.
struct HostQueue::Offer {
  keyring::KeyRef psk;
  std::shared_ptr<const tls::GeneratedPsk> generated;  // instead
  std::string hostnqn;
  std::string subnqn;
  std::uint8_t identity_version = 1;
  tls::StreamOptions options;
  tls::Hash hash = tls::Hash::sha256;
  int local_err = 0;  // why there is nothing to offer: errno

  const std::string& key_name() const { return generated != nullptr ? generated_name : psk->name(); }
  // Blocks.
  Result<tls::TlsKey> key() const;
};

Result<tls::TlsKey> HostQueue::Offer::key() const {
  if (generated != nullptr) return tls::generated_key(generated->hash, generated->psk.bytes(), hostnqn, subnqn);
  const auto text = psk->read();
  if (!text) return std::unexpected(text.error());
  const auto configured = tls::parse_interchange(text->text());
  if (!configured) return std::unexpected(configured.error());
  return tls::host_key(*configured, hostnqn, subnqn, identity_version);
}

void HostQueue::secure(std::uint8_t identity_version) {
  state_ = State::securing;
  if (std::exchange(in_fd_group_, false)) (void)thread_.fds().remove(fd_);
  offer_ = std::make_shared<Offer>();
  offer_->psk = options_.psk;
  offer_->generated = options_.generated_psk;
  offer_->hostnqn = text_of(options_.connect.hostnqn);
  offer_->subnqn = text_of(options_.connect.subnqn);
  offer_->identity_version = identity_version;
  offer_->options = options_.tls;
  tls::Handshake::User user;
  user.done = [this](std::unique_ptr<tls::Stream> stream) { secured(std::move(stream)); };
  user.failed = [this](const Error& why) { not_secured(why); };
  handshake_ =
      std::make_unique<tls::Handshake>(thread_, fd_, fmt::format("nvme queue {}, TLS handshake", label_), tls::worker_pool(), std::move(user));
  handshake_->begin([offer = offer_] {
    tls::Handshake::Turn turn;
    const auto failed = [&](const Error& why) {
      offer->local_err = why.err;
      turn.why = why.message;
    };
    auto key = offer->key();
    if (!key) {
      failed(key.error());
      return turn;
    }
    offer->hash = key->identity.hash;
    auto stream = tls::Stream::connect(std::move(*key), offer->options);
    if (!stream) {
      failed(stream.error());
      return turn;
    }
    return tls::Handshake::step(std::move(*stream), {});
  });
}

void HostQueue::secured(std::unique_ptr<tls::Stream> stream) {
  tls_ = std::move(stream);
  channel_.hostnqn = offer_->hostnqn;
  channel_.subnqn = offer_->subnqn;
  channel_.suite = tls::suite_name(offer_->hash);
  channel_.key_name = offer_->key_name();
  channel_.generated = offer_->generated != nullptr;
  channel_.identity_version = offer_->identity_version;
  channel_.kernel_sends = tls_->kernel_sends();
  channel_.kernel_receives = tls_->kernel_receives();
  state_ = State::initializing;
  update_interest();
  send_ic_req();
}

// The controller may not know identities of version 1: then it is asked again with version 0, on a new connection within the same time.
void HostQueue::not_secured(const Error& why) {
  const bool may_be_version =
      offer_->generated == nullptr && offer_->local_err == 0 && offer_->identity_version == 1 && !options_.psk_identity_version;
  if (may_be_version) {
    handshake_->stop();
    ::close(std::exchange(fd_, -1));
    state_ = State::connecting;
    options_.psk_identity_version = 0;
    if (auto opened = open_socket(); !opened) close(opened.error());
    return;
  }
  const int err = offer_->local_err != 0 ? offer_->local_err : EACCES;
  close(Error(err, fmt::format("TLS with key '{}' (identity version {}) failed: {}", offer_->key_name(), offer_->identity_version, why.message)));
}

// What epoll does not tell of: bytes that the library holds, in either direction.
void HostQueue::come_back_for_tls() {
  if (tls_ == nullptr || over()) return;
  if (tls_->has_pending()) thread_.make_ready(read_on_);
  if (tls_->has_unsent()) want_flush();
}

}  // namespace catnap::tcp
