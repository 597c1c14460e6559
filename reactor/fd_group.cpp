// epoll with nesting that moves fds instead of stacking epoll sets. See fd_group.h.
#include "reactor/fd_group.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <limits>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "reactor/stall_watch.h"
#include "reactor/thread.h"

namespace catnap {

struct FdGroup::Entry {
  FdGroup* group;
  int fd;
  std::uint32_t events;
  FdKind kind;
  std::string name;
  Callback callback;
  std::uint64_t fired = 0;
  std::function<bool()> attempt = nullptr;
};

FdGroup::FdGroup(std::string name, Thread* owner) : name_(std::move(name)), owner_(owner) {}

FdGroup::~FdGroup() {
  while (!children_.empty()) (void)unnest(*children_.back());
  while (!entries_.empty()) (void)remove(entries_.begin()->first);
  if (parent_ != nullptr) (void)parent_->unnest(*this);
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

FdGroup& FdGroup::root() {
  FdGroup* group = this;
  while (group->parent_ != nullptr) group = group->parent_;
  return *group;
}

const FdGroup& FdGroup::root() const {
  const FdGroup* group = this;
  while (group->parent_ != nullptr) group = group->parent_;
  return *group;
}

Result<void> FdGroup::ensure_epoll() {
  if (epoll_fd_ >= 0) return {};
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd_ < 0) return fail(errno, fmt::format("fd group '{}': epoll_create1: {}", name_, errno_text(errno)));
  return {};
}

Result<int> FdGroup::epoll_fd() {
  if (parent_ != nullptr) return fail(EINVAL, fmt::format("fd group '{}' is nested in '{}' and has no epoll fd of its own", name_, parent_->name_));
  if (auto made = ensure_epoll(); !made) return std::unexpected(made.error());
  return epoll_fd_;
}

Result<void> FdGroup::kernel_add(int epoll_fd, Entry& entry) {
  epoll_event event{};
  event.events = entry.events;
  event.data.ptr = &entry;
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, entry.fd, &event) == 0) return {};
  return fail(errno, fmt::format("fd group '{}': adding fd {} ({}): {}", name_, entry.fd, entry.name, errno_text(errno)));
}

Result<void> FdGroup::add(int fd, std::uint32_t events, std::string name, Callback callback, FdKind kind) {
  if (entries_.contains(fd)) return fail(EEXIST, fmt::format("fd group '{}' has fd {} already", name_, fd));
  FdGroup& top = root();
  if (auto made = top.ensure_epoll(); !made) return made;
  auto entry = std::make_unique<Entry>(Entry{this, fd, events, kind, std::move(name), std::move(callback)});
  if (auto added = kernel_add(top.epoll_fd_, *entry); !added) return added;
  entries_.emplace(fd, std::move(entry));
  return {};
}

Result<void> FdGroup::modify(int fd, std::uint32_t events) {
  const auto found = entries_.find(fd);
  if (found == entries_.end()) return fail(ENOENT, fmt::format("fd group '{}' has no fd {}", name_, fd));
  epoll_event event{};
  event.events = events;
  event.data.ptr = found->second.get();
  if (epoll_ctl(root().epoll_fd_, EPOLL_CTL_MOD, fd, &event) != 0)
    return fail(errno, fmt::format("fd group '{}': changing fd {}: {}", name_, fd, errno_text(errno)));
  found->second->events = events;
  if (FdGroup& top = root(); top.last_ == found->second.get()) top.last_ = nullptr;
  return {};
}

Result<void> FdGroup::set_attempt(int fd, std::function<bool()> attempt) {
  const auto found = entries_.find(fd);
  if (found == entries_.end()) return fail(ENOENT, fmt::format("fd group '{}' has no fd {}", name_, fd));
  found->second->attempt = std::move(attempt);
  return {};
}

