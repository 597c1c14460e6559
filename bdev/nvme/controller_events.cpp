// What a controller tells by itself: namespaces and ANA states that are not what they were, and looking at them. See controller.h.
//
// A controller tells each kind of change once, and again only after its log page was read (Base 2.0 section 5.2). So nothing that was told may be
// forgotten: what comes while the controller is being connected is looked at when it is ready, and a look that failed is repeated.
#include <fmt/core.h>

#include "bdev/nvme/controller.h"
#include "bdev/nvme/module.h"
#include "reactor/base/log.h"
#include "transport/nvme/features.h"

namespace catnap::bdev {
namespace {

// A look that fails is repeated after 1, 2, 4, 8 and 16 s: a controller that refuses for longer does not mean it for a moment.
constexpr std::uint32_t most_failed_looks = 5;
constexpr std::uint64_t first_pause_us = 1'000'000;

}  // namespace

void NvmeController::event(std::uint32_t dw0) {
  if (event_handler_) event_handler_(dw0);
  using nvme::AsyncNoticeInfo;
  if (static_cast<nvme::AsyncEventType>(dw0 & 0x7) != nvme::AsyncEventType::notice) return;
  const auto notice = static_cast<AsyncNoticeInfo>(dw0 >> 8 & 0xFF);
  if (notice == AsyncNoticeInfo::namespace_attribute_changed) {
    news_.namespaces = true;
  } else if (notice == AsyncNoticeInfo::ana_changed) {
    news_.ana = true;
  }
  follow_news();
}

void NvmeController::ana_doubtful() {
  news_.ana = true;
  follow_news();
}

void NvmeController::follow_news() {
  if (state_ == State::ready && news_.any() && !looking_) spawn(look());
}

// One at a time; what is told meanwhile is looked at right afterwards.
Task<void> NvmeController::look() {
  const auto keep = shared_from_this();
  looking_ = true;
  news_timer_.disarm();
  bool failed = false;
  while (!failed && state_ == State::ready && association_ != nullptr && news_.any()) {
    const auto association = association_;
    const News told = std::exchange(news_, News());
    auto looked = co_await look_at(association, told);
    if (association_ != association) continue;  // another one reads everything when it begins
    co_await tell_change();
    if (association_ != association) continue;
    failed = !looked;
    if (failed) {
      news_.add(told);
      look_failed(looked.error());
    } else {
      failed_looks_ = 0;
    }
  }
  looking_ = false;
}

void NvmeController::look_failed(const Error& why) {
  if (++failed_looks_ > most_failed_looks) {
    log_warning("controller {} at {}: what has changed could not be read: {}; looked at again when it tells of another change", name_, id().text(),
                why.message);
    forget_news();
    return;
  }
  const std::uint64_t pause_us = first_pause_us << (failed_looks_ - 1);
  log_warning("controller {} at {}: what has changed could not be read: {}; once more in {} s", name_, id().text(), why.message,
              pause_us / 1'000'000);
  module_.app_thread().arm_in_us(news_timer_, pause_us);
}

void NvmeController::forget_news() {
  news_ = {};
  failed_looks_ = 0;
  news_timer_.disarm();
}

Task<Result<void>> NvmeController::look_at(std::shared_ptr<Association> association, News told) {
  const auto keep = shared_from_this();
  if (!told.namespaces) {
    auto ana = co_await read_ana_log(association);
    co_return ana;
  }
  // Before the namespaces: reading it is what lets the controller tell of what changes from then on (Base 2.0 section 5.16.1.5).
  auto changed = co_await association->log_page(nvme::LogPage::changed_namespaces, nvme::broadcast_nsid, 0, sizeof(nvme::ChangedNamespaces), false);
  if (!changed && !association->is_open()) co_return std::unexpected(changed.error());
  auto scanned = co_await scan(association);
  if (!scanned) co_return scanned;
  if (unread_) co_return std::unexpected(*unread_);
  if (!changed) co_return std::unexpected(changed.error());
  co_return Result<void>();
}

}  // namespace catnap::bdev
