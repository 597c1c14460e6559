// Log lines with fields, and where lines go: standard error, or systemd's journal in its own protocol, where fields can be asked for
// (`journalctl -u catnapd CATNAP_AUDIT_METHOD=nvmf_create_subsystem`).
// Owner: main() chooses the target before any thread starts; log_record() is callable from every OS thread. Left out: files (a service manager, or a
// shell's redirection, makes them).
//
// The protocol: one datagram per line, "NAME=value" lines; a value with a line end in it is preceded by its length instead (systemd's documentation,
// "Native Journal Protocol"). Sending does not wait: what a journal that hangs does not take is counted, and said with the next line that it takes.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "reactor/base/error.h"
#include "reactor/base/log.h"

namespace catnap {

inline constexpr const char* default_journal_socket = "/run/systemd/journal/socket";

// `name`: upper-case letters, digits and underscores, as the journal wants it.
struct LogField {
  std::string_view name;
  std::string_view value;
};

// A line like those of log_notice() and so on, with fields where the target has them; elsewhere only the text is seen.
void log_record(LogLevel level, std::string_view text, std::span<const LogField> fields);

// Is standard error a stream of the journal? (JOURNAL_STREAM, systemd.exec(5).)
bool standard_error_is_journal();
// From now on lines go to the journal's socket. Errors: what socket() says, ENAMETOOLONG (the path).
Result<void> log_to_journal(const std::string& socket_path);
// Lines on standard error begin with "<N>", the priority of syslog(3), and have no time stamp: for a journal that reads standard error.
void log_with_priorities();

namespace detail {
// For log.cpp and its tests.
std::string journal_record(LogLevel level, const char* flag, std::string_view text, std::span<const LogField> fields);
int syslog_priority(LogLevel level);
// False: no journal, or it is not there any more; the caller writes the line elsewhere.
bool journal_takes(LogLevel level, const char* flag, std::string_view text, std::span<const LogField> fields);
bool lines_have_priorities();
}  // namespace detail

}  // namespace catnap
