// See association.h.
#include "bdev/nvme/association.h"

#include <fmt/core.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "reactor/buffer_pool.h"
#include "transport/nvme/features.h"

namespace catnap::bdev {
namespace {

using nvme::Property;
using tcp::HostRequest;

// Admin commands that may be outstanding: a scan's few, keep-alive, one event request, RPCs. As Linux.
constexpr std::uint16_t admin_entries = 32;
// How often CSTS is asked while a controller gets ready or shuts down. Most are at the first answer.
constexpr std::uint64_t csts_poll_us = 10'000;

struct StatusName {
  nvme::Status status;
  const char* name;
};
constexpr StatusName status_names[] = {
    {nvme::GenericStatus::success, "success"},
    {nvme::GenericStatus::invalid_opcode, "invalid opcode"},
    {nvme::GenericStatus::invalid_field, "invalid field in command"},
    {nvme::GenericStatus::data_transfer_error, "data transfer error"},
    {nvme::GenericStatus::internal_error, "internal error"},
    {nvme::GenericStatus::abort_requested, "command abort requested"},
    {nvme::GenericStatus::aborted_sq_deletion, "aborted by the end of the queue"},
    {nvme::GenericStatus::invalid_namespace_or_format, "invalid namespace or format"},
    {nvme::GenericStatus::command_sequence_error, "command sequence error"},
    {nvme::GenericStatus::transient_transport_error, "transient transport error"},
    {nvme::GenericStatus::lba_out_of_range, "LBA out of range"},
    {nvme::GenericStatus::namespace_not_ready, "namespace not ready"},
    {nvme::GenericStatus::reservation_conflict, "reservation conflict"},
    {nvme::CommandStatus::invalid_log_page, "invalid log page"},
    {nvme::CommandStatus::feature_not_changeable, "feature not changeable"},
    {nvme::CommandStatus::async_event_limit_exceeded, "asynchronous event request limit exceeded"},
    {nvme::MediaStatus::write_fault, "write fault"},
    {nvme::MediaStatus::unrecovered_read_error, "unrecovered read error"},
    {nvme::MediaStatus::compare_failure, "compare failure"},
    {nvme::PathStatus::ana_inaccessible, "asymmetric access inaccessible"},
    {nvme::PathStatus::ana_persistent_loss, "asymmetric access persistent loss"},
    {nvme::PathStatus::ana_transition, "asymmetric access transition"},
};

void copy_nqn(std::array<char, nvme::nqn_field_bytes>& to, const std::string& nqn) {
  std::memcpy(to.data(), nqn.data(), std::min(nqn.size(), to.size() - 1));
}

}  // namespace

std::string status_text(nvme::Status status) {
  const auto* found = std::ranges::find_if(status_names, [status](const StatusName& entry) { return entry.status.same_code(status); });
  return fmt::format("{} (status type {:#x}, code {:#x}{})", found != std::end(status_names) ? found->name : "status",
                     static_cast<unsigned>(status.sct), status.sc, status.dnr ? ", do not retry" : "");
}

Result<tcp::HostQueueOptions> queue_options(const AssociationOptions& options, std::uint16_t cntlid) {
  tcp::HostQueueOptions queue;
  auto address = tcp::parse_address(options.id.traddr, options.id.trsvcid, options.id.adrfam);
  if (!address) return std::unexpected(address.error());
  queue.address = *address;
  if (!options.id.hostaddr.empty()) {
    auto source = tcp::parse_address(options.id.hostaddr, options.id.hostsvcid.empty() ? "1" : options.id.hostsvcid, options.id.adrfam);
    if (!source) return std::unexpected(source.error());
    // Port 0, the kernel's choice, is none that parse_address takes.
    if (options.id.hostsvcid.empty()) {
      auto& storage = source->storage;
      if (storage.ss_family == AF_INET) {
        reinterpret_cast<sockaddr_in&>(storage).sin_port = 0;
      } else {
        reinterpret_cast<sockaddr_in6&>(storage).sin6_port = 0;
      }
    }
    queue.source = *source;
  }
  queue.header_digest = options.hdgst;
  queue.data_digest = options.ddgst;
  queue.disable_sq_flow_control = options.disable_sq_flow_control;
  queue.connect.hostid = options.hostid;
  queue.connect.cntlid = cntlid;
  copy_nqn(queue.connect.subnqn, options.id.subnqn);
  copy_nqn(queue.connect.hostnqn, options.hostnqn);
  queue.connect_timeout_us = options.connect_timeout_us;
  queue.fabrics_timeout_us = options.fabrics_timeout_us;
  queue.poll_period_us = options.poll_period_us;
  queue.sock_priority = options.sock_priority;
  queue.user_timeout_ms = options.user_timeout_ms;
  queue.credentials = options.credentials;
  queue.psk = options.psk;
  queue.psk_identity_version = options.psk_identity_version;
  queue.generated_psk = options.channel_key;
  return queue;
}

// A command under way; keeps itself until it is over, as its sequence may be given up meanwhile.
struct Association::Pending {
  HostRequest request;
  AdminAnswer answer;
  iovec iov{};
  Promise<bool> done;
  std::shared_ptr<Pending> self;
};

std::shared_ptr<Association> Association::create(Thread& app_thread, AssociationOptions options) {
  return std::shared_ptr<Association>(new Association(app_thread, std::move(options)));
}

Association::Association(Thread& app_thread, AssociationOptions options)
    : thread_(app_thread),
      options_(std::move(options)),
      data_(std::make_unique<nvme::IdentifyController>()),
      keep_alive_timer_([this] { keep_alive_due(); }) {}

Association::~Association() { CATNAP_CHECK(queue_ == nullptr); }

// --- connecting ---

Task<Result<void>> Association::open() {
  const auto keep = shared_from_this();
  auto options = queue_options(options_, nvme::cntlid_dynamic);
  if (!options) co_return std::unexpected(options.error());
  options->qid = 0;
  options->entries = admin_entries;
  options->kato_ms = options_.kato_ms;
  options->command_timeout_us = options_.fabrics_timeout_us;  // of the handshake
  options->poll_period_us = 0;
  if (options_.concatenate) {
    auto made = co_await make_channel_key(*options);
    if (!made) co_return made;
    options->generated_psk = options_.channel_key;
  }
  tcp::HostQueueUser& user = *this;
  queue_ = std::make_unique<tcp::HostQueue>(thread_, std::move(*options), user);
  self_ = keep;  // until queue_ended()
  queue_->connect();
  const bool connected = co_await connected_;
  if (!connected) co_return std::unexpected(why_);
  auto shaken = co_await handshake();
  if (!shaken) {
    close(shaken.error());
    co_return shaken;
  }
  if (queue_ == nullptr || queue_->over()) co_return std::unexpected(why_);
  open_ = true;
  queue_->set_command_timeout_us(options_.command_timeout_us);
  queue_->set_poll_period_us(options_.poll_period_us);
  if (options_.kato_ms > 0) thread_.arm_coarse(keep_alive_timer_, keep_alive_delay_us(), keep_alive_grid_us());
  co_return Result<void>();
}

// A key for this association alone: the last one's is not asked for again, so what that one said stays secret whatever becomes of this one's.
Task<Result<void>> Association::make_channel_key(tcp::HostQueueOptions options) {
  const auto keep = shared_from_this();
  const auto making = std::make_shared<ChannelKeyMaking>(thread_, std::move(options));
  making_ = making;
  auto key = co_await making->run();
  const bool closed = std::exchange(making_, nullptr) == nullptr;
  if (!key) co_return std::unexpected(key.error());
  if (closed) co_return std::unexpected(why_);
  options_.channel_key = std::move(*key);
  co_return Result<void>();
}

Task<Result<void>> Association::handshake() {
  const auto keep = shared_from_this();
  auto cap = co_await get_property(Property::cap, true);
  if (!cap) co_return std::unexpected(cap.error());
  cap_ = *cap;
  auto version = co_await get_property(Property::vs, false);
  if (!version) co_return std::unexpected(version.error());
  version_ = static_cast<std::uint32_t>(*version);
  auto enabled = co_await enable();
  if (!enabled) co_return enabled;
  auto data = co_await identify(nvme::Cns::controller, 0);
  if (!data) co_return std::unexpected(data.error());
  std::memcpy(data_.get(), data->data(), sizeof *data_);
  if (data_->kas == 0) options_.kato_ms = 0;  // no keep-alive there
  co_return Result<void>();
}

Task<Result<void>> Association::enable() {
  const auto keep = shared_from_this();
  const nvme::Cap cap = nvme::Cap::from_value(cap_);
  // CAP.TO is the controller's promise; one that gives none gets what other steps get.
  const std::uint64_t within_us = std::max<std::uint64_t>(cap.to * std::uint64_t{500'000}, options_.fabrics_timeout_us);
  nvme::Cc cc;
  cc.css = cap.css_iocss ? 6 : 0;
  cc.iosqes = 6;
  cc.iocqes = 4;
  auto before = co_await get_property(Property::cc, false);
  if (!before) co_return std::unexpected(before.error());
  bool wanted = nvme::Cc::from_value(static_cast<std::uint32_t>(*before)).en;  // a static controller may be enabled from before
  for (int step = wanted ? 0 : 1; step < 2; ++step) {
    cc.en = wanted = step == 1;
    auto set = co_await set_property(Property::cc, cc.value());
    if (!set) co_return set;
    auto ready = co_await wait_for_ready(wanted, thread_.now_ns() + within_us * ns_per_us);
    if (!ready) co_return ready;
  }
  co_return Result<void>();
}

Task<Result<void>> Association::wait_for_ready(bool wanted, std::uint64_t until_ns) {
  const auto keep = shared_from_this();
  for (;;) {
    auto value = co_await get_property(Property::csts, false);
    if (!value) co_return std::unexpected(value.error());
    const nvme::Csts csts = nvme::Csts::from_value(static_cast<std::uint32_t>(*value));
    if (csts.cfs) co_return fail(EIO, fmt::format("the controller reports a fatal error (CSTS {:#x})", *value));
    if (csts.rdy == wanted) co_return Result<void>();
    if (thread_.now_ns() >= until_ns) {
      co_return fail(ETIMEDOUT, fmt::format("CSTS.RDY did not become {} in time (CSTS {:#x})", wanted ? 1 : 0, *value));
    }
    co_await SleepFor(csts_poll_us);
  }
}

Task<Result<std::uint64_t>> Association::get_property(Property property, bool eight_bytes) {
  const auto keep = shared_from_this();
  nvme::PropertyCommand command;
  command.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics);
  command.fctype = static_cast<std::uint8_t>(nvme::FabricsType::property_get);
  command.attrib = static_cast<std::uint8_t>(eight_bytes ? nvme::PropertySize::eight_bytes : nvme::PropertySize::four_bytes);
  command.offset = static_cast<std::uint32_t>(property);
  AdminCommand admin_command;
  admin_command.sqe = nvme::view_as<nvme::SubmissionEntry>(command);
  auto answer = co_await admin(std::move(admin_command));
  if (!answer) co_return std::unexpected(answer.error());
  if (!answer->status().is_success()) {
    co_return fail(EIO, fmt::format("Property Get of {:#x}: {}", static_cast<std::uint32_t>(property), status_text(answer->status())));
  }
  co_return eight_bytes ? answer->cqe.dw0_dw1() : std::uint64_t{std::uint32_t{answer->cqe.dw0}};
}

Task<Result<void>> Association::set_property(Property property, std::uint32_t value) {
  const auto keep = shared_from_this();
  nvme::PropertyCommand command;
  command.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics);
  command.fctype = static_cast<std::uint8_t>(nvme::FabricsType::property_set);
  command.offset = static_cast<std::uint32_t>(property);
  command.value = value;
  AdminCommand admin_command;
  admin_command.sqe = nvme::view_as<nvme::SubmissionEntry>(command);
  auto answer = co_await admin(std::move(admin_command));
  if (!answer) co_return std::unexpected(answer.error());
  if (!answer->status().is_success()) {
    co_return fail(EIO,
                   fmt::format("Property Set of {:#x} to {:#x}: {}", static_cast<std::uint32_t>(property), value, status_text(answer->status())));
  }
  co_return Result<void>();
}

Task<Result<void>> Association::authenticate(std::shared_ptr<const dhchap::HostCredentials> credentials) {
  const auto keep = shared_from_this();
  options_.credentials = credentials;
  if (queue_ == nullptr) co_return Result<void>();
  if (!open_) {
    // Being connected: these are what it authenticates with, unless it has begun with others.
    queue_->authenticate(std::move(credentials), [](const Result<void>&) {});
    co_return Result<void>();
  }
  const Promise<Result<void>> done;
  queue_->authenticate(std::move(credentials), [done](const Result<void>& outcome) { done.set(outcome); });
  const Result<void> outcome = co_await done;
  if (outcome && queue_ != nullptr) options_.channel_key = queue_->options().generated_psk;  // another one with concatenation
  co_return outcome;
}

// --- commands ---

Task<Result<AdminAnswer>> Association::admin(AdminCommand command) {
  const auto keep = shared_from_this();
  if (queue_ == nullptr || !queue_->ready()) {
    co_return fail(ENOTCONN, fmt::format("not connected to {}: {}", options_.id.text(), why_.message));
  }
  auto pending = std::make_shared<Pending>();
  pending->self = pending;
  pending->answer.data = std::move(command.data);
  pending->iov = {pending->answer.data.data(), pending->answer.data.size()};
  HostRequest& request = pending->request;
  request.sqe = command.sqe;
  request.direction = command.direction;
  if (command.direction != transport::DataDirection::none) {
    request.iov = &pending->iov;
    request.iov_count = 1;
    request.data_bytes = static_cast<std::uint32_t>(pending->iov.iov_len);
  }
  request.context = pending.get();
  request.done = &Association::admin_done;
  const Promise<bool> done = pending->done;
  queue_->submit(request);
  const bool answered = co_await done;
  if (!answered) co_return std::unexpected(why_);
  pending->answer.cqe = request.cqe;
  co_return std::move(pending->answer);
}

void Association::admin_done(HostRequest& request) {
  auto& pending = *static_cast<Pending*>(request.context);
  const auto keep = std::move(pending.self);
  pending.done.set(request.outcome == HostRequest::Outcome::answered);
}

Task<Result<std::vector<std::byte>>> Association::identify(nvme::Cns cns, std::uint32_t nsid) {
  const auto keep = shared_from_this();
  AdminCommand command;
  command.sqe.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::identify);
  command.sqe.nsid = nsid;
  command.sqe.cdw10 = static_cast<std::uint32_t>(cns);
  command.direction = transport::DataDirection::controller_to_host;
  command.data.resize(nvme::identify_bytes);
  auto answer = co_await admin(std::move(command));
  if (!answer) co_return std::unexpected(answer.error());
  if (!answer->status().is_success()) {
    const bool gone = answer->status().same_code(nvme::GenericStatus::invalid_namespace_or_format);
    co_return fail(gone ? ENODEV : EIO,
                   fmt::format("Identify CNS {:#x} of NSID {}: {}", static_cast<unsigned>(cns), nsid, status_text(answer->status())));
  }
  co_return std::move(answer->data);
}

