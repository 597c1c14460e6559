// The spdlog sink behind log.h, the registry of flags, and the two levels.
#include "reactor/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <strings.h>

#include <algorithm>
#include <array>
#include <mutex>

#include "reactor/base/journal.h"

namespace catnap {
namespace {

// Flags register while the program's static objects are made, in any order: the registry must exist before the first of them.
struct FlagRegistry {
  std::mutex mutex;
  std::vector<LogFlag*> flags;
};
FlagRegistry& registry() {
  static FlagRegistry instance;
  return instance;
}

std::atomic<LogLevel> recorded_level{LogLevel::notice};
std::atomic<LogLevel> printed_level{LogLevel::notice};

struct LevelName {
  LogLevel level;
  std::string_view name;
};
constexpr std::array level_names = {LevelName{LogLevel::disabled, "DISABLED"}, LevelName{LogLevel::error, "ERROR"},
                                    LevelName{LogLevel::warning, "WARNING"},   LevelName{LogLevel::notice, "NOTICE"},
                                    LevelName{LogLevel::info, "INFO"},         LevelName{LogLevel::debug, "DEBUG"}};

spdlog::logger& sink() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>("catnap", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_level(spdlog::level::trace);
    made->set_pattern("[%Y-%m-%d %H:%M:%S.%f] %v");
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *logger;
}

}  // namespace

std::string_view log_level_name(LogLevel level) {
  for (const auto& entry : level_names) {
    if (entry.level == level) return entry.name;
  }
  return "?";
}

std::optional<LogLevel> log_level_from_name(std::string_view name) {
  for (const auto& entry : level_names) {
    if (entry.name.size() == name.size() && strncasecmp(entry.name.data(), name.data(), name.size()) == 0) return entry.level;
  }
  return std::nullopt;
}

LogFlag::LogFlag(const char* name) : name_(name) {
  const std::lock_guard lock(registry().mutex);
  registry().flags.push_back(this);
}

std::vector<LogFlag*> log_flags() {
  std::vector<LogFlag*> sorted;
  {
    const std::lock_guard lock(registry().mutex);
    sorted = registry().flags;
  }
  std::ranges::sort(sorted, {}, [](const LogFlag* flag) { return std::string_view(flag->name()); });
  return sorted;
}

bool log_set_flag(std::string_view name, bool on) {
  bool found = name == "all";
  for (LogFlag* flag : log_flags()) {
    if (name != "all" && name != flag->name()) continue;
    flag->set(on);
    found = true;
  }
  return found;
}

LogLevel log_level() { return recorded_level.load(std::memory_order_relaxed); }
void log_set_level(LogLevel level) { recorded_level.store(level, std::memory_order_relaxed); }
LogLevel log_print_level() { return printed_level.load(std::memory_order_relaxed); }
void log_set_print_level(LogLevel level) { printed_level.store(level, std::memory_order_relaxed); }

void log_enable_timestamps(bool on) { sink().set_pattern(on ? "[%Y-%m-%d %H:%M:%S.%f] %v" : "%v"); }

namespace detail {

bool log_wanted(LogLevel level) { return level <= log_print_level(); }

namespace {

bool is_control(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x20 || byte == 0x7F) return true;
  // U+0080 to U+009F in UTF-8, of which terminals take some for the beginning of an escape sequence.
  return byte >= 0x80 && byte <= 0x9F && at > 0 && static_cast<unsigned char>(text[at - 1]) == 0xC2;
}

// Names come from hosts and files: none of them may forge a second line or speak to a terminal.
std::string visible(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_control(text, i)) {
      shown += fmt::format("\\x{:02x}", static_cast<unsigned>(static_cast<unsigned char>(text[i])));
    } else {
      shown += text[i];
    }
  }
  return shown;
}

}  // namespace

namespace {

void write_line(LogLevel level, const char* flag, std::string_view given, std::span<const LogField> fields) {
  const std::string text = visible(given);
  if (journal_takes(level, flag, text, fields)) return;
  const std::string priority = lines_have_priorities() ? fmt::format("<{}>", syslog_priority(level)) : std::string();
  if (flag != nullptr) {
    sink().info("{}{}: {}: {}", priority, log_level_name(level), flag, text);
  } else {
    sink().info("{}{}: {}", priority, log_level_name(level), text);
  }
}

}  // namespace

void log_line(LogLevel level, const char* flag, std::string_view given) { write_line(level, flag, given, {}); }

}  // namespace detail

void log_record(LogLevel level, std::string_view text, std::span<const LogField> fields) {
  if (detail::log_wanted(level)) detail::write_line(level, nullptr, text, fields);
}

}  // namespace catnap
