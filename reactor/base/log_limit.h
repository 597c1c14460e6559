// How often a line may be logged that somebody outside can cause: a burst per key and interval, then silence, and the number of lines left out
// with the next one. What is left out is counted elsewhere (nvmf_get_stats), so that a storm fills neither disk nor journal.
// Owner: none; callable from every OS thread (a mutex: only lines that are about to be logged take it). Left out: lines that only the
// operator can cause.
#pragma once

#include <fmt/core.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "reactor/base/log.h"

namespace catnap {

class LogLimit {
 public:
  // Enough lines to see what one host does wrong, few enough that a thousand such hosts write 60 KB in an interval and no more.
  static constexpr std::uint32_t default_burst = 5;
  static constexpr std::uint64_t default_interval_us = 10'000'000;
  // Keys told apart; all further ones share one burst until an interval is over.
  static constexpr std::size_t max_keys = 64;

  explicit LogLimit(std::uint32_t burst = default_burst, std::uint64_t interval_us = default_interval_us)
      : burst_(burst), interval_ns_(interval_us * 1000) {}
  LogLimit(const LogLimit&) = delete;
  LogLimit& operator=(const LogLimit&) = delete;

  // May a line of this key be logged at `now_ns`? None: no. Otherwise how many lines (of all keys) were left out since that was last said.
  std::optional<std::uint64_t> allow(std::string_view key, std::uint64_t now_ns);
  // By the monotonic clock.
  std::optional<std::uint64_t> allow(std::string_view key);
  // Lines left out, ever.
  std::uint64_t suppressed() const;

 private:
  struct Window {
    std::uint64_t began_ns = 0;
    std::uint32_t said = 0;
  };
  Window& window_of(std::string_view key, std::uint64_t now_ns);

  const std::uint32_t burst_;
  const std::uint64_t interval_ns_;
  mutable std::mutex mutex_;
  std::map<std::string, Window, std::less<>> windows_;
  Window others_;
  std::uint64_t unsaid_ = 0;
  std::uint64_t suppressed_ = 0;
};

// A warning (or notice) that is left out when its key has spoken too often.
template <typename... Args>
void log_limited(LogLimit& limit, LogLevel level, std::string_view key, fmt::format_string<Args...> format, Args&&... args) {
  if (!detail::log_wanted(level)) return;
  const auto left_out = limit.allow(key);
  if (!left_out) return;
  std::string text = fmt::format(format, std::forward<Args>(args)...);
  if (*left_out > 0) text += fmt::format(" ({} lines like this were left out before it)", *left_out);
  detail::log_line(level, nullptr, text);
}

}  // namespace catnap
