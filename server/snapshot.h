// The published configuration: immutable snapshots with a generation, built on app_thread, swapped in by every poll group at the end of a loop turn.
// Owner: whoever holds the shared_ptr; contents never change after publication. Left out: building and publishing (target.h), live objects
// (controllers, channels).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bdev/bdev.h"
#include "keyring/keyring.h"

namespace catnap::server {

class NamespaceReservations;

inline constexpr const char* discovery_nqn = "nqn.2014-08.org.nvmexpress.discovery";

enum class AnaState : std::uint8_t {
  optimized = 1,
  non_optimized = 2,
  inaccessible = 3,
  persistent_loss = 4,
  change = 15
};  // wire values, Base 2.0 section 5.16.1.13

// 0 would say that changes are not counted.
inline constexpr std::uint64_t first_ana_change_count = 1;

struct ListenAddress {
  std::string trtype = "TCP";
  std::string adrfam = "IPv4";
  std::string traddr;
  std::string trsvcid;
  bool operator==(const ListenAddress&) const = default;
};

struct NamespaceConfig {
  std::uint32_t nsid = 0;
  std::string bdev_name;
  std::shared_ptr<bdev::Bdev> bdev;
  // Keeps the bdev open. Whoever drops the last reference, on whichever thread, sends the descriptor home: it closes on app_thread.
  std::shared_ptr<bdev::Descriptor> descriptor;
  std::array<std::uint8_t, 16> uuid{};
  std::array<std::uint8_t, 16> nguid{};  // all zero: none
  std::array<std::uint8_t, 8> eui64{};   // all zero: none
  std::uint32_t anagrpid = 0;
  std::string ptpl_file;  // empty: reservations do not outlive the process
  // Registrations and reservation of this namespace; the same object as long as the namespace is there. Null only in tests.
  std::shared_ptr<NamespaceReservations> reservations;
  bool no_auto_visible = false;
  std::vector<std::string> visible_hosts;   // only with no_auto_visible: the hosts that see it nevertheless, sorted
  std::uint64_t attributes_generation = 0;  // target generation at which anything of this namespace last changed (also its size)
};

// What a host of the list must prove itself with; each may be missing. Shared by all snapshots until it changes.
struct HostKeys {
  keyring::KeyRef psk;                        // TLS; without it, no secure channel
  std::vector<keyring::KeyRef> further_psks;  // valid as well, as long as hosts change from one to the other
  keyring::KeyRef dhchap_key;                 // the host authenticates with it; without it, it need not
  keyring::KeyRef dhchap_ctrlr_key;           // this side authenticates with it when the host asks for that
  // The first is the one that SPDK knows as "psk".
  void set_psks(const std::vector<keyring::KeyRef>& psks) {
    psk = psks.empty() ? keyring::KeyRef() : psks.front();
    further_psks.assign(psks.begin() + (psks.empty() ? 0 : 1), psks.end());
  }
  bool empty() const { return psk == nullptr && dhchap_key == nullptr && dhchap_ctrlr_key == nullptr; }
};

// Whether hosts may, or must, make the TLS keys of a listener's connections by authenticating over cleartext first.
enum class Concatenation : std::uint8_t { none, allowed, required };
// What connections of an address may begin with.
enum class ChannelSecurity : std::uint8_t { cleartext, either, tls };

// Of in-band authentication, for all subsystems (nvmf_set_config).
struct AuthenticationRules {
  std::uint8_t dhchap_digests = 0b1110;     // a bit per hash identifier (transport/dhchap/names.h)
  std::uint8_t dhchap_dhgroups = 0b111111;  // a bit per group identifier
  // A queue that has not authenticated itself so long after its Connect ends. Hosts need a second or two for the largest group on a slow CPU.
  std::uint32_t timeout_ms = 20'000;
  // Of a host from an address; beyond it, transactions are refused before anything is computed for them. A host that tries again every 10 s with
  // the wrong key has 6 of them. 0: no limit.
  std::uint32_t failures_per_minute = 20;
  // A TLS key that a host has made by authenticating is good for so long without a controller of that host: time to come back by TLS, or to connect
  // again after a loss. Hosts come back within a second; a minute is what a slow one with a congested network takes.
  std::uint32_t generated_psk_timeout_ms = 60'000;
  bool operator==(const AuthenticationRules&) const = default;
};

struct SubsystemSnapshot {
  std::string nqn;
  bool discovery = false;
  std::string serial_number;  // ≤ 20 ASCII characters
  std::string model_number;   // ≤ 40
  std::string admin_label;    // of extended discovery entries; empty: none
  std::string unique_nqn;     // of the discovery subsystem: what it calls itself, besides the well-known NQN; empty: that alone
  bool allow_any_host = false;
  std::vector<std::string> hosts;                                                 // allowed host NQNs, sorted
  std::map<std::string, std::shared_ptr<const HostKeys>, std::less<>> host_keys;  // of those of `hosts` that have any
  std::uint32_t max_namespaces = 32;
  std::uint16_t min_cntlid = 1;
  std::uint16_t max_cntlid = 0xFFEF;
  bool ana_reporting = false;
  // Limits of Dataset Management (blocks of a range, DMRSL) and Write Zeroes (2^WZSL pages of 4 KiB); 0: none.
  std::uint32_t dmrsl_blocks = 0;
  std::uint8_t wzsl = 0;
  bool enable_nssr = false;              // hosts may reset the whole subsystem (property NSSR)
  bool one_controller_per_host = false;  // dup_host_policy restrict_per_listener: a HOSTID has at most one controller per listener
  struct ListenerEntry {
    ListenAddress address;
    bool secure_channel = false;                        // TLS, and nothing else
    Concatenation concatenation = Concatenation::none;  // not with secure_channel
    ChannelSecurity security() const {
      if (secure_channel) return ChannelSecurity::tls;
      return concatenation == Concatenation::none ? ChannelSecurity::cleartext : ChannelSecurity::either;
    }
    std::uint16_t port_id = 0;  // discovery log PORTID
    AnaState ana_default = AnaState::optimized;
    std::map<std::uint32_t, AnaState> ana_states;  // by group; missing: ana_default
    // CHGCNT of the ANA log as hosts read it here (server/ana.h): of the whole page, and what it was when a group last changed (missing: first).
    std::uint64_t ana_change_count = first_ana_change_count;
    std::map<std::uint32_t, std::uint64_t> ana_group_changes;
  };
  std::vector<ListenerEntry> listeners;
  std::map<std::uint32_t, std::shared_ptr<const NamespaceConfig>> namespaces;  // by NSID

