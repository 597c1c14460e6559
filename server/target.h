// The target's configuration: transport, subsystems, namespaces, listeners, hosts. Each change is checked wholly and gets what it needs (an open
// bdev, a listening socket) first, then becomes the next snapshot; publishing cannot fail, so nothing is ever half applied.
// Owner: app_thread, every member. Left out: controllers and queues (controller_table.h, server_group.h), JSON (nvmf_*_rpc.cpp).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/base/log.h"
#include "reactor/cpumask.h"
#include "reactor/placement.h"
#include "reactor/task.h"
#include "reactor/timer.h"
#include "server/generated_psks.h"
#include "server/group_port.h"
#include "server/publisher.h"
#include "server/reservations/ptpl_file.h"
#include "server/snapshot.h"
#include "transport/tcp/poll_group.h"
#include "transport/tcp/secure_acceptor.h"

namespace catnap::server {

// Opener name of our bdev descriptors, as bdev_get_bdevs shows who claims a bdev.
inline constexpr const char* bdev_opener = "NVMe-oF Target";

struct TargetLimits {
  std::uint32_t max_subsystems = 1024;  // SPDK's default; the discovery subsystem does not count
  // Accepted connections at a time. Each costs a socket and a few KiB; 8192 is 64 hosts with 127 I/O queues and stays within usual fd limits of
  // services.
  std::uint32_t max_connections = 8192;
  // How long an RPC waits for all poll groups to take up a change: far above any loop turn (the stall detector speaks at 100 ms), and above what a
  // reactor waits for a CPU that others use as well; below the 60 s that callers wait.
  std::uint64_t commit_timeout_us = 30'000'000;
  // How long removing waits for I/O and controllers of what was removed before it answers all the same: applied, and logged.
  std::uint64_t release_timeout_us = 3'000'000;
  // Each is an entry of 1 KiB in every discovery log; a fabric of that many discovery services has a central one.
  std::uint32_t max_referrals = 256;
};

// What happens when a host with the same HOSTID connects to a subsystem again (nvmf_set_config, dup_host_policy).
enum class DupHostPolicy : std::uint8_t {
  allow,                  // as the specification: each Connect makes a controller of its own
  restrict_per_listener,  // refused (Controller Busy) while the host has a controller there that came through the same listener
};

// A host's queue pairs get this long for what is in execution when the host is removed without timeout_ms: SPDK's (its CAP.TO and a margin).
inline constexpr std::uint64_t default_host_removal_ms = 15'000;
inline constexpr std::uint64_t max_host_removal_ms = 3'600'000;  // an RPC that takes longer than an hour is not being waited for
inline constexpr std::size_t min_admin_label_bytes = 4;          // Base 2.1, section 5.1.12.3.1: extended attribute 02h
inline constexpr std::size_t max_admin_label_bytes = 256;

inline constexpr std::uint32_t default_max_namespaces = 32;  // SPDK's
// Identify's MNAN and the ANA log have an entry per namespace: 64 Ki keeps the longest log below 3 MiB.
inline constexpr std::uint32_t max_namespaces_limit = 65536;
inline constexpr std::uint16_t min_cntlid_limit = 1;
inline constexpr std::uint16_t max_cntlid_limit = 0xFFEF;  // NVMe-oF 1.1, section 3.3: FFF0h to FFFFh are reserved

struct SubsystemOptions {
  std::string nqn;
  std::string serial_number = "00000000000000000000";  // SPDK's default
  std::string model_number = "catnap bdev controller";
  std::string admin_label;  // empty: none
  bool allow_any_host = false;
  bool ana_reporting = false;
  std::uint32_t max_namespaces = 0;  // 0: default_max_namespaces
  std::uint16_t min_cntlid = min_cntlid_limit;
  std::uint16_t max_cntlid = max_cntlid_limit;
  std::uint32_t dmrsl_blocks = 0;  // 0: no limit (SubsystemSnapshot)
  std::uint8_t wzsl = 0;
  bool enable_nssr = false;
};

struct NamespaceOptions {
  std::string bdev_name;
  std::uint32_t nsid = 0;                             // 0: the lowest free one
  std::optional<std::array<std::uint8_t, 16>> uuid;   // none: the bdev's
  std::optional<std::array<std::uint8_t, 16>> nguid;  // none: the bdev's UUID, as SPDK does
  std::optional<std::array<std::uint8_t, 8>> eui64;   // none: none
  std::uint32_t anagrpid = 0;                         // 0: the NSID
  bool no_auto_visible = false;
  std::string ptpl_file;              // absolute path of the file that keeps reservations; empty: none
  std::optional<PtplImage> restored;  // what load_ptpl() found there
};

// What nvmf_create_transport told. The options without effect here are kept so that they are shown as they were given.
struct TransportConfig {
  tcp::TcpOptions tcp;
  std::uint32_t abort_timeout_sec = 1;
};

class ReservationHub;

class Target {
 public:
  struct Hooks {
    // Every group has acknowledged `next`.
    Publisher::OnCommit committed;
    // Does the subsystem still have controllers?
    std::function<bool(const std::string& nqn)> has_controllers;
    // How many controllers, ending ones included, the host has in the subsystem. Null: none ever.
    std::function<std::size_t(const std::string& nqn, const std::string& host_nqn)> controllers_of_host;
    // The bdev of this namespace has gone by itself, and the namespace goes with it. Null: nobody wants to know.
    std::function<void(const SubsystemSnapshot& subsystem, const NamespaceConfig& config)> namespace_lost;
    // This NSID belongs to a namespace that will come back: it is not given to another that asks for none. Null: none ever does.
    std::function<bool(const std::string& nqn, std::uint32_t nsid)> nsid_awaited;
    // Null (in tests): no TLS keys come out of authentication. Outlives the target.
    const GeneratedPsks* generated_psks = nullptr;
    // Null (in tests): namespaces have no reservations. Outlives the target.
    ReservationHub* reservations = nullptr;
    // Listens until the result is destroyed. Production: tcp::Listener::open.
    std::function<Result<std::shared_ptr<void>>(const ListenAddress& address, std::function<void(int fd)> on_accept)> listen;
  };
  // Listens through tcp::Listener.
  static Result<std::shared_ptr<void>> listen_tcp(const ListenAddress& address, std::function<void(int fd)> on_accept);

