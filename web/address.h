// Where the HTTP server listens, and what names for it may stand in a request (against DNS rebinding and requests that other sites' pages send).
// Owner: none (values). Left out: accepting (front_door.h).
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "reactor/base/error.h"

namespace catnap::web {

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;

  // "127.0.0.1:9420", "[::1]:9420"; "localhost:9420" is 127.0.0.1. Numbers, no other names; port 0: the kernel chooses. Error: EINVAL, named.
  static Result<Address> parse(const std::string& text);
  bool is_loopback() const;
  std::string text() const;  // as parse() takes it
  std::string host() const;  // without port and brackets
  std::uint16_t port() const;
};

// A listening, non-blocking socket; `address` gets the port that the kernel chose. Errors: what bind and listen say, with the address.
Result<int> listen_at(Address& address);

// "example:80" -> "example", "[::1]:80" -> "::1".
std::string_view host_of_authority(std::string_view authority);
// Is this Host header one that only somebody who means this machine's loopback sends? A page elsewhere whose name resolves to 127.0.0.1 names itself.
bool names_loopback(std::string_view authority);
// Does the Origin header (scheme, host and port as in a link) name the server that the Host header names? `tls`: how the request came.
bool same_origin(std::string_view origin, std::string_view authority, bool tls);

}  // namespace catnap::web
