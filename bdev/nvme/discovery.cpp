// See discovery.h.
// Owner: app_thread. Left out: what discovery.h names.
#include "bdev/nvme/discovery.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "transport/nvme/features.h"
#include "transport/nvme/log_page.h"

namespace catnap::bdev {

DiscoveryService::Point::Point(TransportId address, Thread& thread) : id(std::move(address)), timer([this] { wake.call(); }), owner(thread) {}

DiscoveryService::DiscoveryService(NvmeModule& module, DiscoveryRequest request)
    : module_(module), request_(std::move(request)), attach_again_([this] { reconcile_later(); }) {}

std::shared_ptr<DiscoveryService> DiscoveryService::create(NvmeModule& module, DiscoveryRequest request) {
  return std::shared_ptr<DiscoveryService>(new DiscoveryService(module, std::move(request)));
}

// --- starting and stopping ---

Task<Result<void>> DiscoveryService::start() {
  const auto self = shared_from_this();
  const bool waits = request_.wait_for_attach || request_.attach_timeout_us > 0;
  if (waits) started_.emplace();
  add_point(request_.id);
  if (!waits) co_return Result<void>();
  const Promise<bool> started = *started_;
  Timer patience([this] {
    settle(fail(ETIMEDOUT,
                fmt::format("attach_timeout_ms {} is over, and not everything that {} shows is attached{}{}", request_.attach_timeout_us / 1000,
                            request_.id.text(), points_.front()->last_error.empty() ? "" : ": ", points_.front()->last_error)));
  });
  if (request_.attach_timeout_us > 0) module_.app_thread().arm_in_us(patience, request_.attach_timeout_us);
  const bool ended = co_await started;
  static_cast<void>(ended);
  co_return *outcome_;
}

// The first outcome is the answer of start().
void DiscoveryService::settle(Result<void> outcome) {
  if (!started_) return;
  outcome_ = std::move(outcome);
  const Promise<bool> started = *std::exchange(started_, std::nullopt);
  started.set(true);
}

Task<void> DiscoveryService::stop() {
  const auto self = shared_from_this();
  stopping_ = true;
  settle(fail(ECANCELED, fmt::format("discovery service {} was stopped", request_.name)));
  attach_again_.disarm();
  for (const auto& point : points_) {
    if (point->association) point->association->close(Error(ECANCELED, "the discovery service is stopped"));
    point->wake.call();
  }
  // What is just being attached is ended by detaching it.
  const std::vector<Entry> begun = entries_;
  for (const Entry& entry : begun) {
    if (entry.attached && !entry.ours) continue;
    const std::optional<TransportId> path(entry.id);
    const auto detached = co_await module_.detach(entry.name, path);
    if (!detached && detached.error().err != ENODEV) log_warning("discovery {}: {}", request_.name, detached.error().message);
  }
  if (running_ > 0) {
    ended_.emplace();
    const Promise<bool> ended = *ended_;
    const bool over = co_await ended;
    static_cast<void>(over);
  }
  // An attach that came through at the last moment.
  const std::vector<Entry> left = entries_;
  for (const Entry& entry : left) {
    if (!entry.ours) continue;
    const std::optional<TransportId> path(entry.id);
    const auto detached = co_await module_.detach(entry.name, path);
    static_cast<void>(detached);  // ENODEV for all that the first round had
  }
  entries_.clear();
  points_.clear();
}

// --- discovery controllers ---

AssociationOptions DiscoveryService::association_options(const TransportId& id) const {
  const NvmeOptions& common = module_.options();
  AssociationOptions options;
  options.id = id;
  options.id.subnqn = discovery_subsystem_nqn;
  options.hostnqn = request_.controller.hostnqn.empty() ? default_hostnqn() : request_.controller.hostnqn;
  options.hostid = request_.controller.hostid.value_or(hostid_for(options.hostnqn));
  options.discovery = true;
  options.kato_ms = common.keep_alive_timeout_ms;
  options.command_timeout_us = default_fabrics_timeout_us;
  options.credentials = credentials_of(request_.controller, common);
  options.psk = request_.controller.psk;
  options.psk_identity_version = request_.controller.psk_identity_version;
  if (common.tcp_connect_timeout_ms > 0) options.connect_timeout_us = common.tcp_connect_timeout_ms * std::uint64_t{1000};
  return options;
}

void DiscoveryService::add_point(const TransportId& id) {
  auto point = std::make_shared<Point>(id, module_.app_thread());
  points_.push_back(point);
  ++running_;
  spawn(run_point(point), [self = shared_from_this()] {
    if (--self->running_ == 0 && self->ended_) std::exchange(self->ended_, std::nullopt)->set(true);
  });
}

Task<void> DiscoveryService::run_point(std::shared_ptr<Point> point) {
  const auto self = shared_from_this();
  while (!stopping_ && !point->gone) {
    auto association = Association::create(module_.app_thread(), association_options(point->id));
    point->association = association;
    auto opened = co_await association->open();
    if (opened && !stopping_) {
      co_await follow_point(point, association);
    } else if (!opened) {
      point_failed(*point, opened.error());
    }
    point->connected = false;
    association->on_event(nullptr);
    association->on_lost(nullptr);
    co_await association->shut_down();
    association->close(Error(ECANCELED, "not needed any more"));
    point->association.reset();
    if (stopping_ || point->gone) break;
    point->owner.arm_in_us(point->timer, point->pause_us);
    point->pause_us = std::min(2 * point->pause_us, longest_pause_us);
    const Promise<bool> woken = point->wake.wait();
    const bool again = co_await woken;
    static_cast<void>(again);
    point->timer.disarm();
  }
}

void DiscoveryService::point_failed(Point& point, const Error& why) {
  if (stopping_) return;
  if (point.last_error != why.message) log_warning("discovery {}: {}: {}", request_.name, point.id.text(), why.message);
  point.last_error = why.message;
  // With a time limit of its own, start() gives the discovery controller until then.
  if (points_.front().get() == &point && request_.attach_timeout_us == 0) {
    settle(fail(why.err, fmt::format("discovery controller {}: {}", point.id.text(), why.message)));
  }
}

// From a connection's begin to its end.
Task<void> DiscoveryService::follow_point(std::shared_ptr<Point> point, std::shared_ptr<Association> association) {
  const auto self = shared_from_this();
  point->connected = true;
  point->changed = true;
  association->on_event([point](std::uint32_t) {
    point->changed = true;
    point->wake.call();
  });
  association->on_lost([self, point](const Error& why) {
    self->point_failed(*point, why);
    point->connected = false;
    point->wake.call();
  });
  association->on_late([weak = std::weak_ptr(association)](std::uint16_t, std::uint8_t opcode) {
    const auto late = weak.lock();
    if (late != nullptr) late->close(Error(ETIMEDOUT, fmt::format("no answer to admin command {:#x}", opcode)));
  });
  auto watched = co_await association->watch_events(nvme::aec_discovery_change);
  if (!watched) log_warning("discovery {}: {}: no events of changes: {}", request_.name, point->id.text(), watched.error().message);
  while (!stopping_ && !point->gone && point->connected) {
    if (std::exchange(point->changed, false)) {
      auto log = co_await read_log(association);
      if (!log) {
        point_failed(*point, log.error());
        co_return;
      }
      for (const std::string& what : log->left_out) log_warning("discovery {}: {}: {}", request_.name, point->id.text(), what);
      point->log = std::move(*log);
      point->last_error.clear();
      point->pause_us = first_pause_us;
      reconcile_later();
      continue;
    }
    const Promise<bool> woken = point->wake.wait();
    const bool again = co_await woken;
    static_cast<void>(again);
  }
}

// The whole log of one generation: read anew when it changed meanwhile.
Task<Result<DiscoveryLog>> DiscoveryService::read_log(std::shared_ptr<Association> association) {
  const auto self = shared_from_this();
  constexpr std::uint32_t head_bytes = sizeof(nvme::DiscoveryHeader);
  for (unsigned attempt = 0; attempt < max_rereads; ++attempt) {
    auto first = co_await association->log_page(nvme::LogPage::discovery, 0, 0, head_bytes, true);
    if (!first) co_return std::unexpected(first.error());
    auto head = parse_discovery_head(*first);
    if (!head) co_return std::unexpected(head.error());
    const auto bytes = static_cast<std::uint32_t>(head_bytes + head->entries * sizeof(nvme::DiscoveryEntry));
    // Reading the whole with RAE clear lets the next event come.
    auto page = co_await association->log_page(nvme::LogPage::discovery, 0, 0, bytes, false);
    if (!page) co_return std::unexpected(page.error());
    // Parts of a long page may be of different generations, so the number is asked for once more.
    auto last = co_await association->log_page(nvme::LogPage::discovery, 0, 0, head_bytes, true);
    if (!last) co_return std::unexpected(last.error());
    auto after = parse_discovery_head(*last);
    auto log = parse_discovery_log(*page, association->options().id);
    if (after && log && after->genctr == head->genctr && log->genctr == head->genctr) co_return std::move(*log);
    if (!after) co_return std::unexpected(after.error());
    if (!log && after->genctr == head->genctr) co_return std::unexpected(log.error());
  }
  co_return fail(EAGAIN, fmt::format("the discovery log changed {} times while it was read", max_rereads));
}

// --- what follows from the logs ---

void DiscoveryService::reconcile_later() {
  dirty_ = true;
  if (reconciling_ || stopping_) return;
  reconciling_ = true;
  ++running_;
  spawn(reconcile(), [self = shared_from_this()] {
    self->reconciling_ = false;
    if (--self->running_ == 0 && self->ended_) std::exchange(self->ended_, std::nullopt)->set(true);
  });
}

Task<void> DiscoveryService::reconcile() {
  const auto self = shared_from_this();
  while (std::exchange(dirty_, false) && !stopping_) {
    follow_referrals();
    co_await attach_missing();
    co_await detach_superfluous();
  }
  if (stopping_) co_return;
  const auto failed = std::ranges::find_if(entries_, [](const Entry& entry) { return !entry.attached; });
  if (failed == entries_.end()) {
    attach_pause_us_ = first_pause_us;
    settle(Result<void>());
    co_return;
  }
  if (request_.attach_timeout_us == 0) settle(fail(EIO, fmt::format("{} at {}: {}", failed->id.subnqn, failed->id.text(), failed->last_error)));
  module_.app_thread().arm_in_us(attach_again_, attach_pause_us_);
  attach_pause_us_ = std::min(2 * attach_pause_us_, longest_pause_us);
}

void DiscoveryService::follow_referrals() {
  // Reached from the first one over what the logs refer to: rings of referrals that nobody else names fall away.
  std::vector<TransportId> reached{points_.front()->id};
  for (std::size_t at = 0; at < reached.size(); ++at) {
    const auto point = std::ranges::find_if(points_, [&](const auto& one) { return one->id.text() == reached[at].text(); });
    if (point == points_.end() || !(*point)->log) continue;
    for (const TransportId& next : (*point)->log->referrals) {
      const bool known = std::ranges::any_of(reached, [&](const TransportId& id) { return id.text() == next.text(); });
      if (known) continue;
      if (reached.size() == max_points) {
        log_warning("discovery {}: the referral to {} is one too many, {} discovery controllers are followed", request_.name, next.text(),
                    max_points);
        continue;
      }
      reached.push_back(next);
    }
  }
  std::erase_if(points_, [&](const std::shared_ptr<Point>& point) {
    const bool stays = std::ranges::any_of(reached, [&](const TransportId& id) { return id.text() == point->id.text(); });
    if (stays) return false;
    point->gone = true;
    if (point->association) point->association->close(Error(ECANCELED, "no discovery log refers to it any more"));
    point->wake.call();
    return true;
  });
  for (const TransportId& id : reached) {
    const bool there = std::ranges::any_of(points_, [&](const auto& point) { return point->id.text() == id.text(); });
    if (!there) add_point(id);
  }
}

std::vector<TransportId> DiscoveryService::wanted() const {
  std::vector<TransportId> all;
  for (const auto& point : points_) {
    if (!point->log) continue;
    for (const TransportId& id : point->log->subsystems) {
      if (std::ranges::find(all, id) == all.end()) all.push_back(id);
    }
  }
  return all;
}

std::string DiscoveryService::name_for(const std::string& subnqn) {
  std::string known = DiscoveryServices::instance() != nullptr ? DiscoveryServices::instance()->name_of(subnqn) : std::string();
  if (!known.empty()) return known;
  for (const Entry& entry : entries_) {
    if (entry.id.subnqn == subnqn) return entry.name;
  }
  return fmt::format("{}{}", request_.name, next_number_++);
}

Task<void> DiscoveryService::attach_missing() {
  const auto self = shared_from_this();
  for (const TransportId& id : wanted()) {
    const bool known = std::ranges::any_of(entries_, [&](const Entry& entry) { return entry.id == id; });
    if (known) continue;
    Entry entry;
    entry.id = id;
    entry.name = name_for(id.subnqn);
    entries_.push_back(std::move(entry));
  }
  for (std::size_t at = 0; at < entries_.size() && !stopping_; ++at) {
    if (entries_[at].attached) continue;
    AttachRequest attach;
    attach.name = entries_[at].name;
    attach.id = entries_[at].id;
    attach.options = request_.controller;
    attach.options.multipath = MultipathMode::multipath;
    attach.options.from_discovery = true;
    const TransportId id = attach.id;
    auto attached = co_await module_.attach(std::move(attach));
    // The list may have changed meanwhile.
    const auto entry = std::ranges::find_if(entries_, [&](const Entry& one) { return one.id == id; });
    if (entry == entries_.end()) continue;
    // EALREADY: somebody attached it by hand.
    entry->ours = attached.has_value();
    entry->attached = entry->ours || attached.error().err == EALREADY;
    const std::string why = entry->attached ? std::string() : attached.error().message;
    if (!why.empty() && why != entry->last_error) {
      log_warning("discovery {}: {} at {} cannot be attached: {}", request_.name, id.subnqn, id.text(), why);
    }
    entry->last_error = why;
  }
}

Task<void> DiscoveryService::detach_superfluous() {
  const auto self = shared_from_this();
  const std::vector<TransportId> stay = wanted();
  const std::vector<Entry> known = entries_;
  for (const Entry& entry : known) {
    if (stopping_ || std::ranges::find(stay, entry.id) != stay.end()) continue;
    std::erase_if(entries_, [&](const Entry& one) { return one.id == entry.id; });
    if (!entry.ours) continue;
    const std::optional<TransportId> path(entry.id);
    const auto detached = co_await module_.detach(entry.name, path);
    if (!detached && detached.error().err != ENODEV) log_warning("discovery {}: {}", request_.name, detached.error().message);
  }
}

void DiscoveryService::controller_removed(const std::string& name, const TransportId& id) {
  for (Entry& entry : entries_) {
    if (entry.name != name || entry.id.text() != id.text() || !entry.attached) continue;
    entry.attached = false;
    entry.last_error = "its loss time-out is over";
    // Not at once: it was away for so long, and its log may say next that it is gone.
    module_.app_thread().arm_in_us(attach_again_, attach_pause_us_);
  }
}

// --- reports ---

std::vector<DiscoveryService::PointReport> DiscoveryService::points() const {
  std::vector<PointReport> reports;
  for (const auto& point : points_) {
    reports.push_back({point->id, point->connected, point->last_error, point->log ? point->log->referrals : std::vector<TransportId>()});
  }
  return reports;
}

bool DiscoveryService::follows(const TransportId& id) const {
  return std::ranges::any_of(points_, [&](const auto& point) { return point->id.text() == id.text(); });
}

// --- all of them ---

namespace {
std::unique_ptr<DiscoveryServices>& the_services() {
  static std::unique_ptr<DiscoveryServices> services;
  return services;
}
}  // namespace

DiscoveryServices* DiscoveryServices::instance() { return the_services().get(); }
void DiscoveryServices::set_instance(std::unique_ptr<DiscoveryServices> services) { the_services() = std::move(services); }

Task<Result<void>> DiscoveryServices::start(DiscoveryRequest request) {
  request.id.subnqn = discovery_subsystem_nqn;
  auto complete = complete_transport_id(request.id);
  if (!complete) co_return complete;
  if (request.controller.reconnect) {
    auto timeouts = check_reconnect_timeouts(*request.controller.reconnect);
    if (!timeouts) co_return timeouts;
  }
  for (const auto& service : services_) {
    if (service->request().name == request.name) co_return fail(EEXIST, fmt::format("there is a discovery service {} already", request.name));
    if (service->follows(request.id)) {
      co_return fail(EEXIST, fmt::format("discovery service {} follows {} already", service->request().name, request.id.text()));
    }
  }
  auto service = DiscoveryService::create(module_, std::move(request));
  services_.push_back(service);
  auto started = co_await service->start();
  if (started) co_return started;
  // Once: who has taken it out of the list meanwhile stops it.
  if (std::erase(services_, service) > 0) co_await service->stop();
  co_return started;
}

Task<Result<void>> DiscoveryServices::stop(std::string name) {
  const auto found = std::ranges::find_if(services_, [&](const auto& service) { return service->request().name == name; });
  if (found == services_.end()) co_return fail(ENODEV, fmt::format("there is no discovery service {}", name));
  const auto service = *found;
  services_.erase(found);
  co_await service->stop();
  co_return Result<void>();
}

Task<void> DiscoveryServices::stop_all() {
  const auto services = std::exchange(services_, {});
  for (const auto& service : services) co_await service->stop();
}

std::string DiscoveryServices::name_of(const std::string& subnqn) const {
  for (const auto& service : services_) {
    for (const auto& entry : service->entries()) {
      if (entry.id.subnqn == subnqn) return entry.name;
    }
  }
  return "";
}

void DiscoveryServices::controller_removed(const std::string& name, const TransportId& id) {
  for (const auto& service : services_) service->controller_removed(name, id);
}

}  // namespace catnap::bdev
