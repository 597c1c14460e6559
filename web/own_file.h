// A small file that the administrator wrote for the HTTP server, opened once: what is asked of it and what is read of it is the same file, whatever
// happens to its name meanwhile. Owner: whoever has it. Left out: what is in it, who may own it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "reactor/base/error.h"

namespace catnap::web {

class OwnFile {
 public:
  // Errors, naming option and file: what open says (EACCES with the user who tried); EINVAL: not a regular file.
  static Result<OwnFile> open(const char* option, const std::string& path);
  OwnFile(OwnFile&& other) noexcept;
  OwnFile& operator=(OwnFile&&) = delete;
  ~OwnFile();

  mode_t mode() const { return mode_; }  // permission bits only
  uid_t owner() const { return owner_; }
  // All of it. Errors: what read says; EFBIG above `max_bytes`.
  Result<std::string> read(std::size_t max_bytes) const;

 private:
  OwnFile(const char* option, std::string path) : option_(option), path_(std::move(path)) {}

  const char* option_;
  std::string path_;
  int fd_ = -1;
  mode_t mode_ = 0;
  uid_t owner_ = 0;
};

}  // namespace catnap::web
