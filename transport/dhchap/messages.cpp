// See messages.h.
#include "transport/dhchap/messages.h"

#include <algorithm>
#include <cstring>

namespace catnap::dhchap {
namespace {

// The fixed part of a message; nullopt: there are fewer bytes.
template <typename T>
std::optional<T> head_of(std::span<const std::byte> message) {
  if (message.size() < sizeof(T)) return std::nullopt;
  T head;
  std::memcpy(&head, message.data(), sizeof head);
  return head;
}

std::unexpected<AuthExplanation> bad_payload() { return std::unexpected(AuthExplanation::incorrect_payload); }

Digest digest_of(std::span<const std::byte> bytes) {
  Digest digest;
  digest.size = bytes.size();
  std::ranges::copy(bytes, digest.storage.begin());
  return digest;
}

nvme::AuthHeader header_of(AuthType type, AuthId id, std::uint16_t t_id) {
  nvme::AuthHeader header;
  header.auth_type = static_cast<std::uint8_t>(type);
  header.auth_id = static_cast<std::uint8_t>(id);
  header.t_id = t_id;
  return header;
}

template <typename T>
void append(Bytes& to, const T& head) {
  const auto bytes = std::as_bytes(std::span(&head, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

void append(Bytes& to, std::span<const std::byte> bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

// A public value comes with a group, and is as long as its prime; other lengths are refused before anything is computed.
bool fits(AuthGroup group, std::size_t value_bytes) { return is_known(group) && value_bytes == group_bytes(group); }

}  // namespace

std::optional<Kind> kind_of(std::span<const std::byte> message) {
  const auto header = head_of<nvme::AuthHeader>(message);
  if (!header) return std::nullopt;
  return Kind{static_cast<AuthType>(header->auth_type), static_cast<AuthId>(header->auth_id), header->t_id};
}

// --- negotiate ---

Read<Negotiate> read_negotiate(std::span<const std::byte> message) {
  const auto head = head_of<nvme::AuthNegotiate>(message);
  if (!head || message.size() != sizeof(*head) + head->napd * sizeof(nvme::AuthDescriptor)) return bad_payload();
  Negotiate negotiate;
  negotiate.t_id = head->header.t_id;
  negotiate.concatenation = static_cast<AuthConcatenation>(head->sc_c);
  for (std::size_t i = 0; i < head->napd; ++i) {
    const auto descriptor = *head_of<nvme::AuthDescriptor>(message.subspan(sizeof(*head) + i * sizeof(nvme::AuthDescriptor)));
    if (descriptor.auth_id != static_cast<std::uint8_t>(AuthType::dhchap) || negotiate.offers_dhchap) continue;
    if (descriptor.halen > descriptor.hash_ids.size() || descriptor.dhlen > descriptor.group_ids.size()) return bad_payload();
    negotiate.offers_dhchap = true;
    for (std::size_t at = 0; at < descriptor.halen; ++at) negotiate.hashes.push_back(static_cast<AuthHash>(descriptor.hash_ids[at]));
    for (std::size_t at = 0; at < descriptor.dhlen; ++at) negotiate.groups.push_back(static_cast<AuthGroup>(descriptor.group_ids[at]));
  }
  return negotiate;
}

Bytes write(const Negotiate& message) {
  nvme::AuthNegotiate head;
  head.header = header_of(AuthType::common, AuthId::negotiate, message.t_id);
  head.sc_c = static_cast<std::uint8_t>(message.concatenation);
  head.napd = 1;
  nvme::AuthDescriptor descriptor;
  descriptor.auth_id = static_cast<std::uint8_t>(AuthType::dhchap);
  for (const AuthHash hash : message.hashes) descriptor.hash_ids[descriptor.halen++] = static_cast<std::uint8_t>(hash);
  for (const AuthGroup group : message.groups) descriptor.group_ids[descriptor.dhlen++] = static_cast<std::uint8_t>(group);
  Bytes bytes;
  append(bytes, head);
  append(bytes, descriptor);
  return bytes;
}

// --- challenge ---

Read<Challenge> read_challenge(std::span<const std::byte> message) {
  const auto head = head_of<nvme::AuthChallenge>(message);
  if (!head) return bad_payload();
  Challenge challenge;
  challenge.t_id = head->header.t_id;
  challenge.hash = static_cast<AuthHash>(head->hash_id);
  challenge.group = static_cast<AuthGroup>(head->dhg_id);
  challenge.seqnum = head->seqnum;
  if (!is_known(challenge.hash)) return std::unexpected(AuthExplanation::hash_not_usable);
  if (!is_known(challenge.group)) return std::unexpected(AuthExplanation::group_not_usable);
  const std::size_t hash_length = hash_bytes(challenge.hash);
  const std::size_t value_length = head->dhvlen;
  if (head->hl != hash_length || !fits(challenge.group, value_length)) return bad_payload();
  if (message.size() < sizeof(*head) + hash_length + value_length) return bad_payload();
  challenge.value = digest_of(message.subspan(sizeof(*head), hash_length));
  const auto value = message.subspan(sizeof(*head) + hash_length, value_length);
  challenge.public_value.assign(value.begin(), value.end());
  return challenge;
}

Bytes write(const Challenge& message) {
  nvme::AuthChallenge head;
  head.header = header_of(AuthType::dhchap, AuthId::challenge, message.t_id);
  head.hl = static_cast<std::uint8_t>(message.value.size);
  head.hash_id = static_cast<std::uint8_t>(message.hash);
  head.dhg_id = static_cast<std::uint8_t>(message.group);
  head.dhvlen = static_cast<std::uint16_t>(message.public_value.size());
  head.seqnum = message.seqnum;
  Bytes bytes;
  append(bytes, head);
  append(bytes, message.value.bytes());
  append(bytes, std::span<const std::byte>(message.public_value));
  return bytes;
}

// --- reply ---

Read<Reply> read_reply(std::span<const std::byte> message, AuthHash hash, AuthGroup group, bool concatenating) {
  const auto head = head_of<nvme::AuthReply>(message);
  if (!head) return bad_payload();
  const std::size_t hash_length = hash_bytes(hash);
  const std::size_t value_length = head->dhvlen;
  if (head->hl != hash_length || head->cvalid > 1 || !fits(group, value_length)) return bad_payload();
  if (message.size() != sizeof(*head) + 2 * hash_length + value_length) return bad_payload();
  Reply reply;
  reply.t_id = head->header.t_id;
  reply.challenges = head->cvalid == 1;
  reply.seqnum = head->seqnum;
  if (concatenating ? !reply.challenges : reply.challenges && reply.seqnum == 0) return bad_payload();
  reply.response = digest_of(message.subspan(sizeof(*head), hash_length));
  reply.challenge = digest_of(message.subspan(sizeof(*head) + hash_length, hash_length));
  const auto value = message.subspan(sizeof(*head) + 2 * hash_length);
  reply.public_value.assign(value.begin(), value.end());
  return reply;
}

Bytes write(const Reply& message) {
  nvme::AuthReply head;
  head.header = header_of(AuthType::dhchap, AuthId::reply, message.t_id);
  head.hl = static_cast<std::uint8_t>(message.response.size);
  head.cvalid = message.challenges ? 1 : 0;
  head.dhvlen = static_cast<std::uint16_t>(message.public_value.size());
  head.seqnum = message.seqnum;
  Bytes bytes;
  append(bytes, head);
  append(bytes, message.response.bytes());
  Digest challenge = message.challenge;
  challenge.size = message.response.size;  // zeroes without cvalid
  append(bytes, std::as_const(challenge).bytes());
  append(bytes, std::span<const std::byte>(message.public_value));
  return bytes;
}

// --- success and failure ---

Read<Success1> read_success1(std::span<const std::byte> message, AuthHash hash) {
  const auto head = head_of<nvme::AuthSuccess1>(message);
  if (!head || head->rvalid > 1) return bad_payload();
  Success1 success;
  success.t_id = head->header.t_id;
  success.hash = hash;
  if (head->rvalid == 0) return success;
  const std::size_t hash_length = hash_bytes(hash);
  if (head->hl != hash_length || message.size() < sizeof(*head) + hash_length) return bad_payload();
  success.response = digest_of(message.subspan(sizeof(*head), hash_length));
  return success;
}

Bytes write(const Success1& message) {
  nvme::AuthSuccess1 head;
  head.header = header_of(AuthType::dhchap, AuthId::success1, message.t_id);
  head.hl = static_cast<std::uint8_t>(hash_bytes(message.hash));  // also without a response: Linux looks at it
  head.rvalid = message.response ? 1 : 0;
  Bytes bytes;
  append(bytes, head);
  if (message.response) append(bytes, message.response->bytes());
  return bytes;
}

Bytes write_success2(std::uint16_t t_id) {
  nvme::AuthSuccess2 message;
  message.header = header_of(AuthType::dhchap, AuthId::success2, t_id);
  Bytes bytes;
  append(bytes, message);
  return bytes;
}

Bytes write_failure(AuthId id, std::uint16_t t_id, AuthExplanation explanation) {
  nvme::AuthFailure message;
  message.header = header_of(AuthType::common, id, t_id);
  message.reason = nvme::auth_failure_reason;
  message.explanation = static_cast<std::uint8_t>(explanation);
  Bytes bytes;
  append(bytes, message);
  return bytes;
}

std::optional<AuthExplanation> read_failure(std::span<const std::byte> message) {
  const auto head = head_of<nvme::AuthFailure>(message);
  if (!head) return std::nullopt;
  return static_cast<AuthExplanation>(head->explanation);
}

const char* text_of(AuthExplanation explanation) {
  switch (explanation) {
    case AuthExplanation::authentication_failed:
      return "authentication failed";
    case AuthExplanation::protocol_not_usable:
      return "authentication protocol not usable";
    case AuthExplanation::concatenation_mismatch:
      return "secure channel concatenation mismatch";
    case AuthExplanation::hash_not_usable:
      return "hash function not usable";
    case AuthExplanation::group_not_usable:
      return "Diffie-Hellman group not usable";
    case AuthExplanation::incorrect_payload:
      return "incorrect payload";
    case AuthExplanation::incorrect_message:
      return "incorrect protocol message";
  }
  return "unknown explanation";
}

}  // namespace catnap::dhchap