Task<Result<std::vector<std::byte>>> Association::log_page(nvme::LogPage page, std::uint32_t nsid, std::uint64_t offset_bytes,
                                                           std::uint32_t size_bytes, bool retain_event) {
  const auto keep = shared_from_this();
  std::vector<std::byte> all;
  while (all.size() < size_bytes) {
    const std::uint64_t offset = offset_bytes + all.size();
    const std::uint32_t part = std::min<std::uint32_t>(size_bytes - static_cast<std::uint32_t>(all.size()), max_transfer_bytes());
    // The first piece lets the controller tell of changes again, so that one between two pieces is not lost.
    const bool first = all.empty();
    const std::uint32_t dwords = part / 4 - 1;
    AdminCommand command;
    command.sqe.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::get_log_page);
    command.sqe.nsid = nsid;
    command.sqe.cdw10 = static_cast<std::uint32_t>(page) | (retain_event || !first ? 1U << 15 : 0U) | (dwords & 0xFFFF) << 16;
    command.sqe.cdw11 = dwords >> 16;
    command.sqe.cdw12 = static_cast<std::uint32_t>(offset);
    command.sqe.cdw13 = static_cast<std::uint32_t>(offset >> 32);
    command.direction = transport::DataDirection::controller_to_host;
    command.data.resize(part);
    auto answer = co_await admin(std::move(command));
    if (!answer) co_return std::unexpected(answer.error());
    if (!answer->status().is_success()) {
      co_return fail(EIO, fmt::format("Get Log Page {:#x} at {}: {}", static_cast<unsigned>(page), offset, status_text(answer->status())));
    }
    all.insert(all.end(), answer->data.begin(), answer->data.end());
  }
  co_return all;
}

