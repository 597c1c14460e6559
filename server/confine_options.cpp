// Options of confinement. See confine_options.h.
// Owner: main(), before any thread starts. The order of a start: names are looked up, limits raised, the configuration file read, the RPC socket and
// the audit log opened, as whoever started the process; then --user; then the state file, which its new user must be able to replace; then Landlock
// and the filter of system calls, and only then threads, so that all have them.
#include "server/confine_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>

#include "reactor/base/allowed_paths.h"
#include "reactor/base/journal.h"
#include "reactor/base/log.h"
#include "server/audit_log.h"
#include "server/confine/landlock.h"

namespace catnap::server {
namespace {

constexpr const char* group = "What the process may do, and who may talk to it";

std::optional<mode_t> octal_mode(const std::string& text) {
  mode_t mode = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (error != std::errc() || stop != text.data() + text.size() || mode > 0777) return std::nullopt;
  return mode;
}

std::string directory_of(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

std::optional<std::string> check_choice(const char* option, const std::string& value, std::initializer_list<const char*> choices) {
  if (std::ranges::any_of(choices, [&](const char* each) { return value == each; })) return std::nullopt;
  std::string list;
  for (const char* each : choices) list += fmt::format("{}{}", list.empty() ? "" : ", ", each);
  return fmt::format("{} '{}' is not one of {}", option, value, list);
}

}  // namespace

void add_confine_options(CLI::App& app, ConfineOptions& options) {
  app.add_option("--user", options.user, "USER or USER:GROUP to become when started as root, once the RPC socket is there; all capabilities go")
      ->group(group);
  app.add_option(
         "--allow-path", options.allowed_paths,
         "Directory (or file) that files and disks may lie in; the kernel refuses all others (Landlock). Repeatable; without it all paths are "
         "allowed")
      ->type_size(1)
      ->allow_extra_args(false)
      ->group(group);
  app.add_option("--seccomp", options.seccomp,
                 "on: the kernel refuses system calls that catnapd does not need; log: it only writes them to its audit log; off")
      ->capture_default_str()
      ->group(group);
  app.add_option("--io-uring", options.io_uring, "off: no io_uring for this process, and so no bdev_uring")->capture_default_str()->group(group);
  app.add_option("--core-dumps", options.core_dumps,
                 "on: a crash may leave a core dump (which may hold data of hosts), and others may trace the process")
      ->capture_default_str()
      ->group(group);
  app.add_option("--rpc-socket-mode", options.rpc_socket_mode, "Mode of the RPC socket, octal: who may write to it may call everything")
      ->capture_default_str()
      ->group(group);
  app.add_option("--rpc-socket-owner", options.rpc_socket_owner, "User that the RPC socket belongs to (default: the one of --user)")->group(group);
  app.add_option("--rpc-socket-group", options.rpc_socket_group, "Group that the RPC socket belongs to")->group(group);
  app.add_option(
         "--audit-log", options.audit_log,
         "Where each call that changes something is recorded, with who called and what came of it: log, off, or a file that gets lines of JSON")
      ->capture_default_str()
      ->group(group);
  app.add_option(
         "--log-target", options.log_target,
         "Where the log goes: stderr; journal (with fields; journal:SOCKET for another socket); auto: the journal when standard error leads there")
      ->capture_default_str()
      ->group(group);
}

std::optional<std::string> check_confine_options(const ConfineOptions& options) {
  if (auto wrong = check_choice("--seccomp", options.seccomp, {"on", "off", "log"})) return wrong;
  if (auto wrong = check_choice("--io-uring", options.io_uring, {"on", "off"})) return wrong;
  if (auto wrong = check_choice("--core-dumps", options.core_dumps, {"on", "off"})) return wrong;
  if (!octal_mode(options.rpc_socket_mode)) {
    return fmt::format("--rpc-socket-mode '{}' is no octal mode from 0 to 0777", options.rpc_socket_mode);
  }
  if (options.audit_log.empty()) return "--audit-log '' names no file";
  if (!options.log_target.starts_with("journal:")) {
    if (auto wrong = check_choice("--log-target", options.log_target, {"auto", "stderr", "journal"})) return wrong;
  } else if (options.log_target == "journal:") {
    return "--log-target 'journal:' names no socket";
  }
  for (const std::string& path : options.allowed_paths) {
    if (path.empty()) return "--allow-path '' names no directory";
  }
  return std::nullopt;
}

Result<void> choose_log_target(const ConfineOptions& options) {
  std::string socket;
  if (options.log_target.starts_with("journal:")) socket = options.log_target.substr(std::string("journal:").size());
  if (options.log_target == "journal" || (options.log_target == "auto" && standard_error_is_journal())) socket = default_journal_socket;
  if (socket.empty()) return {};
  // For lines that its socket does not take, and for what is written past us: its stream knows the prefix.
  log_enable_timestamps(false);
  log_with_priorities();
  return log_to_journal(socket);
}

Result<Confinement> plan_confinement(const ConfineOptions& options) {
  Confinement plan;
  if (!options.user.empty()) {
    auto account = confine::find_account(options.user);
    if (!account) return std::unexpected(account.error());
    if (auto may = confine::may_become(*account); !may) return std::unexpected(may.error());
    plan.account = std::move(*account);
    plan.socket_access.owner = plan.account->uid;
    plan.socket_access.group = plan.account->gid;
  }
  plan.socket_access.mode = octal_mode(options.rpc_socket_mode).value_or(0600);
  if (!options.rpc_socket_owner.empty()) {
    const auto owner = confine::find_user(options.rpc_socket_owner);
    if (!owner) return fail(owner.error().err, "--rpc-socket-owner: " + owner.error().message);
    plan.socket_access.owner = *owner;
  }
  if (!options.rpc_socket_group.empty()) {
    const auto owners = confine::find_group(options.rpc_socket_group);
    if (!owners) return fail(owners.error().err, "--rpc-socket-group: " + owners.error().message);
    plan.socket_access.group = *owners;
  }
  return plan;
}

Result<void> lose_privileges(const ConfineOptions& options, const Confinement& plan) {
  confine::Privileges privileges;
  privileges.account = plan.account;
  privileges.core_dumps = options.core_dumps == "on";
  return confine::lose_privileges(privileges);
}

namespace {

Result<void> restrict_to_paths(const ConfineOptions& options, const std::string& state_file, const std::string& rpc_socket,
                               const std::vector<std::string>& readable) {
  if (options.allowed_paths.empty()) {
    log_notice("paths are not restricted (no --allow-path)");
    return {};
  }
  if (confine::landlock_version() == 0) {
    log_warning("--allow-path has no effect: this kernel has no Landlock, or it is switched off");
    return {};
  }
  std::vector<confine::PathRule> rules = confine::own_paths();
  std::vector<std::string> absolute;
  std::string shown;
  std::error_code ignored;
  for (const std::string& path : options.allowed_paths) {
    absolute.push_back(std::filesystem::absolute(path, ignored).string());
    rules.emplace_back(absolute.back(), confine::Reach::write, true);
    shown += (shown.empty() ? "" : " ") + path;
  }
  if (!state_file.empty()) rules.emplace_back(directory_of(state_file), confine::Reach::write, true);
  if (!rpc_socket.empty()) rules.emplace_back(directory_of(rpc_socket), confine::Reach::remove, false);
  const std::string of_audit_log = AuditLog::directory_of(options.audit_log);
  if (!of_audit_log.empty()) rules.emplace_back(of_audit_log, confine::Reach::write, false);
  for (const std::string& path : readable) rules.emplace_back(path, confine::Reach::read, false);
  if (auto restricted = confine::restrict_paths(rules); !restricted) return restricted;
  set_allowed_paths(std::move(absolute));
  log_notice("files and disks must lie beneath {} (--allow-path, Landlock version {})", shown, confine::landlock_version());
  return {};
}

}  // namespace

Result<void> restrict_process(const ConfineOptions& options, const std::string& state_file, const std::string& rpc_socket,
                              const std::vector<std::string>& readable) {
  if (auto restricted = restrict_to_paths(options, state_file, rpc_socket, readable); !restricted) return restricted;
  confine::SeccompOptions seccomp;
  seccomp.mode = options.seccomp == "on"    ? confine::SeccompMode::on
                 : options.seccomp == "log" ? confine::SeccompMode::log
                                            : confine::SeccompMode::off;
  seccomp.io_uring = options.io_uring == "on";
  return confine::filter_system_calls(seccomp);
}

}  // namespace catnap::server
