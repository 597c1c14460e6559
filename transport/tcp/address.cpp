// See address.h.
#include "transport/tcp/address.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <net/if.h>
#include <netinet/in.h>
#include <strings.h>

#include <charconv>
#include <utility>

namespace catnap::tcp {
namespace {

Result<std::uint16_t> parse_port(const std::string& trsvcid) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(trsvcid.data(), trsvcid.data() + trsvcid.size(), port);
  if (error != std::errc{} || end != trsvcid.data() + trsvcid.size() || port == 0 || port > 65535)
    return fail(EINVAL, fmt::format("trsvcid '{}' is not a port number from 1 to 65535", trsvcid));
  return static_cast<std::uint16_t>(port);
}

transport::CommandQueue::Address name_of(int fd, int (*get)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (get(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {"?", "?", "?"};
  return format_address(storage);
}

}  // namespace

Result<SocketAddress> parse_address(const std::string& traddr, const std::string& trsvcid, const std::string& adrfam) {
  const bool want4 = strcasecmp(adrfam.c_str(), "ipv4") == 0;
  const bool want6 = strcasecmp(adrfam.c_str(), "ipv6") == 0;
  if (!adrfam.empty() && !want4 && !want6) return fail(EINVAL, fmt::format("adrfam '{}' is neither IPv4 nor IPv6", adrfam));
  auto port = parse_port(trsvcid);
  if (!port) return std::unexpected(port.error());
  SocketAddress address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (!want6 && inet_pton(AF_INET, traddr.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(*port);
    address.length = sizeof *v4;
    return address;
  }
  const auto percent = traddr.find('%');
  if (!want4 && inet_pton(AF_INET6, traddr.substr(0, percent).c_str(), &v6->sin6_addr) == 1) {
    if (percent != std::string::npos) {
      v6->sin6_scope_id = if_nametoindex(traddr.c_str() + percent + 1);
      if (v6->sin6_scope_id == 0) return fail(ENODEV, fmt::format("traddr '{}': there is no interface '{}'", traddr, traddr.substr(percent + 1)));
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(*port);
    address.length = sizeof *v6;
    return address;
  }
  return fail(EINVAL, fmt::format("traddr '{}' is not an {} address in numbers", traddr, want4 ? "IPv4" : want6 ? "IPv6" : "IP"));
}

transport::CommandQueue::Address format_address(const sockaddr_storage& storage) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return {text, std::to_string(ntohs(v4.sin_port)), "IPv4"};
  }
  if (storage.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    std::string traddr = text;
    char interface[IF_NAMESIZE];
    if (IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr) && if_indextoname(v6.sin6_scope_id, interface) != nullptr) traddr = traddr + "%" + interface;
    return {std::move(traddr), std::to_string(ntohs(v6.sin6_port)), "IPv6"};
  }
  return {"?", "?", "?"};
}

transport::CommandQueue::Address local_address_of(int fd) { return name_of(fd, getsockname); }
transport::CommandQueue::Address peer_address_of(int fd) { return name_of(fd, getpeername); }

}  // namespace catnap::tcp
