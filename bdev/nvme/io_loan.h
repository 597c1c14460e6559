// Commands of one thread over the I/O queue of another one's port, where a controller grants fewer queues than there are threads.
//
// Owner: two threads, each its own side. Commands go over and come back through a lock-free stack per direction, taken whole and turned round, with
// one message per batch: an I/O takes no lock and allocates nothing. A loan lives until every command has come back.
// Left out: who lends to whom (controller_queues.cpp).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "reactor/thread.h"
#include "transport/tcp/host_queue.h"

namespace catnap::bdev {

class IoPort;

class IoLoan final : public std::enable_shared_from_this<IoLoan> {
 public:
  // `changed`, on the borrower's thread: connected() is another. Made there; then IoPort::lend() on the lender's thread.
  IoLoan(std::shared_ptr<IoPort> lender, Thread& borrower, std::function<void()> changed);
  ~IoLoan();
  IoLoan(const IoLoan&) = delete;
  IoLoan& operator=(const IoLoan&) = delete;

  // --- on the borrower's thread ---
  void submit(tcp::HostRequest& request);
  bool connected() const { return connected_; }
  const std::uint32_t& outstanding() const { return outstanding_; }
  // No more commands; `ended` when the last has come back.
  void end(std::function<void()> ended);

  // --- on the lender's thread ---
  void tell_connected(bool connected);

 private:
  using Stack = std::atomic<tcp::HostRequest*>;
  static bool push(Stack& stack, tcp::HostRequest& request);
  static tcp::HostRequest* take_all(Stack& stack);
  void take_over();
  static void over(tcp::HostRequest& request);
  void come_back();
  void finish_if_idle();

  std::shared_ptr<IoPort> lender_;
  Thread& borrower_;
  std::function<void()> changed_;
  std::function<void()> ended_;
  bool connected_ = false;
  std::uint32_t outstanding_ = 0;
  Stack going_{nullptr};
  Stack coming_{nullptr};
};

}  // namespace catnap::bdev
