// Life of a host's queue pair: connecting, deadlines, ending. See host_queue.h.
#include "transport/tcp/host_queue.h"

#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "reactor/reactor.h"
#include "transport/tcp/host_auth.h"
#include "transport/tcp/host_slot.h"
#include "transport/tcp/same_host.h"

namespace catnap::tcp {
namespace {

LogFlag log_nvme{"nvme_tcp_host"};

using nvme::Status;

double seconds(std::uint64_t us) { return static_cast<double>(us) / 1e6; }

void set_option(int fd, int level, int name, std::uint32_t value) {
  const int number = static_cast<int>(value);
  (void)setsockopt(fd, level, name, &number, sizeof number);  // a wish: without it the connection still works
}

// "Connect Invalid Parameters" says which field it means.
std::string connect_refusal(const nvme::CompletionEntry& cqe) {
  const Status status = nvme::status_of(cqe);
  std::string text = fmt::format("Connect was refused: status type {:#x} code {:#x}", static_cast<unsigned>(status.sct), status.sc);
  if (status.same_code(nvme::FabricsStatus::connect_invalid_parameters)) {
    const auto where = nvme::ConnectInvalidParameters::from_dw0(cqe.dw0);
    text += fmt::format(" (invalid parameter at byte {} of the {})", where.ipo, where.in_data ? "Connect data" : "command");
  } else if (status.same_code(nvme::FabricsStatus::connect_invalid_host)) {
    text += " (this host is not allowed)";
  } else if (status.same_code(nvme::FabricsStatus::controller_busy)) {
    text += " (controller busy)";
  }
  return text;
}

}  // namespace

HostQueue::HostQueue(Thread& thread, HostQueueOptions options, HostQueueUser& user)
    : thread_(thread),
      options_(std::move(options)),
      user_(user),
      send_queue_([this](SendItem& item) { on_item_sent(item); }),
      flush_([this] { flush(); }),
      read_on_([this] { on_event(EPOLLIN); }),
      ended_([this] { end(); }),
      deadline_([this] { on_deadline(); }) {
  CATNAP_CHECK(options_.entries >= 2 && options_.entries <= max_entries);
  const auto peer = format_address(options_.address.storage);
  label_ = fmt::format("{}:{} qid {}", peer.traddr, peer.trsvcid, options_.qid);
  const std::size_t count = options_.entries - 1U;
  slots_ = std::make_unique<Slot[]>(count);
  for (std::size_t i = count; i-- > 0;) {
    Slot& slot = slots_[i];
    slot.index = static_cast<std::uint16_t>(i);
    slot.command.owner = slot.data.owner = &slot;
    slot.next_free = std::exchange(free_, &slot);
  }
}

HostQueue::~HostQueue() {
  CATNAP_CHECK(in_use_ == 0 && line_first_ == nullptr);
  if (poller_ != nullptr) thread_.remove_poller(*poller_);
  if (in_fd_group_) (void)thread_.fds().remove(fd_);
  if (fd_ >= 0) ::close(fd_);
}

// --- connecting ---

Result<void> HostQueue::open_socket() {
  fd_ = socket(options_.address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return fail(errno, fmt::format("making a socket: {}", errno_text(errno)));
  set_option(fd_, IPPROTO_TCP, TCP_NODELAY, 1);
  if (options_.sock_priority > 0) set_option(fd_, SOL_SOCKET, SO_PRIORITY, options_.sock_priority);
  if (options_.user_timeout_ms > 0) set_option(fd_, IPPROTO_TCP, TCP_USER_TIMEOUT, options_.user_timeout_ms);
  if (options_.source) {
    const SocketAddress& source = *options_.source;
    set_option(fd_, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd_, reinterpret_cast<const sockaddr*>(&source.storage), source.length) != 0) {
      const auto name = format_address(source.storage);
      return fail(errno, fmt::format("binding to the local address {}:{}: {}", name.traddr, name.trsvcid, errno_text(errno)));
    }
  }
  const SocketAddress& to = options_.address;
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&to.storage), to.length) != 0 && errno != EINPROGRESS)
    return fail(errno, fmt::format("connecting: {}", errno_text(errno)));
  auto added = thread_.fds().add(fd_, EPOLLOUT, fmt::format("nvme queue {}", label_), [this](std::uint32_t events) { on_event(events); });
  if (added) in_fd_group_ = true;
  return added;
}

