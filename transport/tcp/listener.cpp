// Accepting sockets on app_thread. See poll_group.h.
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "transport/tcp/address.h"
#include "transport/tcp/poll_group.h"

namespace catnap::tcp {
namespace {

// Connections accepted per wake-up: the rest is found by the next, so RPCs are answered in between during a connect storm.
constexpr int accept_budget = 64;
// Waiting connections the kernel keeps: a host with 128 queues connects them all at once.
constexpr int backlog = 1024;
// Out of fds: try again after this. Waking up for each refused connection would spin, as the listening socket stays readable.
constexpr std::uint64_t resume_after_us = 100'000;

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
}

void Listener::accept_ready() {
  for (int i = 0; i < accept_budget; ++i) {
    const int fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      out_of_fds_.reset();
      on_accept_(fd);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      if (out_of_fds_.first()) log_error("accepting connections on port {} pauses: {}", port_, errno_text(errno));
      (void)thread_->fds().modify(fd_, 0);
      thread_->arm_in_us(*resume_, resume_after_us);
    }
    return;
  }
}

}  // namespace catnap::tcp
