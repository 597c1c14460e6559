// Which connections stay within the host, and what they are given: real sockets on loopback.
#include "transport/tcp/same_host.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "tests/unit/tcp/queue_pair_bench.h"
#include "transport/tcp/address.h"

namespace catnap::tcp {
namespace {

sockaddr_storage address(const char* traddr) { return parse_address(traddr, "4420", "")->storage; }

TEST(SameHost, IsKnownByTheAddresses) {
  EXPECT_TRUE(is_same_host(address("127.0.0.1"), address("127.0.0.1")));
  EXPECT_TRUE(is_same_host(address("127.0.0.1"), address("127.3.2.1"))) << "all of 127.0.0.0/8";
  EXPECT_TRUE(is_same_host(address("192.0.2.7"), address("192.0.2.7")));
  EXPECT_TRUE(is_same_host(address("::1"), address("::1")));
  EXPECT_TRUE(is_same_host(address("2001:db8::1"), address("2001:db8::1")));
  EXPECT_FALSE(is_same_host(address("192.0.2.7"), address("192.0.2.8")));
  EXPECT_FALSE(is_same_host(address("2001:db8::1"), address("2001:db8::2")));
  EXPECT_FALSE(is_same_host(address("127.0.0.1"), address("::1")));
  EXPECT_FALSE(is_same_host(sockaddr_storage{}, sockaddr_storage{})) << "no addresses at all";
}

// A connection over loopback: both of its ends, closed at the end.
class Loopback {
 public:
  explicit Loopback(int family) {
    const int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto to = parse_address(family == AF_INET ? "127.0.0.1" : "::1", "1", "")->storage;
    (family == AF_INET ? reinterpret_cast<sockaddr_in&>(to).sin_port : reinterpret_cast<sockaddr_in6&>(to).sin6_port) = 0;
    socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    auto* const any = reinterpret_cast<sockaddr*>(&to);
    connected_ = bind(listener, any, size) == 0 && listen(listener, 1) == 0 && getsockname(listener, any, &size) == 0;
    near = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    connected_ = connected_ && connect(near, any, size) == 0;
    if (connected_) far = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    close(listener);
  }
  ~Loopback() {
    close(near);
    if (far >= 0) close(far);
  }
  Loopback(const Loopback&) = delete;
  Loopback& operator=(const Loopback&) = delete;
  bool connected() const { return connected_ && far >= 0; }

  int near = -1, far = -1;

 private:
  bool connected_ = false;
};

std::string congestion_control_of(int fd) {
  char name[16] = "";
  socklen_t size = sizeof name;
  EXPECT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &size), 0);
  return name;
}

TEST(SameHost, ConnectionsAreNotPaced) {
  for (const int family : {AF_INET, AF_INET6}) {
    const Loopback connection(family);
    if (family == AF_INET6 && !connection.connected()) continue;  // a host without IPv6
    ASSERT_TRUE(connection.connected());
    const std::string before = congestion_control_of(connection.far);
    spare_pacing(connection.near);
    EXPECT_EQ(congestion_control_of(connection.near), "reno");
    EXPECT_EQ(congestion_control_of(connection.far), before) << "the other end is the other's";
  }
}

TEST_F(QueuePairTest, AConnectionWithinTheHostIsNotPaced) {
  Loopback connection(AF_INET);
  ASSERT_TRUE(connection.connected());
  const int fd = std::exchange(connection.far, -1);  // the group closes it
  hand.on_thread([&] { group->add_connection(fd); });
  hand.settle();
  EXPECT_EQ(congestion_control_of(fd), "reno");
}

TEST(SameHost, WhatIsNotConnectedIsLeftAlone) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const std::string before = congestion_control_of(fd);
  spare_pacing(fd);
  EXPECT_EQ(congestion_control_of(fd), before);
  close(fd);
}

}  // namespace
}  // namespace catnap::tcp
