// A listening Unix socket that is ours: mode 0600 from its first instant, wider only when asked and before anybody can connect; a lock file beside
// it, a live owner never unseated. Owner: app_thread. Left out: accepting (server.cpp).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "reactor/base/error.h"

namespace catnap::rpc {

// Who may connect. Whoever can write to the socket's file can call every method (or what --rpcs-allowed leaves).
struct SocketAccess {
  mode_t mode = 0600;
  std::optional<uid_t> owner;  // of the socket and its lock file; none: who made it
  std::optional<gid_t> group;
};

class UnixListener {
 public:
  // Binds and listens at `path`. The lock file is PATH.lock, as SPDK's, so that the two programs respect each other.
  // Errors, each naming the path: EINVAL (empty, abstract "@…", holding a NUL), ENAMETOOLONG (sun_path holds 107 bytes), EADDRINUSE (the lock is
  // held, or somebody answers there), EEXIST (something that is no socket stands there), and what open, bind, chown and listen say.
  static Result<UnixListener> open(std::string path, const SocketAccess& access = {});

  UnixListener(UnixListener&& other) noexcept;
  UnixListener& operator=(UnixListener&&) = delete;
  // Removes the socket, if it is still the one bound here, and the lock file.
  ~UnixListener();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }

  // Connections that may wait to be accepted; the control thread accepts at once, so this only has to cover a burst.
  static constexpr int backlog = 128;

 private:
  UnixListener(std::string path, int lock_fd) : path_(std::move(path)), lock_fd_(lock_fd) {}

  Result<void> clear_stale_socket() const;
  Result<void> bind_and_listen(const SocketAccess& access);
  Result<void> give_access(const SocketAccess& access) const;

  std::string path_;
  int lock_fd_ = -1;
  int fd_ = -1;
  dev_t device_ = 0;  // of the socket's file, once bound
  ino_t inode_ = 0;
};

}  // namespace catnap::rpc
