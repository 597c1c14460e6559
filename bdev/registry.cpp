// The list of all bdevs: names, openers and their claims, removal that waits for both. See bdev.h for the contract.
// Owner: app_thread. Left out: modules (each adds its own bdevs, and its examiner).
#include <fmt/core.h>

#include <algorithm>
#include <list>
#include <map>

#include "bdev/bdev.h"
#include "bdev/core_state.h"
#include "reactor/base/check.h"
#include "reactor/base/log.h"

namespace catnap::bdev {
namespace {

std::string folded(std::string_view text) {
  auto uuid = parse_uuid(text);
  return uuid ? *uuid : std::string(text);
}

struct Awaited {
  Awaited(std::string awaited_name, std::function<void()> call) : name(std::move(awaited_name)), added(std::move(call)) {}
  std::string name;
  std::function<void()> added;
};

}  // namespace

struct Registry::Impl {
  std::vector<std::shared_ptr<Bdev>> bdevs;                       // in order of adding
  std::map<std::string, std::shared_ptr<Bdev>, std::less<>> ids;  // names, aliases, UUIDs
  std::vector<std::shared_ptr<Bdev>> removing;
  std::vector<std::weak_ptr<Awaited>> awaited;
  struct NamedExaminer {
    std::string module;
    Examiner examine;
  };
  std::vector<NamedExaminer> examiners;
  std::uint64_t examinations = 0;  // under way
  std::vector<std::move_only_function<void()>> when_examined;
  bool auto_examine = true;
  std::vector<std::string> to_examine;  // names asked for by examine() while auto_examine is off
  std::function<void(std::string_view, const std::string&)> change_listener;
  std::function<void(const Bdev&)> loss_listener;
};

// Never destroyed: channels and descriptors of other static objects may outlive any order of destruction.
Registry& Registry::instance() {
  static auto* registry = new Registry;
  return *registry;
}

Registry::Registry() : impl_(std::make_unique<Impl>()) {}

Result<void> check_geometry(const BdevInfo& info, std::uint64_t max_size_bytes) {
  if (info.name.empty()) return fail(EINVAL, "name '' is empty");
  if (info.name.size() > max_name_length) {
    return fail(EINVAL, fmt::format("name of {} bytes is longer than {}", info.name.size(), max_name_length));
  }
  for (const auto& [field, value] : {std::pair{"block_size", info.block_size}, std::pair{"physical_block_size", info.physical_block_size}}) {
    if (value < min_block_size || value > max_block_size || (value & (value - 1)) != 0) {
      return fail(EINVAL, fmt::format("{} {} is not a power of two from {} to {}", field, value, min_block_size, max_block_size));
    }
  }
  if (info.num_blocks == 0) return fail(EINVAL, fmt::format("num_blocks 0: bdev '{}' would have no blocks", info.name));
  // The largest number there is means no limit: NVMe counts blocks, so 2^64 - 1 of any size may be named, though their bytes do not fit 64 bits.
  if (max_size_bytes != ~std::uint64_t{0} && info.num_blocks > max_size_bytes / info.block_size) {
    return fail(EINVAL, fmt::format("num_blocks {} of block_size {} are more than {} bytes", info.num_blocks, info.block_size, max_size_bytes));
  }
  return {};
}

Result<void> Registry::add(std::shared_ptr<Bdev> bdev) {
  BdevInfo& info = bdev->info_;
  if (auto fits = check_geometry(info, ~std::uint64_t{0}); !fits) return fits;
  bdev->state_->uuid_made_up = info.uuid.empty();
  if (info.uuid.empty()) info.uuid = random_uuid();
  auto uuid = parse_uuid(info.uuid);
  if (!uuid) return std::unexpected(uuid.error());
  info.uuid = *uuid;

  std::vector<std::string> ids{folded(info.name)};
  for (const auto& alias : info.aliases) ids.push_back(folded(alias));
  if (std::ranges::find(ids, info.uuid) == ids.end()) ids.push_back(info.uuid);
  for (const auto& id : ids) {
    if (const auto taken = impl_->ids.find(id); taken != impl_->ids.end()) {
      return fail(EEXIST, id == folded(taken->second->name())
                              ? fmt::format("File exists: there is a bdev '{}' already", taken->second->name())
                              : fmt::format("File exists: bdev '{}' is called '{}' already", taken->second->name(), id));
    }
  }
  for (const auto& leaving : impl_->removing) {
    if (leaving->name() == info.name) {
      return fail(EEXIST, fmt::format("File exists: bdev '{}' is being removed and waits for {}", info.name, removal_waits_for(info.name)));
    }
  }
  for (const auto& id : ids) impl_->ids.emplace(id, bdev);
  bdev->state_->app_thread = Thread::current();
  impl_->bdevs.push_back(bdev);

  for (const auto& weak : std::exchange(impl_->awaited, {})) {
    const auto waiter = weak.lock();
    if (waiter == nullptr) continue;
    if (find(waiter->name) != nullptr) {
      Thread::current()->send([waiter] { waiter->added(); });
    } else {
      impl_->awaited.push_back(weak);
    }
  }
  changed("bdev_register", *bdev);
  const auto asked_for = [&ids](const std::string& name) { return std::ranges::find(ids, folded(name)) != ids.end(); };
  if (impl_->auto_examine || std::ranges::any_of(impl_->to_examine, asked_for)) start_examination(bdev);
  return {};
}

void Registry::changed(std::string_view type, const Bdev& bdev) {
  if (impl_->change_listener && std::ranges::find(impl_->bdevs, &bdev, &std::shared_ptr<Bdev>::get) != impl_->bdevs.end()) {
    impl_->change_listener(type, bdev.name());
  }
}

void Registry::set_change_listener(std::function<void(std::string_view type, const std::string& name)> listener) {
  impl_->change_listener = std::move(listener);
}

void Registry::set_loss_listener(std::function<void(const Bdev& bdev)> listener) { impl_->loss_listener = std::move(listener); }

bool Bdev::is_lost() const { return state_->lost; }
bool Bdev::has_lasting_uuid() const { return !state_->uuid_made_up; }

void Registry::add_examiner(std::string module, Examiner examiner) { impl_->examiners.push_back({std::move(module), std::move(examiner)}); }

void Registry::set_auto_examine(bool on) { impl_->auto_examine = on; }

bool Registry::auto_examine() const { return impl_->auto_examine; }

// By message: whoever adds a bdev has often not finished with it.
void Registry::start_examination(const std::shared_ptr<Bdev>& bdev) {
  for (std::size_t i = 0; i < impl_->examiners.size(); ++i) {
    ++impl_->examinations;
    Thread::current()->send([this, i, bdev] { impl_->examiners[i].examine(bdev, [this] { examination_over(); }); });
  }
}

void Registry::examination_over() {
  if (--impl_->examinations > 0) return;
  for (auto& examined : std::exchange(impl_->when_examined, {})) examined();
}

Result<void> Registry::examine(std::string_view name_or_uuid) {
  const auto bdev = find(name_or_uuid);
  if (bdev == nullptr && impl_->auto_examine) return fail(ENODEV, fmt::format("No such device: there is no bdev '{}'", name_or_uuid));
  if (!impl_->auto_examine && std::ranges::find(impl_->to_examine, name_or_uuid) == impl_->to_examine.end()) {
    impl_->to_examine.emplace_back(name_or_uuid);
  }
  if (bdev != nullptr) start_examination(bdev);
  return {};
}

std::vector<std::string> Registry::names_to_examine() const { return impl_->to_examine; }

// A message of its own: examinations that are being started are counted by then, and the caller is not surprised.
void Registry::when_examined(std::move_only_function<void()> examined) {
  Thread::current()->send([this, examined = std::move(examined)]() mutable {
    if (impl_->examinations == 0) {
      examined();
    } else {
      impl_->when_examined.push_back(std::move(examined));
    }
  });
}

std::shared_ptr<Bdev> Registry::find(std::string_view name_or_uuid) const {
  auto found = impl_->ids.find(name_or_uuid);
  if (found == impl_->ids.end()) found = impl_->ids.find(folded(name_or_uuid));
  return found != impl_->ids.end() ? found->second : nullptr;
}

std::vector<std::shared_ptr<Bdev>> Registry::all() const { return impl_->bdevs; }

Result<std::unique_ptr<Descriptor>> Registry::open(std::string_view name, std::string opener, Claim claim, std::function<void(Event)> on_event) {
  auto bdev = find(name);
  if (bdev == nullptr) return fail(ENODEV, fmt::format("No such device: there is no bdev '{}'", name));
  const std::string& holder = bdev->state_->claimed_by;
  if (claim != Claim::none && !holder.empty() && (holder != opener || claim == Claim::exclusive || bdev->state_->claimed_exclusively)) {
    return fail(EBUSY, fmt::format("Device or resource busy: bdev '{}' is claimed by {}", bdev->name(), holder));
  }
  return std::unique_ptr<Descriptor>(new Descriptor(std::move(bdev), std::move(opener), claim, std::move(on_event)));
}

void Registry::remove(std::string_view name, std::move_only_function<void(Result<void>)> done, Removal why) {
  auto bdev = find(name);
  if (bdev == nullptr) {
    done(fail(ENODEV, fmt::format("No such device: there is no bdev '{}'", name)));
    return;
  }
  bdev->state_->lost = why == Removal::lost;
  if (bdev->state_->lost && impl_->loss_listener) impl_->loss_listener(*bdev);
  changed("bdev_unregister", *bdev);
  std::erase_if(impl_->ids, [&bdev](const auto& entry) { return entry.second == bdev; });
  std::erase(impl_->bdevs, bdev);
  impl_->removing.push_back(bdev);
  auto& state = *bdev->state_;
  state.removal_done = std::move(done);
  {
    const std::lock_guard lock(state.mutex);
    state.removed.store(true, std::memory_order_release);
    state.buckets = nullptr;
  }
  // What waits for its turn under a limit would keep the removal waiting.
  bdev->for_each_channel(
      [](Channel& channel) {
        channel.end_all_limited(Status::removed);
        channel.apply_limits(nullptr);
      },
      nullptr);
  for (Descriptor* descriptor : state.descriptors) descriptor->notify(Event::removed);
  finish_removal(bdev);
}

// Called whenever something a removal waits for has gone.
void Registry::finish_removal(const std::shared_ptr<Bdev>& bdev) {
  auto& state = *bdev->state_;
  if (!state.removed.load(std::memory_order_acquire) || state.destroying || !state.descriptors.empty()) return;
  {
    const std::lock_guard lock(state.mutex);
    if (!state.channels.empty() || state.ending_channels > 0) return;
  }
  state.destroying = true;
  bdev->destroy([this, bdev] {
    std::erase(impl_->removing, bdev);
    auto done = std::move(bdev->state_->removal_done);
    if (done) done({});
  });
}

std::string Registry::removal_waits_for(std::string_view name) const {
  std::string text;
  for (const auto& bdev : impl_->removing) {
    if (bdev->name() != name) continue;
    for (const Descriptor* descriptor : bdev->state_->descriptors) text += fmt::format("{}opener {}", text.empty() ? "" : ", ", descriptor->opener_);
    const std::lock_guard lock(bdev->state_->mutex);
    const auto channels = bdev->state_->channels.size() + bdev->state_->ending_channels;
    if (channels > 0) text += fmt::format("{}{} channel{}", text.empty() ? "" : ", ", channels, channels == 1 ? "" : "s");
    if (text.empty()) text = "its file to be closed";
  }
  return text;
}

std::string Registry::claimed_by(const Bdev& bdev) const { return bdev.state_->claimed_by; }

std::shared_ptr<void> Registry::when_added(std::string name_or_uuid, std::function<void()> added) {
  const bool there = find(name_or_uuid) != nullptr;
  auto waiter = std::make_shared<Awaited>(std::move(name_or_uuid), std::move(added));
  if (there) {
    Thread::current()->send([weak = std::weak_ptr(waiter)] {
      if (const auto alive = weak.lock()) alive->added();
    });
  } else {
    impl_->awaited.push_back(waiter);
  }
  return waiter;
}

Descriptor::Descriptor(std::shared_ptr<Bdev> bdev, std::string opener, Claim claim, std::function<void(Event)> on_event)
    : bdev_(std::move(bdev)),
      opener_(std::move(opener)),
      claim_(claim),
      on_event_(std::make_shared<std::function<void(Event)>>(std::move(on_event))) {
  auto& state = *bdev_->state_;
  state.descriptors.push_back(this);
  if (claim_ != Claim::none) {
    state.claimed_by = opener_;
    state.claimed_exclusively = claim_ == Claim::exclusive;
    ++state.claims;
  }
}

Descriptor::~Descriptor() {
  auto& state = *bdev_->state_;
  std::erase(state.descriptors, this);
  if (claim_ != Claim::none && --state.claims == 0) {
    state.claimed_by.clear();
    state.claimed_exclusively = false;
  }
  Registry::instance().finish_removal(bdev_);
}

void Descriptor::notify(Event event) {
  Thread::current()->send([weak = std::weak_ptr(on_event_), event] {
    const auto on_event = weak.lock();
    if (on_event != nullptr && *on_event) (*on_event)(event);
  });
}

}  // namespace catnap::bdev
