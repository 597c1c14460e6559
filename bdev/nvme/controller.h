// A controller as the host knows it: it stays while connections to it come and go. Connects, reads what there is (namespaces, ANA), gives I/O queues
// to threads, and reconnects as reconnect_policy.h says.
//
// Owner: app_thread, with the admin queue. Its I/O queues belong to the threads that use them (io_port.h).
// Left out: bdevs (nvme_bdev.h), which controllers belong together (subsystem.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdev/nvme/association.h"
#include "bdev/nvme/io_port.h"
#include "bdev/nvme/options.h"
#include "bdev/nvme/reconnect_policy.h"
#include "reactor/placement.h"
#include "reactor/task.h"

namespace catnap::bdev {

class NvmeModule;
class NvmeSubsystem;

// What a controller says about one of its namespaces.
struct NamespaceData {
  std::uint32_t nsid = 0;
  nvme::IdentifyNamespace data;
  std::string uuid;   // of the descriptors, 36 characters; empty: none
  std::string nguid;  // 32 hexadecimal digits; empty: none
  std::string eui64;  // 16; empty: none
  std::uint8_t csi = 0;
  AnaState ana_state = AnaState::optimized;
  std::uint64_t ana_waits_since_ns = 0;  // since when it is in a state that should pass (inaccessible, change); 0: it is not

  std::uint32_t block_size() const { return 1U << data.lbaf[data.flbas & 0xF].lbads; }
  // Whether both are the same namespace: every identifier that both have, block size and size agree.
  bool same_as(const NamespaceData& other) const;
};

class NvmeController final : public std::enable_shared_from_this<NvmeController> {
 public:
  enum class State : std::uint8_t {
    connecting,  // the first time, or again
    ready,
    waiting,    // lost; the next attempt has its time
    failed,     // lost and given up until somebody resets it
    disabled,   // by bdev_nvme_disable_controller
    detaching,  // going away for good
  };
  // As SPDK says it in bdev_nvme_get_controllers: "enabled", "reconnect_is_delayed", "resetting", "failed", "disabled", "deleting".
  static std::string_view state_name(State state);

  static std::shared_ptr<NvmeController> create(NvmeModule& module, std::string name, TransportId id, ControllerOptions options);
  ~NvmeController();
  NvmeController(const NvmeController&) = delete;
  NvmeController& operator=(const NvmeController&) = delete;

  // --- sequences; all on app_thread ---
  // The first connect: ready with its namespaces read, or an error and nothing left behind.
  Task<Result<void>> attach();
  // Drops every connection and connects anew at once. Errors: EBUSY (detaching, disabled), or why it failed.
  Task<Result<void>> reset();
  Task<Result<void>> disable();  // EBUSY while detaching; disabling twice is fine
  Task<Result<void>> enable();
  // From now on; live connections authenticate anew, and one that is not there is tried at once (controller_keys.cpp). Errors: why one did not
  // authenticate, which has ended then; the keys stay. ECANCELED: newer keys were set meanwhile.
  Task<Result<void>> set_keys(keyring::KeyRef dhchap_key, keyring::KeyRef dhchap_ctrlr_key);
  // Ends every connection, reconnect and command under way; done in well under a second.
  Task<void> detach();
  // Errors: ENOTCONN unless ready, or the loss of the association.
  // From now on no I/O waits for this controller; before its bdevs are removed.
  void fail_io();
  Task<Result<AdminAnswer>> admin(AdminCommand command);
  // An I/O command on the queue of app_thread's own port.
  Task<Result<AdminAnswer>> io(AdminCommand command);
  // Faults of commands that go through admin(); made at the first call.
  ErrorInjections& admin_injections();

