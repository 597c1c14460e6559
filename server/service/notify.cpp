// The protocol of sd_notify(3). See notify.h.
// Owner: app_thread.
#include "server/service/notify.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>
#include <utility>

#include "reactor/base/error.h"
#include "reactor/base/log.h"

namespace catnap::server {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

std::optional<std::uint64_t> number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return value;
}

// One status is one line.
std::string one_line(std::string_view text) {
  std::string line(text);
  std::ranges::replace(line, '\n', ' ');
  return line;
}

}  // namespace

Notifier Notifier::from_environment() {
  std::uint64_t watchdog_us = number(environment("WATCHDOG_USEC")).value_or(0);
  // Meant for another process, of which this one has inherited the environment.
  const std::string meant_for = environment("WATCHDOG_PID");
  if (!meant_for.empty() && number(meant_for) != static_cast<std::uint64_t>(::getpid())) watchdog_us = 0;
  return Notifier(environment("NOTIFY_SOCKET"), watchdog_us);
}

Notifier::Notifier(const std::string& socket_path, std::uint64_t watchdog_us) : watchdog_us_(watchdog_us) {
  if (socket_path.empty()) return;
  if ((socket_path.front() != '/' && socket_path.front() != '@') || socket_path.size() >= sizeof(address_.sun_path)) {
    log_warning("NOTIFY_SOCKET '{}' is no path of a Unix socket: nobody is told that catnapd is ready", socket_path);
    return;
  }
  address_.sun_family = AF_UNIX;
  std::copy(socket_path.begin(), socket_path.end(), address_.sun_path);
  if (socket_path.front() == '@') address_.sun_path[0] = '\0';
  address_length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_path.size());
  fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd_ < 0) log_warning("{}: a socket for NOTIFY_SOCKET", errno_text(errno));
}

Notifier::Notifier(Notifier&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), address_(other.address_), address_length_(other.address_length_), watchdog_us_(other.watchdog_us_) {}

Notifier::~Notifier() {
  if (fd_ >= 0) ::close(fd_);
}

void Notifier::ready(std::string_view status) const { send(fmt::format("READY=1\nSTATUS={}", one_line(status))); }
void Notifier::reloading() const {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  constexpr std::int64_t us_per_s = 1'000'000;
  constexpr std::int64_t ns_per_us = 1000;
  // The time is for Type=notify-reload (systemd 253): it tells this answer from an older one's.
  send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * us_per_s + now.tv_nsec / ns_per_us));
}
void Notifier::status(std::string_view text) const { send(fmt::format("STATUS={}", one_line(text))); }
void Notifier::alive() const { send("WATCHDOG=1"); }
void Notifier::stopping(std::string_view status) const { send(fmt::format("STOPPING=1\nSTATUS={}", one_line(status))); }

// A manager that does not read must not hold up the control thread: what it does not take is lost, except that it will miss a watchdog's sign, which
// is then its own fault.
void Notifier::send(const std::string& message) const {
  if (!active()) return;
  const auto* address = reinterpret_cast<const sockaddr*>(&address_);
  if (::sendto(fd_, message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL, address, address_length_) >= 0) return;
  log_warning("{}: telling the service manager {}", errno_text(errno), message.substr(0, message.find('\n')));
}

}  // namespace catnap::server