  // On app_thread. Publishes generation 1: the discovery subsystem alone.
  Target(Thread& app_thread, Hooks hooks, TargetLimits limits = {});
  ~Target();
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;
  // The process's target, for RPC handlers; null before there is one.
  static Target* instance();

  const TargetSnapshot& current() const { return gathered_ != nullptr ? *gathered_ : *publisher_.current(); }
  Publisher& publisher() { return publisher_; }
  const TargetLimits& limits() const { return limits_; }
  const std::optional<TransportConfig>& transport() const { return transport_; }

  // --- before the groups are there ---
  void set_max_subsystems(std::uint32_t max_subsystems) { limits_.max_subsystems = max_subsystems; }
  void set_poll_groups_mask(CpuMask mask) { poll_groups_mask_ = std::move(mask); }
  const CpuMask& poll_groups_mask() const { return poll_groups_mask_; }  // empty: every reactor
  // Of the machine, for prefer_incoming_cpu; without it only CPUs are known to be near to themselves.
  void set_topology(Topology topology) { topology_ = std::move(topology); }
  // Among poll groups of equally few connections: the one on the CPU where the new connection's packets arrive, or near to it.
  void set_prefer_incoming_cpu(bool prefer) { prefer_incoming_cpu_ = prefer; }
  bool prefer_incoming_cpu() const { return prefer_incoming_cpu_; }
  void set_discovery_filters(std::uint8_t filters);
  void set_authentication(const AuthenticationRules& rules);
  // What the discovery subsystem calls itself besides the well-known NQN; that NQN: nothing else. Errors: EINVAL, EEXIST.
  Result<void> set_discovery_nqn(const std::string& nqn);
  void set_crdt(const std::array<std::uint16_t, 3>& delays_100ms);
  // Of subsystems made from now on.
  void set_dup_host_policy(DupHostPolicy policy) { dup_host_policy_ = policy; }
  DupHostPolicy dup_host_policy() const { return dup_host_policy_; }
  void attach_group(std::unique_ptr<GroupPort> group);
  bool has_groups() const { return !groups_.empty(); }

  // From gather() on, changes are in force for those who look here, and poll groups get none of them before publish_gathered(): a configuration that
  // is made at start costs one publication, not one for each call. Connections that come meanwhile wait. What asks for settled() does not wait.
  void gather();
  bool gathering() const { return gathered_ != nullptr; }
  // The error is that of settled().
  Task<Result<void>> publish_gathered();

