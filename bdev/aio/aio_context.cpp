// See aio_context.h.
#include "bdev/aio/aio_context.h"

#include <fmt/core.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace catnap::bdev {
namespace {

// The kernel has no room (EAGAIN) while nothing of ours is under way that could make some: a while that a loaded system can use.
constexpr std::uint64_t submit_again_us = 1000;

}  // namespace

Result<std::shared_ptr<AioContext>> AioContext::create(Thread& thread, unsigned entries) {
  std::shared_ptr<AioContext> context(new AioContext(thread, entries));
  if (auto made = context->set_up(entries); !made) return std::unexpected(made.error());
  return context;
}

AioContext::AioContext(Thread& thread, unsigned entries)
    : thread_(thread), slots_(entries), events_(entries), submit_at_turn_end_([this] { submit(); }), submit_again_([this] { submit(); }) {
  for (AioSlot& slot : slots_) {
    slot.next_free = free_;
    free_ = &slot;
  }
}

Result<void> AioContext::set_up(unsigned entries) {
  if (const int err = -io_setup(static_cast<int>(entries), &context_); err != 0) {
    context_ = nullptr;
    return fail(err,
                fmt::format("{}: io_setup for {} requests{}", errno_text(err), entries, err == EAGAIN ? " (sysctl fs.aio-max-nr is used up)" : ""));
  }
  event_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event_fd_ < 0) {
    const int err = errno;
    return fail(err, fmt::format("{}: eventfd of an aio context", errno_text(err)));
  }
  auto added = thread_.fds().add(event_fd_, EPOLLIN, "aio", [this](std::uint32_t) { reap(); }, FdKind::eventfd);
  if (!added) close(std::exchange(event_fd_, -1));
  return added;
}

AioContext::~AioContext() {
  if (event_fd_ >= 0) {
    (void)thread_.fds().remove(event_fd_);
    close(event_fd_);
  }
  if (context_ != nullptr) io_destroy(context_);
}

AioSlot* AioContext::take_slot(AioClient& client) {
  if (free_ == nullptr) {
    if (std::ranges::find(starving_, &client) == starving_.end()) starving_.push_back(&client);
    return nullptr;
  }
  AioSlot* slot = std::exchange(free_, free_->next_free);
  slot->client = &client;
  slot->rest.clear();
  return slot;
}

void AioContext::give_back(AioSlot& slot) {
  slot.io = nullptr;
  slot.client = nullptr;
  slot.next_free = free_;
  free_ = &slot;
}

void AioContext::forget(AioClient& client) { std::erase(starving_, &client); }

void AioContext::send(AioSlot& slot) {
  slot.control.data = &slot;
  io_set_eventfd(&slot.control, event_fd_);
  pending_.push_back(&slot.control);
  thread_.at_turn_end(submit_at_turn_end_);
}

void AioContext::submit() {
  // Failures are told to clients, who may send more meanwhile: that goes to pending_, and at the next turn's end.
  sending_.clear();
  std::swap(sending_, pending_);
  std::size_t sent = 0;
  while (sent < sending_.size()) {
    const int taken = io_submit(context_, static_cast<long>(sending_.size() - sent), sending_.data() + sent);
    if (taken > 0) {
      sent += static_cast<std::size_t>(taken);
      in_kernel_ += static_cast<std::uint64_t>(taken);
    } else if (taken == -EAGAIN || taken == -ENOMEM) {
      break;
    } else if (taken != -EINTR) {  // the first one is not to the kernel's liking; the others may be
      auto& slot = *static_cast<AioSlot*>(sending_[sent++]->data);
      slot.client->request_done(slot, taken == 0 ? -EIO : taken);
    }
  }
  if (sent == sending_.size()) return;
  pending_.insert(pending_.begin(), sending_.begin() + static_cast<std::ptrdiff_t>(sent), sending_.end());
  if (in_kernel_ == 0) thread_.arm_in_us(submit_again_, submit_again_us);  // else reap() tries again
}

void AioContext::reap() {
  timespec at_once{};
  int count = 0;
  do {
    count = io_getevents(context_, 0, static_cast<long>(events_.size()), events_.data(), &at_once);
  } while (count == -EINTR);
  for (int i = 0; i < count; ++i) {
    --in_kernel_;
    auto& slot = *static_cast<AioSlot*>(events_[static_cast<std::size_t>(i)].data);
    slot.client->request_done(slot, static_cast<long>(events_[static_cast<std::size_t>(i)].res));
  }
  if (!pending_.empty()) thread_.at_turn_end(submit_at_turn_end_);
  if (starving_.empty() || free_ == nullptr) return;
  for (AioClient* client : std::exchange(starving_, {})) client->slot_free();
}

}  // namespace catnap::bdev
