// A thread's way to one controller: the I/O queue pair that its channels share, and the news about it.
//
// Owner: an IoPort and its queue pair belong to the lightweight thread that made it, and move along with it: nothing is drained, no I/O notices,
// since socket, deadlines and memory are the thread's or nobody's. A PortHub joins a controller (app_thread) with its ports on all threads. When the
// controller grants fewer queues than there are threads, a port borrows the queue of another one (queue_for_cpu, reactor/placement.h): its commands
// go there and come back through a lock-free list per direction, with one message per batch. Left out: which path an I/O takes (nvme_bdev.h), when to
// connect (controller.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "bdev/nvme/error_injection.h"
#include "bdev/nvme/io_loan.h"
#include "bdev/nvme/quiesce.h"
#include "reactor/thread.h"
#include "transport/tcp/host_queue.h"

namespace catnap::bdev {

class IoPort;
class NvmeController;

// Somebody on a port's thread who uses it: a channel.
class PortUser {
 public:
  // The port was connected, or lost its queue (what was in flight has come back), or whether waiting makes sense has changed.
  virtual void port_changed() = 0;

 protected:
  ~PortUser() = default;
};

// Shared by a controller and its ports; any OS thread.
class PortHub : public std::enable_shared_from_this<PortHub> {
 public:
  PortHub(Thread& app_thread, std::weak_ptr<NvmeController> controller) : app_thread_(app_thread), controller_(std::move(controller)) {}

  // The current thread's port, made when there is none; the controller hears of a new one and connects it when it can.
  std::shared_ptr<IoPort> port_of_current_thread();
  // All there are.
  std::vector<std::shared_ptr<IoPort>> ports() const;
  // Whether I/O that finds no usable path waits for this controller (Outage::io_waits), as far as known now.
  bool io_waits() const { return io_waits_.load(std::memory_order_acquire); }
  // On app_thread; tells all ports' users when it changes.
  void set_io_waits(bool waits);
  void tell_users();
  Thread& app_thread() const { return app_thread_; }
  // To be used on app_thread only; empty when the controller is gone.
  std::shared_ptr<NvmeController> controller() const { return controller_.lock(); }
  // Runs `tell` with the controller on app_thread, unless it is gone.
  void tell_controller(std::move_only_function<void(NvmeController&)> tell);
  // Time after the loss of a queue until nothing of it is carried out any more: until the controller has noticed, and until it has cleaned up.
  std::uint64_t notice_us() const { return notice_us_.load(std::memory_order_relaxed); }
  std::uint64_t cleanup_us() const { return cleanup_us_.load(std::memory_order_relaxed); }
  void set_quiesce(const QuiesceTimes& times) {
    notice_us_.store(times.notice_us, std::memory_order_relaxed);
    cleanup_us_.store(times.cleanup_us, std::memory_order_relaxed);
  }
  // Faults of I/O commands; the first call, on app_thread, makes the table. injected(): null while there is none.
  ErrorInjections& injections();
  ErrorInjections* injected() const { return injected_.load(std::memory_order_acquire); }

 private:
  friend class IoPort;
  Thread& app_thread_;
  std::weak_ptr<NvmeController> controller_;
  std::atomic<bool> io_waits_{true};
  std::atomic<std::uint64_t> notice_us_{0}, cleanup_us_{0};
  std::unique_ptr<ErrorInjections> injections_;
  std::atomic<ErrorInjections*> injected_{nullptr};
  mutable std::mutex mutex_;
  std::vector<std::weak_ptr<IoPort>> ports_;
};

class IoPort final : public std::enable_shared_from_this<IoPort>, private tcp::HostQueueUser {
 public:
  IoPort(std::shared_ptr<PortHub> hub, Thread& thread);
  ~IoPort();
  IoPort(const IoPort&) = delete;
  IoPort& operator=(const IoPort&) = delete;

  // --- any OS thread ---
  Thread& thread() const { return thread_; }
  const std::shared_ptr<PortHub>& hub() const { return hub_; }

