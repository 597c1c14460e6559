// See authentication.h.
#include "server/authentication.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

#include "reactor/base/event_counter.h"
#include "reactor/base/log_limit.h"
#include "reactor/limited_work.h"
#include "reactor/runtime.h"
#include "server/auth_failures.h"
#include "server/controller.h"
#include "server/happenings.h"
#include "server/server_group.h"
#include "server/server_log.h"
#include "transport/nvme/auth.h"
#include "transport/nvme/fabrics.h"
#include "transport/nvme/identify.h"
#include "transport/nvme/log_page.h"

namespace catnap::server {

using transport::DataDirection;
using transport::PlanAction;
using transport::Request;

namespace {

// Half of the worker pool: a crowd of hosts leaves the other half to disks and configuration.
constexpr std::size_t most_computing = WorkerPool::default_workers / 2;
// A deadline that finds arithmetic under way waits for its end.
constexpr std::uint64_t look_again_us = 1'000'000;

LimitedWork arithmetic(most_computing);
LogLimit auth_log;  // by address: who fails decides how often

constexpr const char* counter_name = "catnap_authentications_total";
constexpr const char* counter_help = "In-band authentications of hosts by result";
EventCounter succeeded(counter_name, counter_help, R"(result="succeeded")");
EventCounter timed_out(counter_name, counter_help, R"(result="timed_out")");
EventCounter limited(counter_name, counter_help, R"(result="too_many_failures")");
EventCounter refused_by_host(counter_name, counter_help, R"(result="refused_by_host")");
EventCounter wrong_key(counter_name, counter_help, R"(result="authentication_failed")");
EventCounter protocol_errors(counter_name, counter_help, R"(result="protocol_error")");
EventCounter not_usable(counter_name, counter_help, R"(result="nothing_in_common")");

EventCounter& counter_of(dhchap::AuthExplanation explanation) {
  switch (explanation) {
    case dhchap::AuthExplanation::authentication_failed:
      return wrong_key;
    case dhchap::AuthExplanation::incorrect_message:
    case dhchap::AuthExplanation::incorrect_payload:
      return protocol_errors;
    default:
      return not_usable;
  }
}

nvme::AuthenticationCommand command_of(const Request& request) { return nvme::view_as<nvme::AuthenticationCommand>(request.sqe); }

// What a host may do over cleartext once it has made a key for TLS: Linux enables and identifies the controller before it comes back. These tell of
// the controller and of no data, and change it alone.
constexpr std::array identified_before_tls = {nvme::Cns::controller, nvme::Cns::csi_controller, nvme::Cns::io_command_sets};
constexpr std::array logs_before_tls = {nvme::LogPage::supported_pages, nvme::LogPage::effects, nvme::LogPage::ana};
bool passes_before_tls(const nvme::SubmissionEntry& sqe) {
  if (sqe.opcode == static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics)) {
    return sqe.fctype() == static_cast<std::uint8_t>(nvme::FabricsType::property_get) ||
           sqe.fctype() == static_cast<std::uint8_t>(nvme::FabricsType::property_set);
  }
  const auto what = static_cast<std::uint8_t>(std::uint32_t{sqe.cdw10});  // CNS, log page identifier
  switch (static_cast<nvme::AdminOpcode>(sqe.opcode)) {
    case nvme::AdminOpcode::identify:
      return std::ranges::find(identified_before_tls, static_cast<nvme::Cns>(what)) != identified_before_tls.end();
    case nvme::AdminOpcode::get_log_page:
      return std::ranges::find(logs_before_tls, static_cast<nvme::LogPage>(what)) != logs_before_tls.end();
    case nvme::AdminOpcode::set_features:
    case nvme::AdminOpcode::get_features:
      return sqe.nsid == 0 || sqe.nsid == nvme::broadcast_nsid;
    case nvme::AdminOpcode::keep_alive:
      return true;
    default:
      return false;
  }
}

bool is_send(const Request& request) { return request.sqe.fctype() == static_cast<std::uint8_t>(nvme::FabricsType::authentication_send); }

PlanAction answer(Request& request, nvme::Status status) {
  nvme::set_status(request.cqe, status);
  return PlanAction::complete;
}

}  // namespace

