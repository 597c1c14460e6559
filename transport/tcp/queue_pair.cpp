// Life of a queue pair and of its commands. See queue_pair.h.
#include "transport/tcp/queue_pair.h"

#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "reactor/base/check.h"
#include "reactor/base/log_limit.h"
#include "reactor/reactor.h"
#include "transport/nvme/status.h"
#include "transport/tcp/address.h"

namespace catnap::tcp {
namespace {

LogFlag log_tcp{"nvmf_tcp"};

using nvme::GenericStatus;
using nvme::Status;

// Lent memory queued on one connection: beyond it reads take buffers of the pool, as a socket that is full makes us copy what is lent.
constexpr std::uint64_t max_lent_bytes = std::uint64_t{1} << 20;
// Connections that end otherwise than their host wished, or that the target ends: each host address may say so a few times.
LogLimit ending_log;
// Deadlines of connections are seconds away; nobody notices that they are met a little later.
constexpr std::uint64_t deadline_grid_ns = ns_per_s / 2;
// After a disconnect the host gets this long to take its last answers.
constexpr std::uint64_t disconnect_linger_ns = 2 * ns_per_s;
// Slots (some 600 bytes) an idle connection keeps of those it once needed; the rest goes when it did not need them for so long.
constexpr std::size_t kept_slots = 32;
constexpr std::uint64_t trim_after_ns = 10 * ns_per_s;

double seconds(std::uint64_t us) { return static_cast<double>(us) / 1e6; }

}  // namespace

QueuePair::QueuePair(GroupContext& group, Incoming incoming)
    : group_(group),
      sink_(&group.new_queue_sink),
      fd_(incoming.fd),
      tls_(std::move(incoming.stream)),
      send_queue_([this](SendItem& item) { on_item_sent(item); }),
      flush_([this] { flush(); }),
      read_on_([this] { on_event(EPOLLIN); }),
      freed_([this] {
        sink_->queue_closed(*this);
        group_.on_freed(*this);
      }),
      ticket_(std::move(incoming.ticket)),
      io_timer_([this] { on_io_deadline(); }) {
  negotiated_.max_h2c_data_bytes = group.options.max_h2c_data_bytes;
  channel_ = std::move(incoming.channel);
  local_ = local_address_of(fd_);
  peer_ = peer_address_of(fd_);
}

QueuePair::~QueuePair() {
  if (fd_ >= 0) ::close(fd_);
}

bool QueuePair::start() {
  auto added = group_.thread.fds().add(fd_, EPOLLIN, fmt::format("queue pair {}:{}", peer_.traddr, peer_.trsvcid),
                                       [this](std::uint32_t events) { on_event(events); });
  if (!added) {
    log_error("{}: {}", label(), added.error().message);
    return false;
  }
  if (tls_ == nullptr) (void)group_.thread.fds().set_attempt(fd_, [this] { return attempt(); });
  accepted_ns_ = group_.thread.now_ns();
  handshake_deadline_ns_ = accepted_ns_ + std::min(group_.options.ic_timeout_us, group_.options.handshake_timeout_us) * ns_per_us;
  watch_deadlines();
  log_info(log_tcp, "{}: accepted", label());
  come_back_for_tls();
  return true;
}

std::string QueuePair::label() const {
  return fmt::format("NVMe/TCP {}:{} -> {}:{} qid {}", peer_.traddr, peer_.trsvcid, local_.traddr, local_.trsvcid,
                     connected_ ? std::to_string(qid_) : "none");
}

void QueuePair::enter(State next) {
  CATNAP_CHECK(state_ != State::closed);
  CATNAP_CHECK(next != State::ready || state_ == State::expecting_ic_req);
  state_ = next;
}

// --- deadlines ---

void QueuePair::watch_deadlines() {
  std::uint64_t nearest = TimerHeap::never_ns;
  if (handshake_deadline_ns_ != 0) nearest = std::min(nearest, handshake_deadline_ns_);
  if (linger_deadline_ns_ != 0) nearest = std::min(nearest, linger_deadline_ns_);
  if (pdu_since_ns_ != 0) nearest = std::min(nearest, pdu_since_ns_ + group_.options.pdu_timeout_us * ns_per_us);
  if (trim_at_ns_ != 0) nearest = std::min(nearest, trim_at_ns_);
  if (watching_writable_) nearest = std::min(nearest, stalled_since_ns_ + group_.options.send_stall_us * ns_per_us);
  const bool holds_for_payload = payload_slot_ != nullptr && payload_slot_->in_capsule && payload_slot_->buffer;
  if (waiting_data_ + kept_ > 0 || holds_for_payload) nearest = std::min(nearest, data_progress_ns_ + group_.options.send_stall_us * ns_per_us);
  if (waiting_data_ + draining_ > 0) {
    for (const auto& slot : slots_) {
      if (slot->state == SlotState::waiting_data || slot->state == SlotState::draining)
        nearest = std::min(nearest, slot->data_since_ns + group_.options.r2t_timeout_us * ns_per_us);
    }
  }
  if (nearest == TimerHeap::never_ns) {
    io_timer_.disarm();
  } else {
    arm_by(nearest);
  }
}

// For what begins now and would otherwise find the timer set to something later.
void QueuePair::expect_by(std::uint64_t deadline_ns) {
  if (!io_timer_.armed() || deadline_ns < io_timer_.deadline_ns()) arm_by(deadline_ns);
}

// What was met in time leaves its deadline behind: one look for nothing. On the grid, those of hundreds of connections that fell quiet are one
// wake-up.
void QueuePair::arm_by(std::uint64_t deadline_ns) {
  group_.thread.arm_at(io_timer_, (deadline_ns + deadline_grid_ns - 1) / deadline_grid_ns * deadline_grid_ns);
}

void QueuePair::on_io_deadline() {
  const std::uint64_t now = group_.thread.now_ns();
  if (linger_deadline_ns_ != 0 && now >= linger_deadline_ns_) {
    if (state_ == State::terminating) ++group_.stats.timed_out_term;
    return close(close_reason_, true);
  }
  if (end_if_too_slow(now) || end_if_stalled(now)) return;
  if (trim_at_ns_ != 0 && now >= trim_at_ns_) trim_slots();
  for (const auto& slot : slots_) {
    if (now < slot->data_since_ns + group_.options.r2t_timeout_us * ns_per_us) continue;
    if (slot->state == SlotState::draining) free_slot(*slot);  // the host will not send it any more: the transfer tag may be used again
    if (slot->state != SlotState::waiting_data) continue;
    ++group_.stats.timed_out_r2t;
    return close(
        fmt::format("no data for the R2T of command {:#x} within {} s", std::uint16_t{slot->sqe.cid}, seconds(group_.options.r2t_timeout_us)));
  }
  watch_deadlines();
}

// A handshake, or a PDU, that does not come to its end. True: closed.
bool QueuePair::end_if_too_slow(std::uint64_t now_ns) {
  if (handshake_deadline_ns_ != 0 && now_ns >= handshake_deadline_ns_) {
    const bool no_ic = state_ == State::expecting_ic_req;
    ++(no_ic ? group_.stats.timed_out_icreq : group_.stats.timed_out_connect);
    close(fmt::format("no {} within {} s", no_ic ? "ICReq" : "Connect",
                      seconds(no_ic ? group_.options.ic_timeout_us : group_.options.handshake_timeout_us)));
    return true;
  }
  if (pdu_since_ns_ != 0 && now_ns >= pdu_since_ns_ + group_.options.pdu_timeout_us * ns_per_us) {
    if (paused_) {  // our own doing
      pdu_since_ns_ = now_ns;
      return false;
    }
    ++group_.stats.timed_out_pdu;
    close(fmt::format("half a PDU for {} s", seconds(group_.options.pdu_timeout_us)));
    return true;
  }
  return false;
}

// Has the host owed data for a buffer, or the other half of a held request, for so long?
bool QueuePair::owes_for(std::uint64_t time_ns, std::uint64_t now_ns) const {
  for (const auto& slot : slots_) {
    const bool owed = slot->state == SlotState::waiting_data || slot->state == SlotState::kept ||
                      (slot->state == SlotState::receiving && slot->buffer && slot.get() == payload_slot_);
    if (owed && now_ns >= slot->buffer_since_ns + time_ns) return true;
  }
  return false;
}

// Memory that a host keeps from others by taking or sending next to nothing. True: closed.
bool QueuePair::end_if_stalled(std::uint64_t now_ns) {
  const std::uint64_t stall_ns = group_.options.send_stall_us * ns_per_us;
  // After a move, buffers of this connection may be from the pool of the reactor where it was.
  const bool others_wait =
      Reactor::current()->buffers().anyone_waits() || std::ranges::any_of(slots_, [](const auto& slot) { return slot->buffer.wanted(); });
  if (watching_writable_ && now_ns >= stalled_since_ns_ + stall_ns) {
    if (others_wait && sent_in_window_ < group_.options.stall_bytes) {
      ++group_.stats.stalled;
      close(fmt::format("the host took {} bytes in {} s while others wait for buffers", sent_in_window_, seconds(group_.options.send_stall_us)));
      return true;
    }
    stalled_since_ns_ = now_ns;
    sent_in_window_ = 0;
  }
  if (now_ns < data_progress_ns_ + stall_ns) return false;
  if (others_wait && !paused_ && received_in_window_ < group_.options.stall_bytes && owes_for(stall_ns, now_ns)) {
    ++group_.stats.stalled;
    close(fmt::format("the host sent {} bytes of the data it owes in {} s while others wait for buffers", received_in_window_,
                      seconds(group_.options.send_stall_us)));
    return true;
  }
  data_progress_ns_ = now_ns;
  received_in_window_ = 0;
  return false;
}

// --- ending ---

// Before slots are freed at the end: a buffer that one of them gives back must not set off another.
void QueuePair::leave_buffer_line() {
  for (const auto& slot : slots_) {
    if (slot->state == SlotState::waiting_buffer) slot->waiter.reset();
  }
}

void QueuePair::linger(State next, const std::string& reason) {
  enter(next);
  close_reason_ = reason;
  handshake_deadline_ns_ = pdu_since_ns_ = trim_at_ns_ = 0;
  linger_deadline_ns_ = group_.thread.now_ns() + (next == State::terminating ? group_.options.term_linger_us * ns_per_us : disconnect_linger_ns);
  ticket_.finished();
  if (std::exchange(paused_, false)) update_interest();
  payload_slot_ = nullptr;
  partial_.clear();
  leave_buffer_line();
  abandon_all();
  watch_deadlines();
}

// Gives up every command that is not in execution; those with bytes still queued go when these are sent.
void QueuePair::abandon_all() {
  for (const auto& slot : slots_) slot->waiter.reset();  // first: a buffer freed below must not start one of our own
  for (const auto& slot : slots_) {
    if (slot->state == SlotState::free || slot->state == SlotState::executing) continue;
    const bool answered = slot->state == SlotState::sending || slot->state == SlotState::taking_back || slot->state == SlotState::draining;
    if (!answered) sink_->abandon(*slot);
    if (slot->state == SlotState::draining) {
      free_slot(*slot);
      continue;
    }
    if (slot->state == SlotState::waiting_data) --waiting_data_;
    if (slot->state == SlotState::kept) --kept_;
    slot->aborted = false;
    slot->state = SlotState::sending;
    if (!slot->tx.queued) free_slot(*slot);
  }
}

void QueuePair::disconnect(const std::string& reason) {
  if (state_ != State::ready && state_ != State::expecting_ic_req) return;
  log_limited(ending_log, LogLevel::notice, peer_.traddr, "{}: disconnected by the target: {}", label(), reason);
  linger(State::disconnecting, reason);
  want_flush();
}

void QueuePair::disconnect_within(const std::string& reason, std::uint64_t grace_us) {
  if (state_ != State::ready && state_ != State::expecting_ic_req) return;
  disconnect(reason);
  linger_deadline_ns_ = group_.thread.now_ns() + grace_us * ns_per_us;
  watch_deadlines();
}

void QueuePair::shut_down() {
  if (state_ == State::terminating) return close(close_reason_, true);
  if (state_ == State::disconnecting) {
    // It may have been given more time than the end of the target has.
    linger_deadline_ns_ = std::min(linger_deadline_ns_, group_.thread.now_ns() + disconnect_linger_ns);
    watch_deadlines();
  }
  if (state_ != State::ready && state_ != State::expecting_ic_req) return;
  linger(State::disconnecting, "the target shuts down");
  want_flush();
}

void QueuePair::close(const std::string& reason, bool expected) {
  if (state_ == State::closed) return;
  if (expected) {
    log_info(log_tcp, "{}: closed: {}", label(), reason);
  } else {
    log_limited(ending_log, LogLevel::warning, peer_.traddr, "{}: closed: {}", label(), reason);
  }
  enter(State::closed);
  (void)group_.thread.fds().remove(fd_);
  if (tls_ != nullptr) tls_->finish(fd_);
  ::close(std::exchange(fd_, -1));
  ticket_.give_back();
  io_timer_.disarm();
  flush_.cancel();
  read_on_.cancel();
  send_queue_.drop_all();
  payload_slot_ = nullptr;
  leave_buffer_line();
  abandon_all();
  // What is delayed or waits under a rate limit would keep this queue pair, and take its place in the line, for answers that go nowhere.
  for (std::size_t i = 0; i < slots_.size() && executing_ > 0; ++i) {
    if (slots_[i]->state == SlotState::executing) sink_->unwanted(*slots_[i]);
  }
  finish_if_idle();
}

void QueuePair::finish_if_idle() {
  if (state_ == State::closed && executing_ == 0) group_.thread.make_ready(freed_);
}

// --- slots ---

Slot* QueuePair::slot_at(std::uint32_t index) { return index < slots_.size() ? slots_[index].get() : nullptr; }

Slot* QueuePair::take_slot() {
  ++in_use_;
  if (free_ != nullptr) return std::exchange(free_, free_->next_free);
  slots_.push_back(std::make_unique<Slot>(static_cast<std::uint16_t>(slots_.size())));
  return slots_.back().get();
}

void QueuePair::free_slot(Slot& slot) {
  CATNAP_DCHECK(slot.state != SlotState::free && !slot.tx.queued);
  if (slot.owns_cid) cids_in_use_->reset(slot.sqe.cid);
  --(slot.state == SlotState::draining ? draining_ : in_use_);
  if (payload_slot_ == &slot) payload_slot_ = nullptr;
  slot.waiter.reset();
  slot.tx.clear();
  if (slot.heap != nullptr) release_heap(slot);
  slot.aborted = false;
  slot.state = SlotState::free;
  slot.next_free = std::exchange(free_, &slot);
  if (slots_.size() > kept_slots && trim_at_ns_ == 0 && in_use_ < kept_slots && state_ == State::ready) {
    trim_at_ns_ = group_.thread.now_ns() + trim_after_ns;
    expect_by(trim_at_ns_);
  }
  slot.buffer.reset();  // last: it may serve a waiter, which may be a slot of this queue pair
}

// After a burst an idle connection has no use for a queue's worth of slots. Only the last ones can go: the index is the transfer tag.
void QueuePair::trim_slots() {
  trim_at_ns_ = 0;
  while (slots_.size() > kept_slots && slots_.back()->state == SlotState::free) slots_.pop_back();
  free_ = nullptr;
  for (auto slot = slots_.rbegin(); slot != slots_.rend(); ++slot) {
    if ((*slot)->state == SlotState::free) (*slot)->next_free = std::exchange(free_, slot->get());
  }
}

// --- commands ---

void QueuePair::set_connected(std::uint16_t qid, std::uint16_t entries, bool sq_flow_control_disabled) {
  connected_ = true;
  qid_ = qid;
  entries_ = entries;
  slot_limit_ = std::uint32_t{entries} + 1;  // one more than the queue can hold outstanding, as Connect's own slot is still in use
  sq_flow_control_disabled_ = sq_flow_control_disabled;
  c2h_success_ = sq_flow_control_disabled && group_.options.c2h_success;
  if (qid != 0) negotiated_.max_in_capsule_bytes = group_.options.limits.in_capsule_data_size_bytes;
  handshake_deadline_ns_ = 0;
  ticket_.finished();
  watch_deadlines();
}

// SGL rules of NVMe/TCP (section 3.3.1): data in the capsule, or moved by the transport; nothing else.
std::optional<Status> QueuePair::check_sgl(const nvme::SubmissionEntry& sqe, std::uint32_t payload_bytes) const {
  const nvme::SglDescriptor& sgl = sqe.sgl;
  if (sgl.is_in_capsule()) {
    if (std::uint64_t{sgl.address} != 0) return Status(GenericStatus::sgl_offset_invalid).with_dnr();
    if (std::uint32_t{sgl.length} > payload_bytes) return Status(GenericStatus::data_sgl_length_invalid).with_dnr();
    return std::nullopt;
  }
  // Commands without data may leave the descriptor empty.
  if (sgl.is_transport() || (sgl.type_and_subtype == 0 && std::uint32_t{sgl.length} == 0)) return std::nullopt;
  return Status(GenericStatus::sgl_descriptor_type_invalid).with_dnr();
}

void QueuePair::start_command(const CapsuleCmd& capsule, std::uint32_t payload_bytes) {
  Slot& slot = *take_slot();
  slot.sqe = capsule.sqe;
  slot.cqe = {};
  slot.queue = this;
  slot.direction = transport::DataDirection::none;
  slot.consumes_inline = slot.never_waits = false;
  slot.may_lend = !watching_writable_ && send_queue_.lent_bytes() < max_lent_bytes;
  slot.data_length = 0;
  slot.data = nullptr;
  slot.lease = {};
  slot.in_capsule = slot.sqe.sgl.is_in_capsule();
  slot.digest_bad = slot.data_complete = slot.aborted = false;
  slot.received_bytes = slot.asked_bytes = 0;
  slot.r2ts_outstanding = 0;
  slot.state = SlotState::receiving;
  if (!cids_in_use_) cids_in_use_ = std::make_unique<std::bitset<65536>>();
  slot.owns_cid = !cids_in_use_->test(slot.sqe.cid);
  if (!slot.owns_cid) return fail(slot, Status(GenericStatus::command_id_conflict).with_dnr());
  cids_in_use_->set(slot.sqe.cid);
  if (const auto wrong = check_sgl(slot.sqe, payload_bytes)) return fail(slot, *wrong);
  if (payload_bytes > 0 && slot.in_capsule) payload_slot_ = &slot;  // until planning says that nobody wants it
  plan(slot);
}

void QueuePair::plan(Slot& slot) {
  switch (sink_->plan(slot)) {
    case transport::PlanAction::complete:
      if (payload_slot_ == &slot) payload_slot_ = nullptr;
      return queue_response(slot);
    case transport::PlanAction::execute:
      if (payload_slot_ == &slot) payload_slot_ = nullptr;
      return execute(slot);
    case transport::PlanAction::wait:
      slot.state = SlotState::held;
      return;
    case transport::PlanAction::transfer:
      return plan_transfer(slot);
  }
}

void QueuePair::plan_transfer(Slot& slot) {
  if (slot.data_length == 0) {
    if (payload_slot_ == &slot) payload_slot_ = nullptr;
    return execute(slot);
  }
  const bool to_controller = slot.direction == transport::DataDirection::host_to_controller;
  CATNAP_CHECK(slot.data_length <= BufferPool::max_size_bytes);
  if (slot.sqe.sgl.type_and_subtype == 0 || (slot.in_capsule && !to_controller))
    return abandon(slot, Status(GenericStatus::sgl_descriptor_type_invalid).with_dnr());
  if (std::uint32_t{slot.sqe.sgl.length} < slot.data_length) return abandon(slot, Status(GenericStatus::data_sgl_length_invalid).with_dnr());
  if (!slot.in_capsule) return get_buffer(slot);
  slot.state = SlotState::receiving;
  if (slot.data_complete) execute(slot);  // planned anew after a wait
}

void QueuePair::get_buffer(Slot& slot) {
  BufferPool& pool = Reactor::current()->buffers();
  Buffer buffer = pool.try_get(slot.data_length);
  if (buffer) return have_buffer(slot, std::move(buffer));
  if (slot.never_waits) {
    CATNAP_CHECK(slot.data_length <= transport::max_unwaited_bytes);
    use_heap(slot, slot.data_length);
    return have_memory(slot);
  }
  slot.state = SlotState::waiting_buffer;
  slot.waiter = std::make_unique<BufferWaiter>([this, &slot](Buffer late) { have_buffer(slot, std::move(late)); });
  pool.wait(*slot.waiter, slot.data_length);
}

void QueuePair::have_buffer(Slot& slot, Buffer buffer) {
  slot.buffer = std::move(buffer);
  slot.data = slot.buffer.data();
  have_memory(slot);
}

// Memory beside the pool, aligned as the pool's: for what must not wait in its line.
void QueuePair::use_heap(Slot& slot, std::size_t size_bytes) {
  constexpr std::size_t alignment = 4096;  // devices opened with O_DIRECT want it
  slot.heap = std::make_unique_for_overwrite<std::byte[]>(size_bytes + alignment);
  slot.heap_bytes = static_cast<std::uint32_t>(size_bytes + alignment);
  heap_bytes_ += slot.heap_bytes;
  const auto address = reinterpret_cast<std::uintptr_t>(slot.heap.get());
  slot.data = slot.heap.get() + (alignment - address % alignment) % alignment;
}

void QueuePair::release_heap(Slot& slot) {
  heap_bytes_ -= slot.heap_bytes;
  slot.heap_bytes = 0;
  slot.heap.reset();
  if (!paused_ || state_ == State::closed || heap_bytes_ > group_.options.max_buffered_bytes / 2) return;
  paused_ = false;
  begin_data_window();
  update_interest();
  come_back_for_tls();
}

void QueuePair::have_memory(Slot& slot) {
  if (slot.direction == transport::DataDirection::controller_to_host) return execute(slot);
  slot.consumes_inline = false;
  slot.state = SlotState::waiting_data;
  slot.buffer_since_ns = group_.thread.now_ns();
  if (waiting_data_++ == 0 && kept_ == 0) begin_data_window();
  const std::uint32_t chunk = group_.options.max_r2t_bytes;
  slot.r2t_bytes = chunk == 0 ? slot.data_length : std::min(chunk, slot.data_length);
  queue_r2t(slot);
}

void QueuePair::execute(Slot& slot) {
  if (slot.state == SlotState::waiting_data) --waiting_data_;
  slot.state = SlotState::executing;
  ++executing_;
  sink_->execute(slot);
}

// Answers with an error; the sink does not know the command, or was told to forget it.
void QueuePair::fail(Slot& slot, Status status) {
  if (slot.state == SlotState::waiting_data) --waiting_data_;
  slot.state = SlotState::receiving;
  nvme::set_status(slot.cqe, status);
  queue_response(slot);
}

void QueuePair::abandon(Slot& slot, Status status) {
  if (payload_slot_ == &slot) payload_slot_ = nullptr;
  sink_->abandon(slot);
  fail(slot, status);
}

void QueuePair::complete(transport::Request& request) {
  auto& slot = static_cast<Slot&>(request);
  CATNAP_CHECK(slot.state == SlotState::executing && slot.queue == this);
  --executing_;
  if (state_ == State::closed || state_ == State::terminating) {
    free_slot(slot);
    return finish_if_idle();
  }
  queue_response(slot);
}

void QueuePair::replan(transport::Request& request) {
  auto& slot = static_cast<Slot&>(request);
  CATNAP_CHECK(slot.state == SlotState::held && slot.queue == this);
  plan(slot);
}

}  // namespace catnap::tcp