void HostQueue::connect() {
  CATNAP_CHECK(state_ == State::idle);
  state_ = State::connecting;
  if (auto opened = open_socket(); !opened) return close(opened.error());
  step_deadline_ns_ = thread_.now_ns() + options_.connect_timeout_us * ns_per_us;
  watch_deadlines();
}

void HostQueue::connected() {
  int err = 0;
  socklen_t length = sizeof err;
  if (getsockopt(fd_, SOL_SOCKET, SO_ERROR, &err, &length) != 0) err = errno;
  if (err != 0) return close(Error(err, fmt::format("connecting: {}", errno_text(err))));
  local_ = local_address_of(fd_);
  spare_pacing(fd_);
  if (options_.generated_psk != nullptr) return secure(1);
  if (options_.psk != nullptr) return secure(options_.psk_identity_version.value_or(1));
  state_ = State::initializing;
  update_interest();
  send_ic_req();
}

void HostQueue::send_ic_req() {
  IcReq pdu;
  pdu.ch.type = static_cast<std::uint8_t>(PduType::ic_req);
  pdu.ch.hlen = sizeof pdu;
  pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu);
  pdu.dgst = static_cast<std::uint8_t>((options_.header_digest ? dgst_header_enable : 0U) | (options_.data_digest ? dgst_data_enable : 0U));
  pdu.maxr2t = 0;  // one per command, as Linux: a second would only save a round trip on writes beyond MAXH2CDATA
  control_bytes_.resize(sizeof pdu);
  std::memcpy(control_bytes_.data(), &pdu, sizeof pdu);
  control_item_.clear();
  control_item_.data = control_bytes_.data();
  control_item_.data_bytes = sizeof pdu;
  ++stats_.pdus_sent;
  send_queue_.push(control_item_);
  want_flush();
}

// ICResp is there.
void HostQueue::send_connect() {
  state_ = State::attaching;
  step_deadline_ns_ = thread_.now_ns() + options_.fabrics_timeout_us * ns_per_us;
  watch_deadlines();
  nvme::ConnectCommand command;
  command.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics);
  command.fctype = static_cast<std::uint8_t>(nvme::FabricsType::connect);
  command.qid = options_.qid;
  command.sqsize = static_cast<std::uint16_t>(options_.entries - 1);
  command.cattr = options_.disable_sq_flow_control ? nvme::cattr_disable_sq_flow_control : std::uint8_t{0};
  command.kato = options_.kato_ms;
  connect_iov_ = {&options_.connect, sizeof options_.connect};
  connect_request_.sqe = nvme::view_as<nvme::SubmissionEntry>(command);
  connect_request_.direction = transport::DataDirection::host_to_controller;
  connect_request_.iov = &connect_iov_;
  connect_request_.iov_count = 1;
  connect_request_.data_bytes = sizeof options_.connect;
  connect_request_.late = true;  // has a deadline of its own
  connect_request_.context = this;
  connect_request_.done = &HostQueue::connect_answered;
  start(connect_request_);
}

void HostQueue::connect_answered(HostRequest& request) {
  auto& queue = *static_cast<HostQueue*>(request.context);
  if (request.outcome != HostRequest::Outcome::answered) return;
  if (!request.status().is_success()) return queue.close(Error(ECONNREFUSED, connect_refusal(request.cqe)));
  if (queue.lacks_secure_channel()) {
    return queue.close(Error(EACCES, "the controller demands a secure channel made by authentication (secure_concatenation)"));
  }
  if (queue.must_authenticate()) return queue.begin_authentication();
  queue.become_ready();
}

