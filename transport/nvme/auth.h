// Messages of in-band authentication (DH-HMAC-CHAP), the data of Authentication Send and Receive.
// Source: NVMe Base 2.0, section 8.13.5 ("DH-HMAC-CHAP Protocol") and section 6.1/6.2 (the commands: fabrics.h).
// Owner: none (values). Left out: arithmetic and rules (transport/dhchap).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "reactor/base/le.h"

namespace catnap::nvme {

// SECP, SPSP0 and SPSP1 of the two commands.
inline constexpr std::uint8_t auth_secp_nvme = 0xE9;
inline constexpr std::uint8_t auth_spsp = 0x01;

enum class AuthType : std::uint8_t { common = 0, dhchap = 1 };

// Within their type: negotiate and the failures are common, the others DH-HMAC-CHAP's.
enum class AuthId : std::uint8_t {
  negotiate = 0x00,
  challenge = 0x01,
  reply = 0x02,
  success1 = 0x03,
  success2 = 0x04,
  failure2 = 0xF0,
  failure1 = 0xF1,
};

// Hash identifiers; in a secret's text form 0 means "not transformed".
enum class AuthHash : std::uint8_t { none = 0, sha256 = 1, sha384 = 2, sha512 = 3 };
// Diffie-Hellman group identifiers (RFC 7919).
enum class AuthGroup : std::uint8_t { null = 0, ffdhe2048 = 1, ffdhe3072 = 2, ffdhe4096 = 3, ffdhe6144 = 4, ffdhe8192 = 5 };

// Reason code of a failure is always this; the explanation says more.
inline constexpr std::uint8_t auth_failure_reason = 1;
enum class AuthExplanation : std::uint8_t {
  authentication_failed = 1,
  protocol_not_usable = 2,
  concatenation_mismatch = 3,
  hash_not_usable = 4,
  group_not_usable = 5,
  incorrect_payload = 6,
  incorrect_message = 7,
};

// SC_C of a negotiate message: a TLS PSK is to come out of the authentication, or not. The numbers are Linux's, too (NVME_AUTH_SECP_...); 1 is of no
// use with TCP.
enum class AuthConcatenation : std::uint8_t { none = 0, other = 1, new_tls_psk = 2, replace_tls_psk = 3 };

// What all messages begin with.
struct AuthHeader {
  std::uint8_t auth_type = 0;
  std::uint8_t auth_id = 0;
  std::array<std::uint8_t, 2> reserved{};
  le16 t_id;  // chosen by the host in negotiate, the same in all messages of the transaction
};
static_assert(sizeof(AuthHeader) == 6);

struct AuthDescriptor {
  std::uint8_t auth_id = 0;  // 1: DH-HMAC-CHAP
  std::uint8_t reserved = 0;
  std::uint8_t halen = 0;                   // hash identifiers that follow, at most 30
  std::uint8_t dhlen = 0;                   // group identifiers, at most 30
  std::array<std::uint8_t, 30> hash_ids{};  // in the host's order
  std::array<std::uint8_t, 30> group_ids{};
};
static_assert(sizeof(AuthDescriptor) == 64);

struct AuthNegotiate {
  AuthHeader header;
  std::uint8_t sc_c = 0;
  std::uint8_t napd = 0;  // descriptors that follow
};
static_assert(sizeof(AuthNegotiate) == 8);

// Then the challenge (hl bytes) and the public value (dhvlen).
struct AuthChallenge {
  AuthHeader header;
  std::uint8_t hl = 0;
  std::uint8_t reserved = 0;
  std::uint8_t hash_id = 0;
  std::uint8_t dhg_id = 0;
  le16 dhvlen;
  le32 seqnum;
};
static_assert(sizeof(AuthChallenge) == 16);

// Then the response (hl), the host's challenge (hl, of meaning with cvalid) and the public value (dhvlen).
struct AuthReply {
  AuthHeader header;
  std::uint8_t hl = 0;
  std::uint8_t reserved0 = 0;
  std::uint8_t cvalid = 0;
  std::uint8_t reserved1 = 0;
  le16 dhvlen;
  le32 seqnum;
};
static_assert(sizeof(AuthReply) == 16);

// Then, with rvalid, the response (hl).
struct AuthSuccess1 {
  AuthHeader header;
  std::uint8_t hl = 0;
  std::uint8_t reserved0 = 0;
  std::uint8_t rvalid = 0;
  std::array<std::uint8_t, 7> reserved1{};
};
static_assert(sizeof(AuthSuccess1) == 16);

struct AuthSuccess2 {
  AuthHeader header;
  std::array<std::uint8_t, 10> reserved{};
};
static_assert(sizeof(AuthSuccess2) == 16);

struct AuthFailure {
  AuthHeader header;
  std::uint8_t reason = 0;
  std::uint8_t explanation = 0;
};
static_assert(sizeof(AuthFailure) == 8);

}  // namespace catnap::nvme
