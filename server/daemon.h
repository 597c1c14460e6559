// The running catnapd: puts reactors, bdev modules, target and JSON-RPC together, and takes them apart at SIGTERM.
// Owner: app_thread, except the constructor, exit_code() and destruction (main's OS thread, before and after Runtime::run()).
// Left out: the command line (options.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdev/nvme/module.h"
#include "reactor/runtime.h"
#include "reactor/task.h"
#include "rpc/config_registry.h"
#include "rpc/dispatcher.h"
#include "rpc/lifecycle.h"
#include "rpc/method.h"
#include "rpc/server.h"
#include "rpc/unix_listener.h"
#include "server/audit_log.h"
#include "server/config_file.h"
#include "server/controller_table.h"
#include "server/metrics.h"
#include "server/options.h"
#include "server/pending_calls.h"
#include "server/raid_files.h"
#include "server/reservations/target_hub.h"
#include "server/server_group.h"
#include "server/service/liveness.h"
#include "server/service/notify.h"
#include "server/service/watchdog.h"
#include "server/state_file.h"
#include "server/state_keeper.h"
#include "server/state_store.h"
#include "server/state_text.h"
#include "server/target.h"
#include "web/server.h"

namespace catnap::server {

class Daemon {
 public:
  // How long connections may take to finish what is in flight when the process is asked to end; it then ends all the same, within 2 s in all.
  static constexpr std::uint64_t drain_limit_us = 1'500'000;

  // `config` is not replayed when `state` has a text. `signal_fd`: a non-blocking signalfd of SIGTERM, SIGINT and SIGHUP; `rpc_listener`: the claimed
  // socket (none with --no-rpc-server).
  Daemon(Runtime& runtime, Options options, std::optional<ConfigFile> config, std::optional<StateFile> state,
         std::optional<rpc::UnixListener> rpc_listener, int signal_fd);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Before start(): serve HTTP there.
  void set_http(web::Prepared http) { http_prepared_.emplace(std::move(http)); }
  // From now on each call that changes something is recorded. Before start().
  void record_calls(std::unique_ptr<AuditLog> log);
  // The first message of app_thread.
  void start();
  // 0 after a signal, exit_failed when the start failed.
  int exit_code() const { return exit_code_; }

 private:
  Result<void> restrict_clients();
  Result<void> serve_rpc();
  Result<void> serve_http();
  std::string not_ready() const;
  const std::string& not_alive();
  void make_state();
  static Task<Result<void>> begin(Daemon* self);
  static Task<Result<void>> initialise(Daemon* self);
  static Task<Result<void>> replay(Daemon* self, ConfigFile::Which which);
  static Task<Result<void>> keep_state(Daemon* self);
  Topology machine() const;
  void make_groups();
  void started(const Result<void>& outcome);
  void announce();
  void wait_for_start();
  void tell_service_manager(const TargetSnapshot& serving);

  void signal_ready();
  void reload();
  void reloaded();
  void stop();
  void groups_ended();
  void remove_bdevs();
  static Task<void> detach_controllers(Daemon* self);
  static Task<void> keep_clean_stop(Daemon* self);
  void finish();
  [[noreturn]] void cut_short();

  Runtime& runtime_;
  Options options_;
  std::optional<ConfigFile> config_;
  std::optional<StateFile> state_;
  std::optional<rpc::UnixListener> rpc_listener_;
  int signal_fd_;
  int exit_code_ = 0;
  bool stopping_ = false;
  // SIGHUP: read files again; but of a process at a terminal, that the terminal is gone, which ends it as it ends others.
  const bool at_terminal_;
  bool reloading_ = false;
  bool reload_again_ = false;  // asked for while one was under way
  const Notifier notifier_ = Notifier::from_environment();
  Watchdog watchdog_{runtime_, notifier_};
  bool told_ready_ = false;
  std::string told_status_;
  std::unique_ptr<AuditLog> audit_log_;

  rpc::MethodTable methods_;
  rpc::ConfigRegistry config_registry_;
  rpc::Lifecycle lifecycle_;
  rpc::Dispatcher dispatcher_;
  std::unique_ptr<ControllerTable> controllers_;
  std::vector<ServerGroup*> groups_;
  std::unique_ptr<bdev::NvmeModule> nvme_;
  std::unique_ptr<ReservationHub> reservations_;
  std::unique_ptr<Target> target_;
  // With --state only.
  std::unique_ptr<PendingCalls> pending_;
  std::unique_ptr<StateText> state_text_;
  std::unique_ptr<StateStore> store_;
  std::unique_ptr<StateKeeper> keeper_;
  std::unique_ptr<RaidNotesFile> raid_notes_;
  std::unique_ptr<rpc::Server> rpc_server_;
  bool takes_rpcs_ = false;
  // For /healthz: looks that are too near to each other would take a long callback for a dead one.
  Liveness health_;
  std::uint64_t health_looked_ns_ = 0;
  std::string health_verdict_;
  std::unique_ptr<Metrics> metrics_;  // with --http only, as the next
  std::optional<web::Prepared> http_prepared_;
  std::unique_ptr<web::Server> http_;
  Timer drain_timer_;
};

}  // namespace catnap::server
