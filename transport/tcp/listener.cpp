// Accepting sockets on app_thread. See poll_group.h.
#include <fcntl.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/base/log_limit.h"
#include "transport/tcp/address.h"
#include "transport/tcp/poll_group.h"

namespace catnap::tcp {
namespace {

// Connections accepted per wake-up: the rest is found by the next, so RPCs are answered in between during a connect storm.
constexpr int accept_budget = 64;
// Waiting connections the kernel keeps: a host with 128 queues connects them all at once.
constexpr int backlog = 1024;
// Neither a connection nor the spare fd can be had (the whole machine has none, or no memory): accepting pauses this long, twice as long each time up
// to the most. Without a pause the listening socket, which stays readable, would make the loop spin.
constexpr std::uint64_t first_pause_us = 100'000, longest_pause_us = 10'000'000;

LogLimit no_fds_log(1);

int open_spare() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

}  // namespace

Result<std::unique_ptr<Listener>> Listener::open(const std::string& traddr, const std::string& trsvcid, const std::string& adrfam,
                                                 std::function<void(int fd)> on_accept) {
  auto address = parse_address(traddr, trsvcid, adrfam);
  if (!address) return std::unexpected(address.error());
  std::unique_ptr<Listener> listener(new Listener);
  listener->thread_ = Thread::current();
  listener->on_accept_ = std::move(on_accept);
  const auto failed = [&](const char* call, int err) {
    return fail(err, fmt::format("listening on {}:{}: {}: {}", traddr, trsvcid, call, errno_text(err)));
  };

  const int family = address->storage.ss_family;
  listener->fd_ = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener->fd_ < 0) return failed("socket", errno);
  const int one = 1;
  setsockopt(listener->fd_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  // "::" must not take the IPv4 port away from a listener on "0.0.0.0".
  if (family == AF_INET6) setsockopt(listener->fd_, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  if (bind(listener->fd_, reinterpret_cast<const sockaddr*>(&address->storage), address->length) != 0) return failed("bind", errno);
  if (listen(listener->fd_, backlog) != 0) return failed("listen", errno);
  listener->port_ = static_cast<std::uint16_t>(std::stoul(local_address_of(listener->fd_).trsvcid));

  Listener* self = listener.get();
  listener->spare_fd_ = open_spare();
  listener->resume_ = std::make_unique<Timer>([self] { (void)self->thread_->fds().modify(self->fd_, EPOLLIN); });
  auto added = listener->thread_->fds().add(listener->fd_, EPOLLIN, fmt::format("listener {}:{}", traddr, trsvcid),
                                            [self](std::uint32_t) { self->accept_ready(); });
  if (!added) return std::unexpected(added.error());
  return listener;
}

Listener::~Listener() {
  if (fd_ < 0) return;
  (void)thread_->fds().remove(fd_);
  close(fd_);
  if (spare_fd_ >= 0) close(spare_fd_);
}

void Listener::accept_ready() {
  for (int i = 0; i < accept_budget; ++i) {
    const int fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      ++accept_stats().accepted;
      pause_us_ = 0;
      on_accept_(fd);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      const Refused refused = refuse_one();
      if (refused == Refused::one) continue;
      if (refused == Refused::no_spare) pause();
    }
    return;
  }
}

// Takes the first waiting connection in with the fd that is kept for this, and closes it: its host learns at once, and the socket is not readable for
// it any more. (Without an fd accept4() does not even say whether somebody waits.)
Listener::Refused Listener::refuse_one() {
  if (spare_fd_ < 0) spare_fd_ = open_spare();
  if (spare_fd_ < 0) return Refused::no_spare;
  close(std::exchange(spare_fd_, -1));
  const int fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  const bool nobody = fd < 0 && errno == EAGAIN;
  if (fd >= 0) {
    log_limited(no_fds_log, LogLevel::error, "", "connections on port {} are refused: no file descriptors are left (ulimit -n)", port_);
    ++accept_stats().refused_no_fds;
    close(fd);
  }
  spare_fd_ = open_spare();
  if (fd >= 0) return Refused::one;
  return nobody ? Refused::nobody : Refused::no_spare;
}

void Listener::pause() {
  log_limited(no_fds_log, LogLevel::error, "", "accepting on port {} pauses: the machine has no file descriptor or no memory for it", port_);
  pause_us_ = pause_us_ == 0 ? first_pause_us : std::min(2 * pause_us_, longest_pause_us);
  (void)thread_->fds().modify(fd_, 0);
  thread_->arm_in_us(*resume_, pause_us_);
}

AcceptStats& accept_stats() {
  static AcceptStats stats;
  return stats;
}

}  // namespace catnap::tcp
