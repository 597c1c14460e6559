// See io_port.h.
#include "bdev/nvme/io_port.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "bdev/nvme/controller.h"
#include "reactor/base/check.h"

namespace catnap::bdev {

using tcp::HostRequest;

// --- PortHub ---

std::shared_ptr<IoPort> PortHub::port_of_current_thread() {
  Thread& thread = *Thread::current();
  std::shared_ptr<IoPort> port;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(ports_, [](const auto& weak) { return weak.expired(); });
    for (const auto& weak : ports_) {
      if (auto known = weak.lock(); known != nullptr && &known->thread() == &thread) return known;
    }
    port = std::make_shared<IoPort>(shared_from_this(), thread);
    ports_.push_back(port);
  }
  tell_controller([weak = std::weak_ptr(port)](NvmeController& controller) {
    if (const auto added = weak.lock()) controller.port_added(added);
  });
  return port;
}

std::vector<std::shared_ptr<IoPort>> PortHub::ports() const {
  std::vector<std::shared_ptr<IoPort>> all;
  const std::lock_guard lock(mutex_);
  for (const auto& weak : ports_) {
    if (auto port = weak.lock()) all.push_back(std::move(port));
  }
  return all;
}

ErrorInjections& PortHub::injections() {
  if (injections_ == nullptr) {
    injections_ = std::make_unique<ErrorInjections>();
    injected_.store(injections_.get(), std::memory_order_release);
  }
  return *injections_;
}

void PortHub::set_io_waits(bool waits) {
  if (io_waits_.exchange(waits, std::memory_order_acq_rel) == waits) return;
  tell_users();
}

void PortHub::tell_users() {
  for (const auto& port : ports()) {
    port->thread().send([port] { port->tell_users(); });
  }
}

void PortHub::tell_controller(std::move_only_function<void(NvmeController&)> tell) {
  app_thread_.send([weak = controller_, tell = std::move(tell)]() mutable {
    if (const auto controller = weak.lock()) tell(*controller);
  });
}

// --- IoPort ---

IoPort::IoPort(std::shared_ptr<PortHub> hub, Thread& thread) : hub_(std::move(hub)), thread_(thread) {}

// The last user may be gone on whichever thread; what has a thread went before, in let_go().
IoPort::~IoPort() { CATNAP_CHECK(queue_ == nullptr && users_.empty()); }

void IoPort::add_user(PortUser& user) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  users_.push_back(&user);
}

// Without users a port has no use for its queue; the connection goes with the last one.
void IoPort::remove_user(PortUser& user) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  std::erase(users_, &user);
  close_unused();
}

void IoPort::close_unused() {
  if (!users_.empty() || !loans_.empty()) return;
  if (loan_ != nullptr) return end_loan([] {});
  if (queue_ == nullptr) return;
  hub_->tell_controller([qid = qid_, epoch = epoch_](NvmeController& controller) { controller.port_gone(qid, epoch); });
  epoch_ = 0;  // the end of this queue is no news
  queue_->close(Error(ESHUTDOWN, "nobody uses it any more"));
}

void IoPort::open(tcp::HostQueueOptions options, std::uint64_t epoch) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  // Nobody uses it any more, or the old queue has not ended yet (its end asks for a new one).
  if (queue_ != nullptr || loan_ != nullptr || users_.empty()) {
    hub_->tell_controller([qid = options.qid, epoch](NvmeController& controller) { controller.port_gone(qid, epoch); });
    return;
  }
  epoch_ = epoch;
  qid_ = options.qid;
  old_keys_ = false;
  tcp::HostQueueUser& user = *this;
  self_ = shared_from_this();
  hold_.emplace(thread_, "I/O queues");
  queue_ = std::make_unique<tcp::HostQueue>(thread_, std::move(options), user);
  outstanding_ = &queue_->outstanding();
  queue_->connect();
}

void IoPort::drop(const Error& why, std::move_only_function<void()> dropped) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  epoch_ = 0;
  if (loan_ != nullptr) {
    dropped_.push_back(std::move(dropped));
    return end_loan([this, keep = shared_from_this()] {
      for (auto& each : std::exchange(dropped_, {})) hub_->app_thread().send(std::move(each));
      tell_users();
    });
  }
  if (queue_ == nullptr) {
    hub_->app_thread().send(std::move(dropped));
    return;
  }
  dropped_.push_back(std::move(dropped));
  queue_->close(why);
}

void IoPort::submit(HostRequest& request) {
  if (queue_ != nullptr) [[likely]] {
    if (!meets_fault(request)) queue_->submit(request);
    return;
  }
  if (loan_ != nullptr && loan_->connected()) {
    if (!meets_fault(request)) loan_->submit(request);
    return;
  }
  refuse(request);
}

void IoPort::submit_lent(HostRequest& request) {
  if (queue_ != nullptr) return queue_->submit(request);
  refuse(request);
}

void IoPort::refuse(HostRequest& request) {
  HostRequest* second = request.second;
  request.outcome = HostRequest::Outcome::not_sent;
  request.done(request);
  if (second == nullptr) return;
  second->outcome = HostRequest::Outcome::not_sent;
  second->done(*second);
}