Result<void> FdGroup::remove(int fd) {
  const auto found = entries_.find(fd);
  if (found == entries_.end()) return fail(ENOENT, fmt::format("fd group '{}' has no fd {}", name_, fd));
  FdGroup& top = root();
  std::unique_ptr<Entry> entry = std::move(found->second);
  entries_.erase(found);
  epoll_ctl(top.epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);  // fails only if the fd was closed before, which took it out as well
  top.forget_pending(*entry);
  if (top.running_ == entry.get()) top.graveyard_.push_back(std::move(entry));
  return {};
}

void FdGroup::forget_pending(const Entry& entry) {
  if (last_ == &entry) last_ = nullptr;
  for (std::size_t i = batch_next_; i < batch_size_; ++i) {
    if (batch_[i].data.ptr == &entry) batch_[i].data.ptr = nullptr;
  }
}

void FdGroup::for_each_entry(const std::function<void(Entry&)>& visit) {
  for (auto& [fd, entry] : entries_) visit(*entry);
  for (FdGroup* child : children_) child->for_each_entry(visit);
}

bool FdGroup::is_ancestor_or_self(const FdGroup& other) const {
  for (const FdGroup* group = this; group != nullptr; group = group->parent_) {
    if (group == &other) return true;
  }
  return false;
}

Result<void> FdGroup::nest(FdGroup& child) {
  if (child.parent_ != nullptr) return fail(EBUSY, fmt::format("fd group '{}' is nested in '{}' already", child.name_, child.parent_->name_));
  if (is_ancestor_or_self(child)) return fail(EINVAL, fmt::format("nesting fd group '{}' in '{}' would make a ring", child.name_, name_));
  CATNAP_CHECK(child.running_ == nullptr);  // a group cannot be nested from within its own dispatch: its batch would be orphaned
  FdGroup& top = root();
  if (auto made = top.ensure_epoll(); !made) return made;
  std::vector<Entry*> moved;
  Result<void> outcome;
  child.for_each_entry([&](Entry& entry) {
    if (!outcome) return;
    outcome = kernel_add(top.epoll_fd_, entry);
    if (outcome) moved.push_back(&entry);
  });
  if (!outcome) {
    for (const Entry* entry : moved) epoll_ctl(top.epoll_fd_, EPOLL_CTL_DEL, entry->fd, nullptr);
    return outcome;
  }
  if (child.epoll_fd_ >= 0) close(std::exchange(child.epoll_fd_, -1));
  child.batch_size_ = child.batch_next_ = 0;
  child.last_ = nullptr;
  child.parent_ = this;
  children_.push_back(&child);
  return {};
}

Result<void> FdGroup::unnest(FdGroup& child) {
  if (child.parent_ != this) return fail(EINVAL, fmt::format("fd group '{}' is not nested in '{}'", child.name_, name_));
  if (auto made = child.ensure_epoll(); !made) return made;
  FdGroup& top = root();
  Result<void> outcome;
  child.for_each_entry([&](Entry& entry) {
    epoll_ctl(top.epoll_fd_, EPOLL_CTL_DEL, entry.fd, nullptr);
    top.forget_pending(entry);
    if (auto added = child.kernel_add(child.epoll_fd_, entry); !added && outcome) outcome = added;
  });
  std::erase(children_, &child);
  child.parent_ = nullptr;
  return outcome;
}

void FdGroup::lift(FdGroup& child) {
  if (child.parent_ != this) return;
  FdGroup& top = root();
  child.for_each_entry([&](Entry& entry) {
    epoll_ctl(top.epoll_fd_, EPOLL_CTL_DEL, entry.fd, nullptr);
    top.forget_pending(entry);
  });
  std::erase(children_, &child);
  child.parent_ = nullptr;
}

