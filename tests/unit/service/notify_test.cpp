// What is written to NOTIFY_SOCKET, and the watchdog's timer on a loop.
#include "server/service/notify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <string>

namespace catnap::server {
namespace {

// A service manager's end.
class Manager {
 public:
  Manager() {
    std::string pattern = (std::filesystem::temp_directory_path() / "catnap_notify_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    path_ = folder_ + "/notify";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(path_.begin(), path_.end(), address.sun_path);
    fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  ~Manager() {
    ::close(fd_);
    std::filesystem::remove_all(folder_);
  }
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  const std::string& path() const { return path_; }
  // The next message; "" when there is none.
  std::string next() const {
    std::array<char, 4096> text{};
    const ssize_t got = ::recv(fd_, text.data(), text.size(), 0);
    return got < 0 ? "" : std::string(text.data(), static_cast<std::size_t>(got));
  }

 private:
  std::string folder_;
  std::string path_;
  int fd_ = -1;
};

TEST(Notifier, SaysWhatSdNotifyDefines) {
  const Manager manager;
  const Notifier notifier(manager.path(), 1'000'000);
  EXPECT_TRUE(notifier.active());
  EXPECT_EQ(notifier.watchdog_us(), 1'000'000U);
  notifier.ready("serving");
  EXPECT_EQ(manager.next(), "READY=1\nSTATUS=serving");
  notifier.status("a\nb");
  EXPECT_EQ(manager.next(), "STATUS=a b");
  notifier.alive();
  EXPECT_EQ(manager.next(), "WATCHDOG=1");
  notifier.reloading();
  EXPECT_THAT(manager.next(), testing::MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+"));
  notifier.stopping("ending");
  EXPECT_EQ(manager.next(), "STOPPING=1\nSTATUS=ending");
}

TEST(Notifier, WithoutASocketNothingIsSentAndNoWatchdogFed) {
  const Notifier notifier("", 1'000'000);
  EXPECT_FALSE(notifier.active());
  EXPECT_EQ(notifier.watchdog_us(), 0U);
  notifier.ready("serving");
}

TEST(Notifier, APathThatIsNoneIsPassedOver) { EXPECT_FALSE(Notifier("relative/path", 0).active()); }

TEST(Notifier, AManagerThatIsGoneDoesNotHoldAnybodyUp) {
  std::string path;
  {
    const Manager manager;
    path = manager.path();
  }
  const Notifier notifier(path, 0);
  notifier.status("nobody hears this");
  EXPECT_TRUE(notifier.active());
}

TEST(Notifier, AWatchdogMeantForAnotherProcessIsNotFed) {
  const Manager manager;
  ASSERT_EQ(::setenv("NOTIFY_SOCKET", manager.path().c_str(), 1), 0);
  ASSERT_EQ(::setenv("WATCHDOG_USEC", "2000000", 1), 0);
  EXPECT_EQ(Notifier::from_environment().watchdog_us(), 2'000'000U);
  ASSERT_EQ(::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1), 0);
  EXPECT_EQ(Notifier::from_environment().watchdog_us(), 2'000'000U);
  ASSERT_EQ(::setenv("WATCHDOG_PID", "1", 1), 0);
  EXPECT_EQ(Notifier::from_environment().watchdog_us(), 0U);
  ::unsetenv("NOTIFY_SOCKET");
  ::unsetenv("WATCHDOG_USEC");
  ::unsetenv("WATCHDOG_PID");
}

}  // namespace
}  // namespace catnap::server
