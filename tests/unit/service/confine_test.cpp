// What a confined process may do and what not. Each case runs in a child, which says by its exit status what failed.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "reactor/runtime.h"
#include "server/confine/account.h"
#include "server/confine/landlock.h"
#include "server/confine/seccomp_filter.h"

namespace catnap::confine {
namespace {

using ::testing::HasSubstr;

// Runs `steps` in a child; 0 when all of it held, else the number that it returned (255: it died).
int in_child(const std::function<int()>& steps) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(steps());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

#define MUST(condition)                                                                            \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      std::fprintf(stderr, "line %d: %s does not hold (errno %d)\n", __LINE__, #condition, errno); \
      return 1;                                                                                    \
    }                                                                                              \
  } while (false)

bool filtered(SeccompOptions options = {}) {
  ::prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL);
  const auto done = filter_system_calls(options);
  if (!done) std::fprintf(stderr, "%s\n", done.error().message.c_str());
  return done.has_value();
}

bool refused_with(int wanted, long outcome) { return outcome < 0 && errno == wanted; }

TEST(Seccomp, RefusesWhatServingDoesNotTake) {
  EXPECT_EQ(in_child([] {
              MUST(filtered());
              MUST(refused_with(EPERM, ::syscall(SYS_unshare, CLONE_NEWUSER)));
              MUST(refused_with(EPERM, ::mount("a", "/", "tmpfs", 0, nullptr)));
              MUST(refused_with(EPERM, ::syscall(SYS_bpf, 0, nullptr, 0)));
              MUST(refused_with(EPERM, ::syscall(SYS_init_module, nullptr, 0, "")));
              MUST(refused_with(EPERM, ::syscall(SYS_setuid, 0)));
              MUST(refused_with(EPERM, ::syscall(SYS_perf_event_open, nullptr, 0, 0, 0, 0)));
              MUST(refused_with(EPERM, ::syscall(SYS_keyctl, 0, 0, 0, 0, 0)));
              MUST(refused_with(EPERM, ::chroot("/")));
              MUST(refused_with(EPERM, ::socket(AF_PACKET, SOCK_RAW, 0)));
              MUST(refused_with(EPERM, ::socket(AF_NETLINK, SOCK_RAW, 9)));
              return 0;
            }),
            0);
}

