// Which path the next I/O of a multipath bdev takes: active/passive, or active/active with one of two selectors; by ANA state, preferred path first.
// Owner: the channel's thread; one PathChooser per channel. Left out: what a path is (indexes into the channel's own list stand for them), and
// retries (retry_policy.h). Nothing here allocates; an I/O on a settled path costs a comparison or two.
//
// The policies are SPDK's (bdev_nvme_set_multipath_policy):
//   active_passive             one path as long as it works; the first optimized one of the list, else the first non-optimized one.
//   active_active round_robin  each usable path of the best class in turn, rr_min_io I/Os each.
//   active_active queue_depth  the usable path of the best class with the fewest commands outstanding on its queue pair; the first among equals.
// Non-optimized paths are used only while no optimized one is usable. The preferred path is the first of the list.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include "reactor/base/error.h"

namespace catnap::bdev {

enum class MultipathPolicy : std::uint8_t { active_passive, active_active };
enum class MultipathSelector : std::uint8_t { round_robin, queue_depth };

std::string_view multipath_policy_name(MultipathPolicy policy);
std::string_view multipath_selector_name(MultipathSelector selector);
// EINVAL naming `name` and what there is.
[[nodiscard]] Result<MultipathPolicy> multipath_policy_from_name(std::string_view name);
[[nodiscard]] Result<MultipathSelector> multipath_selector_from_name(std::string_view name);

struct MultipathOptions {
  MultipathPolicy policy = MultipathPolicy::active_passive;
  MultipathSelector selector = MultipathSelector::round_robin;  // of active_active
  std::uint32_t rr_min_io = 1;                                  // round_robin: I/Os per path and turn, at least 1
  bool operator==(const MultipathOptions&) const = default;
};
// What bdev_nvme_set_multipath_policy was given. EINVAL: a selector or rr_min_io with active_passive, rr_min_io with queue_depth, rr_min_io 0.
[[nodiscard]] Result<MultipathOptions> make_multipath_options(MultipathPolicy policy, std::optional<MultipathSelector> selector,
                                                              std::optional<std::uint32_t> rr_min_io);

// ANA states as on the wire (Base 2.0 section 5.16.1.13, bits 3:0 of a group's state byte). Namespaces without ANA count as optimized.
enum class AnaState : std::uint8_t { optimized = 0x1, non_optimized = 0x2, inaccessible = 0x3, persistent_loss = 0x4, change = 0xF };
constexpr AnaState ana_state_of_byte(std::uint8_t byte) { return static_cast<AnaState>(byte & 0xF); }
std::string_view ana_state_name(AnaState state);  // "unknown" for values that the specification does not have

// What a path is good for.
enum class PathClass : std::uint8_t {
  unusable = 0,  // not connected, namespace gone, ANA state being read, or inaccessible, persistent loss or change
  non_optimized = 1,
  optimized = 2,
};
PathClass path_class(bool connected, bool namespace_there, bool ana_being_read, AnaState state);

// A path as the chooser sees it. The channel changes `path_class` when something happens, and tells the chooser.
struct PathView {
  PathClass path_class = PathClass::unusable;
  const std::uint32_t* outstanding = nullptr;  // of the queue pair; read by queue_depth only, not null then
};

class PathChooser {
 public:
  static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

  void set_options(const MultipathOptions& options);
  const MultipathOptions& options() const { return options_; }

  // The index of the path for the next I/O, none: no path is usable now. `paths`: all of the channel, in order, the preferred one first.
  std::uint32_t next(std::span<const PathView> paths);

  // A path came, went, changed place or class. What was chosen is forgotten, and so a better path is taken up (failback).
  void forget() {
    current_ = none;
    served_ = 0;
  }
  // A path became usable again. Without auto-failback (bdev_nvme_set_options disable_auto_failback) the chosen one stays while it works.
  void path_came_back(bool auto_failback) {
    if (auto_failback) forget();
  }
  // The path that active_passive, or the present turn of round_robin, uses; none: not chosen yet. For reports.
  std::uint32_t current() const { return current_; }

 private:
  std::uint32_t search(std::span<const PathView> paths);
  static std::uint32_t least_busy(std::span<const PathView> paths);

  MultipathOptions options_;
  std::uint32_t current_ = none;
  std::uint32_t served_ = 0;  // I/Os given to current_ in this turn, beyond the first
};

}  // namespace catnap::bdev