  // What Identify and the discovery log call it.
  const std::string& shown_nqn() const { return unique_nqn.empty() ? nqn : unique_nqn; }
  // True for every host when allow_any_host.
  bool allows_host(const std::string& host_nqn) const;
  // Null: none.
  const HostKeys* keys_of(std::string_view host_nqn) const {
    const auto found = host_keys.find(host_nqn);
    return found == host_keys.end() ? nullptr : found->second.get();
  }
  // The listener through which a connection to this local address came, or null: exact address first, then the wildcard of its family ("0.0.0.0";
  // "::", which takes IPv6 alone) on the same port. Numbers as inet_ntop writes them, a link-local address with its interface ("fe80::1%eth0");
  // ports without leading zeros.
  const ListenerEntry* listener_for(const std::string& traddr, const std::string& trsvcid) const;
  // Null when there is none, or this host may not see it.
  const NamespaceConfig* visible_namespace(std::uint32_t nsid, const std::string& host_nqn) const;
};

// What the discovery log shows of all listeners (nvmf_set_config, discovery_filters): only those that equal the one the host came through in…
inline constexpr std::uint8_t discovery_match_any = 0;        // …nothing: all are shown
inline constexpr std::uint8_t discovery_match_transport = 1;  // …transport type and address family
inline constexpr std::uint8_t discovery_match_address = 2;    // …TRADDR
inline constexpr std::uint8_t discovery_match_svcid = 4;      // …TRSVCID

// An entry of the discovery log that leads elsewhere: to another discovery service, or to a subsystem of another target.
struct Referral {
  ListenAddress address;  // trtype "TCP" or "RDMA"
  std::string subnqn;     // the discovery NQN: a referral; another: an NVM subsystem
  bool secure_channel = false;
  bool allow_any_host = true;
  std::vector<std::string> hosts;  // who sees it without allow_any_host, sorted

  bool operator==(const Referral&) const = default;
  bool shown_to(const std::string& host_nqn) const;
  bool same_place(const ListenAddress& other_address, const std::string& other_subnqn) const {
    return address == other_address && subnqn == other_subnqn;
  }
};

struct TargetSnapshot {
  std::uint64_t generation = 0;            // of this snapshot; the first published is 1
  std::uint64_t discovery_generation = 0;  // GENCTR: goes up when what any host can see in the discovery log changed
  std::uint8_t discovery_filters = discovery_match_any;
  std::vector<Referral> referrals;            // in the order in which they were added
  std::array<std::uint16_t, 3> crdt_100ms{};  // CRDT1..3 of Identify Controller (nvmf_set_crdt)
  AuthenticationRules authentication;
  // How long queues that lose their place by this very snapshot may take for what they have in execution; 0: the transport's default.
  std::uint64_t ending_grace_us = 0;
  std::map<std::string, std::shared_ptr<const SubsystemSnapshot>, std::less<>> subsystems;  // by NQN, discovery included

  const SubsystemSnapshot* find(std::string_view nqn) const;  // null: none; the discovery subsystem also by its unique NQN
};

}  // namespace catnap::server
