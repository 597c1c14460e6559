// What a service manager is told (sd_notify(3)): ready, what it is doing, alive, ending. One datagram each to the socket that NOTIFY_SOCKET names.
// Owner: app_thread. Left out: handing over file descriptors.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace catnap::server {

class Notifier {
 public:
  // Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from the environment; without the first everything here does nothing.
  static Notifier from_environment();
  // For tests; "" is no socket, "@name" an abstract one.
  Notifier(const std::string& socket_path, std::uint64_t watchdog_us);
  ~Notifier();
  Notifier(Notifier&& other) noexcept;
  Notifier& operator=(Notifier&&) = delete;

  bool active() const { return fd_ >= 0; }
  // How often "alive" is expected at least; 0: not at all.
  std::uint64_t watchdog_us() const { return active() ? watchdog_us_ : 0; }

  void ready(std::string_view status) const;
  // Files are being read again, until ready() says that it is over.
  void reloading() const;
  void status(std::string_view text) const;
  void alive() const;
  void stopping(std::string_view status) const;

 private:
  void send(const std::string& message) const;

  int fd_ = -1;
  sockaddr_un address_{};
  socklen_t address_length_ = 0;
  std::uint64_t watchdog_us_ = 0;
};

}  // namespace catnap::server
