// A blocking TCP or Unix stream with a deadline on every call, for tests that must never hang.
// Owner: the test's thread. Left out: TLS, anything asynchronous.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "reactor/base/error.h"

namespace catnap::protocol {

using Bytes = std::vector<std::byte>;
using Milliseconds = std::chrono::milliseconds;

// How long a test waits for anything before it counts as missing: long enough for a sanitizer build on a busy machine.
inline constexpr Milliseconds patience{60'000};

class Socket {
 public:
  Socket() = default;  // not connected: every call says so
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // `receive_buffer_bytes` 0: the kernel's own SO_RCVBUF; `traddr` in numbers, with interface where it is link-local. Errors: what connect(2) says.
  static Result<Socket> connect_tcp(std::uint16_t port, int receive_buffer_bytes = 0, const std::string& traddr = "127.0.0.1");
  static Result<Socket> connect_unix(const std::string& path);

  // All of `bytes`, or ETIMEDOUT, EPIPE, ECONNRESET, ENOTCONN.
  Result<void> send_all(std::span<const std::byte> bytes, Milliseconds limit = patience);
  // At least 1 and at most `most` bytes; empty: the peer closed (or reset) the connection. ETIMEDOUT, ENOTCONN.
  Result<Bytes> receive_some(std::size_t most, Milliseconds limit = patience);
  // Ends our direction: the peer reads end of file.
  void shut_down_sending();
  void close();
  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

}  // namespace catnap::protocol
