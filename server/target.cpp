// The target's configuration: subsystems, listeners, and publishing. See target.h; namespaces stand in target_namespaces.cpp, hosts and referrals in
// target_access.cpp.
// Owner: app_thread. Left out: ANA (target_ana.cpp).
#include "server/target.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "reactor/base/check.h"
#include "reactor/base/log_limit.h"
#include "server/ana.h"
#include "server/discovery_view.h"
#include "server/draft.h"
#include "server/names.h"
#include "server/server_log.h"

namespace catnap::server {
namespace {

Target* the_target = nullptr;

// How often a wait for I/O or controllers looks again: they usually end within a loop turn, and the wait is bounded.
constexpr std::uint64_t release_look_us = 2'000;

std::shared_ptr<const TargetSnapshot> first_snapshot() {
  auto discovery = std::make_shared<SubsystemSnapshot>();
  discovery->nqn = discovery_nqn;
  discovery->discovery = true;
  discovery->allow_any_host = true;
  discovery->max_namespaces = 0;
  auto snapshot = std::make_shared<TargetSnapshot>();
  snapshot->generation = 1;
  snapshot->subsystems.emplace(discovery_nqn, std::move(discovery));
  return snapshot;
}

const char* wildcard_of(const ListenAddress& address) { return address.adrfam == "IPv6" ? "::" : "0.0.0.0"; }

bool all_expired(const Target::Watch& watch) {
  return std::all_of(watch.begin(), watch.end(), [](const auto& held) { return held.expired(); });
}

// The CPU that handled the connection's last packet.
std::optional<unsigned> incoming_cpu_of(int fd) {
  int cpu = -1;
  socklen_t length = sizeof cpu;
  if (::getsockopt(fd, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &length) != 0 || cpu < 0) return std::nullopt;
  return static_cast<unsigned>(cpu);
}

}  // namespace

Result<std::shared_ptr<void>> Target::listen_tcp(const ListenAddress& address, std::function<void(int fd)> on_accept) {
  auto listener = tcp::Listener::open(address.traddr, address.trsvcid, address.adrfam, std::move(on_accept));
  if (!listener) return std::unexpected(listener.error());
  return std::shared_ptr<void>(std::shared_ptr<tcp::Listener>(std::move(*listener)));
}

Target::Target(Thread& app_thread, Hooks hooks, TargetLimits limits)
    : app_thread_(app_thread), hooks_(std::move(hooks)), limits_(limits), publisher_(first_snapshot(), hooks_.committed) {
  CATNAP_CHECK(the_target == nullptr);
  the_target = this;
}

Target::~Target() { the_target = nullptr; }

Target* Target::instance() { return the_target; }

void Target::attach_group(std::unique_ptr<GroupPort> group) {
  check_on_thread(app_thread_, "Target");
  if (transport_) group->start(transport_->tcp);
  publisher_.attach(*group);
  groups_.push_back(std::move(group));
}

Result<void> Target::create_transport(const TransportConfig& config) {
  check_on_thread(app_thread_, "Target");
  if (transport_) return fail(EEXIST, "Transport type 'TCP' already exists");
  transport_ = config;
  for (auto& group : groups_) group->start(config.tcp);
  return {};
}

// --- finding ---

Result<const SubsystemSnapshot*> Target::find(const std::string& nqn) const {
  const SubsystemSnapshot* found = current().find(nqn);
  if (found != nullptr) return found;
  return fail(ENODEV, fmt::format("Invalid parameters: Subsystem with NQN '{}' not found", nqn));
}

Result<const SubsystemSnapshot*> Target::find_editable(const std::string& nqn) const {
  auto found = find(nqn);
  if (found && (*found)->discovery)
    return fail(EPERM, "the discovery subsystem exists by itself: it can have listeners and hosts of its own, and nothing else");
  return found;
}

// --- publishing ---

std::uint64_t Target::publish(Draft draft) {
  check_on_thread(app_thread_, "Target");
  auto next = draft.finish();
  if (gathered_ != nullptr) {
    gathered_ = std::move(next);
    return gathered_->generation;
  }
  if (discovery_view_differs(current(), *next)) ++next->discovery_generation;
  count_ana_changes_in(*next);
  const std::uint64_t generation = next->generation;
  publisher_.publish(std::move(next));
  close_unused_listeners();
  watch_ana_transitions();
  return generation;
}

void Target::gather() {
  CATNAP_CHECK(gathered_ == nullptr);
  gathered_ = std::make_shared<TargetSnapshot>(*publisher_.current());
}

Task<Result<void>> Target::publish_gathered() {
  CATNAP_CHECK(gathered_ != nullptr);
  auto next = std::exchange(gathered_, nullptr);
  // Not the number after the last published one: namespaces have the numbers of the changes that made them, and one number must not mean two.
  const std::uint64_t generation = ++next->generation;
  if (discovery_view_differs(current(), *next)) ++next->discovery_generation;
  count_ana_changes_in(*next);
  publisher_.publish(std::move(next));
  close_unused_listeners();
  watch_ana_transitions();
  for (const int fd : std::exchange(early_, {})) accepted(fd);
  Result<void> committed = co_await settled(generation);
  co_return committed;
}

void Target::close_unused_listeners() {
  std::set<AddressKey> used;
  for (const auto& [nqn, subsystem] : current().subsystems) {
    for (const auto& listener : subsystem->listeners) {
      AddressKey own(listener.address.traddr, listener.address.trsvcid);
      used.insert(listeners_.contains(own) ? std::move(own) : AddressKey(wildcard_of(listener.address), listener.address.trsvcid));
    }
  }
  std::erase_if(listeners_, [&](const auto& entry) { return !used.contains(entry.first); });
}

Task<Result<void>> Target::settled(std::uint64_t generation) {
  if (gathered_ != nullptr) co_return Result<void>();
  Result<void> committed = co_await publisher_.committed(generation, limits_.commit_timeout_us);
  co_return committed;
}

Task<Result<void>> Target::settled_and_released(std::uint64_t generation, Watch released, std::string ended_nqn) {
  const std::uint64_t deadline_ns = app_thread_.now_ns() + limits_.release_timeout_us * ns_per_us;
  if (gathered_ != nullptr) co_return Result<void>();  // nobody has it in use
  Result<void> committed = co_await publisher_.committed(generation, limits_.commit_timeout_us);
  if (!committed) co_return committed;
  for (;;) {
    const bool controllers_gone = ended_nqn.empty() || !hooks_.has_controllers(ended_nqn);
    if (controllers_gone && all_expired(released)) co_return Result<void>();
    if (app_thread_.now_ns() >= deadline_ns) {
      log_notice("generation {} is in force; what it removed still has {}, which end by themselves", generation,
                 controllers_gone ? "I/O in flight" : "controllers");
      co_return Result<void>();
    }
    SleepFor look_again(release_look_us);
    co_await look_again;
  }
}

// --- subsystems ---

Target::Change Target::create_subsystem(const SubsystemOptions& options) {
  if (auto valid = validate_nqn(options.nqn); !valid) return std::unexpected(valid.error());
  if (current().find(options.nqn) != nullptr)
    return fail(EEXIST, fmt::format("File exists: there is a subsystem with NQN '{}' already", options.nqn));
  if (auto valid = validate_ascii("serial_number", options.serial_number, max_serial_number_bytes); !valid) return std::unexpected(valid.error());
  if (auto valid = validate_ascii("model_number", options.model_number, max_model_number_bytes); !valid) return std::unexpected(valid.error());
  if (!options.admin_label.empty()) {
    if (auto valid = validate_ascii("admin_label", options.admin_label, max_admin_label_bytes); !valid) return std::unexpected(valid.error());
    if (options.admin_label.size() < min_admin_label_bytes)
      return fail(EINVAL, fmt::format("admin_label '{}' is shorter than {} characters", options.admin_label, min_admin_label_bytes));
  }
  if (options.min_cntlid < min_cntlid_limit || options.max_cntlid > max_cntlid_limit || options.min_cntlid > options.max_cntlid) {
    return fail(EINVAL, fmt::format("min_cntlid {} and max_cntlid {}: not a range within {} to {}", options.min_cntlid, options.max_cntlid,
                                    min_cntlid_limit, max_cntlid_limit));
  }
  if (options.max_namespaces > max_namespaces_limit) {
    return fail(EINVAL, fmt::format("max_namespaces {} is above {}", options.max_namespaces, max_namespaces_limit));
  }
  if (current().subsystems.size() - 1 >= limits_.max_subsystems) {
    return fail(ENOSPC, fmt::format("No space left: there are {} subsystems already (nvmf_set_max_subsystems)", limits_.max_subsystems));
  }
  Draft draft(*this);
  SubsystemSnapshot& created = draft.create(options.nqn);
  created.serial_number = options.serial_number;
  created.model_number = options.model_number;
  created.admin_label = options.admin_label;
  created.allow_any_host = options.allow_any_host;
  created.one_controller_per_host = dup_host_policy_ == DupHostPolicy::restrict_per_listener;
  created.ana_reporting = options.ana_reporting;
  created.max_namespaces = options.max_namespaces == 0 ? default_max_namespaces : options.max_namespaces;
  created.min_cntlid = options.min_cntlid;
  created.max_cntlid = options.max_cntlid;
  created.dmrsl_blocks = options.dmrsl_blocks;
  created.wzsl = options.wzsl;
  created.enable_nssr = options.enable_nssr;
  return publish(std::move(draft));
}

Target::Change Target::delete_subsystem(const std::string& nqn) {
  const auto found = find_editable(nqn);
  if (!found) return std::unexpected(found.error());
  Draft draft(*this);
  draft.erase(nqn);
  return publish(std::move(draft));
}

// --- listeners ---

// One number per address, shared by all subsystems that listen there; the lowest free one.
std::uint16_t Target::port_id_for(const ListenAddress& address) const {
  std::set<std::uint16_t> taken;
  for (const auto& [nqn, subsystem] : current().subsystems) {
    for (const auto& listener : subsystem->listeners) {
      if (listener.address == address) return listener.port_id;
      taken.insert(listener.port_id);
    }
  }
  std::uint16_t port_id = 0;
  while (taken.contains(port_id)) ++port_id;
  return port_id;
}

// Makes sure that a socket takes connections to this address.
Result<void> Target::listen_on(const ListenAddress& address) {
  const std::string wildcard = wildcard_of(address);
  AddressKey key(address.traddr, address.trsvcid);
  if (listeners_.contains(key) || listeners_.contains(AddressKey(wildcard, address.trsvcid))) return {};
  const auto open = [this](const ListenAddress& where) { return hooks_.listen(where, [this](int fd) { accepted(fd); }); };
  // A wildcard takes the place of the sockets on single addresses of its port; what connects in that moment tries again.
  std::vector<ListenAddress> replaced;
  if (address.traddr == wildcard) {
    for (const auto& [nqn, subsystem] : current().subsystems) {
      for (const auto& listener : subsystem->listeners) {
        const bool covered = listener.address.adrfam == address.adrfam && listener.address.trsvcid == address.trsvcid;
        if (covered && listeners_.erase(AddressKey(listener.address.traddr, listener.address.trsvcid)) > 0) replaced.push_back(listener.address);
      }
    }
  }
  auto opened = open(address);
  if (opened) {
    listeners_.emplace(std::move(key), std::move(*opened));
    return {};
  }
  for (const ListenAddress& each : replaced) {
    auto again = open(each);
    if (again) {
      listeners_.emplace(AddressKey(each.traddr, each.trsvcid), std::move(*again));
    } else {
      log_error("listening on {} again: {}", address_text(each), again.error().message);
    }
  }
  return fail(opened.error().err,
              fmt::format("{}: cannot listen on {}: {}", errno_text(opened.error().err), address_text(address), opened.error().message));
}

Target::Change Target::add_listener(const std::string& nqn, const ListenAddress& given, AnaState ana_state, bool secure_channel,
                                    Concatenation concatenation) {
  const auto found = find(nqn);
  if (!found) return std::unexpected(found.error());
  const auto address = normalise_listen_address(given);
  if (!address) return std::unexpected(address.error());
  if (!transport_) return fail(ENODEV, "there is no transport of type TCP yet: call nvmf_create_transport first");
  if (ana_state != AnaState::optimized && !(*found)->ana_reporting) {
    return fail(EINVAL, fmt::format("ana_state '{}': subsystem '{}' was made without ana_reporting", ana_state_name(ana_state), nqn));
  }
  const auto& listeners = (*found)->listeners;
  if (std::any_of(listeners.begin(), listeners.end(), [&](const auto& listener) { return listener.address == *address; })) {
    return fail(EEXIST, fmt::format("File exists: subsystem '{}' listens on {} already", nqn, address_text(*address)));
  }
  if (secure_channel && concatenation != Concatenation::none) {
    return fail(EINVAL, "Invalid argument: secure_concatenation begins in cleartext, which secure_channel refuses: use one of them");
  }
  SubsystemSnapshot::ListenerEntry entry;
  entry.secure_channel = secure_channel;
  entry.concatenation = concatenation;
  if (auto agrees = check_security(*address, entry.security()); !agrees) return std::unexpected(agrees.error());
  if (auto listening = listen_on(*address); !listening) return std::unexpected(listening.error());
  Draft draft(*this);
  entry.address = *address;
  entry.port_id = port_id_for(*address);
  entry.ana_default = ana_state;
  draft.edit(nqn).listeners.push_back(std::move(entry));
  return publish(std::move(draft));
}

Target::Change Target::remove_listener(const std::string& nqn, const ListenAddress& given) {
  const auto found = find(nqn);
  if (!found) return std::unexpected(found.error());
  const auto address = normalise_listen_address(given);
  if (!address) return std::unexpected(address.error());
  Draft draft(*this);
  const auto removed = std::erase_if(draft.edit(nqn).listeners, [&](const auto& listener) { return listener.address == *address; });
  if (removed == 0) return fail(ENODEV, fmt::format("subsystem '{}' has no listener on {}", nqn, address_text(*address)));
  return publish(std::move(draft));
}

// --- connections ---

// By the connections of each group at this moment. One that its host has closed counts until its group has noticed: a host that hangs up and is back
// at once may meet itself.
GroupPort* Target::choose_group(int fd) {
  std::vector<GroupLoad> loads;
  for (const auto& group : groups_) loads.push_back({group->queue_count(), group->cpu()});
  const auto chosen = place_connection(topology_, loads, prefer_incoming_cpu_ ? incoming_cpu_of(fd) : std::nullopt, rotation_);
  if (!chosen) return nullptr;
  rotation_ = *chosen + 1;
  return groups_[*chosen].get();
}

bool Target::refuse_if_full(int fd) {
  const std::size_t under_way = acceptor_ == nullptr ? 0 : acceptor_->under_way();
  const bool full = connection_count() + under_way >= limits_.max_connections;
  if (full) {
    static LogLimit full_log(1);
    log_limited(full_log, LogLevel::warning, "", "{} connections are open, the most there may be: further ones are refused", limits_.max_connections);
    ++tcp::accept_stats().refused_max_connections;
  }
  if (full || stopping_) ::close(fd);
  return full || stopping_;
}

void Target::place(tcp::Incoming incoming) {
  GroupPort* const group = stopping_ ? nullptr : choose_group(incoming.fd);
  if (group == nullptr) {
    ::close(incoming.fd);
    return;
  }
  log_debug(log_nvmf, "a connection goes to {}", group->name());
  group->add_connection(std::move(incoming));
}

std::uint32_t Target::connection_count() const {
  std::uint32_t count = 0;
  for (const auto& group : groups_) count += group->queue_count();
  return count;
}

void Target::shut_down(std::move_only_function<void()> done) {
  check_on_thread(app_thread_, "Target");
  CATNAP_CHECK(!stopping_);
  stopping_ = true;
  listeners_.clear();
  for (const int fd : std::exchange(early_, {})) ::close(fd);
  acceptor_.reset();
  if (groups_.empty()) {
    done();
    return;
  }
  auto left = std::make_shared<std::pair<std::size_t, std::move_only_function<void()>>>(groups_.size(), std::move(done));
  for (auto& group : groups_) {
    group->shut_down([left] {
      if (--left->first == 0) left->second();
    });
  }
}

void Target::clear() {
  CATNAP_CHECK(stopping_);
  publisher_.detach_all();
  groups_.clear();
  gathered_.reset();
  Draft draft(*this);
  draft.target().subsystems.clear();
  publish(std::move(draft));
}

}  // namespace catnap::server
