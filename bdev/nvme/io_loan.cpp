// See io_loan.h.
#include "bdev/nvme/io_loan.h"

#include <utility>

#include "bdev/nvme/io_port.h"
#include "reactor/base/check.h"

namespace catnap::bdev {

using tcp::HostRequest;

IoLoan::IoLoan(std::shared_ptr<IoPort> lender, Thread& borrower, std::function<void()> changed)
    : lender_(std::move(lender)), borrower_(borrower), changed_(std::move(changed)) {}

IoLoan::~IoLoan() { CATNAP_CHECK(outstanding_ == 0); }

// True: it was empty, so somebody has to be told.
bool IoLoan::push(Stack& stack, HostRequest& request) {
  request.next = stack.load(std::memory_order_relaxed);
  while (!stack.compare_exchange_weak(request.next, &request, std::memory_order_release, std::memory_order_relaxed)) {
  }
  return request.next == nullptr;
}

// In the order in which they were pushed.
HostRequest* IoLoan::take_all(Stack& stack) {
  HostRequest* newest = stack.exchange(nullptr, std::memory_order_acquire);
  HostRequest* first = nullptr;
  while (newest != nullptr) {
    HostRequest* older = newest->next;
    newest->next = std::exchange(first, newest);
    newest = older;
  }
  return first;
}

void IoLoan::submit(HostRequest& request) {
  for (HostRequest* half : {&request, request.second}) {
    if (half == nullptr) continue;
    half->lent_done = half->done;
    half->lent_context = half->context;
    half->done = &IoLoan::over;
    half->context = this;
    ++outstanding_;
  }
  if (!push(going_, request)) return;
  if (lender_->thread().send([self = shared_from_this()] { self->take_over(); })) return;
  // Its thread has exited.
  for (HostRequest* left = take_all(going_); left != nullptr;) {
    HostRequest* next = left->next;
    HostRequest* second = left->second;
    left->outcome = HostRequest::Outcome::not_sent;
    over(*left);
    if (second != nullptr) {
      second->outcome = HostRequest::Outcome::not_sent;
      over(*second);
    }
    left = next;
  }
}

void IoLoan::take_over() {
  for (HostRequest* request = take_all(going_); request != nullptr;) {
    HostRequest* next = request->next;
    lender_->submit_lent(*request);
    request = next;
  }
}

void IoLoan::over(HostRequest& request) {
  auto& loan = *static_cast<IoLoan*>(request.context);
  if (!push(loan.coming_, request)) return;
  loan.borrower_.send([self = loan.shared_from_this()] { self->come_back(); });
}

void IoLoan::come_back() {
  for (HostRequest* request = take_all(coming_); request != nullptr;) {
    HostRequest* next = request->next;
    --outstanding_;
    request->done = request->lent_done;
    request->context = request->lent_context;
    request->done(*request);
    request = next;
  }
  finish_if_idle();
}

void IoLoan::end(std::function<void()> ended) {
  connected_ = false;
  ended_ = std::move(ended);
  changed_ = nullptr;
  finish_if_idle();
}

void IoLoan::finish_if_idle() {
  if (ended_ == nullptr || outstanding_ > 0) return;
  const auto keep = shared_from_this();
  lender_->thread().send([lender = lender_, keep] { lender->lend_no_more(keep); });
  std::exchange(ended_, nullptr)();
}

void IoLoan::tell_connected(bool connected) {
  borrower_.send([self = shared_from_this(), connected] {
    if (self->changed_ == nullptr || self->connected_ == connected) return;
    self->connected_ = connected;
    self->changed_();
  });
}

}  // namespace catnap::bdev
