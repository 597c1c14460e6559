// Landlock (Linux 5.13): the kernel refuses every path outside of the directories that the user names (--allow-path) and of the few that the program
// itself needs. Off without --allow-path.
// Owner: main(), before any thread starts; threads inherit it, and nothing takes it back. Left out: rules for the network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reactor/base/error.h"

namespace catnap::confine {

// What may be done beneath a path.
enum class Reach : std::uint8_t {
  read,    // read files, list directories
  write,   // and all that storage needs: write, create, remove, rename, device ioctls
  remove,  // only remove entries of the directory: sockets and lock files at the end
};

struct PathRule {
  PathRule(std::string where, Reach how, bool must_exist) : path(std::move(where)), reach(how), required(must_exist) {}
  std::string path;
  Reach reach;
  bool required;  // false: passed over where it is not there
};

// The kernel's version of the interface; 0: it has none, or it is switched off.
int landlock_version();

// Holds the process to `rules`. Errors: ENOSYS (landlock_version() is 0), ENOENT and others for a required path, naming it and --allow-path, what the
// system calls say. Needs no_new_privs.
Result<void> restrict_paths(const std::vector<PathRule>& rules);

// What the program reads by itself while it runs, whatever it serves, each with its reason in landlock.cpp.
std::vector<PathRule> own_paths();

}  // namespace catnap::confine
