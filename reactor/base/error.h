// What a failed operation says: an errno and one sentence for the person who must mend it.
// Owner: none (values). Left out: what ends an NVMe command (transport/nvme/status.h) and
// what ends a connection (transport/tcp/term.h); those are channels of their own (docs/architecture.md).
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <utility>

namespace catnap {

// `err` is a positive errno value. `message` names the parameter, the value and the reason.
struct Error {
  Error(int errno_value, std::string text) : err(errno_value), message(std::move(text)) {}

  int err;
  std::string message;
};

template <typename T>
using Result = std::expected<T, Error>;

[[nodiscard]] inline std::unexpected<Error> fail(int errno_value, std::string message) {
  return std::unexpected<Error>(std::in_place, errno_value, std::move(message));
}

// "No such file or directory" for ENOENT: strerror() without its shared buffer.
std::string errno_text(int errno_value);

}  // namespace catnap
