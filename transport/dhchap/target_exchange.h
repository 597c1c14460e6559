// The target's side of one queue's authentication, as a state machine without a socket: messages in, messages out, arithmetic handed out as work.
// Source: NVMe Base 2.0, section 8.13.5. Owner: the queue's poll group thread; Work runs on a worker and touches nothing of this object; its Apply
// runs on the owner's thread, while the object is still there. Left out: commands, deadlines and what a result means for the queue
// (server/authentication.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "keyring/keyring.h"
#include "transport/dhchap/generated_psk.h"
#include "transport/dhchap/messages.h"

namespace catnap::dhchap {

// Computes, then says what has to be done with the result.
using Apply = std::move_only_function<void()>;
using Work = std::move_only_function<Apply()>;

// What counts for a host at this moment. A null key: the host cannot authenticate (any more).
struct TargetRules {
  keyring::KeyRef key;
  keyring::KeyRef ctrlr_key;
  Allowed allowed;
  // Secure channel concatenation: which values of SC_C are taken on this queue besides 0, and whether 0 is.
  bool may_generate_psk = false;  // 2: a PSK for TLS
  bool may_replace_psk = false;   // 3: another one than the one that protects this queue
  bool must_concatenate = false;
};

class TargetExchange {
 public:
  // The names are SPDK's, which nvmf_subsystem_get_qpairs shows.
  enum class State : std::uint8_t { negotiate, challenge, reply, success1, success2, failure1, completed, error };

  // The NQNs as the host gave them in Connect.
  TargetExchange(std::string hostnqn, std::string subnqn) : hostnqn_(std::move(hostnqn)), subnqn_(std::move(subnqn)) {}

  State state() const { return state_; }
  static const char* name_of(State state);
  // Of the transaction at hand, or the last one; none before a first selection.
  std::optional<AuthHash> hash() const { return hash_; }
  std::optional<AuthGroup> group() const { return group_; }
  bool bidirectional() const { return bidirectional_; }
  // Of the transaction at hand, or the last one.
  AuthConcatenation concatenation() const { return concatenation_; }
  // What a completed transaction with concatenation leaves behind; once.
  std::optional<GeneratedPsk> take_psk();
  // Begins anew, on a queue that was authenticated.
  void restart();
  // Forgets a transaction that the host has not finished: back to completed.
  void give_up() { state_ = State::completed, pair_.reset(), psk_.reset(); }
  // Instead of take(): fails the transaction that the message begins, without looking at it further.
  void refuse(std::span<const std::byte> message);

  // A message of the host. When there is something to compute, the state changes with Apply.
  std::optional<Work> take(std::span<const std::byte> message, const TargetRules& rules);
  // Before give(): makes what the next message needs.
  std::optional<Work> prepare();
  // The message that the host is to get, at most `room` bytes; moves on. Never empty, unless room is less than a failure message needs.
  Bytes give(std::size_t room);
  // What went wrong, for the log; empty: nothing.
  const std::string& why() const { return why_; }
  AuthExplanation explanation() const { return explanation_; }

 private:
  void fail(AuthExplanation explanation, std::string why);
  void take_negotiate(std::span<const std::byte> message, const TargetRules& rules);
  std::optional<Work> take_reply(std::span<const std::byte> message, const TargetRules& rules);
  void take_end(const Kind& kind, std::span<const std::byte> message);
  std::optional<AuthHash> select_hash(const Negotiate& offer, const Allowed& allowed) const;
  bool select(const Negotiate& offer, const Allowed& allowed);
  bool concatenating() const { return concatenation_ != AuthConcatenation::none; }

  const std::string hostnqn_, subnqn_;
  State state_ = State::negotiate;
  std::uint16_t t_id_ = 0;
  std::optional<AuthHash> hash_;
  std::optional<AuthGroup> group_;
  bool bidirectional_ = false;
  AuthConcatenation concatenation_ = AuthConcatenation::none;
  std::optional<GeneratedPsk> psk_;
  bool computing_ = false;  // work is out: no message may come
  std::optional<Challenge> challenge_;
  std::shared_ptr<const DhPair> pair_;  // shared with the work that derives from it
  std::optional<Digest> response_;      // the controller's, when the host asked for it
  AuthExplanation explanation_ = AuthExplanation::authentication_failed;
  std::string why_;
};

// Sequence numbers of challenges: never 0, not predictable at first, one after another. Any OS thread.
std::uint32_t next_seqnum();

}  // namespace catnap::dhchap
