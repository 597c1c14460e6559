// Landlock through its system calls (Documentation/userspace-api/landlock.rst of Linux). See landlock.h.
// Owner: main(), before any thread starts.
#include "server/confine/landlock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace catnap::confine {
namespace {

// linux/landlock.h of the distribution may be older than the kernel it runs on, so the interface stands here.
constexpr long create_ruleset_call = 444;
constexpr long add_rule_call = 445;
constexpr long restrict_self_call = 446;
constexpr std::uint32_t want_version = 1;
constexpr int rule_path_beneath = 1;

struct RulesetAttributes {
  std::uint64_t handled_access_fs = 0;
};
struct [[gnu::packed]] PathBeneath {
  std::uint64_t allowed_access = 0;
  std::int32_t parent_fd = -1;
};
static_assert(sizeof(RulesetAttributes) == 8 && sizeof(PathBeneath) == 12);

namespace access {
constexpr std::uint64_t execute = 1 << 0, write_file = 1 << 1, read_file = 1 << 2, read_dir = 1 << 3, remove_file = 1 << 5;
constexpr std::uint64_t make_reg = 1 << 8, make_sock = 1 << 9, refer = 1 << 13, truncate = 1 << 14, ioctl_dev = 1 << 15;
// Of the first version, the ones that are not named here included; later ones add refer (2), truncate (3) and ioctl_dev (5).
constexpr std::uint64_t first_version = (1 << 13) - 1;
constexpr std::uint64_t of_files = execute | write_file | read_file | truncate | ioctl_dev;
}  // namespace access

std::uint64_t handled_by(int version) {
  std::uint64_t handled = access::first_version;
  if (version >= 2) handled |= access::refer;
  if (version >= 3) handled |= access::truncate;
  if (version >= 5) handled |= access::ioctl_dev;
  return handled;
}

std::uint64_t rights_of(Reach reach) {
  switch (reach) {
    case Reach::read:
      return access::read_file | access::read_dir;
    case Reach::remove:
      return access::remove_file;
    case Reach::write:
      return access::read_file | access::read_dir | access::write_file | access::remove_file | access::make_reg | access::make_sock | access::refer |
             access::truncate | access::ioctl_dev;
  }
  return 0;
}

std::unexpected<Error> failed(const std::string& path, const char* step) {
  const int err = errno;
  return fail(err, fmt::format("--allow-path '{}': {}{}{}", path, errno_text(err), *step == '\0' ? "" : ": ", step));
}

Result<void> add_rule(int ruleset, const PathRule& rule, std::uint64_t handled) {
  const int fd = ::open(rule.path.c_str(), O_PATH | O_CLOEXEC);
  if (fd < 0) {
    if (!rule.required && (errno == ENOENT || errno == EACCES || errno == ENOTDIR)) return {};
    return failed(rule.path, "");
  }
  struct stat info{};
  std::uint64_t rights = rights_of(rule.reach) & handled;
  if (::fstat(fd, &info) == 0 && !S_ISDIR(info.st_mode)) rights &= access::of_files;
  PathBeneath beneath;
  beneath.allowed_access = rights;
  beneath.parent_fd = fd;
  Result<void> outcome;
  if (::syscall(add_rule_call, ruleset, rule_path_beneath, &beneath, 0U) != 0) outcome = failed(rule.path, "landlock_add_rule");
  ::close(fd);
  return outcome;
}

}  // namespace

int landlock_version() {
  const long version = ::syscall(create_ruleset_call, nullptr, std::size_t{0}, want_version);
  return version > 0 ? static_cast<int>(version) : 0;
}

Result<void> restrict_paths(const std::vector<PathRule>& rules) {
  const int version = landlock_version();
  if (version == 0) return fail(ENOSYS, "--allow-path: this kernel has no Landlock, or it is switched off (lsm= on its command line)");
  RulesetAttributes attributes;
  attributes.handled_access_fs = handled_by(version);
  const int ruleset = static_cast<int>(::syscall(create_ruleset_call, &attributes, sizeof(attributes), 0U));
  if (ruleset < 0) return fail(errno, fmt::format("--allow-path: {}: landlock_create_ruleset", errno_text(errno)));
  Result<void> outcome;
  for (const PathRule& rule : rules) {
    outcome = add_rule(ruleset, rule, attributes.handled_access_fs);
    if (!outcome) break;
  }
  if (outcome && ::syscall(restrict_self_call, ruleset, 0U) != 0) {
    outcome = fail(errno, fmt::format("--allow-path: {}: landlock_restrict_self", errno_text(errno)));
  }
  ::close(ruleset);
  return outcome;
}

std::vector<PathRule> own_paths() {
  return {
      {"/dev/null", Reach::read, false},                    // held in reserve by listeners, for when file descriptors run out
      {"/dev/urandom", Reach::read, false},                 // OpenSSL, where getrandom() is not there
      {"/proc/self", Reach::read, false},                   // context switches of reactors
      {"/proc/stat", Reach::read, false},                   // CPU times in framework_get_reactors
      {"/proc/meminfo", Reach::read, false},                // the C library's sysconf
      {"/proc/sys/fs", Reach::read, false},                 // limits of libaio, for error texts
      {"/proc/sys/kernel", Reach::read, false},             // whether io_uring is switched off
      {"/proc/sys/vm", Reach::read, false},                 // the allocator asks for overcommit_memory
      {"/etc/machine-id", Reach::read, false},              // which machine an array belongs to
      {"/sys/devices/virtual/dmi/id", Reach::read, false},  // the same, where there is no machine-id
      {"/sys/class/dmi/id", Reach::read, false},            // the same
      {"/sys/devices/system", Reach::read, false},          // CPUs and NUMA nodes
      {"/usr/lib", Reach::read, false},                     // libraries that libraries load late
      {"/lib", Reach::read, false},                         // the same
      {"/etc/localtime", Reach::read, false},               // times in the log
      {"/usr/share/zoneinfo", Reach::read, false},          // the same
      {"/etc/ssl", Reach::read, false},                     // configuration of OpenSSL and certificates
      {"/usr/lib/ssl", Reach::read, false},                 // the same
      {"/etc/gnutls", Reach::read, false},                  // configuration of GnuTLS
      {"/etc/crypto-policies", Reach::read, false},         // both, in other distributions
      {"/usr/share/ca-certificates", Reach::read, false},   // where /etc/ssl/certs leads
  };
}

}  // namespace catnap::confine
