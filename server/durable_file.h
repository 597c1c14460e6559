// Replacing a small file so that a power cut at any moment leaves the old contents or the new: the steps, and their order.
// Owner: none; every call may block and belongs on the worker pool. Left out: what is in the files.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "reactor/base/error.h"

namespace catnap::server {

// What replacing a file takes. Tests bring disks that forget; posix_files() is the file system.
class FileSteps {
 public:
  virtual ~FileSteps() = default;
  // Makes the file if it is not there, and has the file system set room for so many bytes aside; bytes that are there stay.
  virtual Result<void> reserve(const std::string& path, std::size_t bytes) {
    static_cast<void>(path);
    static_cast<void>(bytes);
    return {};
  }
  // Makes the file, or writes over the one that is there, room set aside first; afterwards it has exactly these bytes.
  virtual Result<void> write(const std::string& path, std::string_view bytes) = 0;
  // Until this returns the bytes may be lost.
  virtual Result<void> sync(const std::string& path) = 0;
  virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  // Until this returns names in the directory may be lost.
  virtual Result<void> sync_directory(const std::string& path) = 0;
  virtual void remove(const std::string& path) = 0;
};
FileSteps& posix_files();

// Write beside, sync, rename over, sync the directory. Errors: what the failing step says, with the path. After one the old contents stand, or (the
// last step failed) nobody knows which of both a power cut would leave.
Result<void> write_durably(FileSteps& files, const std::string& path, std::string_view bytes);
// The same with a name for the file beside, in the same directory.
Result<void> write_durably(FileSteps& files, const std::string& path, const std::string& beside, std::string_view bytes);

// Can a file be made beside it? Leaves none.
Result<void> check_replaceable(const std::string& path);
// All bytes; nothing when there is no such file. Errors: EINVAL (no regular file, longer than `max_bytes`), what open and read say.
Result<std::optional<std::string>> read_whole(const std::string& path, std::size_t max_bytes);
// The directory that a path names a file in; "." for a bare name.
std::string directory_of(const std::string& path);

}  // namespace catnap::server
