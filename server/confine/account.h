// Who the process is and what that lets it do: giving up root (--user), capabilities, the ways to get them back, and core dumps.
// Owner: main(), before any thread starts. Left out: system calls (seccomp_filter.h), paths (landlock.h).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "reactor/base/error.h"

namespace catnap::confine {

struct Account {
  Account(std::string user_name, uid_t user_id, gid_t group_id) : name(std::move(user_name)), uid(user_id), gid(group_id) {}
  std::string name;  // "" where only a number was given: then it has no supplementary groups
  uid_t uid;
  gid_t gid;
};

// "NAME", "NAME:GROUP", "1000" or "1000:1000"; without a group the user's own. Errors: EINVAL, naming what is unknown or not complete.
Result<Account> find_account(const std::string& user_and_group);
Result<uid_t> find_user(const std::string& name_or_number);
Result<gid_t> find_group(const std::string& name_or_number);

// Errors: EPERM, when the process is neither root nor that user already.
Result<void> may_become(const Account& account);

// What the process may do when `lose_privileges` is over.
struct Privileges {
  std::optional<Account> account;  // none: stays who it is
  bool core_dumps = false;
};

// In this order: supplementary groups, group and user of `account`; capabilities; no_new_privs; core dumps and being traced by others.
// With `account` all capabilities go. Without it, root keeps those that serving disks may need (account.cpp names them), an ordinary user the same
// out of what it was given. Says in the log what became of it. Errors: EPERM (`account` is another user's and the process is not root), and what the
// system calls say.
Result<void> lose_privileges(const Privileges& privileges);

}  // namespace catnap::confine
