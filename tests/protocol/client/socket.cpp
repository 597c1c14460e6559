// Sockets with deadlines, by poll(). Owner: the test's thread. Left out: see socket.h.
#include "tests/protocol/client/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <utility>

namespace catnap::protocol {

namespace {

using Clock = std::chrono::steady_clock;

// True when `events` (or an error or hang-up, which the next call reports) came before the deadline.
bool wait_for(int fd, short events, Clock::time_point deadline) {
  while (true) {
    auto left = std::chrono::ceil<Milliseconds>(deadline - Clock::now()).count();
    pollfd entry{fd, events, 0};
    int ready = ::poll(&entry, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return false;
  }
}

std::unexpected<Error> last_error(const char* what) { return fail(errno, std::string(what) + ": " + std::strerror(errno)); }

}  // namespace

Socket::Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

Result<Socket> Socket::connect_tcp(std::uint16_t port, int receive_buffer_bytes, const std::string& traddr) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(traddr.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return fail(EINVAL, "no address: " + traddr);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> address(found, &::freeaddrinfo);
  Socket made(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made.is_open()) return last_error("socket");
  // Before connect(), as the window scale is settled in the handshake.
  if (receive_buffer_bytes > 0 && ::setsockopt(made.fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes)) != 0) {
    return last_error("SO_RCVBUF");
  }
  if (::connect(made.fd_, address->ai_addr, address->ai_addrlen) != 0) return last_error("connect");
  int on = 1;  // what a test sends in pieces shall also leave in pieces
  ::setsockopt(made.fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ::fcntl(made.fd_, F_SETFL, O_NONBLOCK);
  return made;
}

Result<Socket> Socket::connect_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return fail(ENAMETOOLONG, "socket path " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Socket made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made.is_open()) return last_error("socket");
  if (::connect(made.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return last_error(path.c_str());
  ::fcntl(made.fd_, F_SETFL, O_NONBLOCK);
  return made;
}

Result<void> Socket::send_all(std::span<const std::byte> bytes, Milliseconds limit) {
  if (!is_open()) return fail(ENOTCONN, "not connected");
  auto deadline = Clock::now() + limit;
  while (!bytes.empty()) {
    ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return last_error("send");
    if (!wait_for(fd_, POLLOUT, deadline)) return fail(ETIMEDOUT, "send: the peer takes nothing");
  }
  return {};
}

Result<Bytes> Socket::receive_some(std::size_t most, Milliseconds limit) {
  if (!is_open()) return fail(ENOTCONN, "not connected");
  auto deadline = Clock::now() + limit;
  Bytes bytes(most);
  while (true) {
    ssize_t got = ::recv(fd_, bytes.data(), bytes.size(), 0);
    if (got >= 0) {
      bytes.resize(static_cast<std::size_t>(got));
      return bytes;
    }
    if (errno == EINTR) continue;
    if (errno == ECONNRESET || errno == EPIPE) return Bytes{};
    if (errno != EAGAIN) return last_error("recv");
    if (!wait_for(fd_, POLLIN, deadline)) return fail(ETIMEDOUT, "recv: nothing came");
  }
}

void Socket::shut_down_sending() {
  if (is_open()) ::shutdown(fd_, SHUT_WR);
}

void Socket::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

}  // namespace catnap::protocol