TEST(Seccomp, LeavesWhatServingTakes) {
  EXPECT_EQ(in_child([] {
              MUST(filtered());
              for (const int family : {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK}) {
                const int fd = ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                MUST(fd >= 0 || errno == EAFNOSUPPORT);
                ::close(fd);
              }
              MUST(::if_nametoindex("lo") != 0);
              bool ran = false;
              std::thread([&ran] { ran = true; }).join();
              MUST(ran);
              MUST(::open("/dev/null", O_RDWR | O_CLOEXEC) >= 0);
              MUST(::eventfd(0, EFD_CLOEXEC) >= 0);
              MUST(::memfd_create("test", MFD_CLOEXEC) >= 0);
              MUST(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
              MUST(::kill(::getpid(), 0) == 0);
              return 0;
            }),
            0);
}

#if !defined(__has_feature)
#define CATNAP_PLAIN_BUILD 1
#elif !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#define CATNAP_PLAIN_BUILD 1
#endif
#ifdef CATNAP_PLAIN_BUILD
// What sanitizers need is allowed in their builds, so this is for the others.
TEST(Seccomp, RefusesProgramsOtherProcessesAndWritableCode) {
  EXPECT_EQ(in_child([] {
              MUST(filtered());
              char* const none[] = {nullptr};
              MUST(refused_with(EPERM, ::execve("/bin/true", none, none)));
              MUST(refused_with(EPERM, ::syscall(SYS_fork)));
              MUST(refused_with(EPERM, ::syscall(SYS_ptrace, 0, 0, 0, 0)));
              MUST(refused_with(EPERM, ::kill(1, 0)));
              MUST(refused_with(EPERM, ::prctl(PR_SET_DUMPABLE, 1UL, 0UL, 0UL, 0UL)));
              MUST(refused_with(ENOSYS, ::syscall(SYS_clone3, nullptr, 0)));
              void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              MUST(page != MAP_FAILED);
              MUST(refused_with(EPERM, ::mprotect(page, 4096, PROT_READ | PROT_EXEC)));
              MUST(::mmap(nullptr, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EPERM);
              MUST(::mmap(nullptr, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EPERM);
              rlimit limit{1, 1};
              MUST(refused_with(EPERM, ::setrlimit(RLIMIT_CORE, &limit)));
              return 0;
            }),
            0);
}
#endif

TEST(Seccomp, NumbersThatNobodyKnowsAreAnsweredAsByAnOlderKernel) {
  EXPECT_EQ(in_child([] {
              MUST(filtered());
              MUST(refused_with(ENOSYS, ::syscall(590)));
              MUST(refused_with(ENOSYS, ::syscall(5000)));
              return 0;
            }),
            0);
}

TEST(Seccomp, WithoutIoUringItIsAsIfTheKernelHadNone) {
  EXPECT_EQ(in_child([] {
              SeccompOptions options;
              options.io_uring = false;
              MUST(filtered(options));
              MUST(refused_with(ENOSYS, ::syscall(SYS_io_uring_setup, 1, nullptr)));
              return 0;
            }),
            0);
}

TEST(Seccomp, LogModeRefusesNothing) {
  EXPECT_EQ(in_child([] {
              SeccompOptions options;
              options.mode = SeccompMode::log;
              MUST(filtered(options));
              MUST(refused_with(EFAULT, ::syscall(SYS_mount, nullptr, 1, nullptr, 0, nullptr)) || errno == EPERM || errno == EINVAL);
              MUST(::prctl(PR_GET_SECCOMP) == 2);
              return 0;
            }),
            0);
}

TEST(Seccomp, TheLogNamesARefusedCallOnce) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  EXPECT_EQ(in_child([&] {
              ::dup2(ends[1], STDERR_FILENO);
              MUST(filtered());
              for (int times = 0; times < 3; ++times) ::syscall(SYS_chroot, "/");
              return 0;
            }),
            0);
  ::close(ends[1]);
  std::array<char, 4096> text{};
  std::string said;
  for (ssize_t got = 0; (got = ::read(ends[0], text.data(), text.size())) > 0;) said.append(text.data(), static_cast<std::size_t>(got));
  ::close(ends[0]);
  const std::size_t first = said.find("(chroot) was refused");
  EXPECT_NE(first, std::string::npos) << said;
  EXPECT_EQ(said.find("(chroot)", first + 1), std::string::npos) << said;
}

class Landlock : public ::testing::Test {
 protected:
  Landlock() {
    std::string pattern = (std::filesystem::temp_directory_path() / "catnap_landlock_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    std::filesystem::create_directories(folder_ / "in");
    std::filesystem::create_directories(folder_ / "out");
    std::ofstream(folder_ / "in" / "disk") << "data";
    std::ofstream(folder_ / "out" / "disk") << "data";
  }
  ~Landlock() override { std::filesystem::remove_all(folder_); }
  void SetUp() override {
    if (landlock_version() == 0) GTEST_SKIP() << "this kernel has no Landlock";
  }
  static int opened(const std::filesystem::path& path, int flags) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
    if (fd >= 0) ::close(fd);
    return fd >= 0 ? 0 : errno;
  }
  std::filesystem::path folder_;
};

TEST_F(Landlock, OnlyWhatLiesBeneathIsReached) {
  EXPECT_EQ(in_child([this] {
              ::prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL);
              std::vector<PathRule> rules = own_paths();
              rules.emplace_back((folder_ / "in").string(), Reach::write, true);
              MUST(restrict_paths(rules));
              MUST(opened(folder_ / "in" / "disk", O_RDWR) == 0);
              MUST(opened(folder_ / "in" / "new", O_RDWR | O_CREAT) == 0);
              MUST(::rename((folder_ / "in" / "new").c_str(), (folder_ / "in" / "other").c_str()) == 0);
              MUST(::unlink((folder_ / "in" / "other").c_str()) == 0);
              MUST(opened(folder_ / "out" / "disk", O_RDONLY) == EACCES);
              MUST(opened(folder_ / "out" / "new", O_RDWR | O_CREAT) == EACCES);
              MUST(::rename((folder_ / "in" / "disk").c_str(), (folder_ / "out" / "moved").c_str()) != 0);
              MUST(opened("/etc/passwd", O_RDONLY) == EACCES);
              MUST(opened("/dev/null", O_RDONLY) == 0);
              int in_thread = -1;
              std::thread([&] { in_thread = opened(folder_ / "out" / "disk", O_RDONLY); }).join();
              MUST(in_thread == EACCES);
              return 0;
            }),
            0);
}

TEST_F(Landlock, WhatMayOnlyBeReadMayNotBeWritten) {
  EXPECT_EQ(
      in_child([this] {
        ::prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL);
        MUST(restrict_paths({PathRule((folder_ / "in").string(), Reach::read, true), PathRule((folder_ / "out").string(), Reach::remove, true)}));
        MUST(opened(folder_ / "in" / "disk", O_RDONLY) == 0);
        MUST(opened(folder_ / "in" / "disk", O_RDWR) == EACCES);
        MUST(opened(folder_ / "out" / "disk", O_RDONLY) == EACCES);
        MUST(::unlink((folder_ / "out" / "disk").c_str()) == 0);
        return 0;
      }),
      0);
}

