// See subsystem.h.
#include "bdev/nvme/subsystem.h"

#include <fmt/core.h>

#include <algorithm>

#include "bdev/nvme/module.h"
#include "reactor/base/log.h"

namespace catnap::bdev {
namespace {

Task<void> nothing() { co_return; }

}  // namespace

std::shared_ptr<NvmeController> NvmeSubsystem::find_controller(std::uint16_t cntlid) const {
  const auto found = std::ranges::find_if(controllers_, [cntlid](const auto& controller) { return controller->cntlid() == cntlid; });
  return found != controllers_.end() ? *found : nullptr;
}

std::shared_ptr<NvmeController> NvmeSubsystem::find_controller(const TransportId& id) const {
  const auto found = std::ranges::find_if(controllers_, [&id](const auto& controller) {
    const auto others = controller->alternates();
    return controller->id() == id || std::ranges::find(others, id) != others.end();
  });
  return found != controllers_.end() ? *found : nullptr;
}

std::vector<std::string> NvmeSubsystem::bdev_names() const {
  std::vector<std::string> names;
  for (const auto& [nsid, bdev] : bdevs_) names.push_back(bdev->name());
  return names;
}

Result<void> NvmeSubsystem::may_join(const TransportId& id, const ControllerOptions& options) const {
  const NvmeController& first = *controllers_.front();
  if (find_controller(id) != nullptr) return fail(EALREADY, fmt::format("controller {} has the path {} already", name_, id.text()));
  if (first.id().subnqn != id.subnqn) {
    return fail(EINVAL, fmt::format("subnqn '{}' is not that of controller {}, '{}'", id.subnqn, name_, first.id().subnqn));
  }
  if (!options.hostnqn.empty() && options.hostnqn != first.options().hostnqn) {
    return fail(EINVAL, fmt::format("hostnqn '{}' is not that of controller {}, '{}'", options.hostnqn, name_, first.options().hostnqn));
  }
  if (options.multipath == MultipathMode::disable || first.options().multipath == MultipathMode::disable) {
    return fail(EALREADY, fmt::format("a controller named {} exists already and multipath is disabled", name_));
  }
  if (options.multipath != first.options().multipath) {
    return fail(EINVAL, fmt::format("multipath '{}' is not that of controller {}, '{}'", multipath_mode_name(options.multipath), name_,
                                    multipath_mode_name(first.options().multipath)));
  }
  return {};
}

void NvmeSubsystem::add(const std::shared_ptr<NvmeController>& controller) {
  controllers_.push_back(controller);
  controller->on_change([weak = weak_from_this()] {
    const auto self = weak.lock();
    return self != nullptr ? self->follow() : nothing();
  });
  spawn(follow());
}

void NvmeSubsystem::remove(const std::shared_ptr<NvmeController>& controller) {
  controller->on_change(nullptr);
  std::erase(controllers_, controller);
  spawn(follow());
}

// What all controllers know; the word of a connected one counts.
std::map<std::uint32_t, NamespaceData> NvmeSubsystem::namespaces() const {
  std::map<std::uint32_t, NamespaceData> all;
  for (const bool connected : {true, false}) {
    for (const auto& controller : controllers_) {
      if ((controller->state() == NvmeController::State::ready) != connected) continue;
      for (const auto& [nsid, data] : controller->namespaces()) all.emplace(nsid, data);
    }
  }
  return all;
}

// A namespace that no controller knows any more goes; one of a controller that is not connected now may still be there. One that has another's place
// is another bdev, which comes when the old one is gone.
Task<void> NvmeSubsystem::follow_once() {
  const auto keep = shared_from_this();
  if (dissolved_) co_return;
  const std::map<std::uint32_t, NamespaceData> wanted = namespaces();
  std::vector<Promise<bool>> under_way;
  std::uint64_t reassociations = 0;
  for (const auto& controller : controllers_) reassociations += controller->reassociations();
  const auto bdevs = bdevs_;
  for (const auto& [nsid, bdev] : bdevs) {
    const auto still = wanted.find(nsid);
    if (still == wanted.end() || !bdev->data().same_as(still->second)) {
      log_notice("{}: the namespace is gone", bdev->name());
      bdevs_.erase(nsid);
      under_way.push_back(take_away(bdev));
      continue;
    }
    if (bdev->num_blocks() != still->second.data.nsze) bdev->resized(still->second);
    bdev->reassociated(reassociations);
    const Promise<bool> published;
    publish(nsid, [published] { published.set(true); });
    under_way.push_back(published);
  }
  for (const auto& [nsid, data] : wanted) {
    if (!bdevs_.contains(nsid)) make_bdev(data);
  }
  for (const Promise<bool>& each : under_way) {
    const bool done = co_await each;
    static_cast<void>(done);
  }
}

// One at a time, and once for all who asked meanwhile: with many namespaces, each of which may ask, one by one would take the square of their number.
Task<void> NvmeSubsystem::follow() {
  const auto keep = shared_from_this();
  if (following_) {
    const Promise<bool> done;
    followers_.push_back(done);
    const bool followed = co_await done;
    static_cast<void>(followed);
    co_return;
  }
  following_ = true;
  co_await follow_once();
  while (!followers_.empty()) {
    const std::vector<Promise<bool>> followers = std::exchange(followers_, {});
    co_await follow_once();
    for (const Promise<bool>& each : followers) each.set(true);
  }
  following_ = false;
}

// First the paths: what waits on its channels must not go to whatever is there now. Kept when no channel has a path any more.
Promise<bool> NvmeSubsystem::take_away(const std::shared_ptr<NvmeBdev>& bdev) {
  const Promise<bool> without_paths;
  bdev->publish(PathSet(), [without_paths, bdev, weak = weak_from_this()] {
    without_paths.set(true);
    auto gone = [weak](Result<void>) {
      if (const auto self = weak.lock()) spawn(self->follow());
    };
    Registry::instance().remove(bdev->name(), std::move(gone), Removal::lost);
  });
  return without_paths;
}

void NvmeSubsystem::make_bdev(const NamespaceData& data) {
  const auto owner = std::ranges::find_if(controllers_, [&data](const auto& controller) { return controller->namespaces().contains(data.nsid); });
  if ((*owner)->options().multipath == MultipathMode::disable && bdevs_.contains(data.nsid)) return;
  NamespaceShape shape = shape_of(data, **owner, bdev_name(data.nsid));
  if (shape.info.uuid.empty() && module_.options().generate_uuids) {
    const auto& serial = (*owner)->data().sn;
    shape.info.uuid = uuid_for(fmt::format("{} {}", std::string_view(serial.data(), serial.size()), data.nsid));
  }
  if (!Registry::instance().removal_waits_for(shape.info.name).empty()) return;  // its end calls follow()
  if (auto fits = check_geometry(shape.info, ~std::uint64_t{0}); !fits) {
    return log_warning("{}: cannot be a bdev: {}", shape.info.name, fits.error().message);
  }
  auto bdev = std::make_shared<NvmeBdev>(std::move(shape), data, (*owner)->id().subnqn);
  bdev->inherit_fences(module_.kept_fences(bdev->fence_key()));
  bdev->publish(paths_of(data.nsid));
  bdevs_.emplace(data.nsid, bdev);
  if (auto added = Registry::instance().add(bdev); !added) {
    log_warning("{}: {}", bdev->name(), added.error().message);
    bdevs_.erase(data.nsid);
  }
}

PathSet NvmeSubsystem::paths_of(std::uint32_t nsid) const {
  PathSet set;
  const NvmeOptions& options = module_.options();
  const auto choice = choices_.find(nsid);
  set.auto_failback = !options.disable_auto_failback;
  set.retry_count = options.bdev_retry_count;
  set.count_paths = options.io_path_stat;
  set.multipath = controllers_.empty() ? options.multipath : controllers_.front()->options().multipath_opts.value_or(options.multipath);
  if (choice != choices_.end() && choice->second.multipath) set.multipath = *choice->second.multipath;
  for (const auto& controller : controllers_) {
    const auto data = controller->namespaces().find(nsid);
    if (data == controller->namespaces().end()) continue;
    // A path to something else that has the same NSID is none.
    const auto bdev = bdevs_.find(nsid);
    if (bdev != bdevs_.end() && !bdev->second->data().same_as(data->second)) {
      log_warning("{}: namespace {} at {} is another one; it is no path", name_, nsid, controller->id().text());
      continue;
    }
    PathEntry path;
    path.hub = controller->hub();
    path.name = controller->id().text();
    path.cntlid = controller->cntlid();
    path.nsid = nsid;
    path.ana_state = data->second.ana_state;
    path.ana_may_pass = controller->ana_may_pass(data->second);
    path.crdt = {controller->data().crdt1, controller->data().crdt2, controller->data().crdt3};
    const bool preferred = choice != choices_.end() && choice->second.preferred.lock() == controller;
    set.paths.insert(preferred ? set.paths.begin() : set.paths.end(), std::move(path));
  }
  return set;
}

void NvmeSubsystem::publish(std::uint32_t nsid, std::move_only_function<void()> done) { bdevs_.at(nsid)->publish(paths_of(nsid), std::move(done)); }

Task<void> NvmeSubsystem::remove_bdevs(Removal why) {
  const auto keep = shared_from_this();
  dissolved_ = true;
  for (const auto& [nsid, bdev] : std::exchange(bdevs_, {})) {
    const Promise<bool> removed;
    auto gone = [removed](Result<void>) { removed.set(true); };
    Registry::instance().remove(bdev->name(), std::move(gone), why);
    const bool done = co_await removed;
    static_cast<void>(done);
  }
}

Result<void> NvmeSubsystem::set_preferred(const std::string& bdev_name, const std::shared_ptr<NvmeController>& controller,
                                          std::move_only_function<void()> done) {
  const auto found = std::ranges::find_if(bdevs_, [&bdev_name](const auto& entry) { return entry.second->name() == bdev_name; });
  if (found == bdevs_.end()) return fail(ENODEV, fmt::format("No such device: bdev '{}'", bdev_name));
  choices_[found->first].preferred = controller;
  publish(found->first, std::move(done));
  return {};
}

std::string NvmeSubsystem::bdev_name(std::uint32_t nsid) const { return fmt::format("{}n{}", name_, nsid); }

std::vector<std::uint32_t> NvmeSubsystem::chosen_namespaces() const {
  std::vector<std::uint32_t> all;
  for (const auto& [nsid, choice] : choices_) all.push_back(nsid);
  return all;
}

std::shared_ptr<NvmeController> NvmeSubsystem::preferred(std::uint32_t nsid) const {
  const auto choice = choices_.find(nsid);
  return choice != choices_.end() ? choice->second.preferred.lock() : nullptr;
}

std::optional<MultipathOptions> NvmeSubsystem::chosen_multipath(std::uint32_t nsid) const {
  const auto choice = choices_.find(nsid);
  return choice != choices_.end() ? choice->second.multipath : std::nullopt;
}

Result<void> NvmeSubsystem::set_multipath(const std::string& bdev_name, const MultipathOptions& options, std::move_only_function<void()> done) {
  const auto found = std::ranges::find_if(bdevs_, [&bdev_name](const auto& entry) { return entry.second->name() == bdev_name; });
  if (found == bdevs_.end()) return fail(ENODEV, fmt::format("No such device: bdev '{}'", bdev_name));
  choices_[found->first].multipath = options;
  publish(found->first, std::move(done));
  return {};
}

}  // namespace catnap::bdev
