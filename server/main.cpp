// catnapd: reads the command line and the configuration, claims the RPC socket, starts the OS threads, and hands over to Daemon.
// Owner: main's OS thread, which becomes the control thread. Left out: becoming a background process (service managers do that).
#include <pthread.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <optional>

#include "keyring/secret.h"
#include "reactor/base/log.h"
#include "server/audit_log.h"
#include "server/confine_options.h"
#include "server/daemon.h"
#include "server/options.h"
#include "web/server.h"

namespace catnap::server {
namespace {

void apply_log_options(const Options& options) {
  for (const auto& flag : options.log_flags) static_cast<void>(log_set_flag(flag, true));
  // As in SPDK: naming a flag asks for its lines on standard error.
  if (!options.log_flags.empty() && log_print_level() < LogLevel::debug) {
    log_set_level(LogLevel::debug);
    log_set_print_level(LogLevel::debug);
  }
  if (options.silence_notices) log_set_print_level(LogLevel::warning);
  for (const auto& names : options.without_effect) log_notice("option {} has no effect: it belongs to SPDK's environment", names);
}

// Each connection is a file descriptor; the soft limit of 1024 that shells give would be the first limit met.
void raise_fd_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
}

// Before any thread starts, so that all inherit the mask and the signals come through the fd alone.
int block_signals() {
  static_cast<void>(std::signal(SIGPIPE, SIG_IGN));  // a peer that is gone is an errno
  sigset_t ours;
  sigemptyset(&ours);
  sigaddset(&ours, SIGTERM);
  sigaddset(&ours, SIGINT);
  sigaddset(&ours, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &ours, nullptr);
  return ::signalfd(-1, &ours, SFD_NONBLOCK | SFD_CLOEXEC);
}

int fail_start(const Error& error, int code = exit_failed) {
  log_error("catnapd does not start: {}", error.message);
  return code;
}

// A state file that is there already counts, and not the configuration file.
Result<void> open_state(const Options& options, std::optional<ConfigFile>& config, std::optional<StateFile>& state) {
  if (options.state_file.empty()) return {};
  auto opened = StateFile::open(options.state_file);
  if (!opened) return std::unexpected(opened.error());
  state.emplace(std::move(*opened));
  if (state->text() && config) log_notice("state file {} is there: configuration file {} is not read", state->path(), options.config_file);
  if (state->text()) config.reset();
  return {};
}

int run(const Options& options) {
  if (auto chosen = choose_log_target(options.confine); !chosen) return fail_start(chosen.error());
  apply_log_options(options);
  raise_fd_limit();
  const int signal_fd = block_signals();
  if (signal_fd < 0) return fail_start(Error(errno, "signalfd: " + errno_text(errno)));
  std::optional<ConfigFile> config;
  if (options.demo) config = ConfigFile::demo();
  if (!options.config_file.empty()) {
    auto file = ConfigFile::read(options.config_file);
    if (!file) return fail_start(file.error());
    config = std::move(*file);
  }
  if (auto locked = keyring::lock_library_keys(); !locked) log_notice("{}", locked.error().message);
  const auto confinement = plan_confinement(options.confine);
  if (!confinement) return fail_start(confinement.error(), confinement.error().err == EINVAL ? exit_usage : exit_failed);
  std::optional<rpc::UnixListener> rpc_listener;
  if (!options.no_rpc_server) {
    auto claimed = rpc::UnixListener::open(options.rpc_socket, confinement->socket_access);
    if (!claimed) return fail_start(claimed.error());
    rpc_listener.emplace(std::move(*claimed));
  }
  std::optional<web::Prepared> http;
  if (!options.http.address.empty()) {
    auto prepared = web::Prepared::prepare(options.http, confinement->account ? std::optional(confinement->account->uid) : std::nullopt);
    if (!prepared) return fail_start(prepared.error());
    http.emplace(std::move(*prepared));
  }
  std::optional<std::pair<uid_t, gid_t>> future_owner;
  if (confinement->account) future_owner.emplace(confinement->account->uid, confinement->account->gid);
  auto audit_log = AuditLog::open(options.confine.audit_log, future_owner);
  if (!audit_log) return fail_start(audit_log.error());
  if (auto lost = lose_privileges(options.confine, *confinement); !lost) return fail_start(lost.error());
  std::optional<StateFile> state;
  if (auto opened = open_state(options, config, state); !opened) return fail_start(opened.error());
  const auto readable = web::directories_of_files(options.http);
  if (auto restricted = restrict_process(options.confine, state ? state->path() : options.state_file, options.rpc_socket, readable); !restricted)
    return fail_start(restricted.error());
  RuntimeOptions runtime_options;
  runtime_options.cpumask = options.cpumask;
  runtime_options.mode = options.mode;
  runtime_options.max_spin_us = options.max_spin_us;
  runtime_options.buffer_cap_bytes = std::size_t{options.buffer_cap_mib} << 20;
  auto runtime = Runtime::start(runtime_options);
  if (!runtime) return fail_start(runtime.error(), runtime.error().err == EINVAL ? exit_usage : exit_failed);
  Daemon daemon(**runtime, options, std::move(config), std::move(state), std::move(rpc_listener), signal_fd);
  if (http) daemon.set_http(std::move(*http));
  daemon.record_calls(std::move(*audit_log));
  (*runtime)->run([&daemon] { daemon.start(); });
  ::close(signal_fd);
  return daemon.exit_code();
}

}  // namespace
}  // namespace catnap::server

int main(int argc, char** argv) {
  const auto options = catnap::server::parse_options(argc, argv);
  if (options) return catnap::server::run(*options);
  std::fputs(options.error().text.c_str(), options.error().code == 0 ? stdout : stderr);
  return options.error().code;
}
