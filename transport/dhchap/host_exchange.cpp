// See host_exchange.h.
#include "transport/dhchap/host_exchange.h"

#include <fmt/core.h>

#include <memory>
#include <utility>

#include "transport/dhchap/secret.h"

namespace catnap::dhchap {

namespace {

struct ToAnswer {
  HostCredentials credentials;
  Challenge challenge;
  std::string hostnqn, subnqn;
  AuthConcatenation concatenation;
};

// What a worker makes of it.
struct Computed {
  Reply reply;
  std::optional<Digest> expected;
  std::optional<GeneratedPsk> psk;
};

// The host's own challenge.
Result<void> make_challenge(const ResponseInput& input, Computed& made) {
  made.reply.challenges = true;
  made.reply.challenge.size = hash_bytes(input.hash);
  if (!fill_random(made.reply.challenge.bytes())) return fail(EIO, "OpenSSL has no randomness");
  return {};
}

// What the controller must answer to it.
Result<void> challenge_controller(const ToAnswer& given, std::span<const std::byte> dh_secret, ResponseInput input, Computed& made) {
  const auto key = read_secret(*given.credentials.ctrlr_key, given.subnqn);
  if (!key) return std::unexpected(key.error());
  made.reply.seqnum = next_seqnum();
  input.of_controller = true;
  input.seqnum = made.reply.seqnum;
  const auto expected = respond(input, key->bytes(), dh_secret, made.reply.challenge);
  if (!expected) return std::unexpected(expected.error());
  made.expected = *expected;
  return {};
}

Result<void> leave_psk(const ToAnswer& given, std::span<const std::byte> dh_secret, Computed& made) {
  auto psk = generate_psk(given.challenge.hash, dh_secret, given.challenge.value, made.reply.challenge);
  if (!psk) return std::unexpected(psk.error());
  made.psk.emplace();
  made.psk->hash = given.challenge.hash;
  made.psk->psk = std::move(*psk);
  return {};
}

// On a worker.
Result<Computed> compute(const ToAnswer& given) {
  Computed made;
  made.reply.t_id = given.challenge.t_id;
  keyring::SecretBytes dh_secret;
  if (given.challenge.group != AuthGroup::null) {
    const auto pair = DhPair::generate(given.challenge.group);
    if (!pair) return std::unexpected(pair.error());
    auto agreed = pair->agree(given.challenge.public_value);
    if (!agreed) return std::unexpected(agreed.error());
    dh_secret = std::move(*agreed);
    made.reply.public_value.assign(pair->public_value().begin(), pair->public_value().end());
  }
  ResponseInput input;
  input.hash = given.challenge.hash;
  input.seqnum = given.challenge.seqnum;
  input.t_id = given.challenge.t_id;
  input.sc_c = static_cast<std::uint8_t>(given.concatenation);
  input.hostnqn = given.hostnqn;
  input.subnqn = given.subnqn;
  const auto key = read_secret(*given.credentials.key, given.hostnqn);
  if (!key) return std::unexpected(key.error());
  const auto response = respond(input, key->bytes(), dh_secret.bytes(), given.challenge.value);
  if (!response) return std::unexpected(response.error());
  made.reply.response = *response;
  const bool concatenates = given.concatenation != AuthConcatenation::none;
  if (given.credentials.ctrlr_key != nullptr || concatenates) {
    if (auto challenge = make_challenge(input, made); !challenge) return std::unexpected(challenge.error());
  }
  if (concatenates) {
    if (auto left = leave_psk(given, dh_secret.bytes(), made); !left) return std::unexpected(left.error());
  }
  if (given.credentials.ctrlr_key == nullptr) return made;
  if (auto challenged = challenge_controller(given, dh_secret.bytes(), input, made); !challenged) return std::unexpected(challenged.error());
  return made;
}

}  // namespace

HostExchange::HostExchange(HostCredentials credentials, std::string hostnqn, std::string subnqn, AuthConcatenation concatenation)
    : credentials_(std::move(credentials)),
      hostnqn_(std::move(hostnqn)),
      subnqn_(std::move(subnqn)),
      concatenation_(concatenation),
      t_id_(static_cast<std::uint16_t>(next_seqnum())),
      outcome_(fail(EINPROGRESS, "not finished")) {
  Negotiate message;
  message.t_id = t_id_;
  message.concatenation = concatenation_;
  for (const AuthHash hash : hashes_by_strength) {
    if (allows(hash)) message.hashes.push_back(hash);
  }
  for (const AuthGroup group : groups_by_strength) {
    if (allows(group)) message.groups.push_back(group);
  }
  outgoing_ = write(message);
}

std::optional<GeneratedPsk> HostExchange::take_psk() {
  if (state_ != State::finished || !outcome_) return std::nullopt;
  return std::exchange(psk_, std::nullopt);
}

HostExchange::Next HostExchange::next() const {
  if (state_ == State::finished) return Next::finished;
  return outgoing_.empty() ? Next::receive : Next::send;
}

void HostExchange::send(State state, Bytes message) {
  state_ = state;
  outgoing_ = std::move(message);
}

void HostExchange::sent() {
  outgoing_.clear();
  switch (state_) {
    case State::negotiate:
      state_ = State::challenge;
      break;
    case State::reply:
      state_ = State::success1;
      break;
    default:
      state_ = State::finished;
      break;
  }
}

// The last message of a host that does not go on.
void HostExchange::refuse(AuthExplanation explanation, int err, std::string why) {
  outcome_ = fail(err, std::move(why));
  send(State::last, write_failure(AuthId::failure2, t_id_, explanation));
}

std::optional<Work> HostExchange::received(std::span<const std::byte> message) {
  const auto kind = kind_of(message);
  if (kind && kind->is(AuthType::common, AuthId::failure1)) {
    outcome_ = fail(EACCES, fmt::format("the controller refused the authentication: {}", text_of(*read_failure(message))));
    state_ = State::finished;
    return std::nullopt;
  }
  const AuthId wanted = state_ == State::challenge ? AuthId::challenge : AuthId::success1;
  if (!kind || !kind->is(AuthType::dhchap, wanted)) {
    refuse(AuthExplanation::incorrect_message, EPROTO, "the controller sent an authentication message out of turn");
    return std::nullopt;
  }
  if (kind->t_id != t_id_) {
    refuse(AuthExplanation::incorrect_payload, EPROTO, fmt::format("the controller answers transaction {}, this is {}", kind->t_id, t_id_));
    return std::nullopt;
  }
  if (state_ == State::challenge) return take_challenge(message);
  take_success1(message);
  return std::nullopt;
}

std::optional<Work> HostExchange::take_challenge(std::span<const std::byte> message) {
  auto challenge = read_challenge(message);
  if (!challenge) {
    refuse(challenge.error(), EPROTO, fmt::format("the controller's challenge is unusable: {}", text_of(challenge.error())));
    return std::nullopt;
  }
  // A controller, or somebody in between, may not choose what was not offered.
  if (!allows(challenge->hash)) {
    refuse(AuthExplanation::hash_not_usable, EACCES,
           fmt::format("the controller chose {}, which dhchap_digests does not allow{}", name_of(challenge->hash), for_concatenation()));
    return std::nullopt;
  }
  if (!allows(challenge->group)) {
    refuse(AuthExplanation::group_not_usable, EACCES,
           fmt::format("the controller chose {}, which dhchap_dhgroups does not allow{}", name_of(challenge->group), for_concatenation()));
    return std::nullopt;
  }
  hash_ = challenge->hash;
  auto given = std::make_unique<ToAnswer>(ToAnswer{credentials_, std::move(*challenge), hostnqn_, subnqn_, concatenation_});
  return Work([this, given = std::move(given)]() -> Apply {
    return [this, made = compute(*given)]() mutable {
      if (!made) return refuse(AuthExplanation::authentication_failed, made.error().err, made.error().message);
      expected_ = made->expected;
      psk_ = std::move(made->psk);
      send(State::reply, write(made->reply));
    };
  });
}

void HostExchange::take_success1(std::span<const std::byte> message) {
  const auto success = read_success1(message, hash_);
  if (!success) return refuse(success.error(), EPROTO, "the controller's last message is malformed");
  if (!expected_) {
    outcome_ = {};
    state_ = State::finished;
    return;
  }
  if (!success->response || !equal(success->response->bytes(), expected_->bytes())) {
    return refuse(
        AuthExplanation::authentication_failed, EACCES,
        success->response ? "the controller's response is wrong: it has another dhchap_ctrlr_key" : "the controller did not authenticate itself");
  }
  outcome_ = {};
  send(State::last, write_success2(t_id_));
}

}  // namespace catnap::dhchap
