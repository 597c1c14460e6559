// The state file at start. See state_file.h.
// Owner: main(), before any thread.
#include "server/state_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "server/durable_file.h"
#include "server/raid_files.h"

namespace catnap::server {
namespace {

std::unexpected<Error> cannot(const std::string& path, const Error& reason) {
  return fail(reason.err, fmt::format("state file {}: {}", path, reason.message));
}

// Each write puts a new file in the old one's place: in that of the file which a link leads to, not in the link's. One file has one lock that way,
// too.
Result<std::string> without_links(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  auto real = std::filesystem::canonical(path, error);
  if (error) return cannot(path, Error(error.value(), fmt::format("it is a link that leads to no file: {}", error.message())));
  return real.string();
}

}  // namespace

StateFile::StateFile(StateFile&& other) noexcept
    : path_(std::move(other.path_)),
      lock_fd_(std::exchange(other.lock_fd_, -1)),
      text_(std::move(other.text_)),
      clean_stop_(std::move(other.clean_stop_)),
      raid_notes_(std::move(other.raid_notes_)),
      calls_(std::move(other.calls_)) {}

StateFile::~StateFile() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

Result<StateFile> StateFile::open(const std::string& given) {
  if (given.empty()) return fail(EINVAL, "--state '' names no file");
  std::error_code error;
  const std::string named = std::filesystem::absolute(given, error).lexically_normal().string();
  if (error || named.ends_with('/')) return fail(EINVAL, fmt::format("--state '{}' names no file", given));
  const auto real = without_links(named);
  if (!real) return std::unexpected(real.error());
  const std::string& path = *real;
  const std::string lock_path = path + ".lock";
  const int lock_fd = ::open(lock_path.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock_fd < 0) return cannot(path, Error(errno, fmt::format("{}: cannot make '{}'", errno_text(errno), lock_path)));
  StateFile file(path, lock_fd);
  if (::flock(lock_fd, LOCK_EX | LOCK_NB) != 0) {
    return fail(EBUSY, fmt::format("state file {} is in use by another process ('{}' is locked)", path, lock_path));
  }
  // What a process that was killed has left half written.
  for (const char* suffix : {".new", ".new2"}) posix_files().remove(path + suffix);
  file.clean_stop_ = take_clean_stop(path);
  auto raid_notes = read_raid_notes(path);
  if (!raid_notes) return cannot(path, raid_notes.error());
  file.raid_notes_ = std::move(*raid_notes);
  auto text = read_whole(path, ConfigFile::max_bytes);
  if (!text) return cannot(path, text.error());
  if (!*text) {
    if (auto writable = check_replaceable(path); !writable) return cannot(path, writable.error());
    return file;
  }
  // The last process may have been killed between putting the file there and syncing it. What we serve must not be lost by a power cut.
  auto synced = posix_files().sync(path);
  if (synced) synced = posix_files().sync_directory(directory_of(path));
  if (!synced) return cannot(path, synced.error());
  auto parsed = ConfigFile::parse(path, **text);
  if (!parsed) {
    return fail(parsed.error().err, fmt::format("state file {} cannot be read ({}). It is left as it is: mend it, or move it away to start without a "
                                                "configuration, or with that of -c",
                                                path, parsed.error().message));
  }
  file.calls_ = parsed->calls();
  file.text_ = std::move(**text);
  return file;
}

}  // namespace catnap::server