// --- events ---

Task<Result<void>> Association::watch_events(std::uint32_t wanted) {
  const auto keep = shared_from_this();
  AdminCommand command;
  command.sqe.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::set_features);
  command.sqe.cdw10 = static_cast<std::uint32_t>(nvme::Feature::async_event_configuration);
  command.sqe.cdw11 = wanted & data_->oaes;
  auto answer = co_await admin(std::move(command));
  if (!answer) co_return std::unexpected(answer.error());
  if (!answer->status().is_success()) {
    co_return fail(EIO, fmt::format("Set Features, asynchronous events {:#x}: {}", wanted & data_->oaes, status_text(answer->status())));
  }
  if (!std::exchange(wants_events_, true)) ask_for_event();
  co_return Result<void>();
}

void Association::ask_for_event() {
  if (queue_ == nullptr || !queue_->ready()) return;
  event_request_.sqe = {};
  event_request_.sqe.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::async_event_request);
  event_request_.late = true;  // waits for as long as nothing happens
  event_request_.context = this;
  event_request_.done = [](HostRequest& request) {
    auto& association = *static_cast<Association*>(request.context);
    if (request.outcome != HostRequest::Outcome::answered) return;
    if (!request.status().is_success()) {
      log_warning("{}: Asynchronous Event Request: {}; no events come from now on", association.options_.id.text(), status_text(request.status()));
      return;
    }
    const std::uint32_t dw0 = request.cqe.dw0;
    association.ask_for_event();
    if (association.event_handler_) association.event_handler_(dw0);
  };
  queue_->submit(event_request_);
}

