// Log lines with SPDK's five levels and named debug flags, switched at run time by log_* RPCs.
// Owner: none; callable from every OS thread. The sink (standard error, by spdlog) stands in log.cpp, so that including this is cheap.
// Left out: structured fields and files (journald does that), rate limits except LogOnce.
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace catnap {

// SPDK's levels and their order: a level includes all before it. `disabled` prints nothing at all.
enum class LogLevel : std::int8_t { disabled = -1, error = 0, warning = 1, notice = 2, info = 3, debug = 4 };

// "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG", "DISABLED": the spellings log_set_level takes (any case).
std::string_view log_level_name(LogLevel level);
std::optional<LogLevel> log_level_from_name(std::string_view name);

// A named switch for info and debug lines of one component. Define at namespace scope: `LogFlag log_nvmf_tcp{"nvmf_tcp"};`.
class LogFlag {
 public:
  explicit LogFlag(const char* name);  // registers itself; the name must outlive the process
  LogFlag(const LogFlag&) = delete;
  LogFlag& operator=(const LogFlag&) = delete;

  const char* name() const { return name_; }
  bool enabled() const { return enabled_.load(std::memory_order_relaxed); }
  void set(bool on) { enabled_.store(on, std::memory_order_relaxed); }

 private:
  const char* name_;
  std::atomic<bool> enabled_{false};
};

// All flags by name, sorted. "all" addresses every one of them.
std::vector<LogFlag*> log_flags();
// False: no flag has that name.
bool log_set_flag(std::string_view name, bool on);

// SPDK keeps two levels: `level` for syslog, `print_level` for standard error. catnap writes to standard error only (journald takes it from there),
// so `print_level` decides; `level` is kept and reported for the callers that set both.
LogLevel log_level();
void log_set_level(LogLevel level);
LogLevel log_print_level();
void log_set_print_level(LogLevel level);
// Timestamps in front of each line (default on).
void log_enable_timestamps(bool on);

namespace detail {
void log_line(LogLevel level, const char* flag, std::string_view text);
bool log_wanted(LogLevel level);
}  // namespace detail

template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  if (detail::log_wanted(LogLevel::error)) detail::log_line(LogLevel::error, nullptr, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  if (detail::log_wanted(LogLevel::warning)) detail::log_line(LogLevel::warning, nullptr, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_notice(fmt::format_string<Args...> format, Args&&... args) {
  if (detail::log_wanted(LogLevel::notice)) detail::log_line(LogLevel::notice, nullptr, fmt::format(format, std::forward<Args>(args)...));
}
// Info and debug lines belong to a flag and are formatted only when it is set.
template <typename... Args>
void log_info(const LogFlag& flag, fmt::format_string<Args...> format, Args&&... args) {
  if (flag.enabled() && detail::log_wanted(LogLevel::info))
    detail::log_line(LogLevel::info, flag.name(), fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_debug(const LogFlag& flag, fmt::format_string<Args...> format, Args&&... args) {
  if (flag.enabled() && detail::log_wanted(LogLevel::debug))
    detail::log_line(LogLevel::debug, flag.name(), fmt::format(format, std::forward<Args>(args)...));
}

// True once until reset: "hitting a limit is logged once", then again after the limit was left.
class LogOnce {
 public:
  bool first() { return !said_.exchange(true, std::memory_order_relaxed); }
  void reset() { said_.store(false, std::memory_order_relaxed); }

 private:
  std::atomic<bool> said_{false};
};

}  // namespace catnap