bool HostQueue::lacks_secure_channel() const {
  const bool demanded = (std::uint32_t{connect_request_.cqe.dw0} & nvme::connect_authreq_ascr) != 0;
  return demanded && tls_ == nullptr && !options_.concatenate;
}

// Also unasked: a controller that is to prove itself might otherwise be one that asks nothing.
bool HostQueue::must_authenticate() const {
  const std::uint32_t demanded = std::uint32_t{connect_request_.cqe.dw0} & (nvme::connect_authreq_atr | nvme::connect_authreq_ascr);
  if (demanded != 0 || options_.concatenate) return true;
  if (options_.generated_psk != nullptr) return false;  // has been one of the two that made the key
  return options_.credentials != nullptr && options_.credentials->ctrlr_key != nullptr;
}

// An authentication that was to leave a key behind has ended well.
void HostQueue::keep_generated_psk() {
  auto made = auth_->take_psk();
  if (!made) return;
  auto psk = std::make_shared<tls::GeneratedPsk>();
  psk->hash = made->hash == dhchap::AuthHash::sha256 ? tls::Hash::sha256 : tls::Hash::sha384;
  psk->psk = std::move(made->psk);
  options_.generated_psk = std::move(psk);
}

// Behind Connect, before the queue is ready for anything else.
void HostQueue::begin_authentication() {
  if (options_.credentials == nullptr || options_.credentials->key == nullptr) {
    return close(Error(EACCES, "the controller demands authentication, and there is no dhchap_key for it"));
  }
  step_deadline_ns_ = 0;
  watch_deadlines();
  auth_ = HostAuth::create(
      thread_, *options_.credentials, options_.connect, [this](HostRequest& request) { start(request); },
      [this](const Result<void>& outcome) {
        keep_generated_psk();
        auth_.reset();
        if (!outcome) return close(outcome.error());
        become_ready();
      },
      options_.concatenate ? dhchap::AuthConcatenation::new_tls_psk : dhchap::AuthConcatenation::none);
  auth_->start();
}

void HostQueue::authenticate(std::shared_ptr<const dhchap::HostCredentials> credentials, std::function<void(const Result<void>&)> done) {
  options_.credentials = std::move(credentials);
  if (!ready() || auth_ != nullptr) return done(fail(EAGAIN, fmt::format("{} is not ready to authenticate", label_)));
  if (options_.credentials == nullptr || options_.credentials->key == nullptr) return done({});
  auth_done_ = std::move(done);
  auth_ = HostAuth::create(
      thread_, *options_.credentials, options_.connect, [this](HostRequest& request) { submit(request); },
      [this](const Result<void>& outcome) {
        keep_generated_psk();
        auth_.reset();
        if (!outcome) close(outcome.error());
        if (auth_done_) std::exchange(auth_done_, nullptr)(outcome);
      },
      options_.generated_psk != nullptr && options_.qid == 0 ? dhchap::AuthConcatenation::replace_tls_psk : dhchap::AuthConcatenation::none);
  auth_->start();
}

void HostQueue::become_ready() {
  state_ = State::ready;
  handshake_.reset();
  step_deadline_ns_ = 0;
  watch_deadlines();
  log_info(log_nvme, "{}: connected from {}:{}", label_, local_.traddr, local_.trsvcid);
  apply_poll_period();
  user_.queue_ready(*this, connect_request_.cqe.dw0);
}

// --- deadlines ---

void HostQueue::watch_deadlines() {
  std::uint64_t nearest = step_deadline_ns_ != 0 ? step_deadline_ns_ : TimerHeap::never_ns;
  if (options_.command_timeout_us > 0) {
    const Slot* slot = oldest_;
    while (slot != nullptr && slot->request->late) slot = slot->newer;
    if (slot != nullptr) nearest = std::min(nearest, slot->request->submitted_ns + options_.command_timeout_us * ns_per_us);
  }
  if (nearest == TimerHeap::never_ns) {
    deadline_.disarm();
  } else {
    thread_.arm_at(deadline_, nearest);
  }
}

