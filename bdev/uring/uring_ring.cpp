// See uring_ring.h.
#include "bdev/uring/uring_ring.h"

#include <fmt/core.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/base/log.h"

namespace catnap::bdev {
namespace {

// The kernel is short of memory for requests (EAGAIN from enter): a while that a loaded system can use.
constexpr std::uint64_t submit_again_us = 1000;

Error setup_error(int err) {
  if (err == EPERM || err == EACCES || err == ENOSYS) {
    return Error(err, fmt::format("{}: io_uring is not available to this process (sysctl kernel.io_uring_disabled, a seccomp filter, or a kernel "
                                  "without it); bdev_aio_create needs none",
                                  errno_text(err)));
  }
  return Error(err, fmt::format("{}: io_uring_setup", errno_text(err)));
}

// The flags of a ring with one user that looks often; older kernels know fewer of them, and all work the same way for us.
int make_ring(unsigned entries, io_uring& ring) {
  constexpr unsigned wishes[] = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,  // Linux 6.1
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,                                                            // 5.19
      0,
  };
  int err = 0;
  for (const unsigned flags : wishes) {
    io_uring_params params{};
    params.flags = flags;
    err = -io_uring_queue_init_params(entries, &ring, &params);
    if (err != EINVAL) break;
  }
  return err;
}

}  // namespace

Result<void> UringRing::probe() {
  io_uring ring{};
  if (const int err = make_ring(1, ring); err != 0) return std::unexpected(setup_error(err));
  io_uring_queue_exit(&ring);
  return {};
}

Result<std::shared_ptr<UringRing>> UringRing::create(Thread& thread, unsigned entries) {
  std::shared_ptr<UringRing> ring(new UringRing(thread, entries));
  if (auto made = ring->set_up(); !made) return std::unexpected(made.error());
  return ring;
}

UringRing::UringRing(Thread& thread, unsigned entries)
    : thread_(thread), entries_(entries), slots_(entries), submit_at_turn_end_([this] { submit(); }), submit_again_([this] { submit(); }) {
  for (UringSlot& slot : slots_) {
    slot.next_free = free_;
    free_ = &slot;
  }
}

Result<void> UringRing::set_up() {
  if (const int err = make_ring(entries_, ring_); err != 0) return std::unexpected(setup_error(err));
  ring_made_ = true;
  event_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event_fd_ < 0) {
    const int err = errno;
    return fail(err, fmt::format("{}: eventfd of an io_uring", errno_text(err)));
  }
  if (const int err = -io_uring_register_eventfd(&ring_, event_fd_); err != 0) {
    return fail(err, fmt::format("{}: io_uring_register_eventfd", errno_text(err)));
  }
  auto added = thread_.fds().add(event_fd_, EPOLLIN, "io_uring", [this](std::uint32_t) { woken(); }, FdKind::eventfd);
  if (!added) {
    close(std::exchange(event_fd_, -1));
    return added;
  }
  return {};
}

UringRing::~UringRing() {
  if (event_fd_ >= 0) {
    (void)thread_.fds().remove(event_fd_);
    if (ring_made_) io_uring_unregister_eventfd(&ring_);
    close(event_fd_);
  }
  if (ring_made_) io_uring_queue_exit(&ring_);
}

UringSlot* UringRing::take_slot(UringClient& client) {
  if (free_ == nullptr) {
    if (std::ranges::find(starving_, &client) == starving_.end()) starving_.push_back(&client);
    return nullptr;
  }
  UringSlot* slot = std::exchange(free_, free_->next_free);
  slot->client = &client;
  slot->attempts = 0;
  slot->rest.clear();
  return slot;
}

void UringRing::give_back(UringSlot& slot) {
  slot.io = nullptr;
  slot.client = nullptr;
  slot.next_free = free_;
  free_ = &slot;
}

void UringRing::forget(UringClient& client) { std::erase(starving_, &client); }

io_uring_sqe* UringRing::prepare(UringSlot& slot) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  CATNAP_CHECK(sqe != nullptr);
  io_uring_sqe_set_data(sqe, &slot);
  thread_.at_turn_end(submit_at_turn_end_);
  return sqe;
}

void UringRing::submit() {
  int submitted = 0;
  do {
    submitted = io_uring_submit_and_get_events(&ring_);
  } while (submitted == -EINTR);
  reap();
  if (io_uring_sq_ready(&ring_) == 0) return;
  // EBUSY: completions had to be taken first, which has happened. EAGAIN: the kernel needs a moment, and no event will say when it is over.
  if (submitted == -EAGAIN || submitted == -ENOMEM) {
    thread_.arm_in_us(submit_again_, submit_again_us);
  } else {
    CATNAP_CHECK(submitted >= 0 || submitted == -EBUSY);
    thread_.make_ready(submit_at_turn_end_);
  }
}

void UringRing::woken() {
  while (io_uring_get_events(&ring_) == -EINTR) {
  }
  reap();
}

void UringRing::reap() {
  // One look at the queue's end: what completes meanwhile raises the eventfd again.
  unsigned ready = io_uring_cq_ready(&ring_);
  for (io_uring_cqe* cqe = nullptr; ready > 0 && io_uring_peek_cqe(&ring_, &cqe) == 0; --ready) {
    auto& slot = *static_cast<UringSlot*>(io_uring_cqe_get_data(cqe));
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    slot.client->request_done(slot, result);
  }
  if (starving_.empty() || free_ == nullptr) return;
  for (UringClient* client : std::exchange(starving_, {})) client->slot_free();
}

}  // namespace catnap::bdev
