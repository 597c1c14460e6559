// See raid1_scrub.h.
#include "bdev/raid/raid1_scrub.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "bdev/raid/raid1_core.h"
#include "bdev/raid/raid1_marks.h"
#include "bdev/raid/raid1_sync.h"

namespace catnap::bdev::raid1 {

Scrub::Scrub(Core& core)
    : core_(core), maps_(core.maps()), members_(core.slot_count()), alarm_(core.executor().make_alarm([this] { next_step(); })) {}

Scrub::~Scrub() {
  if (registered_) maps_.overlaps.wait_no_more(*this);
}

Result<void> Scrub::start(bool repair, std::uint64_t limit) {
  if (running_) return fail(EBUSY, "a scrub runs already");
  if (core_.in_sync_count() < 2) return fail(EINVAL, "there are no two members in sync to be compared");
  report_ = {};
  report_.repair = repair;
  pace_.set_limit(limit);
  next_block_ = 0;
  running_ = true;
  stopping_ = false;
  const std::size_t bytes = std::max<std::size_t>(core_.options().copy_bytes, core_.options().block_size);
  for (Member& member : members_) member.buffer = std::make_unique<MetaBuffer>(bytes);
  core_.listener().process_changed("scrub", true, "");
  next_step();
  return {};
}

void Scrub::stop() {
  if (!running_) return;
  stopping_ = true;
  if (!under_way_) over("stopped");
}

void Scrub::quit(std::function<void()> done) {
  quit_ = std::move(done);
  stop();
  if (!running_ && quit_) std::exchange(quit_, nullptr)();
}

void Scrub::set_limit(std::uint64_t bytes_per_second) {
  pace_.set_limit(bytes_per_second);
  if (!alarm_->armed()) return;
  alarm_->disarm();
  next_step();
}

void Scrub::over(const char* how) {
  alarm_->disarm();
  running_ = false;
  for (Member& member : members_) member.buffer.reset();
  core_.listener().process_changed("scrub", false,
                                   fmt::format("{}: {} blocks compared, {} different, {} unreadable, {} repaired", how, report_.blocks_done,
                                               report_.blocks_different, report_.blocks_unreadable, report_.blocks_repaired));
  if (quit_) std::exchange(quit_, nullptr)();
}

void Scrub::next_step() {
  if (!running_ || under_way_) return;
  if (stopping_ || core_.in_sync_count() < 2) return over("stopped");
  if (next_block_ >= core_.options().num_blocks) {
    report_.finished = true;
    return over("finished");
  }
  const std::uint64_t buffer_blocks = members_[0].buffer->size() / core_.options().block_size;
  // Not beyond the region, whose state decides.
  const std::uint64_t region_end = (maps_.region_of(next_block_) + 1) * maps_.region_blocks;
  blocks_ = std::min({buffer_blocks, region_end - next_block_, core_.options().num_blocks - next_block_});
  const std::uint64_t now_ns = core_.executor().now_ns();
  const std::uint64_t wait_ns = pace_.ask(now_ns, blocks_ * core_.options().block_size);
  if (wait_ns > 0) return alarm_->arm_in_us(wait_ns / 1000 + 1);
  began_ns_ = now_ns;
  under_way_ = true;
  take_blocks();
}

void Scrub::take_blocks() {
  hold_ = maps_.overlaps.hold(next_block_, blocks_);
  if (maps_.overlaps.take(hold_)) return read_all();
  waiting_ = true;
  if (!registered_) {
    registered_ = true;
    maps_.overlaps.wait(*this);
  }
  blocks_freed();
}

void Scrub::blocks_freed() {
  if (wake_posted_.exchange(true)) return;
  core_.executor().post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) retry_blocks();
  });
}

void Scrub::retry_blocks() {
  wake_posted_.store(false);
  if (!waiting_ || !maps_.overlaps.take(hold_)) return;
  waiting_ = false;
  registered_ = false;
  maps_.overlaps.wait_no_more(*this);
  read_all();
}

void Scrub::start_io(std::uint32_t slot, Op op) {
  Member& member = members_[slot];
  member.iov = {members_[op == Op::write ? source_ : slot].buffer->data(), blocks_ * core_.options().block_size};
  member.io = BdevIo{};
  member.io.op = op;
  member.io.iov = &member.iov;
  member.io.iov_count = 1;
  member.io.offset_blocks = next_block_ + core_.data_offset_blocks();
  member.io.num_blocks = blocks_;
  member.io.context = this;
  member.io.done = io_ended;
  member.outcome = Part::sent;
  member.association = core_.slots()[slot].association;
  ++pending_;
  core_.slots()[slot].port->submit(member.io);
}

