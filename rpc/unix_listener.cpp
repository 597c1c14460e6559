// Takes a Unix socket path over safely (unix_listener.h).
// Owner: app_thread; the calls here touch only local directories' entries.
// Left out: retrying while another instance ends.
#include "rpc/unix_listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "rpc/json.h"

namespace catnap::rpc {
namespace {

std::string lock_path_of(const std::string& path) { return path + ".lock"; }

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  return address;
}

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

std::unexpected<Error> fail_at(const std::string& path, int err, std::string_view what) {
  return fail(err, fmt::format("RPC socket '{}': {}", printable(path), what));
}

Result<void> check_path(const std::string& path) {
  if (path.empty()) return fail_at(path, EINVAL, "the path is empty");
  if (path.front() == '@' || path.find('\0') != std::string::npos) {
    return fail_at(path, EINVAL, "abstract sockets have no file permissions and are not supported; give a path in the file system");
  }
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return fail_at(path, ENAMETOOLONG,
                   fmt::format("the path has {} bytes, a Unix socket's may have {}", path.size(), sizeof(sockaddr_un::sun_path) - 1));
  }
  return {};
}

bool same_file(const struct stat& one, const struct stat& other) { return one.st_dev == other.st_dev && one.st_ino == other.st_ino; }

// Locks PATH.lock. An owner that ends removes the file while it holds the lock, so whoever opened it before that must look again.
Result<int> take_lock(const std::string& path) {
  const std::string lock_path = lock_path_of(path);
  while (true) {
    const int fd = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail_at(path, errno, fmt::format("cannot open its lock file {}: {}", lock_path, errno_text(errno)));
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int err = errno;
      ::close(fd);
      if (err == EWOULDBLOCK) return fail_at(path, EADDRINUSE, fmt::format("in use by another running instance (it holds {})", lock_path));
      return fail_at(path, err, fmt::format("cannot lock {}: {}", lock_path, errno_text(err)));
    }
    struct stat held{}, present{};
    if (::fstat(fd, &held) == 0 && ::stat(lock_path.c_str(), &present) == 0 && same_file(held, present)) return fd;
    ::close(fd);
  }
}

}  // namespace

Result<UnixListener> UnixListener::open(std::string path, const SocketAccess& access) {
  if (auto checked = check_path(path); !checked) return std::unexpected(checked.error());
  const auto lock_fd = take_lock(path);
  if (!lock_fd) return std::unexpected(lock_fd.error());
  UnixListener listener(std::move(path), *lock_fd);
  if (auto cleared = listener.clear_stale_socket(); !cleared) return std::unexpected(cleared.error());
  if (auto bound = listener.bind_and_listen(access); !bound) return std::unexpected(bound.error());
  return listener;
}

// Holding the lock says that no instance of ours or SPDK's lives; a program without lock files is asked by connecting to it.
Result<void> UnixListener::clear_stale_socket() const {
  struct stat present{};
  if (::lstat(path_.c_str(), &present) != 0) {
    if (errno == ENOENT) return {};
    return fail_at(path_, errno, errno_text(errno));
  }
  if (!S_ISSOCK(present.st_mode)) return fail_at(path_, EEXIST, "something that is not a socket stands there, it is left alone");
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return fail_at(path_, errno, errno_text(errno));
  const sockaddr_un address = address_of(path_);
  const int err = ::connect(probe, generic(address), sizeof(address)) == 0 ? 0 : errno;
  ::close(probe);
  if (err == 0 || err == EAGAIN) return fail_at(path_, EADDRINUSE, "another program listens there");
  if (err != ECONNREFUSED && err != ENOENT) return fail_at(path_, err, fmt::format("cannot tell whether it is in use: {}", errno_text(err)));
  if (::unlink(path_.c_str()) != 0 && errno != ENOENT)
    return fail_at(path_, errno, fmt::format("cannot remove the stale socket: {}", errno_text(errno)));
  return {};
}

Result<void> UnixListener::bind_and_listen(const SocketAccess& access) {
  fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd_ < 0) return fail_at(path_, errno, errno_text(errno));
  // Linux gives the socket's file the mode of the socket's own inode (less the umask), so there is no instant with a wider one.
  if (::fchmod(fd_, 0600) != 0) return fail_at(path_, errno, errno_text(errno));
  const sockaddr_un address = address_of(path_);
  if (::bind(fd_, generic(address), sizeof(address)) != 0) return fail_at(path_, errno, fmt::format("cannot bind: {}", errno_text(errno)));
  struct stat bound{};
  if (::lstat(path_.c_str(), &bound) != 0) return fail_at(path_, errno, errno_text(errno));
  device_ = bound.st_dev;
  inode_ = bound.st_ino;
  if (auto given = give_access(access); !given) return given;
  if (::listen(fd_, backlog) != 0) return fail_at(path_, errno, fmt::format("cannot listen: {}", errno_text(errno)));
  return {};
}

// Before listen(), so that nobody is connected who may not be. The owner first: a mode set before would be the old owner's.
Result<void> UnixListener::give_access(const SocketAccess& access) const {
  if (access.owner || access.group) {
    const uid_t owner = access.owner.value_or(static_cast<uid_t>(-1));  // -1: leave it
    const gid_t group = access.group.value_or(static_cast<gid_t>(-1));
    if (::lchown(path_.c_str(), owner, group) != 0 || ::fchown(lock_fd_, owner, group) != 0) {
      return fail_at(path_, errno, fmt::format("cannot be given to its owner and group: {}", errno_text(errno)));
    }
  }
  if (access.mode != SocketAccess{}.mode && ::chmod(path_.c_str(), access.mode) != 0) {
    return fail_at(path_, errno, fmt::format("cannot have mode {:04o}: {}", access.mode, errno_text(errno)));
  }
  return {};
}

UnixListener::UnixListener(UnixListener&& other) noexcept
    : path_(std::move(other.path_)),
      lock_fd_(std::exchange(other.lock_fd_, -1)),
      fd_(std::exchange(other.fd_, -1)),
      device_(other.device_),
      inode_(std::exchange(other.inode_, 0)) {}

UnixListener::~UnixListener() {
  if (inode_ != 0) {
    struct stat present{};
    if (::lstat(path_.c_str(), &present) == 0 && present.st_dev == device_ && present.st_ino == inode_) ::unlink(path_.c_str());
  }
  if (fd_ >= 0) ::close(fd_);
  if (lock_fd_ >= 0) {
    ::unlink(lock_path_of(path_).c_str());
    ::close(lock_fd_);
  }
}

}  // namespace catnap::rpc
