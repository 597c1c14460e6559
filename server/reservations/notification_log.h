// The reservation notifications of one controller that its host has not read yet (log page 80h, NVMe Base 2.0, section 5.16.1.25), and the mask of
// each namespace (feature 82h).
// Owner: the admin queue's thread. Left out: who is told (rules.h), the event (async_events.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>

#include "transport/nvme/reservation.h"

namespace catnap::server {

class NotificationLog {
 public:
  // As many as NUMBER OF AVAILABLE LOG PAGES can tell besides the one that is read. A host that does not read for that long has lost count anyway;
  // what comes then is left out, and the gap in LOG PAGE COUNT shows how many.
  static constexpr std::size_t capacity = 256;

  // False: masked, or no room. `count` rises for what finds no room, not for what is masked.
  bool add(std::uint32_t nsid, nvme::ReservationNotice type);
  // The oldest one (all zero: none); `consume` takes it out.
  nvme::ReservationLog read(bool consume);
  std::size_t size() const { return unread_.size(); }
  std::uint64_t lost() const { return lost_; }

  // Bits of nvme::reservation_mask_bits.
  std::uint32_t mask(std::uint32_t nsid) const;
  void set_mask(std::uint32_t nsid, std::uint32_t mask);
  // A controller reset: nothing is unread, nothing masked.
  void reset() { *this = NotificationLog(); }

 private:
  struct Entry {
    std::uint64_t count;
    std::uint32_t nsid;
    nvme::ReservationNotice type;
  };
  std::deque<Entry> unread_;
  std::map<std::uint32_t, std::uint32_t> masks_;  // by NSID; missing: 0
  std::uint64_t count_ = 0;
  std::uint64_t lost_ = 0;
};

}  // namespace catnap::server