void Scrub::io_ended(BdevIo& io) {
  Scrub& scrub = *static_cast<Scrub*>(io.context);
  const auto found = std::ranges::find(scrub.members_, &io, [](Member& member) { return &member.io; });
  const bool same = scrub.core_.same_association(static_cast<std::uint32_t>(found - scrub.members_.begin()), found->association);
  found->outcome = io.status != Status::ok ? Part::failed : same ? Part::done : Part::stale;
  if (--scrub.pending_ > 0) return;
  scrub.writing_ ? scrub.all_written() : scrub.all_read();
}

void Scrub::read_all() {
  // Known to differ, and being made equal.
  if (core_.sync().pending(maps_.region_of(next_block_))) {
    report_.blocks_passed_over += blocks_;
    return step_over();
  }
  writing_ = false;
  pending_ = 1;
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    members_[i].outcome = Part::none;
    members_[i].differs = false;
    const CoreSlot& slot = core_.slots()[i];
    if (slot.state == SlotState::in_sync && slot.port != nullptr) start_io(i, Op::read);
  }
  if (--pending_ == 0) all_read();
}

void Scrub::all_read() {
  bool stale = false;
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    if (members_[i].outcome != Part::stale) continue;
    stale = true;  // it was away meanwhile: nothing is judged by it, and it has to be rebuilt before it is compared
    FailureReport away;
    away.slot = i;
    away.status = Status::ok;
    core_.handle_failure(away, [] {});
  }
  if (stale) {
    report_.blocks_passed_over += blocks_;
    return step_over();
  }
  if (blocks_ > 1 && std::ranges::find(members_, Part::done, &Member::outcome) == members_.end()) {
    // Each has bad blocks there, and perhaps not the same ones.
    blocks_ /= 2;
    return read_all();
  }
  const bool wrong = compare();
  report_.blocks_done += blocks_;
  if (wrong && report_.repair) return repair();
  step_over();
}

// Notes who differs from the first one that could read; whether anything is wrong.
bool Scrub::compare() {
  const auto first = std::ranges::find(members_, Part::done, &Member::outcome);
  if (first == members_.end()) {
    report_.blocks_unreadable += blocks_;
    return false;
  }
  source_ = static_cast<std::uint32_t>(first - members_.begin());
  const std::uint32_t block_size = core_.options().block_size;
  bool wrong = false;
  std::uint64_t different = 0;
  for (Member& member : members_) {
    if (member.outcome == Part::failed) {
      member.differs = wrong = true;
      report_.blocks_unreadable += blocks_;
    }
  }
  for (std::uint64_t block = 0; block < blocks_; ++block) {
    const std::byte* right = first->buffer->data() + block * block_size;
    bool differs = false;
    for (Member& member : members_) {
      if (member.outcome != Part::done || std::memcmp(member.buffer->data() + block * block_size, right, block_size) == 0) continue;
      member.differs = differs = true;
    }
    if (!differs) continue;
    if (report_.blocks_different + different == 0) report_.first_different = next_block_ + block;
    ++different;
  }
  report_.blocks_different += different;
  return wrong || different > 0;
}

void Scrub::repair() {
  core_.marks().mark_then(maps_.region_of(next_block_), [this] { write_all(); });
}

void Scrub::write_all() {
  writing_ = true;
  pending_ = 1;
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    const CoreSlot& slot = core_.slots()[i];
    members_[i].outcome = Part::none;
    if (!members_[i].differs || !slot.active() || slot.port == nullptr) continue;
    start_io(i, Op::write);
  }
  report_.blocks_repaired += blocks_;
  if (--pending_ == 0) all_written();
}

void Scrub::all_written() {
  pending_ = 1;
  const auto one_less = [this] {
    if (--pending_ == 0) step_over();
  };
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    if (members_[i].outcome != Part::failed && members_[i].outcome != Part::stale) continue;
    ++pending_;
    FailureReport failure;
    failure.slot = i;
    failure.status = members_[i].io.status;
    core_.handle_failure(failure, one_less);
  }
  one_less();
}

void Scrub::step_over() {
  next_block_ += blocks_;
  if (hold_.words_held > 0) maps_.overlaps.give_back(hold_);
  pace_.step_took(began_ns_, core_.executor().now_ns(), core_.foreground_ios());
  // Not from here: members that answer at once would have us recurse step by step.
  core_.executor().post([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    under_way_ = false;
    next_step();
  });
}

}  // namespace catnap::bdev::raid1
