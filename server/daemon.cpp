// The running catnapd. See daemon.h.
// Owner: app_thread.
#include "server/daemon.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "bdev/bdev.h"
#include "bdev/raid/clean_stops.h"
#include "bdev/raid/member_notes.h"
#include "bdev/raid/raid_host.h"
#include "reactor/base/log.h"
#include "rpc/json.h"
#include "rpc/version.h"
#include "server/foreign_options_rpc.h"
#include "server/group_adapter.h"
#include "server/happenings_rpc.h"
#include "server/lost_configuration.h"
#include "server/method_registration.h"
#include "server/names.h"
#include "server/not_here.h"
#include "server/raid_files.h"
#include "server/state_rpc.h"

namespace catnap::server {
namespace {

// File descriptors that connections leave to the rest: 128 RPC clients, and the files, rings and event fds of bdevs and reactors.
constexpr rlim_t reserved_fds = 256;

// A crowd of hosts must not lock the operator out.
std::uint32_t connections_that_fit(std::uint32_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return wanted;
  const rlim_t room = limit.rlim_cur - std::min(reserved_fds, limit.rlim_cur / 2);
  if (room >= wanted) return wanted;
  log_notice("the limit of {} open files (ulimit -n) leaves room for {} connections, not {}", limit.rlim_cur, room, wanted);
  return static_cast<std::uint32_t>(room);
}

}  // namespace

Daemon::Daemon(Runtime& runtime, Options options, std::optional<ConfigFile> config, std::optional<StateFile> state,
               std::optional<rpc::UnixListener> rpc_listener, int signal_fd)
    : runtime_(runtime),
      options_(std::move(options)),
      config_(std::move(config)),
      state_(std::move(state)),
      rpc_listener_(std::move(rpc_listener)),
      signal_fd_(signal_fd),
      at_terminal_(::isatty(STDIN_FILENO) == 1),
      lifecycle_([this] { return initialise(this); }),
      dispatcher_(methods_, lifecycle_),
      drain_timer_([this] { cut_short(); }) {}

Daemon::~Daemon() = default;

void Daemon::record_calls(std::unique_ptr<AuditLog> log) {
  audit_log_ = std::move(log);
  dispatcher_.observe(*audit_log_);
}

// --- starting ---

void Daemon::start() {
  Thread& app_thread = runtime_.app_thread();
  const auto watching = app_thread.fds().add(signal_fd_, EPOLLIN, "signals", [this](std::uint32_t) { signal_ready(); });
  if (!watching) {
    started(std::unexpected(watching.error()));
    return;
  }
  controllers_ = std::make_unique<ControllerTable>(app_thread);
  Target::Hooks hooks;
  hooks.committed = [this](const auto& old, const auto& next) {
    controllers_->configuration_changed(old, next);
    if (told_ready_) tell_service_manager(*next);
  };
  hooks.has_controllers = [this](const std::string& nqn) { return !controllers_->controllers(nqn).empty(); };
  hooks.controllers_of_host = [this](const std::string& nqn, const std::string& host) { return controllers_->controllers_of_host(nqn, host); };
  reservations_ = std::make_unique<TargetReservationHub>(app_thread, groups_, *controllers_, runtime_.workers());
  hooks.generated_psks = &controllers_->generated_psks();
  hooks.reservations = reservations_.get();
  hooks.listen = &Target::listen_tcp;
  hooks.namespace_lost = [this](const auto& subsystem, const auto& config) {
    if (pending_) keep_lost_namespace(*pending_, subsystem, config);
  };
  hooks.nsid_awaited = [this](const std::string& nqn, std::uint32_t nsid) { return pending_ && pending_->awaits_namespace(nqn, nsid); };
  TargetLimits limits;
  limits.max_connections = connections_that_fit(options_.max_connections != 0 ? options_.max_connections : limits.max_connections);
  target_ = std::make_unique<Target>(app_thread, std::move(hooks), limits);
  nvme_ = std::make_unique<bdev::NvmeModule>(app_thread, machine());
  bdev::set_raid_host(bdev::raid_host_of(bdev::this_machine_id(), state_ ? state_->path() : options_.rpc_socket));
  register_all_methods(methods_, config_registry_, runtime_, lifecycle_, *controllers_, groups_);
  notify_of_happenings(app_thread, *nvme_);

  register_foreign_options(methods_);
  dispatcher_.explain_unknown(why_not_here);
  make_state();
  if (auto restricted = restrict_clients(); !restricted) {
    started(restricted);
    return;
  }
  if (auto served = serve_http(); !served) {
    started(served);
    return;
  }
  spawn<Result<void>>(begin(this), [this](Result<void> outcome) {
    if (!outcome || !options_.wait_for_rpc)
      started(outcome);
    else
      wait_for_start();
  });
}

// A name that nobody knows is a mistake that would lock somebody out; one of SPDK's methods that catnap has not may stay in a script's list.
Result<void> Daemon::restrict_clients() {
  if (!options_.rpcs_allowed) return {};
  for (const std::string& name : methods_.allow_only(*options_.rpcs_allowed)) {
    if (why_not_here(name).empty()) return fail(EINVAL, fmt::format("--rpcs-allowed: '{}' fits no method", rpc::printable(name)));
    log_notice("--rpcs-allowed: {} is not in catnap", name);
  }
  return {};
}

void Daemon::make_state() {
  if (state_) {
    bdev::CleanStops::instance().load(state_->clean_stop());
    auto told = [](const Result<void>& written) { bdev::MemberNotes::instance().outcome(written); };
    raid_notes_ = std::make_unique<RaidNotesFile>(runtime_.app_thread(), runtime_.workers(), state_->path(), told);
    auto keep = [this](std::string text, std::function<void()> kept) { raid_notes_->keep(std::move(text), std::move(kept)); };
    bdev::MemberNotes::instance().begin(keep, state_->raid_notes());
    pending_ = std::make_unique<PendingCalls>(runtime_.app_thread(), dispatcher_, [this] { return config_registry_.all(); });
    // Until they are made, the calls of the file, or of the configuration file that becomes its first contents, are what it has to keep.
    if (state_->text()) pending_->add(state_->calls());
    if (config_) pending_->add(config_->calls());
    state_text_ = std::make_unique<StateText>(methods_, config_registry_, *pending_);
    store_ = std::make_unique<StateStore>(runtime_.app_thread(), runtime_.workers(), posix_files(), state_->path(), state_->text(),
                                          [this] { return state_text_->take(); });
    pending_->when_picked_up([this] { store_->keep([](const Result<void>&) {}); });
    keep_what_is_lost(pending_.get(), *nvme_);
    keeper_ = std::make_unique<StateKeeper>(*store_, *pending_);
    dispatcher_.set_keeper(keeper_.get());
  }
  register_state_methods(methods_, store_.get(), pending_.get());
}

Task<Result<void>> Daemon::begin(Daemon* self) {
  Result<void> outcome;
  // Before any client: what it sets with startup methods counts more than what the file says.
  if (self->state_ && self->state_->text()) co_await self->pending_->replay(ConfigFile::Which::startup);
  if (self->options_.wait_for_rpc) {
    outcome = self->serve_rpc();
    co_return outcome;
  }
  outcome = co_await self->lifecycle_.start();
  // Clients that came meanwhile have waited in the socket's backlog: none of them sees a target half configured.
  if (outcome) outcome = self->serve_rpc();
  co_return outcome;
}

// From the first moment: whoever asks /readyz is told what it waits for.
Result<void> Daemon::serve_http() {
  if (!http_prepared_) return {};
  metrics_ = std::make_unique<Metrics>(runtime_, dispatcher_, *controllers_, groups_, options_.http);
  web::Services services(dispatcher_, runtime_.workers());
  services.not_alive = [this] { return not_alive(); };
  services.not_ready = [this] { return not_ready(); };
  services.takes_rpcs = [this] { return takes_rpcs_; };
  services.metrics = [this](std::move_only_function<void(std::string)> done) { metrics_->collect(http_->certificate_end_s(), std::move(done)); };
  auto served = web::Server::serve(std::move(*http_prepared_), std::move(services));
  http_prepared_.reset();
  if (!served) return std::unexpected(served.error());
  http_ = std::move(*served);
  return {};
}

const std::string& Daemon::not_alive() {
  constexpr std::uint64_t between_looks_ns = ns_per_s;
  const std::uint64_t now_ns = runtime_.app_thread().now_ns();
  if (now_ns - health_looked_ns_ >= between_looks_ns) {
    health_looked_ns_ = now_ns;
    health_verdict_ = health_.look(runtime_.reactors());
  }
  return health_verdict_;
}

std::string Daemon::not_ready() const {
  if (stopping_) return "it is ending";
  if (lifecycle_.state() == rpc::Lifecycle::State::runtime) return "";
  return takes_rpcs_ && lifecycle_.state() == rpc::Lifecycle::State::startup ? "it waits for framework_start_init"
                                                                             : "the configuration is being made";
}

Result<void> Daemon::serve_rpc() {
  takes_rpcs_ = true;
  if (!rpc_listener_) return {};
  auto served = rpc::Server::serve(rpc::ServerOptions{}, dispatcher_, std::move(*rpc_listener_));
  rpc_listener_.reset();
  if (!served) return std::unexpected(served.error());
  rpc_server_ = std::move(*served);
  return {};
}

// What framework_start_init does, or the start itself without --wait-for-rpc.
Task<Result<void>> Daemon::initialise(Daemon* self) {
  Result<void> outcome = co_await replay(self, ConfigFile::Which::startup);
  if (outcome && self->stopping_) outcome = fail(ECANCELED, "the process is ending");
  if (!outcome) co_return outcome;
  self->make_groups();
  self->target_->gather();
  outcome = co_await replay(self, ConfigFile::Which::runtime);
  if (self->stopping_) co_return fail(ECANCELED, "the process is ending");
  Result<void> published = co_await self->target_->publish_gathered();
  if (outcome) outcome = published;
  if (outcome && self->store_) outcome = co_await keep_state(self);
  // Half a configuration is none: with --wait-for-rpc, too, the process ends rather than serve it.
  if (!outcome && self->options_.wait_for_rpc) self->started(outcome);
  if (!outcome) co_return outcome;
  if (self->options_.wait_for_rpc) self->announce();
  co_return Result<void>();
}

Task<Result<void>> Daemon::replay(Daemon* self, ConfigFile::Which which) {
  Result<void> outcome;
  if (self->config_) {
    outcome = co_await self->config_->replay(&self->dispatcher_, which, self->options_.ignore_config_errors);
  } else if (self->state_ && which == ConfigFile::Which::runtime) {
    co_await self->pending_->replay(which);
  }
  co_return outcome;
}

// What is in force becomes what the file has: the first contents, or those of another version put into today's form.
Task<Result<void>> Daemon::keep_state(Daemon* self) {
  if (self->config_) self->pending_->forget_untried();
  Promise<Result<void>> kept;
  self->store_->keep([kept](Result<void> outcome) { kept.set(std::move(outcome)); });
  Result<void> outcome = co_await kept;
  if (!outcome && self->state_->text()) {
    log_warning("the state file keeps what it had: {}", outcome.error().message);
    outcome = {};
  }
  co_return outcome;
}

// Its CPUs and nodes, and which have reactors; of a machine that hides them, nothing.
Topology Daemon::machine() const {
  CpuMask reactor_cpus;
  for (const Reactor* reactor : runtime_.reactors()) reactor_cpus.set(reactor->lcore());
  auto topology = read_topology(reactor_cpus);
  if (topology) return std::move(*topology);
  log_warning("which CPUs are near to which is unknown: {}", topology.error().message);
  return {};
}

void Daemon::make_groups() {
  CpuMask reactor_cpus;
  for (const Reactor* reactor : runtime_.reactors()) reactor_cpus.set(reactor->lcore());
  target_->set_topology(nvme_->topology());
  const CpuMask& mask = target_->poll_groups_mask();
  for (Reactor* reactor : runtime_.reactors()) {
    if (!mask.empty() && !mask.has(reactor->lcore())) continue;
    // One per reactor to begin with; it may run on any reactor of the mask, and is moved there by RPC or by the dynamic scheduler.
    Thread& thread = runtime_.create_thread(*reactor, fmt::format("nvmf_tgt_poll_group_{:03}", groups_.size()), mask.empty() ? reactor_cpus : mask);
    auto group = std::make_unique<ServerGroup>(thread, *controllers_);
    groups_.push_back(group.get());
    target_->attach_group(std::make_unique<GroupAdapter>(std::move(group), runtime_.app_thread()));
  }
  if (groups_.empty()) log_warning("poll_groups_mask 0x{} has no CPU of --cpumask: no connection can be served", mask.hex());
}

void Daemon::started(const Result<void>& outcome) {
  if (stopping_) return;  // a signal came first
  if (outcome) {
    announce();
    return;
  }
  log_error("catnapd does not start: {}", outcome.error().message);
  exit_code_ = exit_failed;
  runtime_.app_thread().send([this] { stop(); });
}

// Its RPC answers: whoever starts what calls framework_start_init after this unit must not wait for itself.
void Daemon::wait_for_start() {
  log_notice("waiting for framework_start_init at {}", options_.rpc_socket);
  notifier_.ready("waiting for framework_start_init");
  told_ready_ = true;
  watchdog_.start();
}

// One line about what is served, when it has changed; the first one says that all is there.
void Daemon::tell_service_manager(const TargetSnapshot& serving) {
  if (!notifier_.active() || stopping_) return;
  std::size_t namespaces = 0;
  for (const auto& [nqn, subsystem] : serving.subsystems) namespaces += subsystem->namespaces.size();
  const std::string status = fmt::format("serving {} namespaces in {} subsystems", namespaces, serving.subsystems.size() - 1);
  if (status == told_status_) return;
  told_status_ = status;
  notifier_.status(status);
}

void Daemon::announce() {
  std::string addresses;
  std::size_t namespaces = 0;
  for (const auto& [nqn, subsystem] : target_->current().subsystems) {
    namespaces += subsystem->namespaces.size();
    for (const auto& listener : subsystem->listeners) {
      const std::string address = address_text(listener.address);
      if (addresses.find(address) == std::string::npos) addresses += (addresses.empty() ? " on " : ", ") + address;
    }
  }
  std::string cpus;
  for (const Reactor* reactor : runtime_.reactors()) cpus += fmt::format("{}{}", cpus.empty() ? "" : ",", reactor->lcore());
  log_notice("{} serves {} namespaces in {} subsystems{}; reactors on CPU {} ({}); JSON-RPC {}", rpc::version_text(), namespaces,
             target_->current().subsystems.size() - 1, addresses, cpus, reactor_mode_name(options_.mode),
             options_.no_rpc_server ? std::string("off") : "at " + options_.rpc_socket);
  if (!told_ready_) notifier_.ready("started");
  told_ready_ = true;
  tell_service_manager(target_->current());
  watchdog_.start();
  if (!options_.demo) return;
  std::printf("\nOn this machine, as root:\n  nvme discover -t tcp -a %s -s %s\n  nvme connect -t tcp -a %s -s %s -n %s\n  nvme disconnect -n %s\n",
              demo_address, demo_port, demo_address, demo_port, demo_nqn, demo_nqn);
  std::printf("\nTo look at it:\n%s  scripts/top -s %s    the same in a terminal\n\n",
              http_ ? fmt::format("  {}    in a browser\n", http_->url()).c_str() : "", options_.rpc_socket.c_str());
  std::fflush(stdout);
}

// --- ending ---

void Daemon::signal_ready() {
  signalfd_siginfo info{};
  if (::read(signal_fd_, &info, sizeof(info)) != static_cast<ssize_t>(sizeof(info))) return;
  const auto number = static_cast<int>(info.ssi_signo);
  if (number == SIGHUP && !at_terminal_) return reload();
  log_notice("{}: ending", number == SIGINT ? "SIGINT" : number == SIGHUP ? "SIGHUP of the terminal" : "SIGTERM");
  if (stopping_) cut_short();  // asked twice
  stop();
}

// What files the command line names: the audit log is opened again, the HTTP server's are read again. Key files of the keyring are read at each use.
void Daemon::reload() {
  if (stopping_) return;
  if (audit_log_ != nullptr && !reloading_) audit_log_->reopen();
  if (!http_) {
    if (audit_log_ == nullptr || !audit_log_->is_file()) log_notice("SIGHUP: there is nothing to read again (no --http, no --audit-log FILE)");
    return;
  }
  if (reloading_) {
    reload_again_ = true;
    return;
  }
  reloading_ = true;
  log_notice("SIGHUP: reading the HTTP server's files again");
  if (told_ready_) notifier_.reloading();
  http_->reload([this] { reloaded(); });
}

void Daemon::reloaded() {
  reloading_ = false;
  if (stopping_) return;
  if (told_ready_) notifier_.ready(told_status_.empty() ? "started" : told_status_);
  if (std::exchange(reload_again_, false)) reload();
}

void Daemon::stop() {
  if (stopping_) return;
  stopping_ = true;
  notifier_.stopping("ending");
  runtime_.app_thread().arm_in_us(drain_timer_, drain_limit_us);
  // From here on the configuration is taken apart. Whatever still ends must not have that kept.
  dispatcher_.end();
  lifecycle_.end();
  keep_what_is_lost(nullptr, *nvme_);
  if (pending_) pending_->stop();
  if (store_) store_->end();
  if (rpc_server_) rpc_server_->close();
  if (http_) http_->close();
  rpc_listener_.reset();
  if (!target_) {
    finish();
    return;
  }
  target_->shut_down([this] { runtime_.app_thread().send([this] { groups_ended(); }); });
}

void Daemon::groups_ended() {
  groups_.clear();
  target_->clear();
  remove_bdevs();
}

// One after the other, until none is left: a bdev on top of others goes before them. An array whose member went first would take it for lost, and
// would have to copy it at the next start.
void Daemon::remove_bdevs() {
  const auto all = bdev::Registry::instance().all();
  if (all.empty()) {
    spawn(detach_controllers(this));
    return;
  }
  const auto top = std::find_if(all.rbegin(), all.rend(), [](const auto& each) { return bdev::Registry::instance().claimed_by(*each).empty(); });
  const std::string name = top != all.rend() ? (*top)->name() : all.back()->name();
  bdev::Registry::instance().remove(name, [this](Result<void>) { runtime_.app_thread().send([this] { remove_bdevs(); }); });
}

Task<void> Daemon::detach_controllers(Daemon* self) {
  co_await self->nvme_->shut_down();
  if (self->state_) co_await keep_clean_stop(self);
  self->finish();
}

// The last thing: all bdevs are gone, and what arrays have flushed is flushed.
Task<void> Daemon::keep_clean_stop(Daemon* self) {
  const Promise<bool> kept;
  auto work = [path = self->state_->path(), text = bdev::CleanStops::collect()] { return leave_clean_stop(path, text); };
  self->runtime_.workers().submit(self->runtime_.app_thread(), std::move(work), [kept](const Result<void>& left) {
    if (!left) log_warning("state file: {}; at the next start arrays without a bitmap are copied whole", left.error().message);
    kept.set(true);
  });
  co_await kept;
}

void Daemon::finish() {
  if (nvme_) end_notifying(*nvme_);
  drain_timer_.disarm();
  watchdog_.stop();
  static_cast<void>(runtime_.app_thread().fds().remove(signal_fd_));
  rpc_server_.reset();
  http_.reset();
  runtime_.request_stop();
}

void Daemon::cut_short() {
  std::uint64_t in_flight = 0;
  std::uint64_t connections = 0;
  for (const ServerGroup* group : groups_) {
    in_flight += group->stats().pending_bdev_io;
    connections += group->queue_count();
  }
  log_warning("{} connections did not take their last answers and {} commands did not end within {} ms: the process ends without them", connections,
              in_flight, drain_limit_us / 1000);
  std::fflush(nullptr);
  std::_Exit(exit_code_);
}

}  // namespace catnap::server