  // --- state; on app_thread ---
  State state() const { return state_; }
  const std::string& name() const { return name_; }
  const TransportId& id() const { return addresses_[address_].id; }
  // The other addresses of multipath mode failover, in the order in which they will be tried.
  std::vector<TransportId> alternates() const;
  void add_alternate(TransportId id);
  // Connects to this address, looks whether the same subsystem is there, and leaves. Errors: why not.
  Task<Result<void>> try_address(TransportId id);
  // Takes a reserve address away, or the one in use: then the caller resets, which goes on with the next. False: it is the only one, or unknown.
  bool remove_address(const TransportId& id);
  const ControllerOptions& options() const { return options_; }
  ReconnectTimeouts timeouts() const { return outage_.timeouts(); }
  const std::string& last_error() const { return last_error_; }
  // Of the last association; zeroes before the first.
  const nvme::IdentifyController& data() const { return *data_; }
  std::uint16_t cntlid() const { return cntlid_; }
  std::uint64_t cap() const { return cap_; }
  std::uint32_t version() const { return version_; }
  std::uint32_t max_transfer_bytes() const { return max_transfer_bytes_; }
  std::uint32_t granted_queues() const { return granted_; }
  const std::map<std::uint32_t, NamespaceData>& namespaces() const { return namespaces_; }
  const std::shared_ptr<PortHub>& hub() const { return hub_; }
  // Whether I/O without another path may hope for this namespace: not behind a persistent loss, nor when a state that should pass has not within
  // ANATT (Base 2.0 section 8.1). As the controller said last; a new association counts anew.
  bool ana_may_pass(const NamespaceData& data) const;
  // Associations after the first one: with each of them the controller may have lost what it had not flushed, or be another one.
  std::uint64_t reassociations() const { return reassociations_; }
  Association* association() const { return association_.get(); }  // null: none
  // "event" or "poll", as in effect on live queues, with periods in us.
  std::uint64_t admin_poll_period_us() const;
  std::uint64_t io_poll_period_us() const;
  void options_changed();  // the module's
  // All events that come over the admin queue, besides what the controller itself does about them.
  void on_event(std::function<void(std::uint32_t dw0)> handler) { event_handler_ = std::move(handler); }
  // Namespaces or ANA states are not what they were (also: none reachable now); the subsystem follows.
  // It returns when every channel goes by it: only then do threads get I/O queues, so that no I/O reaches a namespace that took another one's place.
  void on_change(std::function<Task<void>()> handler) { change_handler_ = std::move(handler); }
  // The loss time-out is over: the controller is to be detached.
  void on_give_up(std::function<void()> handler) { give_up_handler_ = std::move(handler); }

  // --- for ports, on app_thread ---
  void port_added(const std::shared_ptr<IoPort>& port);
  void port_gone(std::uint16_t qid, std::uint64_t epoch);
  void queue_lost(std::uint64_t epoch, const Error& why);
  void command_late(std::uint16_t qid, std::uint16_t cid, std::uint8_t opcode, std::uint64_t epoch);
  // A command's answer contradicts the ANA state that is known.
  void ana_doubtful();
  void abort_command(std::uint16_t qid, std::uint16_t cid, std::uint64_t epoch);

 private:
  struct Address {
    TransportId id;
    AddressHistory history;
  };
  // An I/O queue that a port has.
  struct Grant {
    std::weak_ptr<IoPort> port;       // expired or empty: the queue identifier is free
    std::optional<std::size_t> home;  // its place in plan_; none: beyond the plan
    std::uint32_t borrowers = 0;      // threads that were sent there
    std::uint64_t released = 0;       // order in which identifiers became free: the oldest is used first
  };
  NvmeController(NvmeModule& module, std::string name, TransportId id, ControllerOptions options);

  // --- life (controller.cpp) ---
  AssociationOptions association_options() const;
  void enter(State next);
  Task<Result<void>> connect();
  Task<Result<void>> connect_once();
  void lost(const Error& why);
  Task<void> recover(std::uint64_t epoch, Error why);
  Task<Result<void>> attempt(std::uint64_t epoch);
  void attempt_failed(const Error& why);
  Task<void> become_ready(std::uint64_t epoch);
  Task<void> tell_change();
  Task<void> drop_everything(Error why);
  void update_io_waits();
  std::uint64_t ana_limit_ns() const;
  void watch_ana();

  // --- what it tells by itself (controller_events.cpp) ---
  struct News {
    News() = default;
    bool namespaces = false;  // some came, went or changed
    bool ana = false;         // the state or group of some is another one
    bool any() const { return namespaces || ana; }
    void add(const News& more) {
      namespaces = namespaces || more.namespaces;
      ana = ana || more.ana;
    }
  };
  void event(std::uint32_t dw0);
  void follow_news();
  Task<void> look();
  Task<Result<void>> look_at(std::shared_ptr<Association> association, News told);
  void look_failed(const Error& why);
  void forget_news();

