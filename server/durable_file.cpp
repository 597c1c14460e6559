// Replacing a file durably. See durable_file.h.
// Owner: none; calls block.
#include "server/durable_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "reactor/base/allowed_paths.h"

namespace catnap::server {
namespace {

class Fd {
 public:
  Fd(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

std::unexpected<Error> failed(const char* step, const std::string& path) {
  const int err = errno;
  return fail(err, fmt::format("{}: {} '{}'", open_error_text(err, path), step, path));
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

// For file systems that cannot set room aside: what is written over needs none.
bool fill_with_zeroes(int fd, std::size_t from, std::size_t bytes) {
  static constexpr std::array<char, 65536> zeroes{};
  if (::lseek(fd, static_cast<off_t>(from), SEEK_SET) < 0) return false;
  while (from < bytes) {
    const std::size_t piece = std::min(zeroes.size(), bytes - from);
    if (!write_all(fd, std::string_view(zeroes.data(), piece))) return false;
    from += piece;
  }
  return true;
}

Result<void> sync_path(const std::string& path, int flags) {
  const Fd file(path, flags);
  if (file.get() < 0) return failed("cannot open", path);
  if (::fsync(file.get()) != 0) return failed("cannot sync", path);
  return {};
}

class PosixFiles final : public FileSteps {
 public:
  Result<void> reserve(const std::string& path, std::size_t bytes) override {
    const Fd file(path, O_WRONLY | O_CREAT | O_NOFOLLOW);
    if (file.get() < 0) return failed("cannot make", path);
    if (::fallocate(file.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes)) == 0) return {};
    struct stat info{};
    if (errno == EOPNOTSUPP && ::fstat(file.get(), &info) == 0 && fill_with_zeroes(file.get(), static_cast<std::size_t>(info.st_size), bytes)) {
      return {};
    }
    return failed("cannot set room aside for", path);
  }
  Result<void> write(const std::string& path, std::string_view bytes) override {
    const Fd file(path, O_WRONLY | O_CREAT | O_NOFOLLOW);
    if (file.get() < 0) return failed("cannot make", path);
    if (!write_all(file.get(), bytes) || ::ftruncate(file.get(), static_cast<off_t>(bytes.size())) != 0) return failed("cannot write", path);
    return {};
  }
  Result<void> sync(const std::string& path) override { return sync_path(path, O_WRONLY); }
  Result<void> rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return failed("cannot replace", to);
    return {};
  }
  Result<void> sync_directory(const std::string& path) override { return sync_path(path, O_RDONLY | O_DIRECTORY); }
  void remove(const std::string& path) override { ::unlink(path.c_str()); }
};

}  // namespace

FileSteps& posix_files() {
  static PosixFiles files;
  return files;
}

std::string directory_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

Result<void> write_durably(FileSteps& files, const std::string& path, std::string_view bytes) {
  return write_durably(files, path, path + ".new", bytes);
}

Result<void> write_durably(FileSteps& files, const std::string& path, const std::string& beside, std::string_view bytes) {
  auto done = files.write(beside, bytes);
  if (done) done = files.sync(beside);
  if (done) done = files.rename(beside, path);
  if (!done) {
    files.remove(beside);
    return done;
  }
  return files.sync_directory(directory_of(path));
}

Result<void> check_replaceable(const std::string& path) {
  const std::string beside = path + ".new";
  auto writable = posix_files().write(beside, "");
  if (writable) posix_files().remove(beside);
  return writable;
}

Result<std::optional<std::string>> read_whole(const std::string& path, std::size_t max_bytes) {
  const Fd file(path, O_RDONLY);
  if (file.get() < 0 && errno == ENOENT) return std::optional<std::string>();
  if (file.get() < 0) return failed("cannot open", path);
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) return failed("cannot look at", path);
  if (!S_ISREG(info.st_mode)) return fail(EINVAL, fmt::format("'{}' is no regular file", path));
  if (static_cast<std::size_t>(info.st_size) > max_bytes) {
    return fail(EINVAL, fmt::format("'{}' has {} bytes, more than the {} that such a file can have", path, info.st_size, max_bytes));
  }
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t at = 0;
  while (at < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + at, text.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed("cannot read", path);
    if (got == 0) break;
    at += static_cast<std::size_t>(got);
  }
  text.resize(at);
  return std::optional<std::string>(std::move(text));
}

}  // namespace catnap::server
