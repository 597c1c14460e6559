// See same_host.h.
#include "transport/tcp/same_host.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cstring>
#include <string_view>

namespace catnap::tcp {
namespace {

constexpr std::string_view without_pacing = "reno";

bool is_loopback(const in_addr& address) { return (ntohl(address.s_addr) >> 24) == IN_LOOPBACKNET; }

}  // namespace

bool is_same_host(const sockaddr_storage& local, const sockaddr_storage& peer) {
  if (local.ss_family != peer.ss_family) return false;
  if (local.ss_family == AF_INET) {
    const in_addr& here = reinterpret_cast<const sockaddr_in&>(local).sin_addr;
    const in_addr& there = reinterpret_cast<const sockaddr_in&>(peer).sin_addr;
    return here.s_addr == there.s_addr || (is_loopback(here) && is_loopback(there));
  }
  if (local.ss_family == AF_INET6) {
    const auto& here = reinterpret_cast<const sockaddr_in6&>(local);
    const auto& there = reinterpret_cast<const sockaddr_in6&>(peer);
    return here.sin6_scope_id == there.sin6_scope_id && std::memcmp(&here.sin6_addr, &there.sin6_addr, sizeof here.sin6_addr) == 0;
  }
  return false;
}

void spare_pacing(int fd) {
  sockaddr_storage local{}, peer{};
  socklen_t local_size = sizeof local, peer_size = sizeof peer;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_size) != 0) return;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_size) != 0) return;
  if (!is_same_host(local, peer)) return;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, without_pacing.data(), without_pacing.size());
}

}  // namespace catnap::tcp
