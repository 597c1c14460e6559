// Taking a socket path over: a live owner is never unseated, a dead one's socket is, and nothing else is touched.
#include "rpc/unix_listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

namespace catnap::rpc {
namespace {

using testing::HasSubstr;

class UnixListenerTest : public testing::Test {
 protected:
  UnixListenerTest() {
    char folder[] = "/tmp/catnap_listener_test_XXXXXX";
    folder_ = ::mkdtemp(folder);
    path_ = folder_ + "/rpc.sock";
  }
  ~UnixListenerTest() override { std::filesystem::remove_all(folder_); }

  static int raw_socket_at(const std::string& path, bool listening) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(path.begin(), path.end(), address.sun_path);
    EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    if (listening) {
      EXPECT_EQ(::listen(fd, 1), 0);
    }
    return fd;
  }
  void expect_refused(const std::string& path, int err, const char* says) {
    const auto listener = UnixListener::open(path);
    ASSERT_FALSE(listener.has_value());
    EXPECT_EQ(listener.error().err, err);
    EXPECT_THAT(listener.error().message, HasSubstr(says));
    EXPECT_THAT(listener.error().message, HasSubstr("RPC socket '" + path.substr(0, 20)));
  }

  std::string folder_, path_;
};

TEST_F(UnixListenerTest, IsForItsOwnerAloneAndGoesAway) {
  const mode_t before = ::umask(0);
  {
    const auto listener = UnixListener::open(path_);
    ASSERT_TRUE(listener.has_value()) << listener.error().message;
    struct stat status{};
    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
    ASSERT_EQ(::stat((path_ + ".lock").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
  }
  ::umask(before);
  EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "socket and lock file are removed";
}

TEST_F(UnixListenerTest, LeavesALiveOwnerInPlace) {
  const auto owner = UnixListener::open(path_);
  ASSERT_TRUE(owner.has_value());
  expect_refused(path_, EADDRINUSE, "in use by another running instance");
  EXPECT_TRUE(std::filesystem::exists(path_));
  EXPECT_TRUE(std::filesystem::exists(path_ + ".lock"));
}

TEST_F(UnixListenerTest, LeavesAnotherProgramThatListensInPlace) {
  const int other = raw_socket_at(path_, true);
  expect_refused(path_, EADDRINUSE, "another program listens there");
  EXPECT_TRUE(std::filesystem::exists(path_));
  EXPECT_FALSE(std::filesystem::exists(path_ + ".lock"));
  ::close(other);
}

TEST_F(UnixListenerTest, UnseatsAStaleSocketAndLockFile) {
  ::close(raw_socket_at(path_, true));
  std::ofstream(path_ + ".lock").put('\n');
  const auto listener = UnixListener::open(path_);
  ASSERT_TRUE(listener.has_value()) << listener.error().message;
}

TEST_F(UnixListenerTest, LeavesOtherFilesAlone) {
  std::ofstream(path_) << "precious";
  expect_refused(path_, EEXIST, "not a socket");
  EXPECT_EQ(std::filesystem::file_size(path_), 8u);
  std::filesystem::remove(path_);
  std::filesystem::create_symlink(folder_ + "/elsewhere", path_);
  expect_refused(path_, EEXIST, "not a socket");
  std::filesystem::create_symlink(folder_ + "/victim", path_ + "2.lock");
  expect_refused(path_ + "2", ELOOP, "lock file");
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/victim"));
}

TEST_F(UnixListenerTest, DoesNotRemoveASuccessor) {
  std::optional<Result<UnixListener>> listener(UnixListener::open(path_));
  ASSERT_TRUE(listener->has_value());
  std::filesystem::remove(path_);
  const int other = raw_socket_at(path_, true);
  listener.reset();
  EXPECT_TRUE(std::filesystem::exists(path_));
  ::close(other);
}

TEST_F(UnixListenerTest, RefusesPathsThatCannotBe) {
  expect_refused("", EINVAL, "empty");
  expect_refused("@catnap", EINVAL, "abstract");
  expect_refused(folder_ + "/no/such/folder", ENOENT, "No such file or directory");
  expect_refused(folder_ + "/" + std::string(120, 'x'), ENAMETOOLONG, "107");
  const std::string longest = folder_ + "/" + std::string(107 - folder_.size() - 1, 'x');
  const auto listener = UnixListener::open(longest);
  EXPECT_TRUE(listener.has_value()) << listener.error().message;
}

}  // namespace
}  // namespace catnap::rpc
