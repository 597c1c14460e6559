// The directories that files of users may lie in (--allow-path). The kernel holds the process to them (server/confine/landlock.h); this is what the
// process knows about it itself, so that a refused open says which path and which option are concerned.
// Owner: main() sets them before any thread starts; reading is safe from every OS thread. Left out: the holding itself.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace catnap {

// Absolute paths of directories or files; none: nothing is restricted. Once, before threads start.
void set_allowed_paths(std::vector<std::string> paths);
const std::vector<std::string>& allowed_paths();

// Is `path` one of them, or beneath one? Symbolic links are followed as far as they exist; true when nothing is restricted.
bool is_allowed_path(std::string_view path);

// The text of an open's errno, as errno_text(); where the reason is the restriction, it names the option and what it allows:
// "Permission denied (outside of what --allow-path allows: /srv/disks)".
std::string open_error_text(int errno_value, std::string_view path);

}  // namespace catnap
