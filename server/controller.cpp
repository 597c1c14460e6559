// The controller's state machine, keep-alive and asynchronous events. See controller.h.
// Owner: the admin queue's thread. Left out: admin commands (admin_commands.cpp).
#include "server/controller.h"

#include <algorithm>
#include <utility>

#include "reactor/base/log_limit.h"
#include "server/discovery_view.h"
#include "server/server_log.h"
#include "transport/nvme/identify.h"

namespace catnap::server {

namespace {

LogLimit keep_alive_log;  // hosts may let controllers die as fast as they make them

// CC bits without meaning (Base 2.0 section 3.1.3.5).
constexpr std::uint32_t cc_reserved_bits = 0xFE00'000E;
constexpr unsigned property_value_byte = 48;
// Timers of all controllers fire on this grid, so that many share a wake-up.
constexpr std::uint32_t silence_grid_ms = 1000;

std::uint64_t round_up(std::uint64_t value, std::uint64_t step) { return (value + step - 1) / step * step; }

}  // namespace

std::uint32_t Controller::round_kato_ms(std::uint32_t kato_ms, const transport::TransportLimits& limits) {
  if (kato_ms == 0) return 0;
  const std::uint64_t granularity_ms = std::uint64_t{limits.keep_alive_granularity_100ms} * 100;
  const std::uint64_t most = std::uint64_t{0xFFFFFFFF} / granularity_ms * granularity_ms;
  return static_cast<std::uint32_t>(std::min(round_up(std::max(kato_ms, limits.min_kato_ms), granularity_ms), most));
}

Controller::Controller(ServerGroup& group, std::uint64_t queue_id, HostIdentity host, std::uint16_t cntlid, bool discovery, std::uint32_t kato_ms)
    : ServedQueue(group, queue_id, std::move(host)),
      cntlid_(cntlid),
      discovery_(discovery),
      kato_ms_(round_kato_ms(kato_ms, group.limits())),
      silence_timer_([this] { check_silence(); }) {
  shared_.granted_io_queues.store(group.limits().max_io_qpairs_per_ctrlr);
}

Controller::~Controller() = default;

const SubsystemSnapshot::ListenerEntry* Controller::listener(const SubsystemSnapshot& subsystem, const transport::CommandQueue& queue) {
  const transport::CommandQueue::Address& local = queue.local_address();
  return subsystem.listener_for(local.traddr, local.trsvcid);
}

std::uint32_t Controller::supported_events(const SubsystemSnapshot& subsystem) const {
  if (discovery_) return nvme::oaes_discovery_change | nvme::oaes_host_discovery_change;
  return nvme::oaes_namespace_attribute | (subsystem.ana_reporting ? nvme::oaes_ana_change : 0U);
}

std::uint64_t Controller::age_ns() const { return group_.thread().now_ns() - created_ns_; }

// --- keep-alive and other silence ---

void Controller::start() {
  created_ns_ = group_.thread().now_ns();
  rearm();
}

void Controller::set_kato_ms(std::uint32_t kato_ms) {
  kato_ms_ = round_kato_ms(kato_ms, group_.limits());
  rearm();
}

void Controller::set_advanced_command_retry(bool on) {
  features_.advanced_command_retry = on;
  const auto& target = group_.snapshot();
  const bool delay = on && target != nullptr && target->crdt_100ms[0] != 0;
  shared_.retry_delay_index.store(delay ? 1 : 0, std::memory_order_relaxed);
}

// How long this host may say nothing; 0: for ever.
std::uint64_t Controller::silence_limit_ms() const {
  if (!csts_.rdy || csts_.shst != nvme::ShutdownStatus::normal) return association_timeout_ms;
  // A granule more than agreed: the host's own timers and the way here take time.
  if (kato_ms_ != 0) return std::uint64_t{kato_ms_} + silence_grid_ms;
  return discovery_ ? discovery_activity_timeout_ms : 0;
}

void Controller::rearm() {
  const std::uint64_t limit_ms = silence_limit_ms();
  shared_.keep_alive.start(group_.thread().now_ns(), limit_ms * ns_per_ms);
  if (limit_ms == 0 || closed_) {
    silence_timer_.disarm();
    return;
  }
  group_.thread().arm_coarse(silence_timer_, limit_ms * 1000, std::uint64_t{silence_grid_ms} * 1000);
}

// Commands leave only a time stamp or a flag behind; this looks at them when the first moment of expiry has come.
void Controller::check_silence() {
  if (closed_) return;
  const std::uint64_t now_ns = group_.thread().now_ns();
  KeepAlive& keep_alive = shared_.keep_alive;
  if (!keep_alive.over(now_ns)) {
    if (keep_alive.end_ns() == KeepAlive::never_ns) return;
    group_.thread().arm_coarse(silence_timer_, (keep_alive.end_ns() - now_ns + 999) / 1000, std::uint64_t{silence_grid_ms} * 1000);
    return;
  }
  log_limited(keep_alive_log, LogLevel::notice, host().hostnqn, "Controller {} of {}: nothing heard from host {} for {} ms, ending it", cntlid_,
              host().subnqn, host().hostnqn, silence_limit_ms());
  // The host counts on it that nothing is carried out any more: its I/O queues do not wait for the admin queue's end.
  end_io_queues("keep-alive time-out", true);
  if (queue_ != nullptr) queue_->disconnect("keep-alive time-out");
}

// --- asynchronous events ---

void Controller::raise(AsyncEvents::Kind kind) {
  if (closed_) return;
  events_.raise(kind);
  deliver_events();
}

// Base 2.0 section 5.2: an error of the controller's own makes an event of type error, many of the medium's one of type SMART / health.
void Controller::note_error(nvme::Status status) {
  const auto tell = [this](AsyncEvents::Kind kind) {
    group_.thread().send([self = std::static_pointer_cast<Controller>(shared_from_this()), kind] { self->raise(kind); });
  };
  if (status.same_code(nvme::MediaStatus::write_fault) || status.same_code(nvme::MediaStatus::unrecovered_read_error)) {
    if (shared_.media_errors.fetch_add(1, std::memory_order_relaxed) + 1 == media_error_warning) tell(AsyncEvents::Kind::health);
  }
  if (status.same_code(nvme::GenericStatus::internal_error)) tell(AsyncEvents::Kind::error);
}

void Controller::namespaces_changed(const std::vector<std::uint32_t>& nsids) {
  if (closed_ || discovery_ || nsids.empty()) return;
  changed_namespaces_.insert(nsids.begin(), nsids.end());
  events_.raise(AsyncEvents::Kind::namespace_attribute);
  deliver_events();
}

void Controller::ana_changed() {
  if (closed_ || discovery_) return;
  events_.raise(AsyncEvents::Kind::ana_change);
  deliver_events();
}

void Controller::reservation_notice(std::uint32_t nsid, nvme::ReservationNotice type) {
  if (closed_ || discovery_ || !notifications_.add(nsid, type)) return;
  events_.raise(AsyncEvents::Kind::reservation_log);
  deliver_events();
}

void Controller::discovery_changed() {
  if (closed_ || !discovery_) return;
  events_.raise(AsyncEvents::Kind::discovery_log);
  deliver_events();
}

void Controller::host_log_changed(const std::string& subnqn, const std::string& hostnqn) {
  if (closed_ || !discovery_ || (hostnqn != host().hostnqn && !knows_hosts_of(*group().snapshot(), subnqn, host().hostnqn))) return;
  events_.raise(AsyncEvents::Kind::host_discovery_log);
  deliver_events();
}

void Controller::deliver_events() {
  while (!waiting_events_.empty()) {
    const auto kind = events_.take();
    if (!kind) return;
    transport::Request* request = waiting_events_.front();
    waiting_events_.erase(waiting_events_.begin());
    answer_async_event(*request, {}, AsyncEvents::dw0(*kind));
  }
}

void Controller::answer_async_event(transport::Request& request, nvme::Status status, std::uint32_t dw0) {
  request.cqe = {};
  request.cqe.dw0 = dw0;
  nvme::set_status(request.cqe, status);
  answered_events_.push_back(&request);
  request.queue->replan(request);
}

void Controller::release_async_events(nvme::Status status) {
  const std::vector<transport::Request*> released = std::exchange(waiting_events_, {});
  for (transport::Request* request : released) answer_async_event(*request, status, 0);
}

// --- properties ---

nvme::Cap Controller::cap() const {
  nvme::Cap cap;
  const auto here = subsystem();
  cap.nssrs = !discovery_ && here != nullptr && here->enable_nssr;
  cap.mqes = static_cast<std::uint16_t>(group_.limits().max_queue_depth - 1);
  cap.to = ready_timeout_500ms;
  cap.crwms = true;  // Base 2.0 section 3.1.3.1: CRMS; ready means that namespaces take commands
  return cap;
}

std::expected<std::uint64_t, CommandError> Controller::read_property(nvme::Property property, nvme::PropertySize size) const {
  const bool eight_bytes = size == nvme::PropertySize::eight_bytes;
  constexpr unsigned attrib_byte = 40;
  constexpr unsigned offset_byte = 44;
  if (size != nvme::PropertySize::four_bytes && !eight_bytes) return std::unexpected(invalid_field(attrib_byte));
  if (eight_bytes != (property == nvme::Property::cap)) {
    const bool known = property == nvme::Property::cap || property == nvme::Property::vs || property == nvme::Property::cc ||
                       property == nvme::Property::csts || property == nvme::Property::crto || (property == nvme::Property::nssr && cap().nssrs);
    return std::unexpected(invalid_field(known ? attrib_byte : offset_byte));
  }
  switch (property) {
    case nvme::Property::cap:
      return cap().value();
    case nvme::Property::vs:
      return nvme_version;
    case nvme::Property::cc:
      return cc_.value();
    case nvme::Property::csts:
      return csts_.value();
    case nvme::Property::nssr:  // reads as 0 (Base 2.0 section 3.1.3.7), where there is one
      if (!cap().nssrs) return std::unexpected(invalid_field(offset_byte));
      return std::uint64_t{0};
    case nvme::Property::crto: {
      nvme::Crto crto;
      crto.crwmt = ready_timeout_500ms;
      return crto.value();
    }
    default:
      return std::unexpected(invalid_field(offset_byte));
  }
}

CommandError Controller::write_property(nvme::Property property, nvme::PropertySize size, std::uint64_t value) {
  const bool nssr = property == nvme::Property::nssr && cap().nssrs;
  const bool csts = property == nvme::Property::csts && cap().nssrs;               // for NSSRO alone
  if (property != nvme::Property::cc && !nssr && !csts) return invalid_field(44);  // all others are read only or not there
  if (size != nvme::PropertySize::four_bytes) return invalid_field(40);
  const auto written = static_cast<std::uint32_t>(value);
  if (nssr) return write_nssr(written);
  if (csts) {
    if (nvme::Csts::from_value(written).nssro) csts_.nssro = false;  // written 1 to clear (Base 2.0 section 3.1.3.6)
    return {};
  }
  return write_cc(written);
}

// Base 2.0 section 3.1.3.7: any other value has no effect.
CommandError Controller::write_nssr(std::uint32_t value) {
  if (value != nvme::nssr_reset_value) return {};
  ControllerTable& table = group_.table();
  table.app_thread().send([&table, nqn = host().subnqn] { table.reset_subsystem(nqn); });
  return {};
}

// Base 2.0 section 3.7.1: a controller level reset of every controller, remembered in CSTS.NSSRO. Associations stay, as with CC.EN.
void Controller::subsystem_reset() {
  if (closed_) return;
  const bool was_enabled = std::exchange(cc_, {}).en;
  nssr_occurred_ = true;
  if (was_enabled) {
    disable();
  } else {
    csts_ = idle_csts();
  }
  rearm();
}

// Base 2.0 sections 3.1.3.5 (CC), 3.5 (initialisation), 3.6 (shutdown), 3.7.2 (controller reset).
CommandError Controller::write_cc(std::uint32_t value) {
  if ((value & cc_reserved_bits) != 0) {
    const auto bit = static_cast<unsigned>(std::countr_zero(value & cc_reserved_bits));
    return invalid_field(property_value_byte + bit / 8, bit % 8);
  }
  const nvme::Cc next = nvme::Cc::from_value(value);
  if (next.shn == nvme::ShutdownNotification::reserved) return invalid_field(property_value_byte + 1, 6);
  if (next.crime) return invalid_field(property_value_byte + 3);  // CAP.CRMS offers one mode alone
  if (next.en) {
    if (next.css != 0) return invalid_field(property_value_byte, 4);
    if (next.mps != 0) return invalid_field(property_value_byte, 7);
    if (next.ams != 0) return invalid_field(property_value_byte + 1, 3);
    if (!discovery_ && next.iosqes != 6) return invalid_field(property_value_byte + 2);
    if (!discovery_ && next.iocqes != 4) return invalid_field(property_value_byte + 2, 4);
  }
  // Enabling again while a reset still waits for I/O in flight: the host must see RDY = 0 first.
  if (next.en && !cc_.en && csts_.rdy) return {nvme::Status(nvme::GenericStatus::command_sequence_error), parameter_at(property_value_byte)};

  const nvme::Cc before = std::exchange(cc_, next);
  if (before.en && !next.en) {
    disable();
  } else if (!before.en && next.en) {
    enable();
  }
  const bool shutdown_asked = next.shn != nvme::ShutdownNotification::none && before.shn == nvme::ShutdownNotification::none;
  if (shutdown_asked && !(before.en && !next.en)) begin_shutdown();
  rearm();
  return {};
}

void Controller::enable() {
  log_info(log_nvmf, "Controller {} of {}: enabled by {}", cntlid_, host().subnqn, host().hostnqn);
  csts_ = idle_csts();
  csts_.rdy = true;
  if (!discovery_ && cc_.shn == nvme::ShutdownNotification::none) shared_.accepting_io.store(true);
}

// Not ready, and no word of anything but a subsystem reset that the host has not taken note of.
nvme::Csts Controller::idle_csts() {
  nvme::Csts csts;
  csts.nssro = csts_.nssro || std::exchange(nssr_occurred_, false);
  return csts;
}

void Controller::disable() {
  log_info(log_nvmf, "Controller {} of {}: reset by {}", cntlid_, host().subnqn, host().hostnqn);
  features_ = {};
  shared_.retry_delay_index.store(0);
  events_.reset();
  notifications_.reset();
  changed_namespaces_.clear();
  shared_.granted_io_queues.store(group_.limits().max_io_qpairs_per_ctrlr);
  release_async_events(nvme::GenericStatus::aborted_sq_deletion);
  if (!end_io_queues("controller reset")) csts_ = idle_csts();
}

void Controller::begin_shutdown() {
  log_info(log_nvmf, "Controller {} of {}: shut down by {}", cntlid_, host().subnqn, host().hostnqn);
  csts_.shst = end_io_queues("controller shutdown") ? nvme::ShutdownStatus::occurring : nvme::ShutdownStatus::complete;
}

bool Controller::end_io_queues(const char* reason, bool at_once) {
  shared_.accepting_io.store(false);
  if (shared_.io_queues.load() == 0) return false;
  ControllerTable& table = group_.table();
  table.app_thread().send([&table, nqn = host().subnqn, cntlid = cntlid_, reason, at_once] { table.end_io_queues(nqn, cntlid, reason, at_once); });
  return true;
}

void Controller::io_queues_ended() {
  if (closed_) return;
  if (!cc_.en) {
    csts_ = idle_csts();
  } else if (csts_.shst == nvme::ShutdownStatus::occurring) {
    csts_.shst = nvme::ShutdownStatus::complete;
  }
  rearm();
}

// --- the end ---

void Controller::queue_closed(transport::CommandQueue&) {
  CATNAP_CHECK(waiting_events_.empty() && answered_events_.empty());
  end_authentication();
  closed_ = true;
  queue_ = nullptr;
  shared_.accepting_io.store(false);
  silence_timer_.disarm();
  ControllerTable& table = group_.table();
  table.app_thread().send([&table, nqn = host().subnqn, cntlid = cntlid_] { table.admin_closed(nqn, cntlid); });
  group_.forget(*this);  // may be the last reference here, not in the table
}

}  // namespace catnap::server
