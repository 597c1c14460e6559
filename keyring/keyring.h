// Keys by name. Configuration, RPCs and logs know names only; whoever needs the bytes borrows the key and reads them at the moment of use, into
// locked memory, and drops them afterwards.
// Owner: the names belong to app_thread (add, remove, all); a Key may be held and read by any thread, under its own mutex, off every I/O path.
// Left out: what the bytes mean (transport/dhchap, TLS), keys of the kernel's keyring.
//
// How to use one:
//   auto key = Keyring::instance().borrow("psk0");   // app_thread, while checking the configuration; keep the KeyRef in the configuration
//   …on a worker of the pool, since it reads a file:
//   Result<SecretBytes> bytes = (*key)->read();       // what is in the file now, without the line end; wiped when dropped
// Because each use reads the file, a key rotates by replacing its file (rename over it). Removing a name does not end what uses it: connections stay,
// but new uses fail with ENOKEY until a key of that name is added again (another path will do), which revives the borrowed references.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "keyring/secret.h"
#include "reactor/base/error.h"

namespace catnap::keyring {

// The longest interchange form of TLS and DH-HMAC-CHAP keys is below 150 characters; what is much longer is no key file.
inline constexpr std::size_t max_key_file_bytes = 1024;
// Names are shown in logs and tables.
inline constexpr std::size_t max_key_name_bytes = 255;

// The rules of SPDK's keyring_file: the path is absolute, the file is owned by the (effective) user of this process, and group and others have no
// right to it. It must be a regular file; symbolic links are followed (Kubernetes mounts secrets so). Blocks.
// Errors: EPERM (path not absolute, owner, mode), EINVAL (no regular file), EFBIG (longer than max_key_file_bytes), what open and read say. Each
// names the path, none shows contents.
Result<void> check_key_file(const std::string& path);
// The contents without line ends and blanks at the end. Blocks. Errors: as check_key_file(), ENOMEM, EINVAL (empty).
Result<SecretBytes> read_key_file(const std::string& path);

class Key {
 public:
  explicit Key(std::string name) : name_(std::move(name)) {}
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;

  const std::string& name() const { return name_; }
  // Where the bytes are now; empty: removed.
  std::string path() const;
  bool removed() const { return path().empty(); }
  // The bytes as they are now. Blocks: on the worker pool only. Errors: ENOKEY (removed), as read_key_file(); all name the key.
  Result<SecretBytes> read() const;

 private:
  friend class Keyring;
  void set_path(std::string path);

  const std::string name_;
  mutable std::mutex mutex_;
  std::string path_;
};

// A key in use. Equal pointers are the same key.
using KeyRef = std::shared_ptr<const Key>;

class Keyring {
 public:
  static Keyring& instance();

  // `path` was checked by check_key_file() on a worker. Names as in SPDK: ":key0" is "key0". Errors: EEXIST, EINVAL (an empty or overlong name, or
  // one with another keyring before the colon).
  Result<void> add_file(std::string_view name, std::string path);
  // Who uses the key keeps its reference, and finds it unreadable. Errors: ENOKEY.
  Result<void> remove(std::string_view name);
  // Errors: ENOKEY, naming the key and `user` ("dhchap_key of host X"), which nobody needs to repeat.
  Result<KeyRef> borrow(std::string_view name, std::string_view user);

  struct Entry {
    std::string name;
    std::string path;  // empty: removed, and still in use
    bool removed = false;
    long refcnt = 0;  // as SPDK: one of the keyring's own while it is not removed, and one of each user
  };
  // Sorted by name; removed ones that are still in use included.
  std::vector<Entry> all() const;
  // Forgets all names; for tests.
  void clear() { keys_.clear(), removed_.clear(); }

 private:
  std::map<std::string, std::shared_ptr<Key>, std::less<>> keys_;
  std::map<std::string, std::weak_ptr<Key>, std::less<>> removed_;  // references that a new key of this name revives
};

}  // namespace catnap::keyring
