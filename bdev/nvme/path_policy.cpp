// See path_policy.h.
// Owner: the channel's thread. Left out: what path_policy.h names.
#include "bdev/nvme/path_policy.h"

#include <string>

#include "reactor/base/check.h"

namespace catnap::bdev {

std::string_view multipath_policy_name(MultipathPolicy policy) {
  return policy == MultipathPolicy::active_passive ? "active_passive" : "active_active";
}

std::string_view multipath_selector_name(MultipathSelector selector) {
  return selector == MultipathSelector::round_robin ? "round_robin" : "queue_depth";
}

Result<MultipathPolicy> multipath_policy_from_name(std::string_view name) {
  if (name == "active_passive") return MultipathPolicy::active_passive;
  if (name == "active_active") return MultipathPolicy::active_active;
  return fail(EINVAL, "policy \"" + std::string(name) + "\" is none of active_passive, active_active");
}

Result<MultipathSelector> multipath_selector_from_name(std::string_view name) {
  if (name == "round_robin") return MultipathSelector::round_robin;
  if (name == "queue_depth") return MultipathSelector::queue_depth;
  return fail(EINVAL, "selector \"" + std::string(name) + "\" is none of round_robin, queue_depth");
}

Result<MultipathOptions> make_multipath_options(MultipathPolicy policy, std::optional<MultipathSelector> selector,
                                                std::optional<std::uint32_t> rr_min_io) {
  MultipathOptions options;
  options.policy = policy;
  if (policy == MultipathPolicy::active_passive) {
    if (selector)
      return fail(EINVAL, "selector " + std::string(multipath_selector_name(*selector)) + " has a meaning only with policy active_active");
    if (rr_min_io) return fail(EINVAL, "rr_min_io " + std::to_string(*rr_min_io) + " has a meaning only with policy active_active");
    return options;
  }
  options.selector = selector.value_or(MultipathSelector::round_robin);
  if (!rr_min_io) return options;
  if (options.selector != MultipathSelector::round_robin) {
    return fail(EINVAL, "rr_min_io " + std::to_string(*rr_min_io) + " has a meaning only with selector round_robin");
  }
  if (*rr_min_io == 0) return fail(EINVAL, "rr_min_io 0: a path must get at least 1 I/O per turn");
  options.rr_min_io = *rr_min_io;
  return options;
}

std::string_view ana_state_name(AnaState state) {
  switch (state) {
    case AnaState::optimized:
      return "optimized";
    case AnaState::non_optimized:
      return "non_optimized";
    case AnaState::inaccessible:
      return "inaccessible";
    case AnaState::persistent_loss:
      return "persistent_loss";
    case AnaState::change:
      return "change";
  }
  return "unknown";
}

PathClass path_class(bool connected, bool namespace_there, bool ana_being_read, AnaState state) {
  if (!connected || !namespace_there || ana_being_read) return PathClass::unusable;
  if (state == AnaState::optimized) return PathClass::optimized;
  return state == AnaState::non_optimized ? PathClass::non_optimized : PathClass::unusable;
}

void PathChooser::set_options(const MultipathOptions& options) {
  CATNAP_CHECK(options.rr_min_io > 0);
  options_ = options;
  forget();
}

std::uint32_t PathChooser::next(std::span<const PathView> paths) {
  if (options_.policy == MultipathPolicy::active_active && options_.selector == MultipathSelector::queue_depth) return least_busy(paths);
  // A path that broke without a word to forget() is not used again either.
  if (current_ < paths.size() && paths[current_].path_class != PathClass::unusable) {
    if (options_.policy == MultipathPolicy::active_passive) return current_;
    if (++served_ < options_.rr_min_io) return current_;
  }
  served_ = 0;
  current_ = search(paths);
  return current_;
}

// The first optimized path after the current one, going round; else the first non-optimized one.
std::uint32_t PathChooser::search(std::span<const PathView> paths) {
  const auto count = static_cast<std::uint32_t>(paths.size());
  std::uint32_t at = current_ < count ? current_ : count - 1;  // so that without a current one the first of the list is looked at first
  std::uint32_t non_optimized = none;
  for (std::uint32_t looked = 0; looked < count; ++looked) {
    at = at + 1 < count ? at + 1 : 0;
    if (paths[at].path_class == PathClass::optimized) return at;
    if (paths[at].path_class == PathClass::non_optimized && non_optimized == none) non_optimized = at;
  }
  return non_optimized;
}

std::uint32_t PathChooser::least_busy(std::span<const PathView> paths) {
  std::uint32_t best = none;
  for (std::uint32_t at = 0; at < paths.size(); ++at) {
    const PathView& path = paths[at];
    if (path.path_class == PathClass::unusable) continue;
    const bool better = best == none || path.path_class > paths[best].path_class ||
                        (path.path_class == paths[best].path_class && *path.outstanding < *paths[best].outstanding);
    if (better) best = at;
  }
  return best;
}

}  // namespace catnap::bdev
