// Listener, script and what was seen. Owner: see fake_controller.h. Left out: connections (fake_connection.cpp).
#include "tests/protocol/fake/fake_controller.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "reactor/base/check.h"
#include "tests/protocol/fake/fake_connection.h"

namespace catnap::protocol {

std::string_view deed_name(Deed deed) {
  static constexpr std::array<std::string_view, 35> names{"correct",           "trickle",          "reset",           "close",        "silence",
                                                          "half_header",       "half_pdu",         "garbage",         "term_req",     "unknown_type",
                                                          "host_type",         "second_ic_resp",   "wrong_hlen",      "tiny_plen",    "huge_plen",
                                                          "bad_header_digest", "error_status",     "wrong_cid",       "answer_twice", "no_data",
                                                          "short_data",        "over_long_data",   "data_beyond",     "data_gap",     "data_twice",
                                                          "data_of_other_cid", "data_length_lies", "bad_data_digest", "r2t_beyond",   "r2t_empty",
                                                          "r2t_of_other_cid",  "r2t_twice",        "early_success",   "r2t_for_read", "?"};
  static_assert(static_cast<std::size_t>(Deed::r2t_for_read) + 2 == names.size());
  return names[static_cast<std::size_t>(deed)];
}

std::vector<Deed> deeds_for(StepKind kind) {
  std::vector<Deed> deeds{Deed::reset, Deed::close, Deed::silence};
  auto more = [&deeds](std::initializer_list<Deed> list) { deeds.insert(deeds.end(), list); };
  if (kind == StepKind::accept) {
    more({Deed::garbage});
    return deeds;
  }
  more({Deed::half_header, Deed::half_pdu, Deed::garbage, Deed::term_req, Deed::unknown_type, Deed::host_type, Deed::wrong_hlen, Deed::tiny_plen,
        Deed::huge_plen, Deed::answer_twice});
  if (kind == StepKind::ic) return deeds;
  more({Deed::bad_header_digest, Deed::error_status, Deed::wrong_cid, Deed::second_ic_resp});
  if (kind == StepKind::to_host) {
    more({Deed::no_data, Deed::short_data, Deed::over_long_data, Deed::data_beyond, Deed::data_gap, Deed::data_twice, Deed::data_of_other_cid,
          Deed::data_length_lies, Deed::bad_data_digest, Deed::r2t_for_read});
  }
  if (kind == StepKind::from_host) more({Deed::r2t_beyond, Deed::r2t_empty, Deed::r2t_of_other_cid, Deed::r2t_twice});
  return deeds;
}

FakeController::FakeController(FakeOptions options) : options_(std::move(options)), memory_(options_.blocks << options_.lbads) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CATNAP_CHECK(listener_ >= 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  CATNAP_CHECK(::bind(listener_, generic, length) == 0 && ::listen(listener_, 128) == 0 && ::getsockname(listener_, generic, &length) == 0);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_loop(); });
}

FakeController::~FakeController() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ::shutdown(listener_, SHUT_RDWR);  // ends accept()
  acceptor_.join();
  ::close(listener_);
  for (Running& running : running_) running.connection->hang_up();
  for (Running& running : running_) running.thread.join();
}

void FakeController::accept_loop() {
  while (true) {
    sockaddr_in peer{};
    socklen_t peer_bytes = sizeof peer;
    const int fd = ::accept4(listener_, reinterpret_cast<sockaddr*>(&peer), &peer_bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && errno == EINTR) continue;
    if (fd < 0) return;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const std::lock_guard lock(mutex_);
    for (auto at = running_.begin(); at != running_.end();) {
      if (!at->connection->over()) {
        ++at;
        continue;
      }
      at->thread.join();
      at = running_.erase(at);
    }
    auto connection = std::make_shared<FakeConnection>(*this, Socket(fd));
    if (stopping_) return;
    running_.push_back({connection, std::thread([connection] { connection->run(); })});
    last_accepted_port_ = ntohs(peer.sin_port);
    accepted_.notify_all();
  }
}

void FakeController::accept_waiting() {
  const Socket probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  socklen_t bytes = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port_);
  if (::connect(probe.fd(), reinterpret_cast<const sockaddr*>(&address), bytes) != 0) return;
  ::getsockname(probe.fd(), reinterpret_cast<sockaddr*>(&address), &bytes);
  std::unique_lock lock(mutex_);
  accepted_.wait_for(lock, patience, [&] { return last_accepted_port_ == ntohs(address.sin_port); });
}

void FakeController::misbehave(const std::string& step, unsigned occurrence, Deed deed) {
  const std::lock_guard lock(mutex_);
  deeds_[{step, occurrence}] = deed;
}

void FakeController::change_answers(ChangeAnswer change) {
  const std::lock_guard lock(mutex_);
  change_answer_ = std::move(change);
}

void FakeController::change_ic_resp(std::function<void(tcp::IcResp&)> change) {
  const std::lock_guard lock(mutex_);
  change_ic_resp_ = std::move(change);
}

void FakeController::forget() {
  const std::lock_guard lock(mutex_);
  seen_.clear();
  counts_.clear();
  deeds_.clear();
  events_.clear();
  change_answer_ = nullptr;
  change_ic_resp_ = nullptr;
  misbehaved_.store(false);
}

std::vector<FakeController::Seen> FakeController::seen() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}

Deed FakeController::next_deed(const std::string& step, StepKind kind) {
  const std::lock_guard lock(mutex_);
  const unsigned occurrence = ++counts_[step];
  seen_.push_back({step, occurrence, kind});
  auto found = deeds_.find({step, occurrence});
  if (found == deeds_.end()) found = deeds_.find({step, 0});
  if (found == deeds_.end()) return Deed::correct;
  misbehaved_.store(true);
  return found->second;
}

bool FakeController::raise_event(std::uint32_t dw0, Milliseconds limit) {
  std::unique_lock lock(mutex_);
  return event_request_came_.wait_for(lock, limit, [&] {
    return std::ranges::any_of(running_,
                               [dw0](const Running& running) { return !running.connection->over() && running.connection->raise_event(dw0); });
  });
}

void FakeController::raise_event_before(const std::string& step, unsigned occurrence, std::uint32_t dw0) {
  const std::lock_guard lock(mutex_);
  events_[{step, occurrence}] = dw0;
}

// Of the occurrence that next_deed() has counted.
std::optional<std::uint32_t> FakeController::event_before(const std::string& step) {
  const std::lock_guard lock(mutex_);
  const auto found = events_.find({step, counts_[step]});
  if (found == events_.end()) return std::nullopt;
  const std::uint32_t dw0 = found->second;
  events_.erase(found);
  return dw0;
}

unsigned FakeController::live_connections() const {
  const std::lock_guard lock(mutex_);
  return static_cast<unsigned>(std::ranges::count_if(running_, [](const Running& running) { return !running.connection->over(); }));
}

void FakeController::drop_connections() {
  const std::lock_guard lock(mutex_);
  for (Running& running : running_) running.connection->hang_up();
}

Bytes FakeController::memory() const {
  const std::lock_guard lock(mutex_);
  return memory_;
}

void FakeController::resize(std::uint64_t blocks) {
  const std::lock_guard lock(mutex_);
  options_.blocks = blocks;
  memory_.resize(blocks << options_.lbads);
}

}  // namespace catnap::protocol
