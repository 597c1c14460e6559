// Namespaces of the target's configuration: choosing NSIDs, identifiers, opening bdevs, and what happens when a bdev goes or grows. See target.h.
// Owner: app_thread. Left out: channels and I/O (server_group.h).
#include <fmt/format.h>

#include <algorithm>

#include "server/draft.h"
#include "server/names.h"
#include "server/reservations/namespace_reservations.h"
#include "server/target.h"

namespace catnap::server {
namespace {

template <typename Bytes>
bool is_set(const Bytes& bytes) {
  return std::any_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte != 0; });
}

// The deleter may run on any thread that drops the last reference; descriptors close on app_thread.
std::shared_ptr<bdev::Descriptor> share(std::unique_ptr<bdev::Descriptor> descriptor, Thread& app_thread) {
  return std::shared_ptr<bdev::Descriptor>(descriptor.release(), [&app_thread](bdev::Descriptor* last) {
    app_thread.send([closing = std::unique_ptr<bdev::Descriptor>(last)]() mutable { closing.reset(); });
  });
}

}  // namespace

Result<std::uint32_t> Target::choose_nsid(const SubsystemSnapshot& subsystem, std::uint32_t asked) const {
  if (asked > subsystem.max_namespaces) {
    return fail(EINVAL, fmt::format("nsid {} is above the max_namespaces {} of subsystem '{}'", asked, subsystem.max_namespaces, subsystem.nqn));
  }
  if (asked != 0) {
    if (!subsystem.namespaces.contains(asked)) return asked;
    return fail(EEXIST, fmt::format("File exists: nsid {} of subsystem '{}' is in use", asked, subsystem.nqn));
  }
  const auto taken = [&](std::uint32_t nsid) {
    return subsystem.namespaces.contains(nsid) || (hooks_.nsid_awaited && hooks_.nsid_awaited(subsystem.nqn, nsid));
  };
  std::uint32_t lowest = 1;
  while (lowest <= subsystem.max_namespaces && taken(lowest)) ++lowest;
  if (lowest <= subsystem.max_namespaces) return lowest;
  return fail(ENOSPC,
              fmt::format("No space left: subsystem '{}' has {} namespaces already, its max_namespaces", subsystem.nqn, subsystem.max_namespaces));
}

// A bdev is served once, and an identifier names one namespace: hosts take two with the same for two paths to one disk (Base 2.0, section 4.5.1).
Result<void> Target::check_namespace(const SubsystemSnapshot& subsystem, const NamespaceConfig& config) const {
  for (const auto& [nqn, other] : current().subsystems) {
    for (const auto& [nsid, present] : other->namespaces) {
      if (present->bdev != config.bdev) continue;
      return fail(EBUSY, fmt::format("Device or resource busy: bdev '{}' is namespace {} of subsystem '{}' already", config.bdev_name, nsid, nqn));
    }
  }
  for (const auto& [nsid, present] : subsystem.namespaces) {
    const char* same = present->uuid == config.uuid                             ? "uuid"
                       : present->nguid == config.nguid && is_set(config.nguid) ? "nguid"
                       : present->eui64 == config.eui64 && is_set(config.eui64) ? "eui64"
                                                                                : nullptr;
    if (same != nullptr)
      return fail(EEXIST, fmt::format("File exists: namespace {} of subsystem '{}' has this {} already", nsid, subsystem.nqn, same));
  }
  return {};
}

// A file belongs to one namespace: what another has written there is not this one's, and is not lost either.
Result<void> Target::attach_reservations(const std::string& nqn, NamespaceConfig& config, const NamespaceOptions& options) const {
  if (hooks_.reservations == nullptr) return {};
  config.ptpl_file = options.ptpl_file;
  if (!options.ptpl_file.empty()) {
    for (const auto& [other_nqn, other] : current().subsystems) {
      for (const auto& [nsid, present] : other->namespaces) {
        if (present->ptpl_file != options.ptpl_file) continue;
        return fail(EBUSY,
                    fmt::format("ptpl_file '{}' keeps the reservations of namespace {} of subsystem '{}'", options.ptpl_file, nsid, other_nqn));
      }
    }
  }
  ReservationState restored;
  if (options.restored) {
    if (options.restored->namespace_uuid != config.uuid) {
      return fail(EINVAL, fmt::format("ptpl_file '{}' holds the reservations of a namespace with UUID {}, this one has {}", options.ptpl_file,
                                      uuid_text(options.restored->namespace_uuid), uuid_text(config.uuid)));
    }
    restored = options.restored->state;
  }
  NamespaceReservations::Place place{nqn, config.nsid, config.uuid, options.ptpl_file};
  config.reservations = std::make_shared<NamespaceReservations>(*hooks_.reservations, std::move(place), std::move(restored));
  return {};
}

