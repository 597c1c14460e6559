// Addresses and names (address.h).
// Owner: none.
#include "web/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <strings.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace catnap::web {
namespace {

constexpr int listen_backlog = 128;  // as the RPC socket's: a crowd of monitors that come at the same second

bool equal_any_case(std::string_view a, std::string_view b) { return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0; }

std::string_view port_of_authority(std::string_view authority) {
  const std::size_t colon = authority.rfind(':');
  if (colon == std::string_view::npos || authority.find(']', colon) != std::string_view::npos) return {};
  return authority.substr(colon + 1);
}

bool is_loopback_number(const std::string& host) {
  in_addr four{};
  if (::inet_pton(AF_INET, host.c_str(), &four) == 1) return (ntohl(four.s_addr) >> 24) == 127;
  in6_addr six{};
  return ::inet_pton(AF_INET6, host.c_str(), &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

}  // namespace

Result<Address> Address::parse(const std::string& text) {
  const auto wrong = [&](const char* why) {
    return fail(EINVAL, fmt::format("--http '{}': {}; it is ADDRESS:PORT with an address in numbers, as 127.0.0.1:9420 or [::1]:9420", text, why));
  };
  const std::string_view port_text = port_of_authority(text);
  std::uint16_t port = 0;
  const auto [end, failed] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (port_text.empty() || failed != std::errc() || end != port_text.data() + port_text.size()) return wrong("no port from 0 to 65535 at the end");
  const bool bracketed = text.starts_with('[');
  std::string host(host_of_authority(text));
  if (host == "localhost") host = "127.0.0.1";
  Address address;
  sockaddr_in four{};
  sockaddr_in6 six{};
  if (!bracketed && ::inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    std::memcpy(&address.storage, &four, sizeof four);
    address.length = sizeof four;
  } else if (bracketed && ::inet_pton(AF_INET6, host.c_str(), &six.sin6_addr) == 1) {
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    std::memcpy(&address.storage, &six, sizeof six);
    address.length = sizeof six;
  } else {
    return wrong(bracketed ? "no IPv6 address within the brackets" : "no IPv4 address before the port (IPv6 stands in brackets)");
  }
  return address;
}

std::string Address::host() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_INET) {
    sockaddr_in four{};
    std::memcpy(&four, &storage, sizeof four);
    ::inet_ntop(AF_INET, &four.sin_addr, text, sizeof text);
  } else if (storage.ss_family == AF_INET6) {
    sockaddr_in6 six{};
    std::memcpy(&six, &storage, sizeof six);
    ::inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof text);
  }
  return text;
}

std::uint16_t Address::port() const {
  if (storage.ss_family == AF_INET) {
    sockaddr_in four{};
    std::memcpy(&four, &storage, sizeof four);
    return ntohs(four.sin_port);
  }
  sockaddr_in6 six{};
  std::memcpy(&six, &storage, sizeof six);
  return ntohs(six.sin6_port);
}

std::string Address::text() const {
  return storage.ss_family == AF_INET6 ? fmt::format("[{}]:{}", host(), port()) : fmt::format("{}:{}", host(), port());
}

bool Address::is_loopback() const { return is_loopback_number(host()); }

Result<int> listen_at(Address& address) {
  const auto failed = [&](int fd, const char* what) {
    const int err = errno;
    if (fd >= 0) ::close(fd);
    return fail(err, fmt::format("--http {}: {}: {}", address.text(), what, errno_text(err)));
  };
  const int fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return failed(fd, "socket");
  const int on = 1;
  static_cast<void>(::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));  // a restart finds the old connections' remains
  if (address.storage.ss_family == AF_INET6) static_cast<void>(::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0) return failed(fd, "bind");
  if (::listen(fd, listen_backlog) != 0) return failed(fd, "listen");
  address.length = sizeof address.storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) return failed(fd, "getsockname");
  return fd;
}

std::string_view host_of_authority(std::string_view authority) {
  if (authority.starts_with('[')) {
    const std::size_t end = authority.find(']');
    return end == std::string_view::npos ? std::string_view() : authority.substr(1, end - 1);
  }
  return authority.substr(0, authority.rfind(':'));
}

bool names_loopback(std::string_view authority) {
  const std::string host(host_of_authority(authority));
  return equal_any_case(host, "localhost") || is_loopback_number(host);
}

bool same_origin(std::string_view origin, std::string_view authority, bool tls) {
  const std::string_view scheme = tls ? "https://" : "http://";
  if (!equal_any_case(origin.substr(0, scheme.size()), scheme)) return false;
  const std::string_view there = origin.substr(scheme.size());
  const std::string_view standard = tls ? "443" : "80";
  const auto port = [&](std::string_view of) {
    const std::string_view given = port_of_authority(of);
    return given.empty() ? standard : given;
  };
  return !there.empty() && equal_any_case(host_of_authority(there), host_of_authority(authority)) && port(there) == port(authority);
}

}  // namespace catnap::web