Authentication::Authentication(ServedQueue& served, std::string called_subnqn, std::shared_ptr<AuthShown> shown, Concatenation concatenation)
    : served_(served), called_subnqn_(std::move(called_subnqn)), shown_(std::move(shown)), concatenation_(concatenation), deadline_([this] {
        too_late();
      }) {}

Authentication::~Authentication() = default;

void Authentication::require(transport::CommandQueue& queue) {
  required_ = true;
  begin();
  arm();
  queue.set_sink(*this);
}

// --- sink of a queue that must authenticate itself ---

PlanAction Authentication::plan(Request& request) {
  request.cqe = {};
  if (is_command(request)) return plan_command(request);
  if (!leaving_) return answer(request, nvme::Status(nvme::FabricsStatus::authentication_required).with_dnr());
  if (!passes_before_tls(request.sqe)) return answer(request, nvme::Status(nvme::GenericStatus::operation_denied).with_dnr());
  return served_.plan(request);
}

void Authentication::abandon(Request& request) {
  if (!is_command(request)) served_.abandon(request);
}

void Authentication::unwanted(Request& request) {
  if (!is_command(request)) served_.unwanted(request);
}

void Authentication::queue_closed(transport::CommandQueue& queue) {
  end();
  served_.queue_closed(queue);  // frees this
}

// --- the two commands ---

bool Authentication::is_command(const Request& request) {
  if (request.sqe.opcode != static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics)) return false;
  return is_send(request) || request.sqe.fctype() == static_cast<std::uint8_t>(nvme::FabricsType::authentication_receive);
}

PlanAction Authentication::plan_command(Request& request) {
  const auto command = command_of(request);
  const auto invalid = nvme::Status(nvme::GenericStatus::invalid_field).with_dnr();
  if (request.sqe.psdt() != nvme::Psdt::sgl || request.sqe.fuse() != nvme::Fuse::normal) return answer(request, invalid);
  if (command.secp != nvme::auth_secp_nvme || command.spsp0 != nvme::auth_spsp || command.spsp1 != nvme::auth_spsp) return answer(request, invalid);
  const std::uint32_t length = command.length;
  const std::uint32_t most = is_send(request) ? std::uint32_t{dhchap::max_message_bytes} : max_auth_receive_bytes;
  if (length == 0 || length > most) return answer(request, invalid);
  if (request.sqe.sgl.length < length) return answer(request, nvme::Status(nvme::GenericStatus::data_sgl_length_invalid).with_dnr());
  request.direction = is_send(request) ? DataDirection::host_to_controller : DataDirection::controller_to_host;
  request.consumes_inline = is_send(request);
  request.data_length = length;
  return PlanAction::transfer;
}

// One command at a time: the protocol has the host wait for each answer.
void Authentication::execute(Request& request) {
  if (!is_command(request)) return served_.execute(request);
  if (computing_) return finish(request, nvme::Status(nvme::GenericStatus::command_sequence_error).with_dnr());
  if (exchange_ == nullptr || exchange_->state() == Exchange::State::completed) begin();
  if (is_send(request)) {
    take(request);
  } else {
    give(request);
  }
}

void Authentication::begin() {
  failure_noted_ = false;
  if (exchange_ == nullptr) {
    exchange_ = std::make_unique<Exchange>(served_.host().hostnqn, called_subnqn_);
  } else {
    exchange_->restart();
  }
  if (!required_) arm();
  show();
}

// As they are now.
dhchap::TargetRules Authentication::current_rules() const {
  dhchap::TargetRules rules;
  const AuthenticationRules now = limits();
  rules.allowed.hashes = now.dhchap_digests;
  rules.allowed.groups = now.dhchap_dhgroups;
  const transport::SecureChannel* channel = served_.queue()->secure_channel();
  const bool is_admin = served_.qid() == 0;
  rules.may_generate_psk = is_admin && channel == nullptr && concatenation_ != Concatenation::none;
  rules.may_replace_psk = is_admin && channel != nullptr && channel->generated;
  rules.must_concatenate = channel == nullptr && concatenation_ == Concatenation::required;
  const auto subsystem = served_.group().subsystem(served_.host().subnqn);
  const HostKeys* keys = subsystem == nullptr ? nullptr : subsystem->keys_of(served_.host().hostnqn);
  if (keys == nullptr) return rules;
  rules.key = keys->dhchap_key;
  rules.ctrlr_key = keys->dhchap_ctrlr_key;
  return rules;
}

