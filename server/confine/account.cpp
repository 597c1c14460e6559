// Giving up privileges. See account.h.
// Owner: main(), before any thread starts: all of this is per OS thread for the kernel, and inherited by those that come.
#include "server/confine/account.h"

#include <fmt/format.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <vector>

#include "reactor/base/log.h"

namespace catnap::confine {
namespace {

struct NamedCapability {
  unsigned number;
  const char* name;
};

// What root keeps without --user. Files and disks of other users (as everybody expects of root), ports below 1024, and memory that is locked for keys
// beyond RLIMIT_MEMLOCK. Gone are, among others, modules, mounts, tracing, raw sockets, network set-up, changing users.
constexpr std::array kept_by_root = {NamedCapability{CAP_DAC_OVERRIDE, "dac_override"}, NamedCapability{CAP_DAC_READ_SEARCH, "dac_read_search"},
                                     NamedCapability{CAP_NET_BIND_SERVICE, "net_bind_service"}, NamedCapability{CAP_IPC_LOCK, "ipc_lock"}};
constexpr unsigned most_capabilities = 64;  // the kernel's sets have 64 bits

template <typename Id>
std::optional<Id> number_of(const std::string& text) {
  Id value{};
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // The largest one means "leave it" to the kernel's calls.
  if (error != std::errc() || stop != text.data() + text.size() || value == static_cast<Id>(-1)) return std::nullopt;
  return value;
}

struct PasswdEntry {
  std::string name;
  uid_t uid;
  gid_t gid;
};

std::optional<PasswdEntry> passwd_entry(const std::string& name_or_number) {
  const passwd* entry = ::getpwnam(name_or_number.c_str());
  if (const auto number = number_of<uid_t>(name_or_number); entry == nullptr && number) entry = ::getpwuid(*number);
  if (entry == nullptr) return std::nullopt;
  return PasswdEntry{entry->pw_name, entry->pw_uid, entry->pw_gid};
}

std::unexpected<Error> failed(const char* step) {
  const int err = errno;
  return fail(err, fmt::format("--user: {}: {}", step, errno_text(err)));
}

struct CapabilitySets {
  std::uint64_t effective = 0, permitted = 0, inheritable = 0;
};

Result<CapabilitySets> capabilities_now() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return fail(errno, fmt::format("capget: {}", errno_text(errno)));
  const auto whole = [](std::uint32_t low, std::uint32_t high) { return static_cast<std::uint64_t>(high) << 32 | low; };
  CapabilitySets sets;
  sets.effective = whole(data[0].effective, data[1].effective);
  sets.permitted = whole(data[0].permitted, data[1].permitted);
  sets.inheritable = whole(data[0].inheritable, data[1].inheritable);
  return sets;
}

// The bounding set first, which takes a capability to change; then the ambient one, then the rest.
Result<void> keep_capabilities(std::uint64_t wanted, std::uint64_t bounding) {
  auto now = capabilities_now();
  if (!now) return std::unexpected(now.error());
  if ((now->effective & (std::uint64_t{1} << CAP_SETPCAP)) != 0) {
    for (unsigned number = 0; number < most_capabilities; ++number) {
      if ((bounding & (std::uint64_t{1} << number)) == 0 && ::prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1) ::prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
    }
  }
  static_cast<void>(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));  // kernels before 4.3 have none
  const std::uint64_t kept = now->permitted & wanted;
  // A process that has none need not give any up; its sandbox may not even know the call.
  if (now->effective == kept && now->permitted == kept && now->inheritable == 0) return {};
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  data[0].permitted = data[0].effective = static_cast<std::uint32_t>(kept);
  data[1].permitted = data[1].effective = static_cast<std::uint32_t>(kept >> 32);
  if (::syscall(SYS_capset, &header, data.data()) != 0) return fail(errno, fmt::format("capset: {}", errno_text(errno)));
  now = capabilities_now();
  if (!now) return std::unexpected(now.error());
  if ((now->effective | now->permitted | now->inheritable) & ~wanted) return fail(EPERM, "capabilities could not be given up");
  return {};
}

