// Accepts connections and keeps their number bounded (server.h).
// Owner: app_thread. Left out: what happens on a connection (connection.cpp).
#include "rpc/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "rpc/connection.h"
#include "rpc/reply.h"

namespace catnap::rpc {

Result<std::unique_ptr<Server>> Server::listen(ServerOptions options, Dispatcher& dispatcher) {
  auto listener = UnixListener::open(options.path);
  if (!listener) return std::unexpected(listener.error());
  return serve(std::move(options), dispatcher, std::move(*listener));
}

Result<std::unique_ptr<Server>> Server::serve(ServerOptions options, Dispatcher& dispatcher, UnixListener listener) {
  options.path = listener.path();
  std::unique_ptr<Server> server(new Server(std::move(options), dispatcher, std::move(listener)));
  if (auto started = server->start(); !started) return std::unexpected(started.error());
  return server;
}

Server::Server(ServerOptions options, Dispatcher& dispatcher, UnixListener listener)
    : options_(std::move(options)),
      dispatcher_(dispatcher),
      thread_(*Thread::current()),
      listener_(std::make_unique<UnixListener>(std::move(listener))),
      spare_fd_(::open("/dev/null", O_RDONLY | O_CLOEXEC)) {}

Server::~Server() { close(); }

Result<void> Server::start() {
  return thread_.fds().add(listener_->fd(), EPOLLIN, "rpc listener", [this](std::uint32_t) { accept_ready(); });
}

void Server::close() {
  if (!listener_) return;
  static_cast<void>(thread_.fds().remove(listener_->fd()));  // fails only when start() did
  while (!connections_.empty()) {
    const std::shared_ptr<Connection> connection = connections_.begin()->second;
    connection->flush();
    connection->close();
  }
  listener_.reset();
  if (spare_fd_ >= 0) ::close(std::exchange(spare_fd_, -1));
}

void Server::accept_ready() {
  // One batch of the backlog per wake-up; what is left keeps the listener readable.
  for (int accepted = 0; accepted < UnixListener::backlog; ++accepted) {
    const int fd = ::accept4(listener_->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      admit(fd);
    } else if (errno == EMFILE || errno == ENFILE) {
      shed_one_without_fds();
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;  // EAGAIN: all taken
    }
  }
}

void Server::shed_one_without_fds() {
  if (limit_said_.first()) log_warning("RPC socket '{}': out of file descriptors, connections are closed unserved", options_.path);
  if (spare_fd_ >= 0) ::close(spare_fd_);
  const int fd = ::accept4(listener_->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) ::close(fd);
  spare_fd_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

CallerPtr Server::caller_of(int fd) const {
  auto caller = std::make_shared<Caller>(CallerKind::unix_socket);
  caller->role = options_.role;
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0) {
    caller->pid = peer.pid;
    caller->uid = peer.uid;
    caller->gid = peer.gid;
  }
  return caller;
}

void Server::admit(int fd) {
  if (connections_.size() >= options_.max_connections) {
    if (limit_said_.first()) log_warning("RPC socket '{}': {} connections are open, further ones are refused", options_.path, connections_.size());
    const std::string text = error_reply(
        Json::Value(), RpcError(-EBUSY, fmt::format("the RPC server has its limit of {} connections open; close one", options_.max_connections)));
    static_cast<void>(::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT));  // a courtesy: it is closed in any case
    ::close(fd);
    return;
  }
  auto connection = std::make_shared<Connection>(*this, fd, caller_of(fd));
  connections_.emplace(fd, connection);
  if (auto opened = connection->open(); !opened) {
    log_warning("RPC connection: {}", opened.error().message);
    connection->close();
  }
}

void Server::forget(int fd) {
  connections_.erase(fd);
  limit_said_.reset();
}

}  // namespace catnap::rpc
