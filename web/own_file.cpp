// See own_file.h.
// Owner: whoever has it.
#include "web/own_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "web/credentials.h"

namespace catnap::web {

OwnFile::OwnFile(OwnFile&& other) noexcept
    : option_(other.option_), path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), mode_(other.mode_), owner_(other.owner_) {}

OwnFile::~OwnFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<OwnFile> OwnFile::open(const char* option, const std::string& path) {
  OwnFile file(option, path);
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd_ < 0) {
    const int err = errno;
    const std::string who = err == EACCES ? fmt::format(" (for uid {}, which reads it)", ::geteuid()) : std::string();
    return fail(err, fmt::format("{} '{}': {}{}", option, path, errno_text(err), who));
  }
  struct stat info{};
  if (::fstat(file.fd_, &info) != 0) return fail(errno, fmt::format("{} '{}': {}", option, path, errno_text(errno)));
  if (!S_ISREG(info.st_mode)) return fail(EINVAL, fmt::format("{} '{}' is no regular file", option, path));
  file.mode_ = info.st_mode & 07777U;
  file.owner_ = info.st_uid;
  return file;
}

Result<std::string> OwnFile::read(std::size_t max_bytes) const {
  std::string text(max_bytes + 1, '\0');
  std::size_t length = 0;
  while (length < text.size()) {
    const ssize_t got = ::read(fd_, text.data() + length, text.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno, fmt::format("{} '{}': {}", option_, path_, errno_text(errno)));
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
  }
  if (length > max_bytes) {
    wipe(text);
    return fail(EFBIG, fmt::format("{} '{}' is longer than {} bytes", option_, path_, max_bytes));
  }
  text.resize(length);
  return text;
}

}  // namespace catnap::web
