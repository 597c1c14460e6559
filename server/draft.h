// The next snapshot in the making: a copy of the current one that shares every subsystem not edited. While a whole configuration is being made, and
// nobody else has the current one yet, it is changed in place: a thousand subsystems would otherwise be copied for each of them.
// Owner: app_thread, inside target*.cpp. Left out: checks (they come before a draft is published).
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "reactor/base/check.h"
#include "server/target.h"

namespace catnap::server {

class Target::Draft {
 public:
  explicit Draft(const Target& target) : in_place_(target.gathered_ != nullptr) {
    next_ = in_place_ ? target.gathered_ : std::make_shared<TargetSnapshot>(target.current());
    ++next_->generation;
    next_->ending_grace_us = 0;
  }

  TargetSnapshot& target() { return *next_; }
  std::uint64_t generation() const { return next_->generation; }
  SubsystemSnapshot& create(const std::string& nqn) {
    auto created = std::make_shared<SubsystemSnapshot>();
    created->nqn = nqn;
    SubsystemSnapshot& result = *created;
    next_->subsystems[nqn] = std::move(created);
    return result;
  }
  // A copy of a subsystem that is there, valid until the next call on it.
  SubsystemSnapshot& edit(const std::string& nqn) {
    const auto found = next_->subsystems.find(nqn);
    CATNAP_CHECK(found != next_->subsystems.end());
    // Nobody else has it: it was made or copied since the configuration began to be gathered.
    if (in_place_ && found->second.use_count() == 1) return const_cast<SubsystemSnapshot&>(*found->second);
    auto edited = std::make_shared<SubsystemSnapshot>(*found->second);
    SubsystemSnapshot& result = *edited;
    found->second = std::move(edited);
    return result;
  }
  void erase(const std::string& nqn) { next_->subsystems.erase(nqn); }
  std::shared_ptr<TargetSnapshot> finish() { return std::move(next_); }

 private:
  std::shared_ptr<TargetSnapshot> next_;
  bool in_place_;
};

}  // namespace catnap::server
