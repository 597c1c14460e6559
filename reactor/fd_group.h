// A set of file descriptors with callbacks; groups nest, and all of a tree's fds lie in the root's one epoll set.
// Owner: the OS thread that waits on the root (a reactor, or a foreign loop). Callbacks run there, one at a time.
// Left out: signals, and fds that epoll refuses (plain files: EPERM comes back from add()).
#pragma once

#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "reactor/base/error.h"

namespace catnap {

class Thread;

enum class FdKind : std::uint8_t {
  plain,    // the callback reads or writes the fd
  eventfd,  // drained before its callback runs, so the callback need not read it
};

class FdGroup {
 public:
  using Callback = std::function<void(std::uint32_t epoll_events)>;

  // `owner` is made the current thread (Thread::current()) while callbacks of this group run; null for foreign loops.
  explicit FdGroup(std::string name, Thread* owner = nullptr);
  ~FdGroup();  // unnests itself and its children; does not close fds
  FdGroup(const FdGroup&) = delete;
  FdGroup& operator=(const FdGroup&) = delete;

  // `events`: EPOLLIN, EPOLLOUT, EPOLLET…  `name` is what "why awake" reports say. Errors: EEXIST, and what epoll_ctl says.
  Result<void> add(int fd, std::uint32_t events, std::string name, Callback callback, FdKind kind = FdKind::plain);
  // Error: ENOENT when the fd is not in this group.
  Result<void> modify(int fd, std::uint32_t events);
  // Safe from within any callback, its own included: no callback of the entry starts after this returns. Call it before close().
  Result<void> remove(int fd);

  // Moves all fds of `child` (and its descendants) into this group's root set. Errors: EINVAL (cycle), EBUSY (already nested).
  Result<void> nest(FdGroup& child);
  // Safe under traffic: events of the child not yet dispatched are dropped here and found again by its next root (level or edge re-armed).
  Result<void> unnest(FdGroup& child);

  // Root only. Waits at most timeout_ns (0: do not wait; negative: without end), then dispatches at most one batch (`dispatch_budget`).
  // Returns how many callbacks ran. EINTR counts as a wake-up with nothing ready.
  std::size_t wait(std::int64_t timeout_ns);
  // The root's epoll fd, for embedding in a foreign loop; -1 while nested.
  int epoll_fd() const { return epoll_fd_; }
  const std::string& name() const { return name_; }
  std::size_t fd_count() const;  // with descendants

  // Per entry, for "top wakers".
  struct Waker {
    std::string name;
    int fd;
    std::uint64_t events;
  };
  std::vector<Waker> wakers() const;  // with descendants

  // Events taken from the kernel per wait: bounds one turn, the rest is found by the next turn, in the kernel's round-robin order.
  static constexpr int dispatch_budget = 64;

 private:
  struct Entry;
  FdGroup& root();
  Result<void> kernel_add(Entry& entry);
  void kernel_remove(const Entry& entry);
  void move_fds_to(int epoll_fd);
  void dispatch(Entry& entry, std::uint32_t events);
  void bury(std::unique_ptr<Entry> entry);

  std::string name_;
  Thread* owner_;
  int epoll_fd_ = -1;
  FdGroup* parent_ = nullptr;
  std::vector<FdGroup*> children_;
  std::unordered_map<int, std::unique_ptr<Entry>> entries_;
  // Root: entries removed while a batch of kernel events that may point to them is being dispatched.
  std::vector<std::unique_ptr<Entry>> graveyard_;
  int dispatching_ = 0;
};

}  // namespace catnap
