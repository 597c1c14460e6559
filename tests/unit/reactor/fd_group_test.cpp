// Adding, removing, nesting and unnesting of fds, from within callbacks too.
#include "reactor/fd_group.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <vector>

namespace catnap {
namespace {

class EventFd {
 public:
  EventFd() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  ~EventFd() { close(fd_); }
  EventFd(const EventFd&) = delete;
  EventFd& operator=(const EventFd&) = delete;
  operator int() const { return fd_; }
  void ring() const {
    const std::uint64_t one = 1;
    ASSERT_EQ(write(fd_, &one, sizeof one), static_cast<ssize_t>(sizeof one));
  }

 private:
  int fd_;
};

// As on a kernel before 5.11. False: this process cannot have filters.
bool forbid_epoll_pwait2() {
  std::array<sock_filter, 4> program = {
      sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},  // the system call's number
      sock_filter{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_epoll_pwait2},
      sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS},
      sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// In a process of its own, which ends with 0 when all was right.
[[noreturn]] void wait_without_epoll_pwait2() {
  if (!forbid_epoll_pwait2()) _exit(10);
  FdGroup group("g");
  const EventFd bell;
  int rang = 0;
  if (!group.add(bell, EPOLLIN, "bell", [&](std::uint32_t) { ++rang; }, FdKind::eventfd)) _exit(11);
  const auto began = std::chrono::steady_clock::now();
  if (group.wait(1'500'000) != 0) _exit(12);
  if (std::chrono::steady_clock::now() - began < std::chrono::microseconds(1500)) _exit(13);  // a deadline is never early
  bell.ring();
  if (group.wait(-1) != 1 || rang != 1) _exit(14);
  _exit(0);
}

TEST(FdGroupDeathTest, AKernelWithoutFineTimeoutsIsWaitedOnInMilliseconds) {
  EXPECT_EXIT(wait_without_epoll_pwait2(), testing::ExitedWithCode(0), "no epoll_pwait2");
}

TEST(FdGroup, EventFdIsDrainedBeforeItsCallback) {
  FdGroup group("g");
  EventFd bell;
  int rang = 0;
  ASSERT_TRUE(group.add(bell, EPOLLIN, "bell", [&](std::uint32_t) { ++rang; }, FdKind::eventfd));
  bell.ring();
  EXPECT_EQ(group.wait(0), 1u);
  EXPECT_EQ(group.wait(0), 0u) << "a level-triggered eventfd that was not drained would fire again";
  EXPECT_EQ(rang, 1);
}

TEST(FdGroup, WrongUseIsAnError) {
  FdGroup group("g"), child("c");
  EventFd bell;
  ASSERT_TRUE(group.add(bell, EPOLLIN, "bell", [](std::uint32_t) {}));
  EXPECT_EQ(group.add(bell, EPOLLIN, "again", [](std::uint32_t) {}).error().err, EEXIST);
  EXPECT_EQ(group.remove(12345).error().err, ENOENT);
  EXPECT_EQ(group.modify(12345, 0).error().err, ENOENT);
  ASSERT_TRUE(group.nest(child));
  EXPECT_EQ(group.nest(child).error().err, EBUSY);
  EXPECT_EQ(child.nest(group).error().err, EINVAL);
  EXPECT_EQ(child.epoll_fd().error().err, EINVAL);
}

TEST(FdGroup, RemovalFromWithinACallbackStopsWhatIsAlreadyReady) {
  FdGroup group("g");
  EventFd first, second;
  int ran = 0;
  const auto remove_both = [&](std::uint32_t) {
    ++ran;
    EXPECT_TRUE(group.remove(first));
    EXPECT_TRUE(group.remove(second));
  };
  ASSERT_TRUE(group.add(first, EPOLLIN, "first", remove_both));
  ASSERT_TRUE(group.add(second, EPOLLIN, "second", remove_both));
  first.ring();
  second.ring();
  group.wait(0);
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(group.fd_count(), 0u);
}

TEST(FdGroup, AnFdNumberReusedWithinABatchDoesNotGetTheOldEvent) {
  FdGroup group("g");
  EventFd trigger;
  int old_ran = 0, new_ran = 0;
  const int doomed = eventfd(1, EFD_NONBLOCK);
  ASSERT_TRUE(group.add(trigger, EPOLLIN, "trigger", [&](std::uint32_t) {
    ASSERT_TRUE(group.remove(trigger));
    if (old_ran > 0) return;
    ASSERT_TRUE(group.remove(doomed));
    close(doomed);
    const int reused = eventfd(0, EFD_NONBLOCK);
    ASSERT_EQ(reused, doomed);
    ASSERT_TRUE(group.add(reused, EPOLLIN, "reused", [&](std::uint32_t) { ++new_ran; }));
  }));
  ASSERT_TRUE(group.add(doomed, EPOLLIN, "doomed", [&](std::uint32_t) { ++old_ran; }));
  trigger.ring();
  group.wait(0);
  EXPECT_EQ(new_ran, 0);
  close(doomed);
}

TEST(FdGroup, NestedFdsLieInTheRootAndComeBackOnUnnest) {
  FdGroup root("root"), middle("middle"), leaf("leaf");
  EventFd bell;
  int rang = 0;
  ASSERT_TRUE(leaf.add(bell, EPOLLIN, "bell", [&](std::uint32_t) { ++rang; }, FdKind::eventfd));
  ASSERT_TRUE(middle.nest(leaf));
  ASSERT_TRUE(root.nest(middle));
  EXPECT_EQ(root.fd_count(), 1u);
  bell.ring();
  EXPECT_EQ(root.wait(0), 1u);
  ASSERT_TRUE(root.unnest(middle));
  bell.ring();
  EXPECT_EQ(root.wait(0), 0u);
  EXPECT_EQ(middle.wait(0), 1u);
  EXPECT_EQ(rang, 2);
}

TEST(FdGroup, AddingToAChildNestedBeforeReachesTheRoot) {
  FdGroup root("root"), child("child");
  EventFd bell;
  int rang = 0;
  ASSERT_TRUE(root.nest(child));
  ASSERT_TRUE(child.add(bell, EPOLLIN, "late", [&](std::uint32_t) { ++rang; }, FdKind::eventfd));
  bell.ring();
  root.wait(0);
  EXPECT_EQ(rang, 1);
}

TEST(FdGroup, UnnestingWithinACallbackLosesNoEvent) {
  FdGroup root("root");
  auto child = std::make_unique<FdGroup>("child");
  EventFd trigger, bell;
  int rang = 0;
  ASSERT_TRUE(root.nest(*child));
  // Edge-triggered: an event that was taken from the kernel but dropped would never come again by itself.
  ASSERT_TRUE(child->add(bell, EPOLLIN | EPOLLET, "bell", [&](std::uint32_t) { ++rang; }));
  ASSERT_TRUE(root.add(trigger, EPOLLIN, "trigger", [&](std::uint32_t) {
    ASSERT_TRUE(root.remove(trigger));
    ASSERT_TRUE(root.unnest(*child));
  }));
  trigger.ring();
  bell.ring();
  root.wait(0);
  const int rang_in_root = rang;
  child->wait(0);
  EXPECT_EQ(rang, rang_in_root == 0 ? 1 : rang_in_root + 1) << "unnesting adds the fd to a new epoll set, which reports readiness anew";
  EXPECT_GE(rang, 1);
}

TEST(FdGroup, AGroupMayDieWithinItsOwnCallback) {
  FdGroup root("root");
  auto child = std::make_unique<FdGroup>("child");
  EventFd bell;
  bool ran = false;
  ASSERT_TRUE(root.nest(*child));
  ASSERT_TRUE(child->add(bell, EPOLLIN, "bell", [&](std::uint32_t) {
    ran = true;
    child.reset();
  }));
  bell.ring();
  root.wait(0);
  EXPECT_TRUE(ran);
  EXPECT_EQ(root.fd_count(), 0u);
}

// What an attempt finds, and how often it was asked.
struct Attempt {
  bool there = false;
  int asked = 0;
};

TEST(FdGroup, TheFdThatHadTheLastEventForItselfMayBeAskedItself) {
  FdGroup root("root"), child("child");
  const EventFd bell, other;
  int rang = 0, others = 0;
  Attempt attempt;
  ASSERT_TRUE(child.add(bell, EPOLLIN, "bell", [&](std::uint32_t events) { rang += events == EPOLLIN ? 1 : 0; }, FdKind::eventfd));
  ASSERT_TRUE(root.add(other, EPOLLIN, "other", [&](std::uint32_t) { ++others; }, FdKind::eventfd));
  ASSERT_TRUE(root.nest(child));
  ASSERT_TRUE(child.set_attempt(bell, [&] {
    ++attempt.asked;
    return attempt.there;
  }));
  EXPECT_EQ(root.set_attempt(bell, [] { return true; }).error().err, ENOENT);
  EXPECT_FALSE(root.may_attempt());
  EXPECT_EQ(root.attempt(), 0u);

  bell.ring();
  EXPECT_EQ(root.wait(0), 1u);
  ASSERT_TRUE(root.may_attempt());
  EXPECT_EQ(root.attempt(), 0u);
  EXPECT_EQ(root.dispatch(), 0u);
  attempt.there = true;
  EXPECT_EQ(root.attempt(), 1u);
  EXPECT_EQ(root.dispatch(), 1u);
  EXPECT_EQ(rang, 2);
  EXPECT_EQ(attempt.asked, 2);

  bell.ring();
  other.ring();  // two at once: which of them would be asked?
  EXPECT_EQ(root.wait(0), 2u);
  EXPECT_FALSE(root.may_attempt());
  other.ring();  // has no attempt
  EXPECT_EQ(root.wait(0), 1u);
  EXPECT_FALSE(root.may_attempt());
  EXPECT_EQ(others, 2);
}

TEST(FdGroup, AnFdThatIsGoneOrWantsSomethingElseIsNotAskedItself) {
  FdGroup root("root"), child("child");
  const EventFd bell;
  const auto make_last = [&](FdGroup& group) {
    bell.ring();
    group.wait(0);
    return group.may_attempt();
  };
  const auto add = [&] {
    ASSERT_TRUE(child.add(bell, EPOLLIN, "bell", [](std::uint32_t) {}, FdKind::eventfd));
    ASSERT_TRUE(child.set_attempt(bell, [] { return true; }));
  };
  add();
  ASSERT_TRUE(make_last(child));
  ASSERT_TRUE(root.nest(child));
  EXPECT_FALSE(root.may_attempt());
  EXPECT_FALSE(child.may_attempt());
  ASSERT_TRUE(make_last(root));
  ASSERT_TRUE(child.modify(bell, EPOLLIN | EPOLLOUT));
  EXPECT_FALSE(root.may_attempt());
  EXPECT_FALSE(make_last(root));
  ASSERT_TRUE(child.modify(bell, EPOLLIN));
  ASSERT_TRUE(make_last(root));
  ASSERT_TRUE(child.remove(bell));
  EXPECT_FALSE(root.may_attempt());
  add();
  ASSERT_TRUE(make_last(root));
  ASSERT_TRUE(root.unnest(child));
  EXPECT_FALSE(root.may_attempt());
}

TEST(FdGroup, OneBatchIsBoundedAndTheRestIsFoundNext) {
  FdGroup group("g");
  std::vector<std::unique_ptr<EventFd>> bells;
  std::size_t rang = 0;
  for (int i = 0; i < FdGroup::dispatch_budget + 10; ++i) {
    bells.push_back(std::make_unique<EventFd>());
    ASSERT_TRUE(group.add(*bells.back(), EPOLLIN, "bell", [&](std::uint32_t) { ++rang; }, FdKind::eventfd));
    bells.back()->ring();
  }
  EXPECT_EQ(group.wait(0), static_cast<std::size_t>(FdGroup::dispatch_budget));
  EXPECT_EQ(group.wait(0), 10u);
  EXPECT_EQ(rang, bells.size());
}

}  // namespace
}  // namespace catnap
