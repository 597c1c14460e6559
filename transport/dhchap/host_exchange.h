// The host's side of one queue's authentication, as a state machine without a socket: it says what to do next, arithmetic is handed out as work.
// Source: NVMe Base 2.0, section 8.13.5. Owner: the queue's thread; Work runs on a worker and touches nothing of this object; its Apply runs on the
// owner's thread, while the object is still there. Left out: commands and deadlines (transport/tcp/host_auth.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "keyring/keyring.h"
#include "transport/dhchap/messages.h"
#include "transport/dhchap/target_exchange.h"

namespace catnap::dhchap {

// What a host authenticates with.
struct HostCredentials {
  keyring::KeyRef key;
  keyring::KeyRef ctrlr_key;  // then the controller must authenticate itself too; may be null
  Allowed allowed;
};

class HostExchange {
 public:
  enum class Next : std::uint8_t { send, receive, finished };

  // With `concatenation`, a PSK for TLS comes out of it.
  HostExchange(HostCredentials credentials, std::string hostnqn, std::string subnqn, AuthConcatenation concatenation = AuthConcatenation::none);

  // What is to be done, unless work is out.
  Next next() const;
  // The message to send; then sent().
  const Bytes& outgoing() const { return outgoing_; }
  void sent();
  // What Authentication Receive brought, zeroes behind it.
  std::optional<Work> received(std::span<const std::byte> message);
  // When finished. Errors: EACCES (either side refused the other), EPROTO (a message that cannot be), what reading a key says.
  const Result<void>& outcome() const { return outcome_; }
  // When finished well, and with concatenation; once.
  std::optional<GeneratedPsk> take_psk();

 private:
  enum class State : std::uint8_t { negotiate, challenge, reply, success1, last, finished };

  bool allows(AuthHash hash) const { return credentials_.allowed.has(hash) && (!concatenating() || can_concatenate(hash)); }
  bool allows(AuthGroup group) const { return credentials_.allowed.has(group) && (!concatenating() || can_concatenate(group)); }
  bool concatenating() const { return concatenation_ != AuthConcatenation::none; }
  const char* for_concatenation() const { return concatenating() ? ", or no secure channel can be made of" : ""; }
  void refuse(AuthExplanation explanation, int err, std::string why);
  void send(State state, Bytes message);
  std::optional<Work> take_challenge(std::span<const std::byte> message);
  void take_success1(std::span<const std::byte> message);

  const HostCredentials credentials_;
  const std::string hostnqn_, subnqn_;
  const AuthConcatenation concatenation_;
  const std::uint16_t t_id_;
  State state_ = State::negotiate;
  Bytes outgoing_;
  AuthHash hash_{};
  std::optional<Digest> expected_;  // of the controller
  std::optional<GeneratedPsk> psk_;
  Result<void> outcome_;
};

}  // namespace catnap::dhchap
