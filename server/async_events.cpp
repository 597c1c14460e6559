// States of asynchronous events. See async_events.h.
// Owner: the admin queue's thread. Left out: delivery (controller.cpp).
#include "server/async_events.h"

#include "transport/nvme/features.h"
#include "transport/nvme/log_page.h"

namespace catnap::server {

namespace {

struct Notice {
  std::uint32_t bit;
  nvme::AsyncEventType type;
  std::uint8_t info;
  nvme::LogPage page;
};

constexpr Notice notice_of(std::uint32_t bit, nvme::AsyncNoticeInfo info, nvme::LogPage page) {
  return {bit, nvme::AsyncEventType::notice, static_cast<std::uint8_t>(info), page};
}

constexpr std::array<Notice, AsyncEvents::kinds> notices = {{
    {0, nvme::AsyncEventType::error, static_cast<std::uint8_t>(nvme::AsyncErrorInfo::transient_internal), nvme::LogPage::error},
    {nvme::smart_warning_reliability, nvme::AsyncEventType::smart, nvme::async_smart_reliability, nvme::LogPage::smart},
    notice_of(nvme::aec_namespace_attribute, nvme::AsyncNoticeInfo::namespace_attribute_changed, nvme::LogPage::changed_namespaces),
    notice_of(nvme::aec_ana_change, nvme::AsyncNoticeInfo::ana_changed, nvme::LogPage::ana),
    notice_of(nvme::aec_discovery_change, nvme::AsyncNoticeInfo::discovery_log_changed, nvme::LogPage::discovery),
    notice_of(nvme::aec_host_discovery_change, nvme::AsyncNoticeInfo::host_discovery_log_changed, nvme::LogPage::host_discovery),
    {0, nvme::AsyncEventType::io_command_set, static_cast<std::uint8_t>(nvme::AsyncIoInfo::reservation_log_available), nvme::LogPage::reservation},
}};

const Notice& notice(AsyncEvents::Kind kind) { return notices[static_cast<std::size_t>(kind)]; }

}  // namespace

std::uint32_t AsyncEvents::bit(Kind kind) { return notice(kind).bit; }

std::uint32_t AsyncEvents::dw0(Kind kind) {
  const Notice& told = notice(kind);
  return nvme::async_event_dw0(told.type, told.info, static_cast<std::uint8_t>(told.page));
}

void AsyncEvents::configure(std::uint32_t enabled) {
  enabled_ = enabled;
  for (std::size_t i = 0; i < kinds; ++i) {
    if (!is_on(static_cast<Kind>(i)) && states_[i] == State::pending) states_[i] = State::idle;
  }
}

void AsyncEvents::raise(Kind kind) {
  if (is_on(kind) && state(kind) == State::idle) state(kind) = State::pending;
}

std::optional<AsyncEvents::Kind> AsyncEvents::take() {
  for (std::size_t i = 0; i < kinds; ++i) {
    if (states_[i] != State::pending) continue;
    states_[i] = State::told;
    return static_cast<Kind>(i);
  }
  return std::nullopt;
}

bool AsyncEvents::any_pending() const {
  for (const State each : states_) {
    if (each == State::pending) return true;
  }
  return false;
}

void AsyncEvents::log_page_read(Kind kind) { state(kind) = State::idle; }

void AsyncEvents::reset() {
  enabled_ = 0;
  states_ = {};
}

}  // namespace catnap::server