// --- keep-alive ---

// Twice per KATO, as far as the grid that connections share allows: three quarters of it at the latest.
std::uint64_t Association::keep_alive_delay_us() const { return options_.kato_ms * std::uint64_t{1000} / 2; }
std::uint64_t Association::keep_alive_grid_us() const { return std::max<std::uint64_t>(options_.kato_ms * std::uint64_t{1000} / 4, 1); }

void Association::keep_alive_due() {
  if (queue_ == nullptr || !queue_->ready()) return;
  const std::uint64_t now_ns = thread_.now_ns();
  if (keep_alive_outstanding_ && now_ns >= keep_alive_.submitted_ns + options_.kato_ms * ns_per_us * 1000) {
    return close(Error(ETIMEDOUT, fmt::format("no answer to Keep Alive within {} ms", options_.kato_ms)));
  }
  thread_.arm_coarse(keep_alive_timer_, keep_alive_delay_us(), keep_alive_grid_us());
  if (keep_alive_outstanding_) return;
  keep_alive_outstanding_ = true;
  keep_alive_.sqe = {};
  keep_alive_.sqe.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::keep_alive);
  keep_alive_.late = true;  // looked after above
  keep_alive_.context = this;
  keep_alive_.done = [](HostRequest& request) {
    auto& association = *static_cast<Association*>(request.context);
    association.keep_alive_outstanding_ = false;
    if (request.outcome == HostRequest::Outcome::answered && !request.status().is_success()) {
      association.close(Error(EIO, fmt::format("Keep Alive: {}", status_text(request.status()))));
    }
  };
  queue_->submit(keep_alive_);
}

