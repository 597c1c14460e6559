// See module.h.
#include "bdev/nvme/module.h"

#include <fmt/core.h>

#include <algorithm>

#include "bdev/nvme/discovery.h"
#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "reactor/runtime.h"

namespace catnap::bdev {
namespace {

NvmeModule* the_module = nullptr;

bool matches(const TransportId& id, const TransportId& wanted) {
  const auto fits = [](const std::string& is, const std::string& want) { return want.empty() || is == want; };
  return fits(id.traddr, wanted.traddr) && fits(id.trsvcid, wanted.trsvcid) && fits(id.adrfam, wanted.adrfam) && fits(id.subnqn, wanted.subnqn) &&
         fits(id.hostaddr, wanted.hostaddr) && fits(id.hostsvcid, wanted.hostsvcid);
}

}  // namespace

NvmeModule::NvmeModule(Thread& app_thread, Topology topology) : app_thread_(app_thread), topology_(std::move(topology)) {
  CATNAP_CHECK(the_module == nullptr);
  the_module = this;
}

NvmeModule::~NvmeModule() { the_module = nullptr; }

NvmeModule* NvmeModule::instance() { return the_module; }

std::optional<unsigned> NvmeModule::cpu_of(const Thread& thread) const {
  const Reactor* reactor = thread.reactor();
  if (reactor == nullptr) return std::nullopt;
  const Runtime* runtime = Runtime::instance();
  if (runtime != nullptr && reactor == &runtime->control()) return std::nullopt;
  return topology_.node_of(reactor->lcore()) ? std::optional(reactor->lcore()) : std::nullopt;
}

std::shared_ptr<NvmeSubsystem> NvmeModule::find(const std::string& name) const {
  const auto found = std::ranges::find_if(subsystems_, [&name](const auto& subsystem) { return subsystem->name() == name; });
  return found != subsystems_.end() ? *found : nullptr;
}

std::vector<std::shared_ptr<NvmeSubsystem>> NvmeModule::all() const { return subsystems_; }

std::shared_ptr<NvmeSubsystem> NvmeModule::subsystem_of(const std::string& bdev_name) const {
  const auto found = std::ranges::find_if(subsystems_, [&bdev_name](const auto& subsystem) {
    return std::ranges::any_of(subsystem->bdevs(), [&bdev_name](const auto& entry) { return entry.second->name() == bdev_name; });
  });
  return found != subsystems_.end() ? *found : nullptr;
}

std::shared_ptr<NvmeBdev> NvmeModule::find_bdev(const std::string& bdev_name) const {
  return std::dynamic_pointer_cast<NvmeBdev>(Registry::instance().find(bdev_name));
}

// --- attaching ---

Task<Result<std::vector<std::string>>> NvmeModule::attach(AttachRequest request) {
  if (auto complete = complete_transport_id(request.id); !complete) co_return std::unexpected(complete.error());
  const ReconnectTimeouts timeouts = request.options.reconnect.value_or(options_.reconnect);
  if (auto fits = check_reconnect_timeouts(timeouts); !fits) co_return std::unexpected(fits.error());
  if (std::ranges::find(attaching_, request.name) != attaching_.end()) {
    co_return fail(EBUSY, fmt::format("a controller named {} is being attached", request.name));
  }
  auto subsystem = find(request.name);
  if (subsystem != nullptr) {
    if (auto joins = subsystem->may_join(request.id, request.options); !joins) co_return std::unexpected(joins.error());
    request.options.hostnqn = subsystem->controllers().front()->options().hostnqn;
    request.options.hostid = subsystem->controllers().front()->options().hostid;
    if (request.options.multipath == MultipathMode::failover) {
      const auto controller = subsystem->controllers().front();
      attaching_.push_back(request.name);
      auto there = co_await controller->try_address(request.id);
      std::erase(attaching_, request.name);
      if (!there) co_return std::unexpected(there.error());
      controller->add_alternate(request.id);
      co_return subsystem->bdev_names();
    }
  }
  attaching_.push_back(request.name);
  auto controller = NvmeController::create(*this, request.name, request.id, request.options);
  connecting_.push_back(controller);
  auto attached = co_await controller->attach();
  std::erase(attaching_, request.name);
  std::erase(connecting_, controller);
  if (!attached) {
    co_await controller->detach();
    co_return std::unexpected(attached.error());
  }
  subsystem = find(request.name);  // it may have gone meanwhile
  if (subsystem == nullptr) {
    subsystem = std::make_shared<NvmeSubsystem>(*this, request.name);
    subsystems_.push_back(subsystem);
  }
  join(subsystem, controller);
  co_await subsystem->follow();  // so that the answer has all
  co_return subsystem->bdev_names();
}

void NvmeModule::join(const std::shared_ptr<NvmeSubsystem>& subsystem, const std::shared_ptr<NvmeController>& controller) {
  controller->on_give_up([this, weak_subsystem = std::weak_ptr(subsystem), weak = std::weak_ptr(controller)] {
    const auto from = weak_subsystem.lock();
    const auto lost = weak.lock();
    if (from == nullptr || lost == nullptr) return;
    if (loss_listener_) loss_listener_(*from, *lost);
    spawn(drop(from, lost, Removal::lost));
    if (DiscoveryServices::instance() != nullptr) DiscoveryServices::instance()->controller_removed(lost->name(), lost->id());
  });
  subsystem->add(controller);
}

// A controller goes; with the last one, the bdevs.
Task<void> NvmeModule::drop(std::shared_ptr<NvmeSubsystem> subsystem, std::shared_ptr<NvmeController> controller, Removal why) {
  const auto& all = subsystem->controllers();
  if (std::ranges::find(all, controller) == all.end()) co_return;
  if (all.size() == 1) {
    std::erase(subsystems_, subsystem);
    controller->on_change(nullptr);
    controller->fail_io();  // so that bdevs are not waited for by I/O that waits for this controller
    co_await subsystem->remove_bdevs(why);
    // Another name for the same namespaces may have waited for their UUIDs.
    for (const auto& other : subsystems_) spawn(other->follow());
  }
  subsystem->remove(controller);
  co_await controller->detach();
}

Task<Result<void>> NvmeModule::detach(std::string name, std::optional<TransportId> path) {
  for (const auto& controller : connecting_) {
    if (controller->name() == name && (!path || matches(controller->id(), *path))) spawn(controller->detach());
  }
  const auto subsystem = find(name);
  if (subsystem == nullptr) {
    if (std::ranges::find(attaching_, name) != attaching_.end()) co_return Result<void>();
    co_return fail(ENODEV, fmt::format("No such device: there is no controller named {}", name));
  }
  bool found = false;
  const auto controllers = subsystem->controllers();
  for (const auto& controller : controllers) {
    if (!path) {
      found = true;
      co_await drop(subsystem, controller, Removal::wanted);
      continue;
    }
    // Reserve addresses first: they go without anybody noticing.
    for (const TransportId& other : controller->alternates()) {
      if (matches(other, *path)) found = controller->remove_address(other) || found;
    }
    if (!matches(controller->id(), *path)) continue;
    found = true;
    if (controller->remove_address(controller->id())) {
      auto ended = [](Result<void>) {};
      spawn<Result<void>>(controller->reset(), ended);
    } else {
      co_await drop(subsystem, controller, Removal::wanted);
    }
  }
  if (!found) co_return fail(ENODEV, fmt::format("No such device: controller {} has no such path", name));
  co_return Result<void>();
}

void NvmeModule::keep_fences(std::string key, std::shared_ptr<const WriteFences> fences) {
  const std::uint64_t now_ns = app_thread_.now_ns();
  std::erase_if(kept_fences_, [now_ns](const auto& entry) { return entry.second->over(now_ns); });
  if (!fences->over(now_ns)) kept_fences_[std::move(key)] = std::move(fences);
}

std::shared_ptr<const WriteFences> NvmeModule::kept_fences(const std::string& key) const {
  const auto found = kept_fences_.find(key);
  if (found == kept_fences_.end()) return nullptr;
  return found->second->over(app_thread_.now_ns()) ? nullptr : found->second;
}

// All at once, as each may take a moment to say goodbye.
Task<void> NvmeModule::shut_down() {
  // First, as it would attach anew.
  if (DiscoveryServices::instance() != nullptr) {
    co_await DiscoveryServices::instance()->stop_all();
    DiscoveryServices::set_instance(nullptr);
  }
  struct Round {
    std::size_t left = 1;
    Promise<bool> done;
    void one_less() {
      if (--left == 0) done.set(true);
    }
  };
  auto round = std::make_shared<Round>();
  for (const auto& controller : connecting_) {
    ++round->left;
    spawn(controller->detach(), [round] { round->one_less(); });
  }
  const auto subsystems = subsystems_;
  for (const auto& subsystem : subsystems) {
    const auto controllers = subsystem->controllers();
    for (const auto& controller : controllers) {
      ++round->left;
      spawn(drop(subsystem, controller, Removal::wanted), [round] { round->one_less(); });
    }
  }
  const Promise<bool> done = round->done;
  round->one_less();
  const bool all_gone = co_await done;
  static_cast<void>(all_gone);
}

// --- options ---

Result<void> NvmeModule::set_options(const NvmeOptions& options) {
  if (auto fits = check_reconnect_timeouts(options.reconnect); !fits) return fits;
  for (const auto& [field, period_us] :
       {std::pair("nvme_adminq_poll_period_us", options.admin_poll_period_us()), std::pair("nvme_ioq_poll_period_us", options.io_poll_period_us())}) {
    if (period_us == 0 || (period_us >= min_poll_period_us && period_us <= max_poll_period_us)) continue;
    return fail(EINVAL, fmt::format("{} {} is not 0 or from {} to {}", field, period_us, min_poll_period_us, max_poll_period_us));
  }
  options_ = options;
  options_changed_ = true;
  for (const auto& subsystem : subsystems_) {
    for (const auto& controller : subsystem->controllers()) controller->options_changed();
    spawn(subsystem->follow());
  }
  return {};
}

}  // namespace catnap::bdev
