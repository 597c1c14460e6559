// A loopback port whose listener takes no more connections: SYNs are dropped, as by a firewall, and a connect waits until its time is over.
// Owner: the test's thread. Left out: packets of connections that exist (tests/e2e/failover_test.py).
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include "reactor/base/check.h"

namespace catnap::protocol {

class FullListener {
 public:
  FullListener() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    CATNAP_CHECK(::bind(listener_, generic, length) == 0 && ::listen(listener_, 0) == 0 && ::getsockname(listener_, generic, &length) == 0);
    port_ = ntohs(address.sin_port);
    // A backlog of 0 holds one connection; what comes afterwards is dropped. Two more make sure.
    for (int filler = 0; filler < 3; ++filler) {
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      CATNAP_CHECK(fd >= 0);
      const int ignored = ::connect(fd, generic, length);
      static_cast<void>(ignored);
      fillers_.push_back(fd);
    }
  }
  ~FullListener() {
    for (const int fd : fillers_) ::close(fd);
    ::close(listener_);
  }
  FullListener(const FullListener&) = delete;
  FullListener& operator=(const FullListener&) = delete;

  std::uint16_t port() const { return port_; }

 private:
  int listener_;
  std::uint16_t port_ = 0;
  std::vector<int> fillers_;
};

}  // namespace catnap::protocol
