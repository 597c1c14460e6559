// See allowed_paths.h.
// Owner: none; immutable once threads run.
#include "reactor/base/allowed_paths.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "reactor/base/error.h"

namespace catnap {
namespace {

std::vector<std::string>& paths_set() {
  static std::vector<std::string> paths;
  return paths;
}

// Where it leads: links of the part that exists are followed, the rest is taken as it is written.
std::filesystem::path resolved(std::string_view path) {
  std::error_code error;
  auto whole = std::filesystem::weakly_canonical(std::filesystem::absolute(std::filesystem::path(path), error), error);
  return error ? std::filesystem::path(path).lexically_normal() : whole;
}

bool is_beneath(const std::filesystem::path& path, const std::filesystem::path& directory) {
  const auto differs = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return differs.first == directory.end() || (differs.first->empty() && std::next(differs.first) == directory.end());
}

}  // namespace

void set_allowed_paths(std::vector<std::string> paths) { paths_set() = std::move(paths); }

const std::vector<std::string>& allowed_paths() { return paths_set(); }

bool is_allowed_path(std::string_view path) {
  if (paths_set().empty()) return true;
  const std::filesystem::path wanted = resolved(path);
  return std::ranges::any_of(paths_set(), [&](const std::string& each) { return is_beneath(wanted, resolved(each)); });
}

std::string open_error_text(int errno_value, std::string_view path) {
  std::string text = errno_text(errno_value);
  if (errno_value != EACCES || is_allowed_path(path)) return text;
  text += " (outside of what --allow-path allows:";
  for (const std::string& each : paths_set()) text += " " + each;
  return text + ")";
}

}  // namespace catnap
