// See raid_files.h.
#include "server/raid_files.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "reactor/base/log.h"
#include "server/durable_file.h"

namespace catnap::server {
namespace {

// A line is below 64 KiB: 255 members with their UUIDs.
constexpr std::size_t max_bytes = std::size_t{64} << 20;

std::string clean_path(const std::string& state_path) { return state_path + ".clean"; }
std::string notes_path(const std::string& state_path) { return state_path + ".raid"; }

// Of a file that is not there: done already.
Result<void> remove_durably(const std::string& path) {
  if (::unlink(path.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return fail(errno, errno_text(errno));
  }
  return posix_files().sync_directory(directory_of(path));
}

}  // namespace

std::string take_clean_stop(const std::string& state_path) {
  const std::string path = clean_path(state_path);
  auto text = read_whole(path, max_bytes);
  if (text && !*text) return {};
  auto removed = remove_durably(path);
  if (removed && text) return std::move(**text);
  log_warning("{}: {}; arrays without a bitmap are copied whole", path, !removed ? removed.error().message : text.error().message);
  return {};
}

Result<void> leave_clean_stop(const std::string& state_path, std::string_view text) {
  if (text.empty()) return {};
  return write_durably(posix_files(), clean_path(state_path), text);
}

Result<std::string> read_raid_notes(const std::string& state_path) {
  auto text = read_whole(notes_path(state_path), max_bytes);
  if (!text) return std::unexpected(text.error());
  return text->value_or("");
}

void RaidNotesFile::keep(std::string text, std::function<void()> kept) {
  text_ = std::move(text);
  waiting_.push_back(std::move(kept));
  if (!writing_) write();
}

void RaidNotesFile::write() {
  writing_ = true;
  again_.disarm();
  auto work = [path = notes_path(state_path_), text = text_] {
    return text.empty() ? remove_durably(path) : write_durably(posix_files(), path, text);
  };
  workers_.submit(app_thread_, std::move(work), [this, alive = alive_, waited = std::exchange(waiting_, {})](const Result<void>& written) {
    if (!*alive) return;
    if (!written && !failing_) {
      log_error("{}: {}; a crash now may bring a raid member back that lacks data; tried again every {} s", notes_path(state_path_),
                written.error().message, retry_us / 1'000'000);
    }
    if (written && failing_) log_notice("{}: written after all", notes_path(state_path_));
    failing_ = !written;
    told_(written);
    writing_ = false;
    if (!waiting_.empty()) {
      write();
    } else if (failing_) {
      app_thread_.arm_in_us(again_, retry_us);
    }
    for (const auto& kept : waited) kept();
  });
}

}  // namespace catnap::server
