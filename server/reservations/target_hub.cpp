// The target as reservations see it. See target_hub.h.
// Owner: app_thread. Left out: see the header.
#include "server/reservations/target_hub.h"

#include <utility>

#include "server/controller.h"

namespace catnap::server {

namespace {

// Held by all that has to be over first; then `done` at home.
class AtEnd {
 public:
  AtEnd(Thread& home, ReservationHub::Done done) : home_(home), done_(std::move(done)) {}
  ~AtEnd() { home_.send(std::move(done_)); }
  AtEnd(const AtEnd&) = delete;
  AtEnd& operator=(const AtEnd&) = delete;

 private:
  Thread& home_;
  ReservationHub::Done done_;
};

}  // namespace

void TargetReservationHub::refresh_groups(const std::string& nqn, std::uint32_t nsid, Done done) {
  const auto holds = std::make_shared<AtEnd>(app_thread_, std::move(done));
  for (ServerGroup* group : groups_) {
    group->thread().send([group, nqn, nsid, holds] { group->reservation_changed(nqn, nsid); });
  }
}

void TargetReservationHub::abort_commands(const std::string& nqn, std::uint32_t nsid, std::vector<HostId> hosts, Done done) {
  const auto holds = std::make_shared<AtEnd>(app_thread_, std::move(done));
  const auto victims = std::make_shared<const std::vector<HostId>>(std::move(hosts));
  for (ServerGroup* group : groups_) {
    group->thread().send([group, nqn, nsid, victims, holds] { group->abort_preempted(nqn, nsid, *victims, holds); });
  }
}

void TargetReservationHub::notify(const std::string& nqn, std::uint32_t nsid, const std::vector<HostNotice>& notices) {
  if (!notices.empty()) controllers_.tell_reservation(nqn, nsid, notices);
}

void TargetReservationHub::write_file(std::string path, std::string bytes, std::move_only_function<void(Result<void>)> done) {
  workers_.submit(
      app_thread_, [path = std::move(path), bytes = std::move(bytes)] { return write_durably(posix_files(), path, bytes); }, std::move(done));
}

// A host may get two notices of one command: its registration is gone, or (with another host's) the reservation is released; in order.
void ControllerTable::tell_reservation(const std::string& nqn, std::uint32_t nsid, const std::vector<HostNotice>& notices) {
  std::multimap<HostId, nvme::ReservationNotice> by_host;
  for (const HostNotice& each : notices) by_host.emplace(each.host, each.type);
  for (auto at = entries_.lower_bound(Key(nqn, 0)); at != entries_.end() && at->first.first == nqn; ++at) {
    const Entry& entry = at->second;
    if (entry.admin_gone || entry.discovery) continue;
    const auto [first, last] = by_host.equal_range(entry.hostid);
    for (auto notice = first; notice != last; ++notice) {
      entry.controller->group().thread().send(
          [controller = entry.controller, nsid, type = notice->second] { controller->reservation_notice(nsid, type); });
    }
  }
}

}  // namespace catnap::server