TEST_F(Landlock, APathThatIsNotThereIsNamed) {
  const auto outcome = restrict_paths({PathRule((folder_ / "nowhere").string(), Reach::write, true)});
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("--allow-path '" + (folder_ / "nowhere").string() + "'"));
}

std::string status_field(const char* name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name)) return line.substr(line.find_first_not_of(" \t", std::string(name).size()));
  }
  return "";
}

TEST(Privileges, OfAnotherUserNothingIsLeftOfRoot) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  EXPECT_EQ(in_child([] {
              Privileges privileges;
              privileges.account = Account("nobody", 65534, 65534);
              MUST(lose_privileges(privileges));
              MUST(::getuid() == 65534 && ::geteuid() == 65534 && ::getgid() == 65534);
              for (const char* set : {"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"}) MUST(status_field(set) == "0000000000000000");
              MUST(status_field("NoNewPrivs:") == "1");
              MUST(::prctl(PR_GET_DUMPABLE) == 0);
              MUST(::setuid(0) != 0);
              return 0;
            }),
            0);
}

TEST(Privileges, RootKeepsWhatFilesAndKeysTake) {
  if (::geteuid() != 0) GTEST_SKIP() << "not root";
  EXPECT_EQ(in_child([] {
              Privileges privileges;
              privileges.core_dumps = true;
              MUST(lose_privileges(privileges));
              const std::uint64_t kept = std::stoull(status_field("CapEff:"), nullptr, 16);
              constexpr auto bit = [](unsigned number) { return std::uint64_t{1} << number; };
              MUST((kept & ~(bit(CAP_DAC_OVERRIDE) | bit(CAP_DAC_READ_SEARCH) | bit(CAP_NET_BIND_SERVICE) | bit(CAP_IPC_LOCK))) == 0);
              MUST(status_field("CapBnd:") == status_field("CapEff:"));
              MUST(::prctl(PR_GET_DUMPABLE) == 1);
              return 0;
            }),
            0);
}

TEST(Account, IsFoundByNameAndByNumber) {
  const auto root = find_account("root");
  ASSERT_TRUE(root) << root.error().message;
  EXPECT_EQ(root->uid, 0U);
  const auto by_number = find_account("4321:1234");
  ASSERT_TRUE(by_number) << by_number.error().message;
  EXPECT_EQ(by_number->uid, 4321U);
  EXPECT_EQ(by_number->gid, 1234U);
  EXPECT_EQ(by_number->name, "");
}

TEST(Account, WhatIsUnknownIsNamed) {
  EXPECT_THAT(find_account("nobody-of-that-name").error().message, HasSubstr("there is no user 'nobody-of-that-name'"));
  EXPECT_THAT(find_account("root:no-such-group").error().message, HasSubstr("there is no group 'no-such-group'"));
  EXPECT_THAT(find_account("4294967295:0").error().message, HasSubstr("there is no user '4294967295'"));
  EXPECT_THAT(find_account("87654321").error().message, HasSubstr("give USER:GROUP"));
}

}  // namespace
}  // namespace catnap::confine
