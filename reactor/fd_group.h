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
#include <utility>
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
  // For an fd whose callback reads it: `attempt` takes what is there, for the callback to find, and says whether there was anything (the end counts).
  // A loop that keeps looking asks it instead of the kernel (attempt()), which spares a system call for each event. Error: ENOENT.
  Result<void> set_attempt(int fd, std::function<bool()> attempt);
  // Safe from within any callback, its own included: no callback of the entry starts after this returns. Call it before close().
  Result<void> remove(int fd);

  // Moves all fds of `child` (and its descendants) into this group's root set. Errors: EINVAL (cycle), EBUSY (already nested).
  Result<void> nest(FdGroup& child);
  // Safe under traffic: events of the child not yet dispatched are dropped here and found again by its next root (level or edge re-armed).
  Result<void> unnest(FdGroup& child);
  // The same for a child that is on its way to another root: it gets no epoll set of its own meanwhile, so this cannot fail.
  void lift(FdGroup& child);

  // Root only: collect() asks the kernel for at most dispatch_budget events, waiting at most timeout_ns (0: not at all; negative: without end), and
  // dispatch() runs their callbacks; both return how many. EINTR counts as nothing ready. wait() does both.
  std::size_t collect(std::int64_t timeout_ns);
  std::size_t dispatch();
  // Root only: as collect(0), for the one fd that had the last batch for itself, by its attempt. What was found must be dispatched next.
  bool may_attempt() const { return last_ != nullptr; }
  std::size_t attempt();
  std::size_t wait(std::int64_t timeout_ns) {
    collect(timeout_ns);
    return dispatch();
  }
  // Root only: called when the owner of the next callback differs from the last one's, and with null after the last (CPU accounting).
  void on_owner_change(std::function<void(Thread*)> observer) { owner_change_ = std::move(observer); }
  // The root's epoll fd, for embedding in a foreign loop. Errors: EINVAL while nested, EMFILE.
  Result<int> epoll_fd();
  const std::string& name() const { return name_; }
  std::size_t fd_count() const;  // with descendants

  // Per entry, for "top wakers".
  struct Waker {
    std::string name;
    int fd;
    std::uint64_t events;
  };
  std::vector<Waker> wakers() const;      // with descendants
  std::vector<Waker> own_wakers() const;  // without

  // Events taken from the kernel per wait: bounds one turn, the rest is found by the next turn, in the kernel's round-robin order.
  static constexpr int dispatch_budget = 64;

 private:
  struct Entry;
  FdGroup& root();
  const FdGroup& root() const;
  Result<void> ensure_epoll();
  Result<void> kernel_add(int epoll_fd, Entry& entry);
  void forget_pending(const Entry& entry);
  void for_each_entry(const std::function<void(Entry&)>& visit);
  bool is_ancestor_or_self(const FdGroup& other) const;

  std::string name_;
  Thread* owner_;
  int epoll_fd_ = -1;
  FdGroup* parent_ = nullptr;
  std::vector<FdGroup*> children_;
  std::unordered_map<int, std::unique_ptr<Entry>> entries_;
  // Root: the batch being dispatched. Entries that go away are taken out of it; the one whose callback runs is buried until it returns.
  std::vector<epoll_event> batch_;
  std::size_t batch_size_ = 0;
  std::size_t batch_next_ = 0;
  const Entry* running_ = nullptr;
  Entry* last_ = nullptr;  // its one event was the last batch, and it has an attempt
  std::vector<std::unique_ptr<Entry>> graveyard_;
  std::function<void(Thread*)> owner_change_;
};

}  // namespace catnap