bool IoPort::meets_fault(HostRequest& request) {
  ErrorInjections* injected = hub_->injected();
  return injected != nullptr && request.second == nullptr && faulty_.meet(*injected, request);
}

bool IoPort::take_back(HostRequest& request) {
  if (hub_->injected() != nullptr && faulty_.take_back(request)) [[unlikely]]
    return true;
  return queue_ != nullptr && queue_->take_back(request);
}

void IoPort::abort(HostRequest& request) {
  if (queue_ == nullptr || !queue_->ready()) return;
  hub_->tell_controller(
      [qid = qid_, cid = queue_->cid_of(request), epoch = epoch_](NvmeController& controller) { controller.abort_command(qid, cid, epoch); });
}

std::uint64_t IoPort::quiesce_us() const { return hub_->cleanup_us() + (queue_ != nullptr && queue_->ended_by_controller() ? 0 : hub_->notice_us()); }

// --- loans ---

void IoPort::borrow(std::shared_ptr<IoPort> lender) {
  CATNAP_DCHECK(Thread::current() == &thread_);
  if (queue_ != nullptr || loan_ != nullptr || users_.empty()) return;
  loan_ = std::make_shared<IoLoan>(lender, thread_, [weak = weak_from_this()] {
    if (const auto port = weak.lock()) port->tell_users();
  });
  outstanding_ = &loan_->outstanding();
  lender->thread().send([lender, loan = loan_] { lender->lend(loan); });
}

void IoPort::lend(const std::shared_ptr<IoLoan>& loan) {
  loans_.push_back(loan);
  loan->tell_connected(queue_ != nullptr && queue_->ready());
}

void IoPort::lend_no_more(const std::shared_ptr<IoLoan>& loan) {
  std::erase(loans_, loan);
  close_unused();
}

void IoPort::end_loan(std::function<void()> ended) {
  const auto loan = loan_;
  loan->end([this, keep = shared_from_this(), ended = std::move(ended)] {
    outstanding_ = &none_outstanding_;
    loan_.reset();
    ended();
  });
}

void IoPort::keys_changed() { old_keys_ = queue_ != nullptr && !queue_->ready(); }

void IoPort::authenticate(std::shared_ptr<const dhchap::HostCredentials> credentials, std::function<void(const Result<void>&)> done) {
  if (queue_ == nullptr || queue_->over()) return done({});
  if (queue_->ready()) return queue_->authenticate(std::move(credentials), std::move(done));
  new_keys_ = NewKeys{std::move(credentials), std::move(done)};
}

void IoPort::set_poll_period_us(std::uint64_t period_us) {
  if (queue_ != nullptr) queue_->set_poll_period_us(period_us);
}

void IoPort::set_command_timeout_us(std::uint64_t timeout_us) {
  if (queue_ != nullptr) queue_->set_command_timeout_us(timeout_us);
}

// A user may go within port_changed(); it is not one any more then.
void IoPort::tell_users() {
  const auto keep = shared_from_this();
  const std::vector<PortUser*> users = users_;
  for (PortUser* user : users) {
    if (std::ranges::find(users_, user) != users_.end()) user->port_changed();
  }
}

void IoPort::queue_ready(tcp::HostQueue&, std::uint32_t) {
  old_keys_ = false;
  if (auto keys = std::exchange(new_keys_, std::nullopt)) queue_->authenticate(std::move(keys->credentials), std::move(keys->done));
  for (const auto& loan : loans_) loan->tell_connected(true);
  tell_users();
}

void IoPort::queue_ended(tcp::HostQueue&, const Error& why) {
  const auto keep = std::move(self_);
  outstanding_ = &none_outstanding_;
  queue_.reset();
  hold_.reset();
  if (auto keys = std::exchange(new_keys_, std::nullopt)) keys->done({});
  if (epoch_ != 0 && std::exchange(old_keys_, false)) {
    hub_->tell_controller([weak = weak_from_this(), epoch = std::exchange(epoch_, 0), qid = qid_](NvmeController& controller) {
      controller.port_gone(qid, epoch);
      if (const auto port = weak.lock()) controller.port_added(port);
    });
  } else if (epoch_ != 0) {
    hub_->tell_controller([epoch = std::exchange(epoch_, 0), why, qid = qid_](NvmeController& controller) {
      controller.queue_lost(epoch, Error(why.err, fmt::format("I/O queue {}: {}", qid, why.message)));
    });
  } else if (!users_.empty()) {
    // It was closed for want of users and has some again.
    hub_->tell_controller([weak = weak_from_this()](NvmeController& controller) {
      if (const auto port = weak.lock()) controller.port_added(port);
    });
  }
  for (const auto& loan : loans_) loan->tell_connected(false);
  for (auto& dropped : std::exchange(dropped_, {})) hub_->app_thread().send(std::move(dropped));
  tell_users();
}

void IoPort::request_late(tcp::HostQueue& queue, HostRequest& request) {
  hub_->tell_controller([qid = qid_, cid = queue.cid_of(request), opcode = request.sqe.opcode, epoch = epoch_](NvmeController& controller) {
    controller.command_late(qid, cid, opcode, epoch);
  });
}

}  // namespace catnap::bdev
