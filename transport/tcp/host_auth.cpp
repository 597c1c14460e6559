// See host_auth.h.
#include "transport/tcp/host_auth.h"

#include <fmt/core.h>

#include <utility>

#include "reactor/limited_work.h"
#include "reactor/runtime.h"
#include "transport/nvme/auth.h"

namespace catnap::tcp {
namespace {

// As on the target's side: half of the worker pool.
constexpr std::size_t most_computing = WorkerPool::default_workers / 2;
LimitedWork arithmetic(most_computing);

// What Linux and SPDK offer too; the longest message has 1,104 bytes.
constexpr std::size_t receive_bytes = 4096;

}  // namespace

std::shared_ptr<HostAuth> HostAuth::create(Thread& thread, const dhchap::HostCredentials& credentials, const nvme::ConnectData& connect,
                                           Submit submit, Done done, dhchap::AuthConcatenation concatenation) {
  return std::shared_ptr<HostAuth>(new HostAuth(thread, credentials, connect, std::move(submit), std::move(done), concatenation));
}

HostAuth::HostAuth(Thread& thread, const dhchap::HostCredentials& credentials, const nvme::ConnectData& connect, Submit submit, Done done,
                   dhchap::AuthConcatenation concatenation)
    : thread_(thread),
      exchange_(credentials, std::string(connect.hostnqn.data()), std::string(connect.subnqn.data()), concatenation),
      submit_(std::move(submit)),
      done_(std::move(done)),
      deadline_(
          [this] { finish(fail(ETIMEDOUT, fmt::format("the authentication did not end within {} s", authentication_timeout_us / 1'000'000))); }) {}

void HostAuth::start() {
  thread_.arm_in_us(deadline_, authentication_timeout_us);
  step();
}

void HostAuth::stop() {
  over_ = true;
  deadline_.disarm();
}

void HostAuth::finish(Result<void> outcome) {
  if (over_) return;
  const auto keep = shared_from_this();
  stop();
  done_(outcome);
}

void HostAuth::step() {
  switch (exchange_.next()) {
    case dhchap::HostExchange::Next::send:
      buffer_ = exchange_.outgoing();
      return command(nvme::FabricsType::authentication_send, transport::DataDirection::host_to_controller);
    case dhchap::HostExchange::Next::receive:
      buffer_.assign(receive_bytes, std::byte{0});
      return command(nvme::FabricsType::authentication_receive, transport::DataDirection::controller_to_host);
    case dhchap::HostExchange::Next::finished:
      return finish(exchange_.outcome());
  }
}

void HostAuth::command(nvme::FabricsType type, transport::DataDirection direction) {
  nvme::AuthenticationCommand sqe;
  sqe.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics);
  sqe.fctype = static_cast<std::uint8_t>(type);
  sqe.secp = nvme::auth_secp_nvme;
  sqe.spsp0 = sqe.spsp1 = nvme::auth_spsp;
  sqe.length = static_cast<std::uint32_t>(buffer_.size());
  iov_ = {buffer_.data(), buffer_.size()};
  request_ = HostRequest();
  request_.sqe = nvme::view_as<nvme::SubmissionEntry>(sqe);
  request_.direction = direction;
  request_.iov = &iov_;
  request_.iov_count = 1;
  request_.data_bytes = static_cast<std::uint32_t>(buffer_.size());
  request_.late = true;  // has a deadline of its own
  request_.context = this;
  request_.done = &HostAuth::answered;
  self_ = shared_from_this();
  submit_(request_);
}

void HostAuth::answered(HostRequest& request) {
  auto& auth = *static_cast<HostAuth*>(request.context);
  const auto keep = std::exchange(auth.self_, nullptr);
  if (auth.over_ || request.outcome != HostRequest::Outcome::answered) return auth.stop();  // the queue has ended, and says so itself
  if (!request.status().is_success()) {
    const nvme::Status status = request.status();
    return auth.finish(fail(EACCES, fmt::format("the controller refused a command of the authentication: status type {:#x} code {:#x}",
                                                static_cast<unsigned>(status.sct), status.sc)));
  }
  if (request.direction == transport::DataDirection::host_to_controller) {
    auth.exchange_.sent();
    return auth.step();
  }
  auto work = auth.exchange_.received(auth.buffer_);
  if (work) return auth.compute(std::move(*work));
  auth.step();
}

void HostAuth::compute(dhchap::Work work) {
  hold_.emplace(thread_, "authentication");
  arithmetic.submit(Runtime::instance()->workers(), [self = shared_from_this(), work = std::move(work)]() mutable {
    Thread& thread = self->thread_;
    dhchap::Apply apply = work();
    work = nullptr;
    thread.send([self = std::move(self), apply = std::move(apply)]() mutable {
      self->hold_.reset();
      if (self->over_) return;
      apply();
      self->step();
    });
  });
}

}  // namespace catnap::tcp
