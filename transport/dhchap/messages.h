// Authentication messages as values: checked when read, complete when written.
// Source: NVMe Base 2.0, section 8.13.5. Owner: none (pure functions; what is read comes from strangers). Left out: their order (target_exchange.h,
// host_exchange.h), arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <vector>

#include "transport/dhchap/math.h"
#include "transport/nvme/auth.h"

namespace catnap::dhchap {

// The longest message: a negotiate with this many protocols is more than there are; a reply with the largest hash and group has 1,168 bytes. Linux
// and SPDK use 4 KiB for both directions.
inline constexpr std::size_t max_message_bytes = 4096;

using Bytes = std::vector<std::byte>;
using nvme::AuthConcatenation;
using nvme::AuthId;
using nvme::AuthType;

// Which message it is, by its type and identifier; nullopt: too short to tell.
struct Kind {
  AuthType type{};
  AuthId id{};
  std::uint16_t t_id = 0;
  bool is(AuthType wanted_type, AuthId wanted_id) const { return type == wanted_type && id == wanted_id; }
};
std::optional<Kind> kind_of(std::span<const std::byte> message);

// Each reader wants exactly one message of its kind; the error is what the failure message explains.
template <typename T>
using Read = std::expected<T, AuthExplanation>;

struct Negotiate {
  std::uint16_t t_id = 0;
  AuthConcatenation concatenation = AuthConcatenation::none;
  bool offers_dhchap = false;
  std::vector<AuthHash> hashes;  // in the host's order, unknown ones included
  std::vector<AuthGroup> groups;
};
Read<Negotiate> read_negotiate(std::span<const std::byte> message);
Bytes write(const Negotiate& message);

struct Challenge {
  std::uint16_t t_id = 0;
  AuthHash hash{};
  AuthGroup group{};
  std::uint32_t seqnum = 0;
  Digest value;
  Bytes public_value;  // empty with the null group
};
// `size` of the data may be more than the message: Authentication Receive fills its buffer up with zeroes.
Read<Challenge> read_challenge(std::span<const std::byte> message);
Bytes write(const Challenge& message);

struct Reply {
  std::uint16_t t_id = 0;
  Digest response;
  bool challenges = false;  // cvalid: there is a challenge
  std::uint32_t seqnum = 0;
  Digest challenge;
  Bytes public_value;
  // The controller shall authenticate too.
  bool bidirectional() const { return challenges && seqnum != 0; }
};
// `hash` and `group` are those of the challenge. `concatenating`: a PSK for TLS is to come out of the authentication, and with SEQNUM 0 the host's
// challenge serves that alone: the controller need not answer it.
Read<Reply> read_reply(std::span<const std::byte> message, AuthHash hash, AuthGroup group, bool concatenating = false);
Bytes write(const Reply& message);

struct Success1 {
  std::uint16_t t_id = 0;
  AuthHash hash{};
  std::optional<Digest> response;
};
Read<Success1> read_success1(std::span<const std::byte> message, AuthHash hash);
Bytes write(const Success1& message);

// Read by their kind alone and, of the target, their length.
Bytes write_success2(std::uint16_t t_id);
Bytes write_failure(AuthId id, std::uint16_t t_id, AuthExplanation explanation);
std::optional<AuthExplanation> read_failure(std::span<const std::byte> message);
// "authentication failed" …, for people.
const char* text_of(AuthExplanation explanation);

}  // namespace catnap::dhchap