// An exchange that began with one key is judged by it: who changes keys meanwhile does not refuse a host that had the right one. But whose keys were
// taken away has none.
const dhchap::TargetRules& Authentication::rules(bool begins) {
  dhchap::TargetRules now = current_rules();
  if (begins || !now.key) rules_ = std::move(now);
  return rules_;
}

AuthenticationRules Authentication::limits() const {
  const auto& snapshot = served_.group().snapshot();
  return snapshot == nullptr ? AuthenticationRules() : snapshot->authentication;
}

const std::string& Authentication::address() const { return served_.queue()->peer_address().traddr; }

void Authentication::take(Request& request) {
  const std::span<const std::byte> message(request.data, request.data_length);
  const bool begins = exchange_->state() == Exchange::State::negotiate;
  const std::uint64_t now_ns = served_.group().thread().now_ns();
  // A queue that has proven itself may do so again, whoever fails in its host's name meanwhile.
  if (begins && required_ && AuthFailures::instance().too_many(served_.host().hostnqn, address(), now_ns, limits().failures_per_minute)) {
    limited.add();
    failure_noted_ = true;  // neither counted as one more, which would keep a host out for ever, nor logged
    exchange_->refuse(message);
    return taken(request);
  }
  auto work = exchange_->take(message, rules(begins));
  if (work) return compute(std::move(*work), request, &Authentication::taken);
  taken(request);
}

void Authentication::give(Request& request) {
  auto work = exchange_->prepare();
  if (work) return compute(std::move(*work), request, &Authentication::given);
  given(request);
}

void Authentication::compute(dhchap::Work work, Request& request, void (Authentication::*then)(Request&)) {
  computing_ = true;
  Thread& thread = served_.group().thread();
  arithmetic.submit(Runtime::instance()->workers(), [this, &thread, &request, then, work = std::move(work)]() mutable {
    thread.send([this, &request, then, apply = work()]() mutable {
      computing_ = false;
      apply();
      (this->*then)(request);
    });
    work = nullptr;
  });
}

// The host's message is dealt with. A failure is what the host gets as its next message; the command itself is fine.
void Authentication::taken(Request& request) {
  show();
  switch (exchange_->state()) {
    case Exchange::State::completed:
      passed();
      return finish(request, {});
    case Exchange::State::error:
      note_failure();
      return finish_and_end(request, {});
    case Exchange::State::failure1:
      note_failure();
      return finish(request, {});
    default:
      return finish(request, {});
  }
}

void Authentication::given(Request& request) {
  const dhchap::Bytes message = exchange_->give(request.data_length);
  show();
  if (message.empty()) {
    note_failure();
    return finish_and_end(request, nvme::Status(nvme::GenericStatus::invalid_field).with_dnr());
  }
  std::memcpy(request.data, message.data(), message.size());
  std::memset(request.data + message.size(), 0, request.data_length - message.size());
  if (exchange_->state() == Exchange::State::failure1) {
    note_failure();
    return finish_and_end(request, {});
  }
  if (exchange_->state() == Exchange::State::completed) passed();
  finish(request, {});
}

// --- what comes of it ---

void Authentication::passed() {
  deadline_.disarm();
  auto psk = exchange_->take_psk();
  const bool concatenated = psk.has_value();
  if (psk) keep_psk(std::move(*psk));
  rules_ = {};
  succeeded.add();
  AuthFailures::instance().forget(served_.host().hostnqn, address());
  log_info(log_nvmf, "Queue {} of host {} in {}: authenticated {} with {} and {}", served_.qid(), served_.host().hostnqn, served_.host().subnqn,
           exchange_->bidirectional() ? "both ways" : "one way", dhchap::name_of(*exchange_->hash()), dhchap::name_of(*exchange_->group()));
  const bool over_cleartext = served_.queue()->secure_channel() == nullptr;
  if (concatenated && over_cleartext) {
    leaving_ = true;
    required_ = false;
    return served_.queue()->set_sink(*this);
  }
  if (std::exchange(required_, false)) served_.queue()->set_sink(served_);
}

