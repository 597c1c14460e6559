// Life of a controller: connecting, losing the connection, trying again, going away. See controller.h.
#include "bdev/nvme/controller.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "bdev/nvme/identify_checks.h"
#include "bdev/nvme/module.h"
#include "bdev/nvme/retry_policy.h"
#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "transport/nvme/features.h"

namespace catnap::bdev {

std::string_view NvmeController::state_name(State state) {
  switch (state) {
    case State::connecting:
      return "resetting";
    case State::ready:
      return "enabled";
    case State::waiting:
      return "reconnect_is_delayed";
    case State::failed:
      return "failed";
    case State::disabled:
      return "disabled";
    case State::detaching:
      return "deleting";
  }
  return "unknown";
}

std::shared_ptr<NvmeController> NvmeController::create(NvmeModule& module, std::string name, TransportId id, ControllerOptions options) {
  auto controller = std::shared_ptr<NvmeController>(new NvmeController(module, std::move(name), std::move(id), std::move(options)));
  controller->hub_ = std::make_shared<PortHub>(module.app_thread(), controller);
  return controller;
}

NvmeController::NvmeController(NvmeModule& module, std::string name, TransportId id, ControllerOptions options)
    : module_(module),
      name_(std::move(name)),
      options_(std::move(options)),
      outage_(options_.reconnect.value_or(module.options().reconnect)),
      data_(std::make_unique<nvme::IdentifyController>()),
      index_(module.next_index()),
      attempt_timer_([this] {
        auto ended = [](Result<void>) {};
        spawn<Result<void>>(attempt(epoch_), ended);
      }),
      io_fail_timer_([this] { update_io_waits(); }),
      ana_timer_([this] {
        watch_ana();
        spawn(tell_change());
      }),
      news_timer_([this] { follow_news(); }) {
  if (options_.hostnqn.empty()) options_.hostnqn = default_hostnqn();
  if (!options_.hostid) options_.hostid = hostid_for(options_.hostnqn);
  addresses_.push_back({std::move(id), {}});
}

NvmeController::~NvmeController() { forget_plan(); }

AssociationOptions NvmeController::association_options() const {
  const NvmeOptions& module = module_.options();
  AssociationOptions options;
  options.id = id();
  options.hostnqn = options_.hostnqn;
  options.hostid = *options_.hostid;
  options.hdgst = options_.hdgst;
  options.ddgst = options_.ddgst;
  options.disable_sq_flow_control = options_.disable_sq_flow_control;
  options.kato_ms = module.keep_alive_timeout_ms;
  if (module.tcp_connect_timeout_ms > 0) options.connect_timeout_us = module.tcp_connect_timeout_ms * std::uint64_t{1000};
  if (options_.fabrics_connect_timeout_us > 0) options.fabrics_timeout_us = options_.fabrics_connect_timeout_us;
  options.command_timeout_us = module.timeout_admin_us != 0 ? module.timeout_admin_us : module.timeout_us;
  options.poll_period_us = module.admin_poll_period_us();
  options.sock_priority = options_.priority;
  options.user_timeout_ms = ack_timeout_ms(module.transport_ack_timeout);
  options.credentials = credentials_of(options_, module);
  options.psk = options_.psk;
  options.psk_identity_version = options_.psk_identity_version;
  options.concatenate = options_.concatenate;
  return options;
}

void NvmeController::enter(State next) {
  const bool was_up = std::exchange(state_, next) == State::ready;
  if (next != State::connecting) resetting_ = false;
  update_io_waits();
  if (was_up != (next == State::ready)) module_.path_changed(*this, !was_up);
}

// What channels go by when they have no usable path.
void NvmeController::update_io_waits() {
  const std::uint64_t now_ns = module_.app_thread().now_ns();
  const bool trying = state_ == State::connecting || state_ == State::ready || state_ == State::waiting;
  hub_->set_io_waits(!io_fails_ && (state_ == State::ready || (state_ == State::connecting && resetting_) || outage_.io_waits(now_ns, trying)));
  const auto fails_at = outage_.io_fails_at_ns();
  if (fails_at && *fails_at > now_ns && trying) {
    module_.app_thread().arm_at(io_fail_timer_, *fails_at);
  } else {
    io_fail_timer_.disarm();
  }
}

void NvmeController::fail_io() {
  io_fails_ = true;
  update_io_waits();
}

// --- connecting ---

Task<Result<void>> NvmeController::attach() {
  const auto keep = shared_from_this();
  const std::uint64_t epoch = ++epoch_;
  auto connected = co_await connect();
  if (epoch_ != epoch) co_return fail(ECANCELED, fmt::format("controller {} was detached while it was being attached", name_));
  if (!connected) {
    enter(State::failed);
    last_error_ = connected.error().message;
    co_return fail(connected.error().err, fmt::format("controller {} at {}: {}", name_, id().text(), last_error_));
  }
  co_await become_ready(epoch);
  co_return Result<void>();
}

// Keys that were changed while a connection was being made may be why it was refused: then once more, with the new ones.
Task<Result<void>> NvmeController::connect() {
  const auto keep = shared_from_this();
  const std::uint64_t epoch = epoch_;
  for (;;) {
    const std::uint64_t version = keys_version_;
    auto connected = co_await connect_once();
    if (connected || epoch_ != epoch || keys_version_ == version) co_return connected;
  }
}

Task<Result<void>> NvmeController::connect_once() {
  const auto keep = shared_from_this();
  const std::uint64_t epoch = epoch_;
  auto association = Association::create(module_.app_thread(), association_options());
  association_ = association;
  forget_news();
  association->on_lost([weak = weak_from_this(), epoch](const Error& why) {
    const auto self = weak.lock();
    if (self != nullptr && self->epoch_ == epoch && self->state_ == State::ready) self->lost(why);
  });
  association->on_event([weak = weak_from_this(), epoch](std::uint32_t dw0) {
    const auto self = weak.lock();
    if (self != nullptr && self->epoch_ == epoch) self->event(dw0);
  });
  // As long as the controller is being set up, its commands have the time of a step of connecting; afterwards that of the options.
  const std::uint64_t step_us = association->options().fabrics_timeout_us;
  const std::uint64_t command_us = association->options().command_timeout_us;
  association->on_late([weak = weak_from_this(), ended = std::weak_ptr(association), epoch, step_us](std::uint16_t cid, std::uint8_t opcode) {
    const auto self = weak.lock();
    if (self == nullptr) return;
    if (self->state_ == State::ready) return self->command_late(0, cid, opcode, epoch);
    const auto late = ended.lock();
    if (late != nullptr) late->close(Error(ETIMEDOUT, fmt::format("no answer to admin command {:#x} within {} ms", opcode, step_us / 1000)));
  });
  auto opened = co_await association->open();
  if (!opened) co_return opened;
  auto fits = check_io_controller(association->data(), association->cap(), association->cntlid());
  if (!fits) {
    association->close(fits.error());
    co_return fits;
  }
  association->set_command_timeout_us(step_us);
  auto brought_up = co_await bring_up(association);
  association->set_command_timeout_us(command_us);
  if (!brought_up) {
    association->close(brought_up.error());
    co_return brought_up;
  }
  if (!association->is_open()) co_return fail(ECONNRESET, "the connection ended while the controller was being set up");
  co_return Result<void>();
}

// One attempt, and what becomes of it.
Task<Result<void>> NvmeController::attempt(std::uint64_t epoch) {
  const auto keep = shared_from_this();
  if (epoch_ != epoch) co_return fail(ECANCELED, fmt::format("controller {}: something else came first", name_));
  enter(State::connecting);
  auto connected = co_await connect();
  if (epoch_ != epoch) {
    co_return fail(ECANCELED, fmt::format("controller {}: something else came first", name_));
  }
  if (!connected) {
    attempt_failed(connected.error());
    co_return fail(connected.error().err, fmt::format("controller {} at {}: {}", name_, id().text(), last_error_));
  }
  log_notice("controller {} at {}: connected again", name_, id().text());
  co_await become_ready(epoch);
  co_return Result<void>();
}

void NvmeController::attempt_failed(const Error& why) {
  const std::uint64_t now_ns = module_.app_thread().now_ns();
  if (last_error_ != why.message) log_notice("controller {} at {}: no connection: {}", name_, id().text(), why.message);
  last_error_ = why.message;
  if (addresses_.size() > 1) {
    addresses_[address_].history.failed_at_ns = now_ns;
    std::vector<AddressHistory> histories;
    for (const Address& address : addresses_) histories.push_back(address.history);
    const AddressChoice choice = choose_address(histories, address_, timeouts().reconnect_delay_sec, now_ns);
    address_ = choice.index;
    if (choice.now) {
      enter(State::waiting);
      return module_.app_thread().arm_at(attempt_timer_, now_ns);
    }
  }
  const Outage::Decision decision = outage_.attempt_failed(now_ns);
  if (decision.next == Outage::Next::wait) {
    enter(State::waiting);
    module_.app_thread().arm_at(attempt_timer_, decision.at_ns);
    return;
  }
  enter(State::failed);
  if (decision.next == Outage::Next::give_up) return log_warning("controller {} at {}: failed; only a reset tries again", name_, id().text());
  log_warning("controller {} at {}: not reachable for {} s, is detached", name_, id().text(), timeouts().ctrlr_loss_timeout_sec);
  if (give_up_handler_) give_up_handler_();
}

Task<void> NvmeController::become_ready(std::uint64_t epoch) {
  const auto keep = shared_from_this();
  for (Address& address : addresses_) address.history = {};
  outage_.connected();
  published_ = false;
  reassociations_ += std::exchange(was_ready_, true) ? 1 : 0;
  enter(State::ready);
  co_await tell_change();
  if (epoch_ != epoch) co_return;
  published_ = true;
  for (const auto& port : hub_->ports()) give_queue(port);
  follow_news();  // told while this was being set up
}

Task<void> NvmeController::tell_change() {
  const auto keep = shared_from_this();
  const auto handler = change_handler_;
  if (handler) co_await handler();
}

// --- losing the connection ---

void NvmeController::lost(const Error& why) {
  log_warning("controller {} at {}: connection lost: {}", name_, id().text(), why.message);
  last_error_ = why.message;
  outage_.lost(module_.app_thread().now_ns());
  enter(State::waiting);
  spawn(recover(++epoch_, why));
}

Task<void> NvmeController::recover(std::uint64_t epoch, Error why) {
  const auto keep = shared_from_this();
  co_await drop_everything(why);
  auto result = co_await attempt(epoch);
  static_cast<void>(result);
}

// Ends the association and every I/O queue; what was in flight has come back to the channels when it returns.
Task<void> NvmeController::drop_everything(Error why) {
  const auto keep = shared_from_this();
  attempt_timer_.disarm();
  news_timer_.disarm();
  if (auto association = std::exchange(association_, nullptr)) association->close(why);
  forget_plan();
  const auto ports = hub_->ports();
  if (ports.empty()) co_return;
  struct Round {
    std::size_t left = 0;
    Promise<bool> done;
    void one_less() {
      if (--left == 0) done.set(true);
    }
  };
  auto round = std::make_shared<Round>();
  round->left = ports.size();
  for (const auto& port : ports) {
    const bool sent = port->thread().send([port, round, why] { port->drop(why, [round] { round->one_less(); }); });
    if (!sent) round->one_less();
  }
  const Promise<bool> done = round->done;
  const bool dropped = co_await done;
  static_cast<void>(dropped);
}

void NvmeController::queue_lost(std::uint64_t epoch, const Error& why) {
  if (epoch_ == epoch && state_ == State::ready) lost(why);
}

// --- what users ask for ---

Task<Result<void>> NvmeController::reset() {
  const auto keep = shared_from_this();
  if (state_ == State::detaching || state_ == State::disabled) {
    co_return fail(EBUSY, fmt::format("controller {} at {} is {}", name_, id().text(), state_name(state_)));
  }
  const std::uint64_t epoch = ++epoch_;
  const auto association = state_ == State::ready ? association_ : nullptr;
  outage_.lost(module_.app_thread().now_ns());
  resetting_ = true;
  enter(State::connecting);
  // A controller that still hears us ends what it has begun, and so nothing has to wait for what it might do later (write_fence.h).
  if (association != nullptr) co_await association->shut_down();
  if (epoch_ != epoch) co_return fail(ECANCELED, fmt::format("controller {}: something else came first", name_));
  Error why(ECONNABORTED, "the controller is being reset");
  co_await drop_everything(why);
  auto result = co_await attempt(epoch);
  co_return result;
}

Task<Result<void>> NvmeController::disable() {
  const auto keep = shared_from_this();
  if (state_ == State::detaching) co_return fail(EBUSY, fmt::format("controller {} at {} is being detached", name_, id().text()));
  if (state_ == State::disabled) co_return Result<void>();
  ++epoch_;
  outage_.connected();  // not an outage: nobody tries
  enter(State::disabled);
  Error why(ECONNABORTED, "the controller is disabled");
  co_await drop_everything(why);
  co_return Result<void>();
}

Task<Result<void>> NvmeController::enable() {
  const auto keep = shared_from_this();
  if (state_ == State::detaching) co_return fail(EBUSY, fmt::format("controller {} at {} is being detached", name_, id().text()));
  if (state_ != State::disabled) co_return Result<void>();
  enter(State::failed);
  auto result = co_await reset();
  co_return result;
}

Task<void> NvmeController::detach() {
  const auto keep = shared_from_this();
  if (state_ == State::detaching) co_return;
  const bool was_ready = state_ == State::ready;
  ++epoch_;
  outage_.connected();
  enter(State::detaching);
  attempt_timer_.disarm();
  ana_timer_.disarm();
  const auto trying = trying_;
  for (const auto& other : trying) other->close(Error(ESHUTDOWN, "the controller is detached"));
  const auto association = association_;
  if (was_ready && association != nullptr) co_await association->shut_down();
  Error why(ESHUTDOWN, "the controller is detached");
  co_await drop_everything(why);
  change_handler_ = nullptr;
  give_up_handler_ = nullptr;
}

Task<Result<AdminAnswer>> NvmeController::admin(AdminCommand command) {
  const auto keep = shared_from_this();
  const auto association = association_;
  if (state_ != State::ready || association == nullptr) {
    co_return fail(ENOTCONN, fmt::format("controller {} at {} is not connected ({}): {}", name_, id().text(), state_name(state_), last_error_));
  }
  if (admin_injections_ != nullptr) {
    auto faulty = co_await admin_with_faults(std::move(command));
    co_return faulty;
  }
  auto answer = co_await association->admin(std::move(command));
  co_return answer;
}

// --- addresses ---

std::vector<TransportId> NvmeController::alternates() const {
  std::vector<TransportId> others;
  for (std::size_t i = 1; i < addresses_.size(); ++i) others.push_back(addresses_[(address_ + i) % addresses_.size()].id);
  return others;
}

Task<Result<void>> NvmeController::try_address(TransportId id) {
  const auto keep = shared_from_this();
  AssociationOptions options = association_options();
  options.id = id;
  options.kato_ms = 0;
  auto association = Association::create(module_.app_thread(), std::move(options));
  trying_.push_back(association);
  auto opened = co_await association->open();
  std::erase(trying_, association);
  if (!opened) co_return fail(opened.error().err, fmt::format("controller {} at {}: {}", name_, id.text(), opened.error().message));
  auto fits = check_io_controller(association->data(), association->cap(), association->cntlid());
  // Serial numbers are the subsystem's (Base 2.0 section 4.5.1).
  if (fits && was_ready_ && association->data().sn != data_->sn) fits = fail(EINVAL, "another subsystem is there: its serial number differs");
  co_await association->shut_down();
  if (!fits) co_return fail(fits.error().err, fmt::format("controller {} at {}: {}", name_, id.text(), fits.error().message));
  if (state_ == State::detaching) co_return fail(ECANCELED, fmt::format("controller {} was detached meanwhile", name_));
  co_return Result<void>();
}

void NvmeController::add_alternate(TransportId id) { addresses_.push_back({std::move(id), {}}); }

bool NvmeController::remove_address(const TransportId& id) {
  const auto found = std::ranges::find_if(addresses_, [&id](const Address& address) { return address.id == id; });
  if (found == addresses_.end() || addresses_.size() == 1) return false;
  const auto index = static_cast<std::size_t>(found - addresses_.begin());
  addresses_.erase(found);
  if (index < address_) --address_;
  if (address_ == addresses_.size()) address_ = 0;
  return true;
}

// --- options and time-outs ---

void NvmeController::options_changed() {
  const NvmeOptions& options = module_.options();
  if (!options_.reconnect) {
    outage_.set_timeouts(options.reconnect);
    update_io_waits();
  }
  if (association_ != nullptr) {
    association_->set_poll_period_us(options.admin_poll_period_us());
    association_->set_command_timeout_us(options.timeout_admin_us != 0 ? options.timeout_admin_us : options.timeout_us);
  }
  for (const auto& port : hub_->ports()) {
    port->thread().send([port, period_us = options.io_poll_period_us(), timeout_us = options.timeout_us] {
      port->set_poll_period_us(period_us);
      port->set_command_timeout_us(timeout_us);
    });
  }
}

std::uint64_t NvmeController::admin_poll_period_us() const { return module_.options().admin_poll_period_us(); }
std::uint64_t NvmeController::io_poll_period_us() const { return module_.options().io_poll_period_us(); }

void NvmeController::command_late(std::uint16_t qid, std::uint16_t cid, std::uint8_t opcode, std::uint64_t epoch) {
  if (epoch != epoch_ || state_ != State::ready) return;
  const TimeoutAction action = module_.options().action_on_timeout;
  log_warning("controller {} at {}: command {:#x} (opcode {:#x}) on queue {} is late; action: {}", name_, id().text(), cid, opcode, qid,
              timeout_action_name(action));
  if (action == TimeoutAction::none) return;
  // An Abort that is late itself: the controller answers nothing.
  const bool abort_is_late = qid == 0 && opcode == static_cast<std::uint8_t>(nvme::AdminOpcode::abort);
  if (action == TimeoutAction::abort && !abort_is_late) return abort_command(qid, cid, epoch);
  auto ended = [](Result<void>) {};
  spawn<Result<void>>(reset(), ended);
}

void NvmeController::abort_command(std::uint16_t qid, std::uint16_t cid, std::uint64_t epoch) {
  if (epoch != epoch_ || state_ != State::ready) return;
  AdminCommand command;
  command.sqe.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::abort);
  command.sqe.cdw10 = std::uint32_t{qid} | std::uint32_t{cid} << 16;
  auto ended = [](Result<AdminAnswer>) {};
  spawn<Result<AdminAnswer>>(admin(std::move(command)), ended);
}

}  // namespace catnap::bdev
