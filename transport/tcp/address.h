// Socket addresses as NVMe-oF writes them: TRADDR, TRSVCID, ADRFAM.
// Owner: none (pure functions and getsockname). Left out: names (only numbers are taken; DNS would block).
#pragma once

#include <sys/socket.h>

#include <string>

#include "reactor/base/error.h"
#include "transport/command_sink.h"

namespace catnap::tcp {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

// Errors: EINVAL naming the field and its value; ENODEV for an interface that is not there. `adrfam` may be empty: then traddr decides. A link-local
// IPv6 address carries its interface: "fe80::1%eth0" (RFC 4007, section 11), here and in format_address().
Result<SocketAddress> parse_address(const std::string& traddr, const std::string& trsvcid, const std::string& adrfam);
transport::CommandQueue::Address format_address(const sockaddr_storage& storage);
transport::CommandQueue::Address local_address_of(int fd);
transport::CommandQueue::Address peer_address_of(int fd);

}  // namespace catnap::tcp