  // Error: ENODEV, with the text that clients of SPDK look for.
  Result<const SubsystemSnapshot*> find(const std::string& nqn) const;

  // --- changes; each gives the generation that brings it about, for settled() ---
  using Change = Result<std::uint64_t>;
  // Error: EEXIST.
  Result<void> create_transport(const TransportConfig& config);
  // Errors: EINVAL (field named), EEXIST, ENOSPC.
  Change create_subsystem(const SubsystemOptions& options);
  // Errors: ENODEV, EPERM (discovery).
  Change delete_subsystem(const std::string& nqn);
  struct AddedNamespace {
    std::uint64_t generation;
    std::uint32_t nsid;
  };
  // Errors: ENODEV (subsystem, bdev), EEXIST (NSID, an identifier), EBUSY (bdev), EINVAL, ENOSPC, EPERM (discovery).
  Result<AddedNamespace> add_namespace(const std::string& nqn, const NamespaceOptions& options);
  // Errors: ENODEV.
  Change remove_namespace(const std::string& nqn, std::uint32_t nsid);
  // Errors: ENODEV (subsystem, transport), EINVAL, EEXIST, and what listening says (EADDRINUSE, EADDRNOTAVAIL, EACCES).
  // `ana_state`: of every group there; another than optimized needs ana_reporting.
  // `secure_channel`: by TLS only; `concatenation`: TLS or cleartext, not with it. All listeners at an address, wildcards included, must agree on
  // what hosts may begin with (EINVAL).
  Change add_listener(const std::string& nqn, const ListenAddress& address, AnaState ana_state = AnaState::optimized, bool secure_channel = false,
                      Concatenation concatenation = Concatenation::none);
  // Errors: ENODEV, EINVAL.
  Change remove_listener(const std::string& nqn, const ListenAddress& address);
  // --- ANA (target_ana.cpp) ---
  // Of one group, or of all at this listener. As it is already: no change, no event. Errors: ENODEV (subsystem, listener), EINVAL, EPERM (discovery).
  Change set_ana_state(const std::string& nqn, const ListenAddress& address, AnaState state, std::optional<std::uint32_t> group);
  // Moves a namespace to another group under I/O. Errors: ENODEV (subsystem, NSID), EINVAL, EPERM (discovery).
  Change set_namespace_ana_group(const std::string& nqn, std::uint32_t nsid, std::uint32_t group);

  // --- access (target_access.cpp) ---
  // Errors: ENODEV, EINVAL, EEXIST.
  Change add_host(const std::string& nqn, const std::string& host_nqn, HostKeys keys = {});
  // Both at once, null taking a key away. Connections stay; what authenticates from now on goes by the new keys. Errors: ENODEV, ENOENT, EINVAL.
  Change set_keys(const std::string& nqn, const std::string& host_nqn, keyring::KeyRef dhchap_key, keyring::KeyRef dhchap_ctrlr_key,
                  const std::optional<std::vector<keyring::KeyRef>>& psks = std::nullopt);
  // Its connections end once what they have in execution is done, or grace_us is over (0: the transport's own time). Errors: ENODEV, ENOENT.
  Change remove_host(const std::string& nqn, const std::string& host_nqn, std::uint64_t grace_us = 0);
  Change set_allow_any_host(const std::string& nqn, bool allow);
  // Shows a namespace that was added with no_auto_visible to a host, or hides it; nothing to do is no error.
  // Errors: ENODEV (subsystem, NSID), EINVAL, EPERM (visible to all).
  Change set_namespace_visible(const std::string& nqn, std::uint32_t nsid, const std::string& host_nqn, bool visible);
  // The same once more is no error. Errors: EINVAL, ENOTSUP (trtype), EEXIST (same place, other options), ENOSPC.
  Change add_referral(const Referral& referral);
  // `subnqn` empty: the discovery NQN. Errors: EINVAL, ENOTSUP, ENODEV.
  Change remove_referral(const ListenAddress& address, const std::string& subnqn);
  // Errors: as remove_referral, EEXIST, ENOENT.
  Change set_referral_host(const ListenAddress& address, const std::string& subnqn, const std::string& host_nqn, bool shown);
  Change set_referral_allow_any_host(const ListenAddress& address, const std::string& subnqn, bool allow);

