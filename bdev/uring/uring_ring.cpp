// See uring_ring.h.
#include "bdev/uring/uring_ring.h"

#include <fmt/core.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "bdev/uring/narrow_ring.h"
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

}  // namespace

Result<void> UringRing::probe() {
  io_uring ring{};
  if (const int err = make_narrow_ring(1, ring); err != 0) return std::unexpected(setup_error(err));
  io_uring_queue_exit(&ring);
  return {};
}

Result<std::shared_ptr<UringRing>> UringRing::of_current_reactor(unsigned entries) {
  Reactor* const reactor = Reactor::current();
  CATNAP_CHECK(reactor != nullptr);
  static std::mutex mutex;
  static auto* const rings = new std::map<std::pair<const Reactor*, unsigned>, std::weak_ptr<UringRing>>;
  const std::lock_guard lock(mutex);
  std::erase_if(*rings, [](const auto& entry) { return entry.second.expired(); });
  if (const auto found = rings->find({reactor, entries}); found != rings->end()) {
    if (auto ring = found->second.lock()) return ring;
  }
  std::shared_ptr<UringRing> ring(new UringRing(*reactor, entries), &UringRing::unused);
  if (auto made = ring->set_up(); !made) return std::unexpected(made.error());
  (*rings)[{reactor, entries}] = ring;
  return ring;
}

UringRing::UringRing(Reactor& reactor, unsigned entries)
    : reactor_(reactor), loop_(reactor.loop()), entries_(entries), slots_(entries), submit_soon_([this] { submit(); }), submit_again_([this] {
        submit();
      }) {
  for (UringSlot& slot : slots_) {
    slot.ring = this;
    slot.next_free = free_;
    free_ = &slot;
  }
}

Result<void> UringRing::set_up() {
  if (const int err = make_narrow_ring(entries_, ring_); err != 0) return std::unexpected(setup_error(err));
  ring_made_ = true;
  event_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event_fd_ < 0) {
    const int err = errno;
    return fail(err, fmt::format("{}: eventfd of an io_uring", errno_text(err)));
  }
  if (const int err = -io_uring_register_eventfd(&ring_, event_fd_); err != 0) {
    return fail(err, fmt::format("{}: io_uring_register_eventfd", errno_text(err)));
  }
  auto added = loop_.fds().add(event_fd_, EPOLLIN, "io_uring", [this](std::uint32_t) { woken(); }, FdKind::eventfd);
  if (!added) {
    close(std::exchange(event_fd_, -1));
    return added;
  }
  return {};
}

UringRing::~UringRing() {
  if (event_fd_ >= 0) {
    (void)loop_.fds().remove(event_fd_);
    if (ring_made_) io_uring_unregister_eventfd(&ring_);
    close(event_fd_);
  }
  if (ring_made_) io_uring_queue_exit(&ring_);
}

// The last channel is gone, perhaps on another reactor: what is left is done where the ring lives.
void UringRing::unused(UringRing* ring) {
  if (Reactor::current() == &ring->reactor_) return ring->end_or_drain();
  ring->loop_.send([owned = std::unique_ptr<UringRing>(ring)]() mutable { owned.release()->end_or_drain(); });
}

void UringRing::end_or_drain() {
  orphaned_ = true;
  if (taken_ == 0) delete this;
}

UringSlot* UringRing::take_slot(UringClient& client) {
  if (free_ == nullptr) {
    if (std::ranges::find(starving_, &client) == starving_.end()) starving_.push_back(&client);
    return nullptr;
  }
  UringSlot* slot = std::exchange(free_, free_->next_free);
  ++taken_;
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
  --taken_;
}

void UringRing::forget(UringClient& client) { std::erase(starving_, &client); }

io_uring_sqe* UringRing::prepare(UringSlot& slot) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  CATNAP_CHECK(sqe != nullptr);
  io_uring_sqe_set_data(sqe, &slot);
  return sqe;
}

int UringRing::enter(bool take_completions) {
  int submitted = 0;
  do {
    submitted = take_completions ? io_uring_submit_and_get_events(&ring_) : io_uring_submit(&ring_);
  } while (submitted == -EINTR);
  return submitted;
}

// EBUSY: completions have to be taken first. EAGAIN: the kernel needs a moment, and no event will say when it is over.
void UringRing::try_again(int submitted) {
  if (io_uring_sq_ready(&ring_) == 0) return;
  if (submitted == -EAGAIN || submitted == -ENOMEM) {
    loop_.arm_in_us(submit_again_, submit_again_us);
  } else {
    CATNAP_CHECK(submitted >= 0 || submitted == -EBUSY);
    loop_.make_ready(submit_soon_);
  }
}

void UringRing::submit() {
  if (io_uring_sq_ready(&ring_) == 0) return;  // another channel's turn end was faster
  const int submitted = enter(true);
  try_again(submitted);
  reap();
}

void UringRing::submit_only() {
  if (io_uring_sq_ready(&ring_) == 0) return;
  try_again(enter(false));
}

void UringRing::woken() {
  while (io_uring_get_events(&ring_) == -EINTR) {
  }
  reap();
}

// An orphaned ring may be gone when this returns.
void UringRing::reap() {
  std::optional<Reactor::RunAs> turn_of;
  // One look at the queue's end: what completes meanwhile raises the eventfd again.
  unsigned ready = io_uring_cq_ready(&ring_);
  for (io_uring_cqe* cqe = nullptr; ready > 0 && io_uring_peek_cqe(&ring_, &cqe) == 0; --ready) {
    auto& slot = *static_cast<UringSlot*>(io_uring_cqe_get_data(cqe));
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    Thread& owner = slot.client->owner();
    if (owner.host() != &reactor_) {
      send_after(slot, result);
      continue;
    }
    if (Thread::current() != &owner) {
      turn_of.reset();
      if (Thread::current() != &owner) turn_of.emplace(owner);
    }
    slot.client->request_done(slot, result);
  }
  if (!starving_.empty() && free_ != nullptr) {
    for (UringClient* client : std::exchange(starving_, {})) {
      turn_of.reset();
      turn_of.emplace(client->owner());
      client->slot_free();
    }
  }
  turn_of.reset();
  if (orphaned_ && taken_ == 0) delete this;
}

// The thread has moved on: the completion follows it.
void UringRing::send_after(UringSlot& slot, int result) {
  auto copy = std::make_unique<UringSlot>(slot);
  copy->ring = nullptr;
  give_back(slot);
  Thread& owner = copy->client->owner();
  owner.send([copy = std::move(copy), result] { copy->client->request_done(*copy, result); });
}

}  // namespace catnap::bdev
