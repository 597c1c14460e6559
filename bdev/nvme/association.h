// One association with a controller: its admin connection from Connect to the end, with what keeps it alive and the events that come over it. Made
// anew for each attempt to connect. Discovery controllers and I/O controllers alike.
//
// Owner: app_thread, which is in interrupt mode and has no data path, so that keep-alives and events are answered at any load of the reactors.
// Left out: namespaces, I/O queues, trying again (controller.h); what a discovery log says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bdev/nvme/channel_key.h"
#include "bdev/nvme/options.h"
#include "bdev/nvme/quiesce.h"
#include "reactor/base/error.h"
#include "reactor/task.h"
#include "reactor/timer.h"
#include "transport/nvme/fabrics.h"
#include "transport/nvme/identify.h"
#include "transport/nvme/log_page.h"
#include "transport/tcp/host_queue.h"

namespace catnap::bdev {

// An admin command with its data: `data` is sent (host_to_controller), or as long as what is asked for (controller_to_host).
struct AdminCommand {
  AdminCommand() = default;
  nvme::SubmissionEntry sqe;  // without CID, PSDT and SGL
  transport::DataDirection direction = transport::DataDirection::none;
  std::vector<std::byte> data;
};
// What the controller answered, errors included: `cqe` has the status.
struct AdminAnswer {
  AdminAnswer() = default;
  nvme::CompletionEntry cqe;
  std::vector<std::byte> data;
  nvme::Status status() const { return nvme::status_of(cqe); }
};

struct AssociationOptions {
  TransportId id;
  std::string hostnqn;
  std::array<std::uint8_t, 16> hostid{};
  bool hdgst = false;
  bool ddgst = false;
  bool disable_sq_flow_control = false;
  bool discovery = false;                                      // a discovery controller: no I/O queues to come
  std::shared_ptr<const dhchap::HostCredentials> credentials;  // null: cannot authenticate
  keyring::KeyRef psk;                                         // TLS; null: cleartext
  std::optional<std::uint8_t> psk_identity_version;            // tcp::HostQueueOptions
  bool concatenate = false;                                    // TLS with a key that open() makes by authenticating first; never without
  ChannelKey channel_key;                                      // that key, from then on
  std::uint32_t kato_ms = 0;
  std::uint64_t connect_timeout_us = default_connect_timeout_us;
  std::uint64_t fabrics_timeout_us = default_fabrics_timeout_us;
  std::uint64_t command_timeout_us = 0;  // of admin commands after the handshake; 0: none. A late one is reported by on_late
  std::uint64_t poll_period_us = 0;
  std::uint32_t sock_priority = 0;
  std::uint32_t user_timeout_ms = 0;
};

// The HostQueueOptions that queues of one host and controller have in common: addresses, digests, Connect data with CNTLID `cntlid`. Errors: as
// parse_address.
Result<tcp::HostQueueOptions> queue_options(const AssociationOptions& options, std::uint16_t cntlid);
// "Invalid Field in Command (SCT 0h, SC 02h, DNR)": a status for people.
std::string status_text(nvme::Status status);

class Association final : public std::enable_shared_from_this<Association>, private tcp::HostQueueUser {
 public:
  static std::shared_ptr<Association> create(Thread& app_thread, AssociationOptions options);
  ~Association();
  Association(const Association&) = delete;
  Association& operator=(const Association&) = delete;

  // Connects, enables the controller, waits for CSTS.RDY and identifies it. Once. The error says at which step and why. Afterwards keep-alives are
  // sent.
  Task<Result<void>> open();
  // Authenticates the admin queue once more; queues made from now on use these credentials. Without an open connection: at the next one. A failure
  // ends the association.
  Task<Result<void>> authenticate(std::shared_ptr<const dhchap::HostCredentials> credentials);
  // Any admin command. Errors: the association ended before the answer (ECONNRESET and the like, with the reason).
  Task<Result<AdminAnswer>> admin(AdminCommand command);
  // A log page from `offset_bytes` on; fails with EIO and the status's name when the controller refuses. Asked for in pieces where MDTS demands it.
  Task<Result<std::vector<std::byte>>> log_page(nvme::LogPage page, std::uint32_t nsid, std::uint64_t offset_bytes, std::uint32_t size_bytes,
                                                bool retain_event);
  // Fails with ENODEV for an inactive namespace, else with EIO, and the status's name.
  Task<Result<std::vector<std::byte>>> identify(nvme::Cns cns, std::uint32_t nsid);
  // Asynchronous events of these kinds (aec_... bits that OAES has) are wanted from now on: sends Set Features and the first request.
  Task<Result<void>> watch_events(std::uint32_t wanted);

