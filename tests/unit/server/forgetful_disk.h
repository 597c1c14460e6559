// A disk for files that are replaced (server/durable_file.h), as careless as POSIX allows: bytes that were not synced may be gone at a power cut, and
// so may names in a directory that was not. Steps can be left out, to prove that a test needs them, or fail. Owner: any thread. Left out: more than
// one directory.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "server/durable_file.h"

namespace catnap::server {

enum class Step { write, sync, rename, sync_directory };

class ForgetfulDisk final : public FileSteps {
 public:
  struct Node {
    std::string bytes, synced;
  };
  std::map<std::string, std::shared_ptr<Node>> names, synced_names;
  std::size_t steps = 0;
  std::size_t cut_after = SIZE_MAX;  // so many steps the power goes
  std::optional<Step> left_out;      // claimed to be done and not done
  std::optional<Step> broken;        // fails with EIO
  bool full = false;                 // no room can be set aside
  std::size_t reservations = 0;
  bool power_lost = false;

  Result<void> reserve(const std::string& path, std::size_t) override {
    const std::lock_guard guard(mutex_);
    if (power_lost) return fail(EIO, "the power is gone");
    if (full) return fail(ENOSPC, "No space left on device");
    ++reservations;
    auto& node = names[path];
    if (node == nullptr) node = std::make_shared<Node>();
    return {};
  }
  Result<void> write(const std::string& path, std::string_view bytes) override {
    return step(Step::write, [&] {
      auto& node = names[path];
      if (node == nullptr) node = std::make_shared<Node>();
      node->bytes = bytes;
    });
  }
  Result<void> sync(const std::string& path) override {
    return step(Step::sync, [&] { names.at(path)->synced = names.at(path)->bytes; });
  }
  Result<void> rename(const std::string& from, const std::string& to) override {
    return step(Step::rename, [&] {
      names[to] = names.at(from);
      names.erase(from);
    });
  }
  Result<void> sync_directory(const std::string&) override {
    return step(Step::sync_directory, [&] { synced_names = names; });
  }
  void remove(const std::string& path) override {
    const std::lock_guard guard(mutex_);
    if (!power_lost) names.erase(path);
  }

  // What is on the disk after the cut, for every combination of what it happened to keep by itself: nothing kept, names kept, bytes kept, both.
  std::vector<std::string> after_power_cut(const std::string& path) const {
    std::vector<std::string> found;
    for (const auto& table : {synced_names, names}) {
      const auto at = table.find(path);
      if (at == table.end()) {
        found.emplace_back("(missing)");
        continue;
      }
      found.push_back(at->second->synced);
      // Bytes that were written but not synced may be there in part.
      if (at->second->synced != at->second->bytes) found.push_back(at->second->bytes.substr(0, at->second->bytes.size() / 2));
    }
    return found;
  }

 private:
  template <typename Act>
  Result<void> step(Step which, Act act) {
    const std::lock_guard guard(mutex_);
    if (power_lost || steps >= cut_after) {
      power_lost = true;
      return fail(EIO, "the power is gone");
    }
    if (broken == which) return fail(EIO, "Input/output error");
    ++steps;
    if (left_out != which) act();
    return {};
  }

  std::mutex mutex_;
};

}  // namespace catnap::server