Result<void> become(const Account& account) {
  if (auto may = may_become(account); !may || ::geteuid() != 0) return may;
  if (account.name.empty() ? ::setgroups(0, nullptr) != 0 : ::initgroups(account.name.c_str(), account.gid) != 0)
    return failed("supplementary groups");
  if (::setresgid(account.gid, account.gid, account.gid) != 0) return failed("setresgid");
  if (::setresuid(account.uid, account.uid, account.uid) != 0) return failed("setresuid");
  if (account.uid != 0 && (::setuid(0) == 0 || ::geteuid() != account.uid)) return fail(EPERM, "--user: root could be had back");
  return {};
}

std::string names_of(std::uint64_t set) {
  std::string names;
  for (const NamedCapability& each : kept_by_root) {
    if ((set & (std::uint64_t{1} << each.number)) != 0) names += (names.empty() ? "" : " ") + std::string(each.name);
  }
  return names.empty() ? "none" : names;
}

}  // namespace

Result<uid_t> find_user(const std::string& name_or_number) {
  if (const auto entry = passwd_entry(name_or_number)) return entry->uid;
  if (const auto number = number_of<uid_t>(name_or_number)) return *number;
  return fail(EINVAL, fmt::format("there is no user '{}'", name_or_number));
}

Result<gid_t> find_group(const std::string& name_or_number) {
  if (const group* entry = ::getgrnam(name_or_number.c_str()); entry != nullptr) return entry->gr_gid;
  if (const auto number = number_of<gid_t>(name_or_number)) return *number;
  return fail(EINVAL, fmt::format("there is no group '{}'", name_or_number));
}

Result<Account> find_account(const std::string& user_and_group) {
  const std::size_t colon = user_and_group.find(':');
  const std::string user = user_and_group.substr(0, colon);
  const auto entry = passwd_entry(user);
  const auto number = number_of<uid_t>(user);
  if (!entry && !number) return fail(EINVAL, fmt::format("--user '{}': there is no user '{}'", user_and_group, user));
  if (colon == std::string::npos) {
    if (!entry) return fail(EINVAL, fmt::format("--user '{}': user {} has no entry that names its group; give USER:GROUP", user_and_group, user));
    return Account(entry->name, entry->uid, entry->gid);
  }
  const auto group = find_group(user_and_group.substr(colon + 1));
  if (!group) return fail(EINVAL, fmt::format("--user '{}': {}", user_and_group, group.error().message));
  return Account(entry ? entry->name : std::string(), entry ? entry->uid : *number, *group);
}

Result<void> may_become(const Account& account) {
  if (::geteuid() == 0 || (::geteuid() == account.uid && ::getegid() == account.gid)) return {};
  return fail(EPERM, fmt::format("--user {}: only root can become another user, and this process runs as uid {}", account.name, ::geteuid()));
}

Result<void> lose_privileges(const Privileges& privileges) {
  std::uint64_t wanted = 0;
  if (!privileges.account) {
    for (const NamedCapability& each : kept_by_root) wanted |= std::uint64_t{1} << each.number;
  }
  // While it is still root, for the bounding set; what is needed to change the user stays until it has.
  std::uint64_t until_changed = wanted;
  if (privileges.account) until_changed |= std::uint64_t{1} << CAP_SETUID | std::uint64_t{1} << CAP_SETGID | std::uint64_t{1} << CAP_SETPCAP;
  if (auto kept = keep_capabilities(until_changed, wanted); !kept) return kept;
  if (privileges.account) {
    if (auto became = become(*privileges.account); !became) return became;
    if (auto kept = keep_capabilities(0, 0); !kept) return kept;
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) != 0) return fail(errno, fmt::format("PR_SET_NO_NEW_PRIVS: {}", errno_text(errno)));
  if (::prctl(PR_SET_DUMPABLE, privileges.core_dumps ? 1UL : 0UL, 0UL, 0UL, 0UL) != 0) {
    return fail(errno, fmt::format("PR_SET_DUMPABLE: {}", errno_text(errno)));
  }
  const auto now = capabilities_now();
  log_notice("runs as uid {} gid {}, capabilities: {}; no new privileges; core dumps {}", ::geteuid(), ::getegid(),
             names_of(now ? now->permitted : 0), privileges.core_dumps ? "as the system has it" : "off");
  return {};
}

}  // namespace catnap::confine