Result<std::shared_ptr<NamespaceConfig>> Target::open_namespace(const SubsystemSnapshot& subsystem, const NamespaceOptions& options) {
  const auto nsid = choose_nsid(subsystem, options.nsid);
  if (!nsid) return std::unexpected(nsid.error());
  if (options.anagrpid > subsystem.max_namespaces) {
    return fail(EINVAL, fmt::format("anagrpid {} is above the max_namespaces {} of subsystem '{}'", options.anagrpid, subsystem.max_namespaces,
                                    subsystem.nqn));
  }
  auto config = std::make_shared<NamespaceConfig>();
  config->nsid = *nsid;
  config->bdev_name = options.bdev_name;
  config->bdev = bdev::Registry::instance().find(options.bdev_name);
  if (config->bdev == nullptr) return fail(ENODEV, fmt::format("No such device: bdev_name '{}'", options.bdev_name));
  const auto bdev_uuid = parse_uuid(config->bdev->info().uuid);
  if (!bdev_uuid) return std::unexpected(bdev_uuid.error());
  config->uuid = options.uuid.value_or(*bdev_uuid);
  config->nguid = options.nguid.value_or(*bdev_uuid);
  if (options.eui64) config->eui64 = *options.eui64;
  config->anagrpid = options.anagrpid == 0 ? *nsid : options.anagrpid;
  config->no_auto_visible = options.no_auto_visible;
  if (auto valid = check_namespace(subsystem, *config); !valid) return std::unexpected(valid.error());
  if (auto attached = attach_reservations(subsystem.nqn, *config, options); !attached) return std::unexpected(attached.error());
  auto self = std::make_shared<std::weak_ptr<bdev::Descriptor>>();  // the event's sender is known only after opening
  auto opened = bdev::Registry::instance().open(options.bdev_name, bdev_opener, true, [this, self](bdev::Event event) { bdev_event(*self, event); });
  if (!opened) return std::unexpected(opened.error());
  config->descriptor = share(std::move(*opened), app_thread_);
  *self = config->descriptor;
  return config;
}

Result<Target::AddedNamespace> Target::add_namespace(const std::string& nqn, const NamespaceOptions& options) {
  const auto found = find_editable(nqn);
  if (!found) return std::unexpected(found.error());
  auto config = open_namespace(**found, options);
  if (!config) return std::unexpected(config.error());
  Draft draft(*this);
  const std::uint32_t nsid = (*config)->nsid;
  (*config)->attributes_generation = draft.generation();
  draft.edit(nqn).namespaces.emplace(nsid, std::move(*config));
  AddedNamespace added{publish(std::move(draft)), nsid};
  return added;
}

Target::Change Target::remove_namespace(const std::string& nqn, std::uint32_t nsid) {
  const auto found = find_editable(nqn);
  if (!found) return std::unexpected(found.error());
  if (!(*found)->namespaces.contains(nsid))
    return fail(ENODEV, fmt::format("No such device: subsystem '{}' has no namespace with nsid {}", nqn, nsid));
  Draft draft(*this);
  draft.edit(nqn).namespaces.erase(nsid);
  return publish(std::move(draft));
}

void Target::bdev_event(const std::weak_ptr<bdev::Descriptor>& from, bdev::Event event) {
  const auto sender = from.lock();
  if (sender == nullptr) return;  // removed from the configuration before
  for (const auto& [nqn, subsystem] : current().subsystems) {
    for (const auto& [nsid, config] : subsystem->namespaces) {
      if (config->descriptor != sender) continue;
      Draft draft(*this);
      auto& namespaces = draft.edit(nqn).namespaces;
      if (event == bdev::Event::removed) {
        log_notice("bdev '{}' is being removed: namespace {} of subsystem '{}' goes with it", config->bdev_name, nsid, nqn);
        if (config->bdev->is_lost() && hooks_.namespace_lost) hooks_.namespace_lost(*subsystem, *config);
        namespaces.erase(nsid);
      } else {
        auto changed = std::make_shared<NamespaceConfig>(*config);
        changed->attributes_generation = draft.generation();
        namespaces[nsid] = std::move(changed);
      }
      publish(std::move(draft));
      return;
    }
  }
}

Target::Watch Target::watch_namespace(const std::string& nqn, std::uint32_t nsid) const {
  Watch watch;
  const SubsystemSnapshot* subsystem = current().find(nqn);
  if (subsystem == nullptr) return watch;
  const auto found = subsystem->namespaces.find(nsid);
  if (found != subsystem->namespaces.end()) watch.push_back(found->second);
  return watch;
}

Target::Watch Target::watch_namespaces(const std::string& nqn) const {
  Watch watch;
  const SubsystemSnapshot* subsystem = current().find(nqn);
  if (subsystem == nullptr) return watch;
  for (const auto& [nsid, config] : subsystem->namespaces) watch.push_back(config);
  return watch;
}

}  // namespace catnap::server