namespace {

// Linux before 5.11, and valgrind, know only timeouts of whole milliseconds.
std::atomic<bool> fine_timeouts{true};

int wait_in_milliseconds(int epoll_fd, epoll_event* events, int max_events, std::int64_t timeout_ns) {
  // Rounded up: a deadline is never early.
  const std::int64_t ms = timeout_ns < 0 ? -1 : std::min<std::int64_t>((timeout_ns + 999'999) / 1'000'000, std::numeric_limits<int>::max());
  return epoll_wait(epoll_fd, events, max_events, static_cast<int>(ms));
}

int wait_for_events(int epoll_fd, epoll_event* events, int max_events, std::int64_t timeout_ns) {
  // A little cheaper than epoll_pwait2, and called in spin loops.
  if (timeout_ns == 0) return epoll_wait(epoll_fd, events, max_events, 0);
  if (!fine_timeouts.load(std::memory_order_relaxed)) return wait_in_milliseconds(epoll_fd, events, max_events, timeout_ns);
  const timespec until{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
  const int ready = epoll_pwait2(epoll_fd, events, max_events, timeout_ns < 0 ? nullptr : &until, nullptr);
  if (ready >= 0 || errno != ENOSYS) return ready;
  if (fine_timeouts.exchange(false)) log_warning("this system has no epoll_pwait2 (Linux 5.11): timers are as late as 1 ms");
  return wait_in_milliseconds(epoll_fd, events, max_events, timeout_ns);
}

}  // namespace

std::size_t FdGroup::collect(std::int64_t timeout_ns) {
  CATNAP_CHECK(parent_ == nullptr);
  CATNAP_CHECK(running_ == nullptr);
  batch_size_ = batch_next_ = 0;
  if (!ensure_epoll()) return 0;
  batch_.resize(dispatch_budget);
  int ready = wait_for_events(epoll_fd_, batch_.data(), dispatch_budget, timeout_ns);
  if (ready < 0) {
    CATNAP_CHECK(errno == EINTR);  // everything else means a closed or foreign epoll fd
    ready = 0;
  }
  batch_size_ = static_cast<std::size_t>(ready);
  return batch_size_;
}

std::size_t FdGroup::attempt() {
  CATNAP_CHECK(parent_ == nullptr);
  CATNAP_CHECK(running_ == nullptr);
  batch_size_ = batch_next_ = 0;
  if (last_ == nullptr) return 0;
  const Thread::Scope scope(last_->group->owner_);
  if (!last_->attempt()) return 0;
  batch_[0].events = EPOLLIN;
  batch_[0].data.ptr = last_;
  batch_size_ = 1;
  return 1;
}

std::size_t FdGroup::dispatch() {
  std::size_t ran = 0;
  if (batch_size_ > 0) {
    auto* first = static_cast<Entry*>(batch_[0].data.ptr);
    last_ = batch_size_ == 1 && first != nullptr && first->attempt && first->events == EPOLLIN ? first : nullptr;
  }
  Thread* last_owner = nullptr;
  while (batch_next_ < batch_size_) {
    const epoll_event event = batch_[batch_next_++];
    auto* entry = static_cast<Entry*>(event.data.ptr);
    if (entry == nullptr) continue;
    Thread* owner = entry->group->owner_;
    if (owner != last_owner && owner_change_) owner_change_(owner);
    last_owner = owner;
    if (entry->kind == FdKind::eventfd) {
      std::uint64_t count;
      (void)!read(entry->fd, &count, sizeof count);  // EAGAIN: somebody else drained it
    }
    ++entry->fired;
    ++ran;
    running_ = entry;
    {
      const Thread::Scope scope(owner);
      if (owner != nullptr) owner->count_fd_event();
      entry->callback(event.events);
      StallWatch::ended(StallWatch::Kind::fd, entry->name);
    }
    running_ = nullptr;
    graveyard_.clear();
  }
  if (last_owner != nullptr && owner_change_) owner_change_(nullptr);
  batch_size_ = batch_next_ = 0;
  return ran;
}

std::size_t FdGroup::fd_count() const {
  std::size_t count = entries_.size();
  for (const FdGroup* child : children_) count += child->fd_count();
  return count;
}

std::vector<FdGroup::Waker> FdGroup::own_wakers() const {
  std::vector<Waker> list;
  for (const auto& [fd, entry] : entries_) list.push_back({entry->name, fd, entry->fired});
  return list;
}

std::vector<FdGroup::Waker> FdGroup::wakers() const {
  std::vector<Waker> list = own_wakers();
  for (const FdGroup* child : children_) std::ranges::copy(child->wakers(), std::back_inserter(list));
  return list;
}

}  // namespace catnap
