// Forms of names and identifiers. See names.h.
// Owner: none (pure functions). Left out: internationalised domain names, which NQNs do not have.
#include "server/names.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/if.h>
#include <netinet/in.h>
#include <strings.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace catnap::server {
namespace {

constexpr std::string_view nqn_prefix = "nqn.";
constexpr std::string_view uuid_nqn_prefix = "nqn.2014-08.org.nvmexpress:uuid:";
constexpr std::size_t date_bytes = 7;               // "yyyy-mm"
constexpr std::size_t max_domain_label_bytes = 63;  // RFC 1035, section 2.3.4
constexpr std::size_t uuid_text_bytes = 36;
constexpr std::size_t shown_bytes = 240;  // of a bad value in a message: more than the longest valid one

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alphanumeric(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_printable(char c) { return c >= 0x20 && c <= 0x7E; }

// What a message may show of bytes from outside.
std::string shown(std::string_view text) {
  std::string result(text.substr(0, shown_bytes));
  for (char& c : result) {
    if (!is_printable(c)) c = '?';
  }
  if (text.size() > shown_bytes) result += "...";
  return result;
}

std::optional<std::uint8_t> hex_digit(char c) {
  if (is_digit(c)) return static_cast<std::uint8_t>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<std::uint8_t>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<std::uint8_t>(c - 'A' + 10);
  return std::nullopt;
}

// "yyyy-mm" with a month that exists.
const char* bad_date(std::string_view date) {
  if (date.size() < date_bytes || date[4] != '-') return "the date must read yyyy-mm";
  for (const std::size_t at : {0, 1, 2, 3, 5, 6}) {
    if (!is_digit(date[at])) return "the date must read yyyy-mm";
  }
  const int month = (date[5] - '0') * 10 + (date[6] - '0');
  return month >= 1 && month <= 12 ? nullptr : "the month must be 01 to 12";
}

const char* bad_domain_label(std::string_view label) {
  if (label.empty()) return "the reverse domain has an empty label";
  if (label.size() > max_domain_label_bytes) return "a label of the reverse domain is longer than 63 characters";
  if (!is_alphanumeric(label.front()) || !is_alphanumeric(label.back())) {
    return "a label of the reverse domain must begin and end with a letter or digit";
  }
  const bool clean = std::all_of(label.begin(), label.end(), [](char c) { return is_alphanumeric(c) || c == '-'; });
  return clean ? nullptr : "the reverse domain may have only letters, digits, '-' and '.'";
}

const char* bad_domain(std::string_view domain) {
  for (;;) {
    const auto dot = domain.find('.');
    const char* const reason = bad_domain_label(domain.substr(0, dot));
    if (reason != nullptr || dot == std::string_view::npos) return reason;
    domain.remove_prefix(dot + 1);
  }
}

// Length of the UTF-8 sequence that begins the text; 0: none that RFC 3629 allows.
std::size_t utf8_sequence_bytes(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return lead < 0x20 || lead == 0x7F ? 0 : 1;  // no control characters: they would forge lines in logs
  const std::size_t length = lead >= 0xC2 && lead <= 0xDF ? 2 : (lead & 0xF0) == 0xE0 ? 3 : lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t at = 1; at < length; ++at) {
    if ((byte(at) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xF0 && byte(1) < 0x90);
  const bool outside = (lead == 0xED && byte(1) >= 0xA0) || (lead == 0xF4 && byte(1) >= 0x90);  // surrogates; above U+10FFFF
  return overlong || outside ? 0 : length;
}

const char* bad_nqn(std::string_view nqn) {
  if (nqn.empty()) return "it is empty";
  if (nqn.size() > max_nqn_bytes) return "it is longer than 223 bytes";
  if (!nqn.starts_with(nqn_prefix)) return "it must begin with \"nqn.\"";
  if (nqn == discovery_nqn) return nullptr;
  if (nqn.starts_with(uuid_nqn_prefix)) {
    const auto uuid = nqn.substr(uuid_nqn_prefix.size());
    return uuid.size() == uuid_text_bytes && parse_uuid(uuid).has_value() ? nullptr : "what follows \"uuid:\" is not a UUID of 36 characters";
  }
  const auto date = nqn.substr(nqn_prefix.size());
  if (const char* reason = bad_date(date)) return reason;
  const auto rest = date.substr(date_bytes);
  if (!rest.starts_with('.')) return "a '.' must follow the date";
  const auto colon = rest.find(':');
  if (colon == std::string_view::npos || colon + 1 == rest.size()) return "a ':' and a name of one's own must follow the reverse domain";
  if (const char* reason = bad_domain(rest.substr(1, colon - 1))) return reason;
  return is_plain_text(rest.substr(colon + 1)) ? nullptr : "the name after ':' must be UTF-8 without control characters";
}

Result<std::string> normalise_traddr(const std::string& traddr, int family) {
  std::array<std::uint8_t, sizeof(in6_addr)> binary{};
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (::inet_pton(family, traddr.c_str(), binary.data()) != 1) {
    return fail(EINVAL, fmt::format("traddr '{}' is not an {} address in numbers", shown(traddr), family == AF_INET6 ? "IPv6" : "IPv4"));
  }
  return std::string(::inet_ntop(family, binary.data(), text.data(), text.size()));
}

// The interface behind '%', by name: a number is only how some programs write it.
std::string interface_name(const std::string& given) {
  unsigned index = 0;
  const char* const end = given.data() + given.size();
  const auto [stop, error] = std::from_chars(given.data(), end, index);
  std::array<char, IF_NAMESIZE> name{};
  if (error != std::errc() || stop != end || ::if_indextoname(index, name.data()) == nullptr) return given;
  return name.data();
}

// An IPv6 address of one link means nothing without the interface (RFC 4291, section 2.5.6), and others have none.
Result<std::string> normalise_ipv6(const std::string& traddr) {
  const auto percent = traddr.find('%');
  auto address = normalise_traddr(traddr.substr(0, percent), AF_INET6);
  if (!address) return address;
  in6_addr binary{};
  ::inet_pton(AF_INET6, address->c_str(), &binary);
  const bool link_local = IN6_IS_ADDR_LINKLOCAL(&binary);
  if (percent == std::string::npos) {
    if (!link_local) return address;
    return fail(EINVAL, fmt::format("traddr '{}' is link-local: it needs its interface, as in {}%eth0", shown(traddr), *address));
  }
  if (!link_local) return fail(EINVAL, fmt::format("traddr '{}' names an interface, which only link-local addresses have", shown(traddr)));
  const std::string interface = interface_name(traddr.substr(percent + 1));
  if (interface.empty() || interface.size() >= IF_NAMESIZE)
    return fail(EINVAL, fmt::format("traddr '{}' does not name an interface of 1 to {} characters", shown(traddr), IF_NAMESIZE - 1));
  return *address + "%" + interface;
}

Result<std::string> normalise_trsvcid(const std::string& trsvcid) {
  unsigned port = 0;
  const char* const end = trsvcid.data() + trsvcid.size();
  const auto [stop, error] = std::from_chars(trsvcid.data(), end, port);
  if (error != std::errc() || stop != end || port < 1 || port > 65535) {
    return fail(EINVAL, fmt::format("trsvcid '{}' is not a TCP port (1 to 65535)", shown(trsvcid)));
  }
  return std::to_string(port);
}

Result<int> address_family(const ListenAddress& given) {
  if (given.adrfam.empty()) return given.traddr.find(':') == std::string::npos ? AF_INET : AF_INET6;
  if (::strcasecmp(given.adrfam.c_str(), "ipv4") == 0) return AF_INET;
  if (::strcasecmp(given.adrfam.c_str(), "ipv6") == 0) return AF_INET6;
  return fail(EINVAL, fmt::format("adrfam '{}' is not one of IPv4, IPv6", shown(given.adrfam)));
}

}  // namespace

bool is_plain_text(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_sequence_bytes(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

Result<void> validate_nqn(std::string_view nqn) {
  const char* const reason = bad_nqn(nqn);
  if (reason == nullptr) return {};
  return fail(EINVAL, fmt::format("NQN '{}' is not valid: {}", shown(nqn), reason));
}

Result<void> validate_ascii(std::string_view parameter, std::string_view value, std::size_t max_bytes) {
  if (value.size() > max_bytes) {
    return fail(EINVAL, fmt::format("{} '{}' is longer than {} characters", parameter, shown(value), max_bytes));
  }
  if (!std::all_of(value.begin(), value.end(), is_printable)) {
    return fail(EINVAL, fmt::format("{} '{}' has characters that are not printable ASCII", parameter, shown(value)));
  }
  return {};
}

Result<void> parse_hex_bytes(std::string_view parameter, std::string_view text, std::span<std::uint8_t> bytes) {
  std::size_t at = 0;
  std::size_t filled = 0;
  while (filled < bytes.size() && at + 1 < text.size()) {
    if (text[at] == '-' && filled > 0) {
      ++at;
      continue;
    }
    const auto high = hex_digit(text[at]);
    const auto low = hex_digit(text[at + 1]);
    if (!high || !low) break;
    bytes[filled++] = static_cast<std::uint8_t>(*high << 4 | *low);
    at += 2;
  }
  if (filled == bytes.size() && at == text.size()) return {};
  return fail(EINVAL, fmt::format("{} '{}' is not {} bytes in hexadecimal", parameter, shown(text), bytes.size()));
}

Result<std::array<std::uint8_t, 16>> parse_uuid(std::string_view text) {
  std::array<std::uint8_t, 16> uuid{};
  const bool hyphens_stand = text.size() == uuid_text_bytes && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-';
  if (text.size() != 2 * uuid.size() && !hyphens_stand) {
    return fail(EINVAL, fmt::format("uuid '{}' does not have the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", shown(text)));
  }
  const auto parsed = parse_hex_bytes("uuid", text, uuid);
  if (!parsed) return std::unexpected(parsed.error());
  return uuid;
}

std::string uuid_text(const std::array<std::uint8_t, 16>& uuid) {
  std::string text;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid[i]);
  }
  return text;
}

std::string hex_text(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02X}", byte);
  return text;
}

Result<std::string> normalise_trtype(std::string_view trtype) {
  const std::string text(trtype);
  if (::strcasecmp(text.c_str(), "tcp") == 0 && text.size() == 3) return std::string("TCP");
  for (const char* other : {"rdma", "vfiouser", "fc", "pcie", "custom"}) {
    if (::strcasecmp(text.c_str(), other) == 0) {
      return fail(ENOTSUP, fmt::format("trtype '{}' is not supported: catnap serves NVMe over TCP only", shown(text)));
    }
  }
  return fail(EINVAL, fmt::format("Invalid transport type '{}': catnap knows TCP", shown(text)));
}

Result<ListenAddress> normalise_listen_address(const ListenAddress& given) {
  auto trtype = normalise_trtype(given.trtype);
  if (!trtype) return std::unexpected(trtype.error());
  const auto family = address_family(given);
  if (!family) return std::unexpected(family.error());
  auto traddr = *family == AF_INET6 ? normalise_ipv6(given.traddr) : normalise_traddr(given.traddr, *family);
  if (!traddr) return std::unexpected(traddr.error());
  auto trsvcid = normalise_trsvcid(given.trsvcid);
  if (!trsvcid) return std::unexpected(trsvcid.error());
  ListenAddress address;
  address.trtype = std::move(*trtype);
  address.adrfam = *family == AF_INET6 ? "IPv6" : "IPv4";
  address.traddr = std::move(*traddr);
  address.trsvcid = std::move(*trsvcid);
  return address;
}

Result<ListenAddress> normalise_referral_address(const ListenAddress& given) {
  ListenAddress as_tcp = given;
  const bool rdma = ::strcasecmp(given.trtype.c_str(), "rdma") == 0;
  if (rdma) as_tcp.trtype = "TCP";
  auto address = normalise_listen_address(as_tcp);
  if (!address) return address;
  if (address->traddr == "0.0.0.0" || address->traddr == "::")
    return fail(EINVAL, fmt::format("traddr '{}' is no place that a host could be sent to", address->traddr));
  if (address->traddr.find('%') != std::string::npos)
    return fail(EINVAL, fmt::format("traddr '{}' names an interface of this machine: hosts have others", address->traddr));
  if (rdma) address->trtype = "RDMA";
  return address;
}

std::string traddr_without_interface(const std::string& traddr) { return traddr.substr(0, traddr.find('%')); }

const char* concatenation_name(Concatenation concatenation) {
  constexpr const char* texts[] = {"none", "allowed", "required"};
  return texts[static_cast<std::size_t>(concatenation)];
}

Concatenation concatenation_named(std::string_view name) {
  for (const auto each : {Concatenation::allowed, Concatenation::required}) {
    if (name == concatenation_name(each)) return each;
  }
  return Concatenation::none;
}

std::string address_text(const ListenAddress& address) {
  const bool is_ipv6 = address.traddr.find(':') != std::string::npos;
  return is_ipv6 ? fmt::format("[{}]:{}", address.traddr, address.trsvcid) : fmt::format("{}:{}", address.traddr, address.trsvcid);
}

}  // namespace catnap::server
