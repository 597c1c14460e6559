// Sending to systemd's journal. See journal.h.
// Owner: none; every OS thread sends through one socket, a datagram at a time.
#include "reactor/base/journal.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>

namespace catnap {
namespace {

struct Journal {
  int fd = -1;
  sockaddr_un address{};
  std::atomic<std::uint64_t> lost{0};
};
Journal& journal() {
  static Journal instance;
  return instance;
}

std::atomic<bool> priorities{false};

void add_field(std::string& record, std::string_view name, std::string_view value) {
  record += name;
  if (value.find('\n') == std::string_view::npos) {
    record += '=';
  } else {
    record += '\n';
    std::uint64_t length = value.size();  // little-endian
    for (int byte = 0; byte < 8; ++byte, length >>= 8) record += static_cast<char>(length & 0xFF);
  }
  record += value;
  record += '\n';
}

// Not waiting: a journal that hangs must not hold up the loops.
bool send_record(const std::string& record) {
  const Journal& to = journal();
  return ::sendto(to.fd, record.data(), record.size(), MSG_DONTWAIT | MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to.address),
                  sizeof(to.address)) == static_cast<ssize_t>(record.size());
}

}  // namespace

bool standard_error_is_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat info{};
  if (stream == nullptr || ::fstat(STDERR_FILENO, &info) != 0) return false;
  return fmt::format("{}:{}", info.st_dev, info.st_ino) == stream;
}

Result<void> log_to_journal(const std::string& socket_path) {
  Journal& to = journal();
  to.address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(to.address.sun_path)) {
    return fail(ENAMETOOLONG,
                fmt::format("the journal's socket '{}': a Unix socket's path has at most {} bytes", socket_path, sizeof(to.address.sun_path) - 1));
  }
  std::copy(socket_path.begin(), socket_path.end(), to.address.sun_path);
  to.fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (to.fd < 0) return fail(errno, fmt::format("{}: a socket for the journal", errno_text(errno)));
  return {};
}

void log_with_priorities() { priorities.store(true, std::memory_order_relaxed); }

namespace detail {

bool lines_have_priorities() { return priorities.load(std::memory_order_relaxed); }

int syslog_priority(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return 3;
    case LogLevel::warning:
      return 4;
    case LogLevel::notice:
      return 5;
    case LogLevel::info:
      return 6;
    case LogLevel::disabled:
    case LogLevel::debug:
      return 7;
  }
  return 7;
}

std::string journal_record(LogLevel level, const char* flag, std::string_view text, std::span<const LogField> fields) {
  std::string record;
  record.reserve(text.size() + 256);
  add_field(record, "PRIORITY", fmt::format("{}", syslog_priority(level)));
  add_field(record, "SYSLOG_IDENTIFIER", "catnapd");
  add_field(record, "CATNAP_LEVEL", log_level_name(level));
  if (flag != nullptr) add_field(record, "CATNAP_FLAG", flag);
  std::array<char, 16> name{};
  if (pthread_getname_np(pthread_self(), name.data(), name.size()) == 0) add_field(record, "CATNAP_THREAD", name.data());
  for (const LogField& field : fields) add_field(record, field.name, field.value);
  add_field(record, "MESSAGE", text);
  return record;
}

bool journal_takes(LogLevel level, const char* flag, std::string_view text, std::span<const LogField> fields) {
  Journal& to = journal();
  if (to.fd < 0) return false;
  if (send_record(journal_record(level, flag, text, fields))) {
    const std::uint64_t lost = to.lost.exchange(0, std::memory_order_relaxed);
    if (lost == 0) return true;
    const std::string said = fmt::format("{} lines were lost: the journal did not take them in time", lost);
    if (!send_record(journal_record(LogLevel::warning, nullptr, said, {}))) to.lost.fetch_add(lost, std::memory_order_relaxed);
    return true;
  }
  if (errno != EAGAIN && errno != ENOBUFS) return false;
  to.lost.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace detail
}  // namespace catnap
