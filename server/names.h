// Forms of names and identifiers in the target's configuration: NQNs, serial and model numbers, UUID, NGUID, EUI-64, listen addresses.
// Owner: none (pure functions). Left out: whether a name is taken (target.cpp).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "reactor/base/error.h"
#include "server/snapshot.h"

namespace catnap::server {

inline constexpr std::size_t max_nqn_bytes = 223;           // NVMe Base 2.0, section 4.5
inline constexpr std::size_t max_serial_number_bytes = 20;  // Identify Controller, SN
inline constexpr std::size_t max_model_number_bytes = 40;   // Identify Controller, MN

// NVMe Base 2.0, section 4.5: "nqn.yyyy-mm.reverse.domain:string", "nqn.2014-08.org.nvmexpress:uuid:UUID", or the well-known discovery NQN.
// Errors: EINVAL with the NQN and the rule it breaks.
Result<void> validate_nqn(std::string_view nqn);
// UTF-8 (RFC 3629) without control characters.
bool is_plain_text(std::string_view text);

// Printable ASCII (20h to 7Eh), at most the given length. Errors: EINVAL naming the parameter, the value and the reason.
Result<void> validate_ascii(std::string_view parameter, std::string_view value, std::size_t max_bytes);

// 36 characters in any case, or 32 without hyphens. Errors: EINVAL.
Result<std::array<std::uint8_t, 16>> parse_uuid(std::string_view text);
// Exactly two hexadecimal digits per byte; hyphens between bytes are skipped. Errors: EINVAL naming the parameter.
Result<void> parse_hex_bytes(std::string_view parameter, std::string_view text, std::span<std::uint8_t> bytes);
std::string uuid_text(const std::array<std::uint8_t, 16>& uuid);  // 36 characters, lower case
std::string hex_text(std::span<const std::uint8_t> bytes);        // upper case, as SPDK shows NGUID and EUI-64

// A listen address in its one spelling: trtype "TCP", adrfam "IPv4" or "IPv6" (empty: told from traddr), traddr as inet_ntop writes it, a link-local
// one with its interface ("fe80::1%eth0", RFC 4007 section 11), trsvcid without leading zeros. Errors: EINVAL; ENOTSUP for transports that catnap
// does not have, in words.
Result<ListenAddress> normalise_listen_address(const ListenAddress& given);
// The same for the place that a referral points to: also RDMA, which catnap does not serve itself; no wildcard, no interface of this machine.
Result<ListenAddress> normalise_referral_address(const ListenAddress& given);
// traddr without its interface, as another machine may read it.
std::string traddr_without_interface(const std::string& traddr);
// "TCP" from any case. Errors: ENOTSUP for the transports of other targets, EINVAL for what is none.
Result<std::string> normalise_trtype(std::string_view trtype);
// "none", "allowed", "required", as nvmf_subsystem_add_listener takes them; of anything else: none.
const char* concatenation_name(Concatenation concatenation);
Concatenation concatenation_named(std::string_view name);
// "127.0.0.1:4420", "[::1]:4420", for messages.
std::string address_text(const ListenAddress& address);

}  // namespace catnap::server
