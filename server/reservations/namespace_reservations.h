// The reservations of one namespace: commands one after another, each durable (when the state persists), then published and taken up by every poll
// group, then told to other hosts and completed. Nothing is completed that a power cut could take back, and no host sees a completion before every
// queue obeys it.
// Owner: app_thread, except published(), denied_to() and can_persist() (any OS thread). Lives as long as its namespace is configured or a command is
// on its way. Left out: the rules (rules.h), decoding commands (reservation_commands.cpp), who the hub's groups and controllers are
// (reservation_hub.h).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/base/log.h"
#include "reactor/thread.h"
#include "server/reservations/ptpl_file.h"
#include "server/reservations/rules.h"

namespace catnap::server {

// What reservations need of the target around them. Every member is called, and every callback comes, on home().
class ReservationHub {
 public:
  using Done = std::move_only_function<void()>;
  virtual ~ReservationHub() = default;

  virtual Thread& home() = 0;  // app_thread
  // Each poll group looks at the published state anew; `done` when all have: from then on no command is admitted by an older one.
  virtual void refresh_groups(const std::string& nqn, std::uint32_t nsid, Done done) = 0;
  // Ends what these hosts have outstanding on the namespace; `done` when nothing of it is in execution any more.
  virtual void abort_commands(const std::string& nqn, std::uint32_t nsid, std::vector<HostId> hosts, Done done) = 0;
  // To all controllers of each host in the subsystem.
  virtual void notify(const std::string& nqn, std::uint32_t nsid, const std::vector<HostNotice>& notices) = 0;
  // write_durably() on a thread that may block.
  virtual void write_file(std::string path, std::string bytes, std::move_only_function<void(Result<void>)> done) = 0;
};

class NamespaceReservations : public std::enable_shared_from_this<NamespaceReservations> {
 public:
  struct Place {
    std::string nqn;
    std::uint32_t nsid = 0;
    std::array<std::uint8_t, 16> uuid{};  // of the namespace: the file's owner
    std::string file;                     // empty: nothing persists
  };
  // `restored`: what the file held; registrants in it are registered from the start.
  NamespaceReservations(ReservationHub& hub, Place place, ReservationState restored);
  NamespaceReservations(const NamespaceReservations&) = delete;
  NamespaceReservations& operator=(const NamespaceReservations&) = delete;

  // --- any OS thread ---
  std::shared_ptr<const ReservationState> published() const;
  // Bits of rules.h.
  std::uint8_t denied_to(const HostId& host) const;
  bool can_persist() const { return !place_.file.empty(); }
  ReservationHub& hub() const { return hub_; }

  // --- on app_thread ---
  using Apply = std::move_only_function<ReservationOutcome(ReservationState&)>;
  using Done = std::move_only_function<void(CommandError)>;
  // One command of `host`; `done` on app_thread. With `abort_preempted` it also waits for what the unregistered hosts have outstanding, while further
  // commands go on.
  void submit(Apply apply, bool abort_preempted, Done done);

 private:
  struct Pending {
    Apply apply;
    bool abort_preempted = false;
    Done done;
  };
  using StatePtr = std::shared_ptr<const ReservationState>;

  void run_next();
  void made_durable(const Result<void>& written, StatePtr next, ReservationOutcome outcome);
  void publish(StatePtr next, ReservationOutcome outcome);
  void taken_up(ReservationOutcome outcome);
  void finish_front(CommandError error);

  ReservationHub& hub_;
  const Place place_;
  std::deque<Pending> pending_;  // the front one is in work
  bool running_ = false;         // run_next() is on the stack
  bool busy_ = false;            // the front one waits for disk or groups
  LogOnce write_failed_said_;

  std::atomic<bool> reserved_{false};  // is there a reservation? Spares denied_to() the lock
  mutable std::mutex mutex_;
  StatePtr published_;
};

}  // namespace catnap::server
