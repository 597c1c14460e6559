// What users say about NVMe/TCP controllers: addresses, attach parameters (bdev_nvme_attach_controller) and the module's options
// (bdev_nvme_set_options). Names, defaults and meaning are SPDK's unless a comment says otherwise.
// Owner: none (values). Left out: JSON (nvme_rpc.cpp), the rules of the three time-outs (reconnect_policy.h).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "bdev/nvme/path_policy.h"
#include "bdev/nvme/reconnect_policy.h"
#include "keyring/keyring.h"
#include "reactor/base/error.h"
#include "transport/dhchap/host_exchange.h"

namespace catnap::bdev {

// One address of a controller, and from where it is reached. trtype is always TCP.
struct TransportId {
  std::string traddr;            // numbers, no names
  std::string trsvcid = "4420";  // port
  std::string adrfam;            // "IPv4" or "IPv6"; empty: traddr decides
  std::string subnqn;            // of the subsystem
  std::string hostaddr;          // local address to connect from; empty: the kernel's choice
  std::string hostsvcid;         // local port; empty: the kernel's choice
  bool operator==(const TransportId&) const = default;

  std::string text() const { return traddr + ":" + trsvcid; }
};
// Fills adrfam in (SPDK's spelling) and checks all fields. Errors: EINVAL naming the field, its value and the reason.
[[nodiscard]] Result<void> complete_transport_id(TransportId& id);

enum class TimeoutAction : std::uint8_t { none, reset, abort };
std::string_view timeout_action_name(TimeoutAction action);

// disable: a second address for a name is refused. failover: it is a reserve for the same controller. multipath: a controller of its own, whose paths
// the bdevs have as well.
enum class MultipathMode : std::uint8_t { failover, multipath, disable };
std::string_view multipath_mode_name(MultipathMode mode);

// bdev_nvme_set_options. What belongs to RDMA and PCIe is taken and kept for the sake of saved files, and has no effect.
struct NvmeOptions {
  TimeoutAction action_on_timeout = TimeoutAction::none;
  std::uint64_t timeout_us = 0;                       // of I/O commands; 0: none
  std::uint64_t timeout_admin_us = 0;                 // of admin commands; 0: as timeout_us
  std::uint32_t keep_alive_timeout_ms = 10'000;       // KATO; 0: none
  std::uint64_t nvme_adminq_poll_period_us = 10'000;  // see admin_poll_period_us()
  std::uint64_t nvme_ioq_poll_period_us = 0;
  std::uint32_t io_queue_requests = 0;      // depth of I/O queues; 0: default_io_queue_entries
  std::uint32_t transport_retry_count = 4;  // no effect over TCP, as in SPDK: it is PCIe's
  std::int32_t bdev_retry_count = 3;        // -1: no limit
  std::uint8_t transport_ack_timeout = 0;   // see retry_policy.h
  ReconnectTimeouts reconnect;              // of controllers that do not say their own
  bool disable_auto_failback = false;
  bool generate_uuids = false;  // UUIDs made of serial number and NSID where the namespace has none
  bool nvme_error_stat = false;
  bool io_path_stat = false;
  std::uint32_t tcp_connect_timeout_ms = 0;  // 0: default_connect_timeout_us
  // SPDK's default is false, and then flushes of a controller with a volatile cache go nowhere. Here they always go to the controller, whatever this
  // says.
  bool enable_flush = true;
  MultipathOptions multipath;
  dhchap::Allowed dhchap;  // what connections made from now on offer to authenticate with

  // 0 and SPDK's saved default of 10000 mean event driven; anything else is a period.
  std::uint64_t admin_poll_period_us() const { return nvme_adminq_poll_period_us == 10'000 ? 0 : nvme_adminq_poll_period_us; }
  std::uint64_t io_poll_period_us() const { return nvme_ioq_poll_period_us; }
};

// Entries of an I/O queue where nobody says: what hosts (Linux) and targets use; the controller's MQES bounds it.
inline constexpr std::uint16_t default_io_queue_entries = 128;
// TCP connect and ICResp: a SYN and two retransmissions. SPDK waits as long as the kernel, which nobody gains from.
inline constexpr std::uint64_t default_connect_timeout_us = 5'000'000;
// Connect, properties and Identify each. SPDK's 500 ms is little for a busy target.
inline constexpr std::uint64_t default_fabrics_timeout_us = 5'000'000;
// Bounds of the poll periods: below 10 us a timer is spent on nothing but itself; above an hour nobody looks.
inline constexpr std::uint64_t min_poll_period_us = 10;
inline constexpr std::uint64_t max_poll_period_us = 3'600'000'000;

// Of one controller (bdev_nvme_attach_controller); later paths of the same name take the first one's host identity.
struct ControllerOptions {
  std::string hostnqn;                                 // empty: default_hostnqn()
  std::optional<std::array<std::uint8_t, 16>> hostid;  // none: made of the host NQN's UUID, or of the NQN
  bool hdgst = false;
  bool ddgst = false;
  MultipathMode multipath = MultipathMode::multipath;
  std::uint32_t num_io_queues = 1024;            // asked for at most; what the controller grants and threads need bounds it
  std::uint64_t fabrics_connect_timeout_us = 0;  // 0: default_fabrics_timeout_us
  std::optional<ReconnectTimeouts> reconnect;    // none: the module's
  std::uint32_t priority = 0;                    // SO_PRIORITY
  bool disable_sq_flow_control = false;
  std::optional<MultipathOptions> multipath_opts;    // of its bdevs; none: the module's
  keyring::KeyRef psk;                               // TLS
  std::optional<std::uint8_t> psk_identity_version;  // none: 1, then 0
  bool concatenate = false;                          // TLS with keys that authenticating makes; not with psk
  keyring::KeyRef dhchap_key;                        // for controllers that demand authentication
  keyring::KeyRef dhchap_ctrlr_key;                  // the controller must authenticate itself, too
  bool from_discovery = false;                       // a discovery service attached it, whose call brings it back
};

// What queues authenticate with; null: nothing.
std::shared_ptr<const dhchap::HostCredentials> credentials_of(const ControllerOptions& options, const NvmeOptions& module);
// Errors: EINVAL (a key for the controller alone).
[[nodiscard]] Result<void> check_keys(const keyring::KeyRef& dhchap_key, const keyring::KeyRef& dhchap_ctrlr_key);

// The NQN of this process where nobody gives one: "nqn.2014-08.org.nvmexpress:uuid:" and a UUID made of the machine id, the same at each start.
const std::string& default_hostnqn();
// HOSTID for a host NQN: the UUID in it, else one derived from its text, so that all paths of a host say the same.
std::array<std::uint8_t, 16> hostid_for(const std::string& hostnqn);

// A UUID (version 8, RFC 9562) that is the same for the same text, for what has none of its own.
std::string uuid_for(const std::string& text);

}  // namespace catnap::bdev
