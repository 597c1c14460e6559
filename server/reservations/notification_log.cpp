// Unread reservation notifications. See notification_log.h.
// Owner: the admin queue's thread. Left out: see the header.
#include "server/reservations/notification_log.h"

#include <algorithm>

namespace catnap::server {

bool NotificationLog::add(std::uint32_t nsid, nvme::ReservationNotice type) {
  const std::uint32_t bit = 1U << static_cast<unsigned>(type);
  if ((mask(nsid) & bit) != 0) return false;
  if (++count_ == 0) ++count_;  // 0 says that there is none
  if (unread_.size() >= capacity) {
    ++lost_;
    return false;
  }
  unread_.push_back({count_, nsid, type});
  return true;
}

nvme::ReservationLog NotificationLog::read(bool consume) {
  nvme::ReservationLog page;
  if (unread_.empty()) return page;
  const Entry& oldest = unread_.front();
  page.count = oldest.count;
  page.type = static_cast<std::uint8_t>(oldest.type);
  page.available = static_cast<std::uint8_t>(std::min<std::size_t>(unread_.size() - 1, 255));
  page.nsid = oldest.nsid;
  if (consume) unread_.pop_front();
  return page;
}

std::uint32_t NotificationLog::mask(std::uint32_t nsid) const {
  const auto found = masks_.find(nsid);
  return found == masks_.end() ? 0 : found->second;
}

void NotificationLog::set_mask(std::uint32_t nsid, std::uint32_t mask) {
  if (mask == 0) {
    masks_.erase(nsid);
  } else {
    masks_[nsid] = mask;
  }
}

}  // namespace catnap::server