void HostQueue::on_deadline() {
  const std::uint64_t now = thread_.now_ns();
  if (step_deadline_ns_ != 0 && now >= step_deadline_ns_) {
    const char* what = state_ == State::connecting     ? "no TCP connection"
                       : state_ == State::securing     ? "no end of the TLS handshake"
                       : state_ == State::initializing ? "no ICResp"
                                                       : "no answer to Connect";
    const std::uint64_t within = state_ == State::attaching ? options_.fabrics_timeout_us : options_.connect_timeout_us;
    return close(Error(ETIMEDOUT, fmt::format("{} within {} s", what, seconds(within))));
  }
  report_late(now);
  if (!over()) watch_deadlines();
}

void HostQueue::report_late(std::uint64_t now_ns) {
  if (options_.command_timeout_us == 0) return;
  for (Slot* slot = oldest_; slot != nullptr; slot = slot->newer) {
    HostRequest& request = *slot->request;
    if (request.late) continue;
    if (now_ns < request.submitted_ns + options_.command_timeout_us * ns_per_us) break;
    request.late = true;
    user_.request_late(*this, request);
    if (over()) return;
  }
}

void HostQueue::set_command_timeout_us(std::uint64_t timeout_us) {
  options_.command_timeout_us = timeout_us;
  if (!over()) watch_deadlines();
}

// --- polling instead of waiting, for those who ask for it ---

void HostQueue::set_poll_period_us(std::uint64_t period_us) {
  if (options_.poll_period_us == period_us) return;
  options_.poll_period_us = period_us;
  if (ready()) apply_poll_period();
}

void HostQueue::apply_poll_period() {
  if (poller_ != nullptr) thread_.remove_poller(*std::exchange(poller_, nullptr));
  if (options_.poll_period_us == 0) {
    update_interest();
    return;
  }
  if (std::exchange(in_fd_group_, false)) (void)thread_.fds().remove(fd_);
  poller_ = &thread_.add_poller(
      fmt::format("nvme queue {}", label_),
      [this] {
        const std::uint64_t before = stats_.bytes_received;
        poll_socket();
        return stats_.bytes_received != before ? 1 : 0;
      },
      options_.poll_period_us);
}

void HostQueue::poll_socket() {
  ++stats_.polls;
  const std::uint64_t before = stats_.bytes_received;
  if (watching_writable_) want_flush();
  while (ready() && on_readable()) {
  }
  if (stats_.bytes_received == before) ++stats_.idle_polls;
}

// --- ending ---