// --- ending ---

Task<void> Association::shut_down() {
  const auto keep = shared_from_this();
  if (!open_ || queue_ == nullptr || !queue_->ready()) co_return;
  keep_alive_timer_.disarm();
  // Whoever does not answer is left when the grace is over.
  Timer patience([this] { close(Error(ESHUTDOWN, "the controller did not shut down in time")); });
  thread_.arm_in_us(patience, shutdown_grace_us);
  nvme::Cc cc;
  cc.en = true;
  cc.css = nvme::Cap::from_value(cap_).css_iocss ? 6 : 0;
  cc.iosqes = 6;
  cc.iocqes = 4;
  cc.shn = nvme::ShutdownNotification::normal;
  auto set = co_await set_property(Property::cc, cc.value());
  bool going_on = set.has_value();
  while (going_on) {
    auto value = co_await get_property(Property::csts, false);
    if (!value) break;
    going_on = nvme::Csts::from_value(static_cast<std::uint32_t>(*value)).shst != nvme::ShutdownStatus::complete;
    if (going_on) co_await SleepFor(csts_poll_us);
  }
  close(Error(ESHUTDOWN, "shut down"));
}

void Association::close(Error why) {
  if (const auto making = std::exchange(making_, nullptr)) {
    why_ = why;
    making->close(std::move(why));
    return;
  }
  if (queue_ == nullptr || queue_->over()) return;
  why_ = why;
  keep_alive_timer_.disarm();
  queue_->close(std::move(why));
}

