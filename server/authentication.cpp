// See authentication.h.
#include "server/authentication.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

#include "reactor/base/event_counter.h"
#include "reactor/base/log_limit.h"
#include "reactor/limited_work.h"
#include "reactor/runtime.h"
#include "server/auth_failures.h"
#include "server/server_group.h"
#include "server/server_log.h"
#include "transport/nvme/auth.h"
#include "transport/nvme/fabrics.h"

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

bool is_send(const Request& request) { return request.sqe.fctype() == static_cast<std::uint8_t>(nvme::FabricsType::authentication_send); }

PlanAction answer(Request& request, nvme::Status status) {
  nvme::set_status(request.cqe, status);
  return PlanAction::complete;
}

}  // namespace

Authentication::Authentication(ServedQueue& served, std::string called_subnqn, std::shared_ptr<AuthShown> shown)
    : served_(served), called_subnqn_(std::move(called_subnqn)), shown_(std::move(shown)), deadline_([this] { too_late(); }) {}

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
  if (!is_command(request)) return answer(request, nvme::Status(nvme::FabricsStatus::authentication_required).with_dnr());
  return plan_command(request);
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

dhchap::TargetRules Authentication::rules() const {
  dhchap::TargetRules rules;
  const AuthenticationRules now = limits();
  rules.allowed.hashes = now.dhchap_digests;
  rules.allowed.groups = now.dhchap_dhgroups;
  const auto subsystem = served_.group().subsystem(served_.host().subnqn);
  const HostKeys* keys = subsystem == nullptr ? nullptr : subsystem->keys_of(served_.host().hostnqn);
  if (keys == nullptr) return rules;
  rules.key = keys->dhchap_key;
  rules.ctrlr_key = keys->dhchap_ctrlr_key;
  return rules;
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
  if (begins && AuthFailures::instance().too_many(served_.host().hostnqn, address(), now_ns, limits().failures_per_minute)) {
    limited.add();
    failure_noted_ = true;  // neither counted as one more, which would keep a host out for ever, nor logged
    exchange_->refuse(message);
    return taken(request);
  }
  auto work = exchange_->take(message, rules());
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
  succeeded.add();
  AuthFailures::instance().forget(served_.host().hostnqn, address());
  log_info(log_nvmf, "Queue {} of host {} in {}: authenticated {} with {} and {}", served_.qid(), served_.host().hostnqn, served_.host().subnqn,
           exchange_->bidirectional() ? "both ways" : "one way", dhchap::name_of(*exchange_->hash()), dhchap::name_of(*exchange_->group()));
  if (std::exchange(required_, false)) served_.queue()->set_sink(served_);
}

void Authentication::note_failure() {
  if (std::exchange(failure_noted_, true)) return;
  const bool by_host = exchange_->state() == Exchange::State::error;
  (by_host ? refused_by_host : counter_of(exchange_->explanation())).add();
  AuthFailures::instance().note(served_.host().hostnqn, address(), served_.group().thread().now_ns());
  log_limited(auth_log, LogLevel::notice, address(), "Queue {} of host {} from {} in {}: authentication failed: {}", served_.qid(),
              served_.host().hostnqn, address(), served_.host().subnqn, exchange_->why());
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