  // --- on the port's thread ---
  bool connected() const { return queue_ != nullptr ? queue_->ready() : loan_ != nullptr && loan_->connected(); }
  // Commands outstanding on the queue pair this port uses.
  const std::uint32_t& outstanding() const { return *outstanding_; }
  // Ends later or (not connected) at once with HostRequest::Outcome::not_sent.
  void submit(tcp::HostRequest& request);
  // Of a borrower, whose side has looked at injected faults.
  void submit_lent(tcp::HostRequest& request);
  bool take_back(tcp::HostRequest& request);
  // Asks the controller for an Abort of an outstanding command; best effort.
  void abort(tcp::HostRequest& request);
  void add_user(PortUser& user);
  void remove_user(PortUser& user);
  // How long what was lost with the queue may still be carried out.
  std::uint64_t quiesce_us() const;
  // Empty: it has none, or borrows one.
  const tcp::HostQueue* queue() const { return queue_.get(); }
  std::uint16_t qid() const { return qid_; }

  // --- for NvmeController, on the port's thread ---
  // Connects a queue pair of its own. `epoch` names the association; queue_ended of an older one is no news.
  void open(tcp::HostQueueOptions options, std::uint64_t epoch);
  // Uses the queue pair of `lender` from now on.
  void borrow(std::shared_ptr<IoPort> lender);
  // Of the other side of a loan: its commands may come, or do not come any more.
  void lend(const std::shared_ptr<IoLoan>& loan);
  void lend_no_more(const std::shared_ptr<IoLoan>& loan);
  // Gives the queue pair up: everything in flight comes back; then `dropped`, on app_thread. `why` the association ended.
  void drop(const Error& why, std::move_only_function<void()> dropped);
  // The controller has other keys. A queue that is being connected with the old ones and is refused is made anew, and nothing is lost by that.
  void keys_changed();
  // The queue of its own, once more, when it is connected; `done` on the port's thread, with success if there is none. Queues that come later have
  // the controller's credentials.
  void authenticate(std::shared_ptr<const dhchap::HostCredentials> credentials, std::function<void(const Result<void>& outcome)> done);
  void set_poll_period_us(std::uint64_t period_us);
  void set_command_timeout_us(std::uint64_t timeout_us);
  void tell_users();

 private:
  void close_unused();
  // An injected fault has it: it is held, and not to be submitted.
  bool meets_fault(tcp::HostRequest& request);
  static void refuse(tcp::HostRequest& request);
  void queue_ready(tcp::HostQueue& queue, std::uint32_t connect_dw0) override;
  void queue_ended(tcp::HostQueue& queue, const Error& why) override;
  void request_late(tcp::HostQueue& queue, tcp::HostRequest& request) override;

  std::shared_ptr<PortHub> hub_;
  Thread& thread_;
  std::optional<Thread::Hold> hold_;  // while there is a queue
  std::unique_ptr<tcp::HostQueue> queue_;
  void end_loan(std::function<void()> ended);

  std::shared_ptr<IoLoan> loan_;                // whose queue this port uses, for want of one
  std::vector<std::shared_ptr<IoLoan>> loans_;  // who uses this one's
  std::shared_ptr<IoPort> self_;                // while there is a queue
  std::uint16_t qid_ = 0;
  std::uint64_t epoch_ = 0;
  std::uint32_t none_outstanding_ = 0;
  const std::uint32_t* outstanding_ = &none_outstanding_;
  std::vector<PortUser*> users_;
  struct NewKeys {
    std::shared_ptr<const dhchap::HostCredentials> credentials;
    std::function<void(const Result<void>& outcome)> done;
  };
  std::optional<NewKeys> new_keys_;  // to authenticate with when the queue is connected
  bool old_keys_ = false;            // the queue is being connected with keys that are not the controller's any more
  FaultyCommands faulty_;
  std::vector<std::move_only_function<void()>> dropped_;
};

}  // namespace catnap::bdev