void Association::queue_ready(tcp::HostQueue&, std::uint32_t connect_dw0) {
  cntlid_ = static_cast<std::uint16_t>(connect_dw0);
  connect_settled_ = true;
  connected_.set(true);
}

void Association::queue_ended(tcp::HostQueue&, const Error& why) {
  const auto keep = std::move(self_);
  why_ = why;
  ended_stats_ = queue_->stats();
  keep_alive_timer_.disarm();
  queue_.reset();
  if (!std::exchange(connect_settled_, true)) connected_.set(false);
  if (std::exchange(open_, false) && lost_handler_) lost_handler_(why_);
}

void Association::request_late(tcp::HostQueue& queue, HostRequest& request) {
  if (!open_) {
    return close(Error(ETIMEDOUT,
                       fmt::format("no answer to admin command {:#x} within {} ms", request.sqe.opcode, queue.options().command_timeout_us / 1000)));
  }
  if (late_handler_) late_handler_(queue.cid_of(request), request.sqe.opcode);
}

// --- facts ---

std::uint32_t Association::max_transfer_bytes() const {
  const std::uint64_t page = std::uint64_t{4096} << nvme::Cap::from_value(cap_).mpsmin;
  const std::uint64_t told = data_->mdts == 0 || data_->mdts > 20 ? BufferPool::max_size_bytes : page << data_->mdts;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(told, BufferPool::max_size_bytes));
}

void Association::set_poll_period_us(std::uint64_t period_us) {
  options_.poll_period_us = period_us;
  if (open_ && queue_ != nullptr) queue_->set_poll_period_us(period_us);
}

void Association::set_command_timeout_us(std::uint64_t timeout_us) {
  options_.command_timeout_us = timeout_us;
  if (open_ && queue_ != nullptr) queue_->set_command_timeout_us(timeout_us);
}

const tcp::HostQueueStats& Association::queue_stats() const { return queue_ != nullptr ? queue_->stats() : ended_stats_; }

std::uint32_t Association::outstanding() const { return queue_ != nullptr ? queue_->outstanding() : 0; }

}  // namespace catnap::bdev
