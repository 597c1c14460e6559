// See keyring.h.
#include "keyring/keyring.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "reactor/base/allowed_paths.h"

namespace catnap::keyring {
namespace {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&&) = delete;
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// Rights are asked of the open file, so that nobody can exchange it in between. Not blocking: a FIFO must not hold a worker up.
Result<Fd> open_checked(const std::string& path) {
  if (!path.starts_with('/')) return fail(EPERM, fmt::format("Operation not permitted: path '{}' of a key file is not absolute", path));
  Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (file.get() < 0) {
    const int reason = errno;
    return fail(reason, fmt::format("{}: key file '{}' cannot be opened", open_error_text(reason, path), path));
  }
  struct stat status{};
  if (fstat(file.get(), &status) != 0) {
    const int reason = errno;
    return fail(reason, fmt::format("{}: key file '{}'", errno_text(reason), path));
  }
  if (!S_ISREG(status.st_mode)) return fail(EINVAL, fmt::format("Invalid argument: key file '{}' is not a regular file", path));
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return fail(EPERM, fmt::format("Operation not permitted: key file '{}' has mode {:03o}, group and others must have no right to it (chmod 600)",
                                   path, status.st_mode & 0777));
  }
  if (status.st_uid != geteuid()) {
    return fail(EPERM, fmt::format("Operation not permitted: key file '{}' belongs to user {}, it must belong to the user of this process, {}", path,
                                   status.st_uid, geteuid()));
  }
  if (status.st_size > static_cast<off_t>(max_key_file_bytes)) {
    return fail(EFBIG, fmt::format("File too large: key file '{}' has {} bytes, a key at most {}", path, status.st_size, max_key_file_bytes));
  }
  return file;
}

// SPDK knows one keyring, the global one, whose name is empty.
Result<std::string> plain_name(std::string_view name) {
  const std::size_t colon = name.find(':');
  if (colon != std::string_view::npos && colon > 0) {
    return fail(EINVAL, fmt::format("Invalid argument: key name '{}': there is no keyring '{}', only the global one", name, name.substr(0, colon)));
  }
  if (colon == 0) name.remove_prefix(1);
  if (name.empty()) return fail(EINVAL, "Invalid argument: the name of a key is empty");
  if (name.size() > max_key_name_bytes) {
    return fail(EINVAL, fmt::format("Invalid argument: the name of a key has {} bytes, at most {}", name.size(), max_key_name_bytes));
  }
  return std::string(name);
}

}  // namespace

Result<void> check_key_file(const std::string& path) {
  const auto file = open_checked(path);
  if (!file) return std::unexpected(file.error());
  return {};
}

Result<SecretBytes> read_key_file(const std::string& path) {
  const auto file = open_checked(path);
  if (!file) return std::unexpected(file.error());
  auto secret = SecretBytes::create(max_key_file_bytes);
  if (!secret) return secret;
  std::size_t length = 0;
  while (length < max_key_file_bytes) {
    const ssize_t got = read(file->get(), secret->bytes().data() + length, max_key_file_bytes - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int reason = errno;
      return fail(reason, fmt::format("{}: key file '{}' cannot be read", errno_text(reason), path));
    }
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
  }
  const auto is_blank = [](std::byte byte) { return byte == std::byte{'\n'} || byte == std::byte{'\r'} || byte == std::byte{' '}; };
  while (length > 0 && is_blank(secret->bytes()[length - 1])) --length;
  if (length == 0) return fail(EINVAL, fmt::format("Invalid argument: key file '{}' is empty", path));
  secret->shrink(length);
  return secret;
}

// --- Key ---

std::string Key::path() const {
  const std::lock_guard lock(mutex_);
  return path_;
}

void Key::set_path(std::string path) {
  const std::lock_guard lock(mutex_);
  path_ = std::move(path);
}

Result<SecretBytes> Key::read() const {
  const std::string from = path();
  if (from.empty()) return fail(ENOKEY, fmt::format("Required key not available: key '{}' was removed", name_));
  auto bytes = read_key_file(from);
  if (!bytes) return fail(bytes.error().err, fmt::format("{} (key '{}')", bytes.error().message, name_));
  return bytes;
}

// --- Keyring ---

// Never destroyed: users of any order of destruction hold keys.
Keyring& Keyring::instance() {
  static auto* keyring = new Keyring;
  return *keyring;
}

Result<void> Keyring::add_file(std::string_view given, std::string path) {
  auto name = plain_name(given);
  if (!name) return std::unexpected(name.error());
  if (keys_.contains(*name)) return fail(EEXIST, fmt::format("File exists: there is a key '{}' already", *name));
  std::shared_ptr<Key> key;
  if (const auto old = removed_.find(*name); old != removed_.end()) {
    key = old->second.lock();
    removed_.erase(old);
  }
  if (key == nullptr) key = std::make_shared<Key>(*name);
  key->set_path(std::move(path));
  keys_.emplace(std::move(*name), std::move(key));
  return {};
}

Result<void> Keyring::remove(std::string_view given) {
  auto name = plain_name(given);
  if (!name) return std::unexpected(name.error());
  const auto found = keys_.find(*name);
  if (found == keys_.end()) return fail(ENOKEY, fmt::format("Required key not available: there is no key '{}'", *name));
  std::shared_ptr<Key> key = std::move(found->second);
  keys_.erase(found);
  key->set_path({});
  std::erase_if(removed_, [](const auto& entry) { return entry.second.expired(); });
  removed_.insert_or_assign(*name, key);
  return {};
}

Result<KeyRef> Keyring::borrow(std::string_view given, std::string_view user) {
  auto name = plain_name(given);
  if (!name) return std::unexpected(name.error());
  const auto found = keys_.find(*name);
  if (found == keys_.end()) {
    return fail(ENOKEY, fmt::format("Required key not available: {} names key '{}', which keyring_file_add_key has not added", user, *name));
  }
  return KeyRef(found->second);
}

std::vector<Keyring::Entry> Keyring::all() const {
  std::vector<Entry> all;
  for (const auto& [name, key] : keys_) all.push_back(Entry{name, key->path(), false, key.use_count()});
  for (const auto& [name, reference] : removed_) {
    const auto key = reference.lock();
    if (key != nullptr) all.push_back(Entry{name, {}, true, key.use_count() - 1});
  }
  std::sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return all;
}

}  // namespace catnap::keyring
