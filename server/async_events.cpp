// States of asynchronous events. See async_events.h.
// Owner: the admin queue's thread. Left out: delivery (controller.cpp).
#include "server/async_events.h"

#include "transport/nvme/features.h"
#include "transport/nvme/log_page.h"

namespace catnap::server {

namespace {

struct Notice {
  std::uint32_t bit;
  nvme::AsyncNoticeInfo info;
  nvme::LogPage page;
};

constexpr std::array<Notice, AsyncEvents::kinds> notices = {{
    {nvme::aec_namespace_attribute, nvme::AsyncNoticeInfo::namespace_attribute_changed, nvme::LogPage::changed_namespaces},
    {nvme::aec_ana_change, nvme::AsyncNoticeInfo::ana_changed, nvme::LogPage::ana},
    {nvme::aec_discovery_change, nvme::AsyncNoticeInfo::discovery_log_changed, nvme::LogPage::discovery},
}};

const Notice& notice(AsyncEvents::Kind kind) { return notices[static_cast<std::size_t>(kind)]; }

}  // namespace

std::uint32_t AsyncEvents::bit(Kind kind) { return notice(kind).bit; }

std::uint32_t AsyncEvents::dw0(Kind kind) {
  const Notice& told = notice(kind);
  return nvme::async_event_dw0(nvme::AsyncEventType::notice, static_cast<std::uint8_t>(told.info), static_cast<std::uint8_t>(told.page));
}

void AsyncEvents::configure(std::uint32_t enabled) {
  enabled_ = enabled;
  for (std::size_t i = 0; i < kinds; ++i) {
    if ((enabled & notices[i].bit) == 0 && states_[i] == State::pending) states_[i] = State::idle;
  }
}

void AsyncEvents::raise(Kind kind) {
  if ((enabled_ & bit(kind)) != 0 && state(kind) == State::idle) state(kind) = State::pending;
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