// Before the host knows that it has succeeded: it comes back with the key at once.
void Authentication::keep_psk(dhchap::GeneratedPsk psk) {
  const transport::SecureChannel* channel = served_.queue()->secure_channel();
  GeneratedPsks::Origin origin;
  origin.hostnqn = served_.host().hostnqn;
  origin.subnqn = called_subnqn_;
  origin.proven_by = rules_.key;
  if (channel != nullptr) origin.replaces = replaced_.empty() ? channel->key_name : replaced_;
  origin.controller_subnqn = served_.host().subnqn;
  origin.cntlid = static_cast<const Controller&>(served_).cntlid();  // concatenation is for admin queues
  origin.timeout_ns = std::uint64_t{limits().generated_psk_timeout_ms} * ns_per_ms;
  ControllerTable& table = served_.group().table();
  const auto hash = psk.hash == dhchap::AuthHash::sha256 ? tls::Hash::sha256 : tls::Hash::sha384;
  const auto name = table.generated_psks().add(std::move(origin), hash, psk.psk.bytes(), served_.group().thread().now_ns());
  if (!name) {
    // The host will find that it cannot come back, and begin anew.
    return log_limited(auth_log, LogLevel::error, address(), "TLS key that host {} in {} has made: {}", served_.host().hostnqn, served_.host().subnqn,
                       name.error().message);
  }
  replaced_ = *name;
  table.app_thread().send([&table] { table.generated_psks_changed(); });
}

void Authentication::note_failure() {
  rules_ = {};
  if (std::exchange(failure_noted_, true)) return;
  const bool by_host = exchange_->state() == Exchange::State::error;
  (by_host ? refused_by_host : counter_of(exchange_->explanation())).add();
  AuthFailures::instance().note(served_.host().hostnqn, address(), served_.group().thread().now_ns());
  log_limited(auth_log, LogLevel::notice, address(), "Queue {} of host {} from {} in {}: authentication failed: {}", served_.qid(),
              served_.host().hostnqn, address(), served_.host().subnqn, exchange_->why());
  Happenings::instance().tell_of_host(Happening(host_authentication_failed, served_.host().hostnqn)
                                          .with("subsystem", served_.host().subnqn)
                                          .with("address", address())
                                          .with("reason", exchange_->why()));
}

void Authentication::finish(Request& request, nvme::Status status) {
  nvme::set_status(request.cqe, status);
  request.queue->complete(request);
}

// The answer goes out, then the connection ends. By message, as complete() may be this queue's last moment.
void Authentication::finish_and_end(Request& request, nvme::Status status) {
  served_.group().end_queue(served_.id(), "authentication failed");
  finish(request, status);
}

void Authentication::arm() { served_.group().thread().arm_in_us(deadline_, std::uint64_t{limits().timeout_ms} * 1000); }

void Authentication::too_late() {
  if (computing_) return served_.group().thread().arm_in_us(deadline_, look_again_us);
  timed_out.add();
  // What an authenticated queue began again, and did not finish, leaves it as it was.
  if (!required_) {
    exchange_->give_up();
    rules_ = {};
    return show();
  }
  log_limited(auth_log, LogLevel::notice, address(), "Queue {} of host {} from {} in {}: has not authenticated itself in time", served_.qid(),
              served_.host().hostnqn, address(), served_.host().subnqn);
  if (served_.queue() != nullptr) served_.queue()->disconnect("authentication took too long");
}

void Authentication::show() {
  shown_->state.store(static_cast<std::uint8_t>(exchange_->state()), std::memory_order_relaxed);
  if (exchange_->hash()) shown_->hash.store(static_cast<std::uint8_t>(*exchange_->hash()), std::memory_order_relaxed);
  if (exchange_->group()) shown_->group.store(static_cast<std::uint8_t>(*exchange_->group()), std::memory_order_relaxed);
}

}  // namespace catnap::server