  // --- what a new association needs (controller_scan.cpp) ---
  Task<Result<void>> bring_up(std::shared_ptr<Association> association);
  Task<Result<void>> negotiate_queues(std::shared_ptr<Association> association);
  Task<Result<void>> scan(std::shared_ptr<Association> association);
  Task<Result<std::vector<std::uint32_t>>> active_namespaces(std::shared_ptr<Association> association);
  Task<Result<NamespaceData>> read_namespace(std::shared_ptr<Association> association, std::uint32_t nsid);
  Task<Result<void>> read_ana_log(std::shared_ptr<Association> association);
  bool has_size(NamespaceData& data);
  void note_ana(std::uint32_t nsid, AnaState state);

  // --- keys (controller_keys.cpp) ---
  void try_new_keys();
  bool is_made_anew(const Error& why) const;
  Task<Result<void>> authenticate_live(std::shared_ptr<const dhchap::HostCredentials> credentials);

  // --- I/O queues (controller_queues.cpp) ---
  void plan_queues();
  void forget_plan();
  void give_queue(const std::shared_ptr<IoPort>& port);
  Task<Result<AdminAnswer>> admin_with_faults(AdminCommand command);
  std::optional<std::size_t> free_home(const IoPort& port);
  std::uint16_t take_qid(const std::shared_ptr<IoPort>& port, std::optional<std::size_t> home);
  std::shared_ptr<IoPort> lender_for(const IoPort& port);
  tcp::HostQueueOptions io_queue_options(std::uint16_t qid) const;

  NvmeModule& module_;
  std::string name_;
  ControllerOptions options_;
  std::vector<Address> addresses_;
  std::size_t address_ = 0;
  State state_ = State::connecting;
  std::string last_error_;
  Outage outage_;
  std::uint64_t epoch_ = 0;  // counts associations and their ends: what began under an older one has no say any more
  std::shared_ptr<Association> association_;
  std::vector<std::shared_ptr<Association>> trying_;  // reserve addresses
  std::shared_ptr<PortHub> hub_;
  std::unique_ptr<nvme::IdentifyController> data_;
  std::uint16_t cntlid_ = 0;
  std::uint64_t cap_ = 0;
  std::uint32_t version_ = 0;
  std::uint32_t max_transfer_bytes_ = 0;
  std::uint32_t granted_ = 0;
  ControllerPlan plan_;
  std::vector<Grant> grants_;  // by queue identifier - 1
  std::uint64_t releases_ = 0;
  std::uint64_t reassociations_ = 0;
  bool was_ready_ = false;
  std::uint32_t index_;  // counts controllers, for placement
  std::map<std::uint32_t, NamespaceData> namespaces_;
  bool io_fails_ = false;
  std::uint64_t keys_version_ = 0;           // counts set_keys()
  bool changing_keys_ = false;               // live connections authenticate with new ones
  std::vector<Promise<bool>> keys_waiters_;  // who set further ones meanwhile
  bool resetting_ = false;                   // somebody asked for it: I/O waits for this attempt
  bool published_ = false;                   // channels know what this association found: queues may be given
  News news_;                                // told, and not looked at yet
  bool looking_ = false;
  std::uint32_t failed_looks_ = 0;  // in a row
  std::optional<Error> unread_;     // why a namespace could not be read in the last scan
  // Namespaces that show no size, as they may where they cannot be reached. True: they can be now, and it was asked for once more.
  std::map<std::uint32_t, bool> without_size_;
  Timer attempt_timer_;
  Timer io_fail_timer_;
  Timer ana_timer_;   // while a namespace is in a state that should pass
  Timer news_timer_;  // while a look that failed is to be repeated
  std::unique_ptr<ErrorInjections> admin_injections_;
  std::function<void(std::uint32_t)> event_handler_;
  std::function<Task<void>()> change_handler_;
  std::function<void()> give_up_handler_;
};

}  // namespace catnap::bdev
