// See target_exchange.h.
#include "transport/dhchap/target_exchange.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "transport/dhchap/secret.h"

namespace catnap::dhchap {
namespace {

template <typename T>
bool contains(const std::vector<T>& offered, T wanted) {
  return std::ranges::find(offered, wanted) != offered.end();
}

// What a worker finds out about a reply.
struct Verdict {
  bool right = false;
  std::optional<Digest> response;
  std::optional<GeneratedPsk> psk;
  AuthExplanation explanation = AuthExplanation::authentication_failed;
  std::string why;
};

struct ReplyToJudge {
  Reply reply;
  Challenge challenge;
  std::shared_ptr<const DhPair> pair;
  TargetRules rules;
  std::string hostnqn, subnqn;
  AuthConcatenation concatenation;
};

Verdict refused(std::string why) {
  Verdict verdict;
  verdict.why = std::move(why);
  return verdict;
}

// On a worker. Which step failed is for the log alone: the host learns only that it failed.
Verdict judge(const ReplyToJudge& given) {
  keyring::SecretBytes dh_secret;
  if (given.pair != nullptr) {
    auto agreed = given.pair->agree(given.reply.public_value);
    if (!agreed) return refused(agreed.error().message);
    dh_secret = std::move(*agreed);
  }
  ResponseInput input;
  input.hash = given.challenge.hash;
  input.seqnum = given.challenge.seqnum;
  input.t_id = given.challenge.t_id;
  input.sc_c = static_cast<std::uint8_t>(given.concatenation);
  input.hostnqn = given.hostnqn;
  input.subnqn = given.subnqn;
  const auto key = read_secret(*given.rules.key, given.hostnqn);
  if (!key) return refused(key.error().message);
  const auto expected = respond(input, key->bytes(), dh_secret.bytes(), given.challenge.value);
  if (!expected) return refused(expected.error().message);
  if (!equal(expected->bytes(), given.reply.response.bytes())) return refused("the host's response is wrong: another key, or none");
  Verdict verdict;
  verdict.right = true;
  if (given.concatenation != AuthConcatenation::none) {
    auto psk = generate_psk(input.hash, dh_secret.bytes(), given.challenge.value, given.reply.challenge);
    if (!psk) return refused(psk.error().message);
    verdict.psk.emplace();
    verdict.psk->hash = input.hash;
    verdict.psk->psk = std::move(*psk);
  }
  if (!given.reply.bidirectional()) return verdict;
  input.of_controller = true;
  input.seqnum = given.reply.seqnum;
  const auto own = read_secret(*given.rules.ctrlr_key, given.subnqn);
  if (!own) return refused(own.error().message);
  const auto response = respond(input, own->bytes(), dh_secret.bytes(), given.reply.challenge);
  if (!response) return refused(response.error().message);
  verdict.response = *response;
  return verdict;
}

// Null: the queue may ask for this.
const char* mismatch_of(AuthConcatenation asked, const TargetRules& rules) {
  switch (asked) {
    case AuthConcatenation::none:
      return rules.must_concatenate ? "the host does not ask for secure channel concatenation, which the listener requires" : nullptr;
    case AuthConcatenation::other:
      break;
    case AuthConcatenation::new_tls_psk:
      return rules.may_generate_psk ? nullptr : "the host asks for secure channel concatenation, which is not for this queue";
    case AuthConcatenation::replace_tls_psk:
      return rules.may_replace_psk ? nullptr : "the host wants to replace a generated key, and this queue is not protected by one";
  }
  return "the host asks for a secure channel concatenation of an unknown kind";
}

}  // namespace

std::uint32_t next_seqnum() {
  static std::atomic<std::uint32_t> last = [] {
    std::uint32_t first = 0;
    fill_random(std::as_writable_bytes(std::span(&first, 1)));
    return first;
  }();
  std::uint32_t next = ++last;
  return next != 0 ? next : ++last;
}

const char* TargetExchange::name_of(State state) {
  switch (state) {
    case State::negotiate:
      return "negotiate";
    case State::challenge:
      return "challenge";
    case State::reply:
      return "reply";
    case State::success1:
      return "success1";
    case State::success2:
      return "success2";
    case State::failure1:
      return "failure1";
    case State::completed:
      return "completed";
    case State::error:
      return "error";
  }
  return "unknown";
}

void TargetExchange::restart() {
  state_ = State::negotiate;
  t_id_ = 0;
  bidirectional_ = false;
  concatenation_ = AuthConcatenation::none;
  challenge_.reset();
  pair_.reset();
  response_.reset();
  psk_.reset();
  why_.clear();
}

void TargetExchange::fail(AuthExplanation explanation, std::string why) {
  state_ = State::failure1;
  explanation_ = explanation;
  why_ = std::move(why);
  pair_.reset();
  response_.reset();
  psk_.reset();
}

std::optional<GeneratedPsk> TargetExchange::take_psk() {
  if (state_ != State::completed) return std::nullopt;
  return std::exchange(psk_, std::nullopt);
}

// --- messages of the host ---

void TargetExchange::refuse(std::span<const std::byte> message) {
  const auto kind = kind_of(message);
  if (kind) t_id_ = kind->t_id;
  fail(AuthExplanation::authentication_failed, "too many failures before this one");
}

std::optional<Work> TargetExchange::take(std::span<const std::byte> message, const TargetRules& rules) {
  const auto kind = kind_of(message);
  if (!kind) {
    fail(AuthExplanation::incorrect_payload, fmt::format("a message of {} bytes", message.size()));
    return std::nullopt;
  }
  const State at = state_;
  if (computing_) {
    fail(AuthExplanation::incorrect_message, "a message before the answer to the one before it");
    return std::nullopt;
  }
  if (kind->is(AuthType::common, AuthId::negotiate) && at == State::negotiate) {
    take_negotiate(message, rules);
    return std::nullopt;
  }
  if (kind->is(AuthType::dhchap, AuthId::reply) && at == State::reply) return take_reply(message, rules);
  const bool accepts = kind->is(AuthType::dhchap, AuthId::success2) && at == State::success2;
  const bool refuses = kind->is(AuthType::common, AuthId::failure2) && (at == State::success2 || at == State::reply);
  if (accepts || refuses) {
    take_end(*kind, message);
    return std::nullopt;
  }
  fail(AuthExplanation::incorrect_message,
       fmt::format("message {:#x} of type {} in state {}", static_cast<unsigned>(kind->id), static_cast<unsigned>(kind->type), name_of(at)));
  return std::nullopt;
}

// The strongest that both know; a host that offers less than the target demands is refused, so an attacker in between cannot make it less than that.
// With concatenation the host's first hash that serves: not every TLS library can do both (tlshd 1.0.0 with GnuTLS 3.8.9 cannot do SHA-384).
std::optional<AuthHash> TargetExchange::select_hash(const Negotiate& offer, const Allowed& allowed) const {
  if (concatenating()) {
    const auto first = std::ranges::find_if(offer.hashes, [&](AuthHash each) { return allowed.has(each) && can_concatenate(each); });
    return first == offer.hashes.end() ? std::nullopt : std::optional(*first);
  }
  const auto strongest = std::ranges::find_if(hashes_by_strength, [&](AuthHash each) { return allowed.has(each) && contains(offer.hashes, each); });
  return strongest == hashes_by_strength.end() ? std::nullopt : std::optional(*strongest);
}

bool TargetExchange::select(const Negotiate& offer, const Allowed& allowed) {
  const auto hash = select_hash(offer, allowed);
  if (!hash) {
    fail(AuthExplanation::hash_not_usable, concatenating() ? "no hash that the host offers is allowed (dhchap_digests) and has TLS identities"
                                                           : "no hash that the host offers is allowed (dhchap_digests)");
    return false;
  }
  const auto group = std::ranges::find_if(groups_by_strength, [&](AuthGroup each) {
    return allowed.has(each) && contains(offer.groups, each) && (!concatenating() || can_concatenate(each));
  });
  if (group == groups_by_strength.end()) {
    fail(AuthExplanation::group_not_usable, "no group that the host offers is allowed (dhchap_dhgroups)");
    return false;
  }
  hash_ = hash;
  group_ = *group;
  return true;
}

void TargetExchange::take_negotiate(std::span<const std::byte> message, const TargetRules& rules) {
  const auto offer = read_negotiate(message);
  t_id_ = kind_of(message)->t_id;
  if (!offer) return fail(offer.error(), "a negotiate message that is malformed");
  concatenation_ = offer->concatenation;
  if (const char* mismatch = mismatch_of(concatenation_, rules); mismatch != nullptr) return fail(AuthExplanation::concatenation_mismatch, mismatch);
  if (rules.key == nullptr) return fail(AuthExplanation::authentication_failed, "the host has no dhchap_key here");
  if (!offer->offers_dhchap) return fail(AuthExplanation::protocol_not_usable, "the host does not offer DH-HMAC-CHAP");
  if (!select(*offer, rules.allowed)) return;
  Challenge challenge;
  challenge.t_id = t_id_;
  challenge.hash = *hash_;
  challenge.group = *group_;
  challenge.value.size = hash_bytes(*hash_);
  challenge_ = std::move(challenge);
  state_ = State::challenge;
}

std::optional<Work> TargetExchange::take_reply(std::span<const std::byte> message, const TargetRules& rules) {
  auto reply = read_reply(message, *hash_, *group_, concatenating());
  if (!reply) {
    fail(reply.error(), "a reply that is malformed");
    return std::nullopt;
  }
  if (reply->t_id != t_id_) {
    fail(AuthExplanation::incorrect_payload, fmt::format("a reply of transaction {}, this is {}", reply->t_id, t_id_));
    return std::nullopt;
  }
  if (rules.key == nullptr) {
    fail(AuthExplanation::authentication_failed, "the host has no dhchap_key any more");
    return std::nullopt;
  }
  if (reply->bidirectional() && rules.ctrlr_key == nullptr) {
    fail(AuthExplanation::authentication_failed, "the host wants the controller authenticated, which has no dhchap_ctrlr_key for it");
    return std::nullopt;
  }
  bidirectional_ = reply->bidirectional();
  auto given = std::make_unique<ReplyToJudge>(
      ReplyToJudge{std::move(*reply), std::move(*challenge_), std::exchange(pair_, nullptr), rules, hostnqn_, subnqn_, concatenation_});
  challenge_.reset();  // answered once, rightly or not
  computing_ = true;
  return Work([this, given = std::move(given)]() mutable -> Apply {
    return [this, verdict = judge(*given)]() mutable {
      computing_ = false;
      if (state_ != State::reply) return;  // has failed, or was given up meanwhile
      if (!verdict.right) return fail(verdict.explanation, std::move(verdict.why));
      response_ = verdict.response;
      psk_ = std::move(verdict.psk);
      state_ = State::success1;
    };
  });
}

void TargetExchange::take_end(const Kind& kind, std::span<const std::byte> message) {
  const bool success = kind.id == AuthId::success2;
  const std::size_t length = success ? sizeof(nvme::AuthSuccess2) : sizeof(nvme::AuthFailure);
  if (message.size() != length || kind.t_id != t_id_) {
    return fail(AuthExplanation::incorrect_payload, fmt::format("a last message of {} bytes and transaction {}", message.size(), kind.t_id));
  }
  if (success) {
    state_ = State::completed;
    return;
  }
  why_ = fmt::format("the host does not accept the controller: {}", text_of(*read_failure(message)));
  explanation_ = *read_failure(message);
  state_ = State::error;
}

// --- messages for the host ---

std::optional<Work> TargetExchange::prepare() {
  if (state_ != State::challenge || computing_) return std::nullopt;
  computing_ = true;
  return Work([this, group = *group_, size = challenge_->value.size]() -> Apply {
    Digest value;
    value.size = size;
    const bool random = fill_random(value.bytes());
    std::shared_ptr<const DhPair> pair;
    std::string why = random ? "" : "OpenSSL has no randomness";
    if (random && group != AuthGroup::null) {
      auto made = DhPair::generate(group);
      if (made) {
        pair = std::make_shared<const DhPair>(std::move(*made));
      } else {
        why = made.error().message;
      }
    }
    return [this, value, pair = std::move(pair), why = std::move(why)]() mutable {
      computing_ = false;
      if (state_ != State::challenge) return;
      if (!why.empty()) return fail(AuthExplanation::authentication_failed, std::move(why));
      challenge_->value = value;
      challenge_->seqnum = next_seqnum();
      if (pair != nullptr) challenge_->public_value.assign(pair->public_value().begin(), pair->public_value().end());
      pair_ = std::move(pair);
    };
  });
}

Bytes TargetExchange::give(std::size_t room) {
  Bytes message;
  State next = state_;
  if (state_ == State::challenge && challenge_->seqnum != 0) {
    message = write(*challenge_);
    next = State::reply;
  } else if (state_ == State::success1) {
    Success1 success;
    success.t_id = t_id_;
    success.hash = *hash_;
    success.response = response_;
    message = write(success);
    next = response_ ? State::success2 : State::completed;
  } else if (state_ != State::failure1) {
    fail(AuthExplanation::incorrect_message, fmt::format("the host asks for a message in state {}", name_of(state_)));
  }
  if (state_ != State::failure1 && message.size() > room) {
    fail(AuthExplanation::incorrect_payload, fmt::format("the host has room for {} bytes, the message has {}", room, message.size()));
  }
  if (state_ == State::failure1) {
    message = write_failure(AuthId::failure1, t_id_, explanation_);
    next = State::failure1;
    if (message.size() > room) message.clear();
  }
  state_ = next;
  return message;
}

}  // namespace catnap::dhchap