// FIN or RST of the other side has arrived, whether or not it was read. What the kernel itself gave up (ETIMEDOUT) looks the same but for its error.
bool HostQueue::controller_hung_up() const {
  pollfd state{fd_, POLLRDHUP, 0};
  if (fd_ < 0 || ::poll(&state, 1, 0) != 1 || (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0) return false;
  int err = 0;
  socklen_t length = sizeof err;
  return getsockopt(fd_, SOL_SOCKET, SO_ERROR, &err, &length) == 0 && (err == 0 || err == ECONNRESET || err == EPIPE);
}

// What the system has not sent yet, it would go on sending after close(), for as long as it takes: commands that were given up must not arrive then.
void HostQueue::forget_unsent() const {
  const linger at_once{1, 0};
  (void)setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

// With FIN the kernel would go on sending what the controller has not acknowledged, for minutes if the network is cut: commands that were repeated
// elsewhere meanwhile. RST throws that away. Not where the controller is to read a last word (H2CTermReq), nor on an admin queue that was shut down:
// its event request, outstanding to the last, does no harm.
bool HostQueue::must_not_arrive_later() const {
  if (in_use_ == 0 || why_.err == EPROTO) return false;
  return options_.qid != 0 || (why_.err != ESHUTDOWN && why_.err != ECANCELED);
}

void HostQueue::close(Error why) {
  if (state_ == State::closed) return;
  ended_by_controller_ = why.err == ECONNRESET || why.err == EPIPE || why.err == EPROTO || (why.err != ETIMEDOUT && controller_hung_up());
  log_info(log_nvme, "{}: closed: {}", label_, why.message);
  state_ = State::closed;
  why_ = std::move(why);
  step_deadline_ns_ = 0;
  deadline_.disarm();
  flush_.cancel();
  read_on_.cancel();
  if (handshake_ != nullptr) handshake_->stop();
  if (poller_ != nullptr) thread_.remove_poller(*std::exchange(poller_, nullptr));
  if (std::exchange(in_fd_group_, false)) (void)thread_.fds().remove(fd_);
  const bool orderly = ended_by_controller_ || why_.err == ESHUTDOWN;
  if (tls_ != nullptr && orderly && !must_not_arrive_later()) tls_->finish(fd_);
  if (fd_ >= 0 && !orderly) forget_unsent();
  if (fd_ >= 0 && must_not_arrive_later()) {
    const linger at_once{1, 0};
    (void)setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  thread_.make_ready(ended_);
}

void HostQueue::end() {
  give_back_all();
  if (auth_ != nullptr) std::exchange(auth_, nullptr)->stop();
  if (auth_done_) std::exchange(auth_done_, nullptr)(std::unexpected(why_));
  const Error why = why_;  // the user may destroy this within
  user_.queue_ended(*this, why);
}

// What is known about each command is read off the send queue before it is emptied.
void HostQueue::give_back_all() {
  payload_slot_ = nullptr;
  for (Slot* slot = oldest_; slot != nullptr; slot = slot->newer) {
    const bool whole = !slot->command.queued && !(slot->in_capsule && slot->data.queued);
    slot->request->outcome = whole ? HostRequest::Outcome::lost : HostRequest::Outcome::not_sent;
  }
  send_queue_.drop_all();
  while (oldest_ != nullptr) finish(*oldest_, oldest_->request->outcome);
  while (line_first_ != nullptr) {
    HostRequest& request = *line_first_;
    const bool taken = take_back(request);
    CATNAP_CHECK(taken);
  }
}

// Says why to the controller, as far as one write goes, and ends: a host closes the connection after its H2CTermReq (section 3.5.1).
void HostQueue::fail_protocol(const Fault& fault, const std::byte* header, std::size_t header_bytes) {
  CommonHeader common;
  std::memcpy(&common, header, sizeof common);
  const std::size_t copied = std::min(header_bytes, max_term_data_bytes);
  TermReq pdu;
  pdu.ch.type = static_cast<std::uint8_t>(PduType::h2c_term_req);
  pdu.ch.hlen = sizeof pdu;
  pdu.ch.plen = static_cast<std::uint32_t>(sizeof pdu + copied);
  pdu.fes = static_cast<std::uint16_t>(fault.fes);
  pdu.fei = fault.fei;
  send_queue_.drop_unstarted();
  if (!control_item_.queued && send_queue_.empty()) {
    control_bytes_.resize(sizeof pdu + copied);
    std::memcpy(control_bytes_.data(), &pdu, sizeof pdu);
    std::memcpy(control_bytes_.data() + sizeof pdu, header, copied);
    control_item_.clear();
    control_item_.data = control_bytes_.data();
    control_item_.data_bytes = static_cast<std::uint32_t>(control_bytes_.size());
    send_queue_.push(control_item_);
    (void)send_queue_.flush(fd_, tls_.get());
  }
  std::string text =
      fmt::format("the controller broke the protocol: {} (PDU type {:#x}, FLAGS {:#x}, HLEN {}, PDO {}, PLEN {}; FES {:#x}, FEI {:#x})", fault.reason,
                  common.type, common.flags, common.hlen, common.pdo, std::uint32_t{common.plen}, static_cast<unsigned>(fault.fes), fault.fei);
  if (!fault_values_.empty()) text += ": " + std::exchange(fault_values_, {});
  close(Error(EPROTO, std::move(text)));
}

}  // namespace catnap::tcp