  // Both on app_thread. `on_event`: DW0 of an Asynchronous Event Request's answer; the next request is out already.
  void on_event(std::function<void(std::uint32_t dw0)> handler) { event_handler_ = std::move(handler); }
  // Told once when it ends after open() succeeded, also by close().
  void on_lost(std::function<void(const Error& why)> handler) { lost_handler_ = std::move(handler); }
  // An admin command is outstanding for longer than command_timeout_us.
  void on_late(std::function<void(std::uint16_t cid, std::uint8_t opcode)> handler) { late_handler_ = std::move(handler); }

  // Ends it with a normal shutdown (CC.SHN) first, which is not waited for longer than shutdown_grace_us.
  Task<void> shut_down();
  void close(Error why);

  bool is_open() const { return open_; }
  const AssociationOptions& options() const { return options_; }
  std::uint16_t cntlid() const { return cntlid_; }
  std::uint64_t cap() const { return cap_; }
  std::uint32_t version() const { return version_; }
  const nvme::IdentifyController& data() const { return *data_; }
  // Of the admin connection; null: cleartext, or not connected.
  const transport::SecureChannel* secure_channel() const { return queue_ == nullptr ? nullptr : queue_->secure_channel(); }
  // Largest transfer of one command, by MDTS and our own bound.
  std::uint32_t max_transfer_bytes() const;
  // After the end of this association: when its commands are carried out no more.
  QuiesceTimes quiesce() const { return quiesce_times(*data_, options_.kato_ms); }
  void set_poll_period_us(std::uint64_t period_us);
  void set_command_timeout_us(std::uint64_t timeout_us);
  const tcp::HostQueueStats& queue_stats() const;
  // Admin commands outstanding, for bdev_nvme_get_transport_statistics and the like.
  std::uint32_t outstanding() const;

  // CC.SHN is a courtesy: a controller that takes longer is left.
  static constexpr std::uint64_t shutdown_grace_us = 300'000;

 private:
  struct Pending;
  Association(Thread& app_thread, AssociationOptions options);
  void queue_ready(tcp::HostQueue& queue, std::uint32_t connect_dw0) override;
  void queue_ended(tcp::HostQueue& queue, const Error& why) override;
  void request_late(tcp::HostQueue& queue, tcp::HostRequest& request) override;

  Task<Result<void>> make_channel_key(tcp::HostQueueOptions options);
  Task<Result<void>> handshake();
  Task<Result<std::uint64_t>> get_property(nvme::Property property, bool eight_bytes);
  Task<Result<void>> set_property(nvme::Property property, std::uint32_t value);
  Task<Result<void>> enable();
  Task<Result<void>> wait_for_ready(bool wanted, std::uint64_t until_ns);
  std::uint64_t keep_alive_delay_us() const;
  std::uint64_t keep_alive_grid_us() const;
  void keep_alive_due();
  void ask_for_event();
  static void admin_done(tcp::HostRequest& request);

  Thread& thread_;
  AssociationOptions options_;
  std::unique_ptr<tcp::HostQueue> queue_;
  std::shared_ptr<ChannelKeyMaking> making_;  // while that is under way, before there is a queue
  std::unique_ptr<nvme::IdentifyController> data_;
  Promise<bool> connected_;
  bool connect_settled_ = false;
  bool open_ = false;
  bool wants_events_ = false;
  bool keep_alive_outstanding_ = false;
  std::uint16_t cntlid_ = 0;
  std::uint64_t cap_ = 0;
  std::uint32_t version_ = 0;
  Error why_{ENOTCONN, "not connected"};
  std::shared_ptr<Association> self_;  // while there is a queue
  tcp::HostQueueStats ended_stats_;
  tcp::HostRequest keep_alive_;
  tcp::HostRequest event_request_;
  Timer keep_alive_timer_;
  std::function<void(std::uint32_t)> event_handler_;
  std::function<void(const Error&)> lost_handler_;
  std::function<void(std::uint16_t, std::uint8_t)> late_handler_;
};

}  // namespace catnap::bdev