  // Returns once every group has taken `generation` up. Error: ETIMEDOUT.
  Task<Result<void>> settled(std::uint64_t generation);
  // The same, then waits (release_timeout_us) until `released` namespaces and the controllers of `ended_nqn` (empty: none) are gone; what still
  // holds is logged, and is no error: the change is in force.
  using Watch = std::vector<std::weak_ptr<const NamespaceConfig>>;
  Task<Result<void>> settled_and_released(std::uint64_t generation, Watch released, std::string ended_nqn);
  // Returns once the removed host has no controllers in the subsystem any more (or may have some again). Error: ETIMEDOUT, saying what is left.
  Task<Result<void>> host_gone(std::uint64_t generation, std::string nqn, std::string host_nqn, std::uint64_t timeout_us);
  Watch watch_namespaces(const std::string& nqn) const;
  Watch watch_namespace(const std::string& nqn, std::uint32_t nsid) const;

  // Connections now, over all groups.
  std::uint32_t connection_count() const;
  // Stops listening, ends every connection after what is in flight, then `done`. Once.
  void shut_down(std::move_only_function<void()> done);
  // After shut_down() is done, as a message of its own: frees the groups and lets every bdev go.
  void clear();

 private:
  using AddressKey = std::pair<std::string, std::string>;  // traddr, trsvcid
  class Draft;

  static Result<void> check_keys(const std::string& host_nqn, const HostKeys& keys);
  Result<const SubsystemSnapshot*> find_editable(const std::string& nqn) const;
  Result<void> check_namespace(const SubsystemSnapshot& subsystem, const NamespaceConfig& config) const;
  Result<std::uint32_t> choose_nsid(const SubsystemSnapshot& subsystem, std::uint32_t asked) const;
  Result<std::shared_ptr<NamespaceConfig>> open_namespace(const SubsystemSnapshot& subsystem, const NamespaceOptions& options);
  std::uint16_t port_id_for(const ListenAddress& address) const;
  Result<std::size_t> find_referral(const ListenAddress& address, const std::string& subnqn) const;
  Result<void> listen_on(const ListenAddress& address);
  std::uint64_t publish(Draft draft);
  Result<void> attach_reservations(const std::string& nqn, NamespaceConfig& config, const NamespaceOptions& options) const;
  void count_ana_changes_in(TargetSnapshot& next) const;
  void watch_ana_transitions();
  void end_ana_transitions();
  void close_unused_listeners();
  void bdev_event(const std::weak_ptr<bdev::Descriptor>& from, bdev::Event event);
  GroupPort* choose_group(int fd);
  void accepted(int fd);
  bool refuse_if_full(int fd);
  void place(tcp::Incoming incoming);
  Result<void> check_security(const ListenAddress& address, ChannelSecurity security) const;
  tcp::KnownKeys keys_for(const tls::Identity& identity) const;

  Thread& app_thread_;
  Hooks hooks_;
  TargetLimits limits_;
  std::shared_ptr<TargetSnapshot> gathered_;  // between gather() and publish_gathered(): the next snapshot
  std::vector<int> early_;                    // connections that came meanwhile
  CpuMask poll_groups_mask_;
  std::optional<TransportConfig> transport_;
  std::unique_ptr<tcp::SecureAcceptor> acceptor_;  // from the first connection to a listener that takes TLS on
  Publisher publisher_;
  // A wildcard's socket also serves the listeners on single addresses of its port: the kernel would not let both listen.
  std::map<AddressKey, std::shared_ptr<void>> listeners_;
  std::vector<std::unique_ptr<GroupPort>> groups_;
  Topology topology_;
  bool prefer_incoming_cpu_ = false;
  DupHostPolicy dup_host_policy_ = DupHostPolicy::allow;
  std::size_t rotation_ = 0;  // the group after the one chosen last
  struct AnaTransition {
    std::string nqn, traddr, trsvcid;
    std::uint32_t group;  // 0: all
    auto operator<=>(const AnaTransition&) const = default;
  };
  std::map<AnaTransition, std::uint64_t> ana_transitions_;  // what is in the state `change`, and when (ns) it has been long enough
  Timer ana_timer_{[this] { end_ana_transitions(); }};
  bool stopping_ = false;
};

}  // namespace catnap::server
