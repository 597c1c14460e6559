// See raid1_sync.h and docs/raid.md, "Copies".
#include "bdev/raid/raid1_sync.h"

#include <algorithm>

#include "bdev/raid/raid1_core.h"
#include "bdev/raid/raid1_marks.h"
#include "reactor/base/log.h"

namespace catnap::bdev::raid1 {
namespace {

constexpr std::uint32_t nobody = ~std::uint32_t{0};

}  // namespace

// One region on its way.
struct Sync::Copy {
  Copy(Sync& sync, std::size_t slots, std::size_t buffer_bytes)
      : owner(sync), buffer(buffer_bytes), ios(slots), outcome(slots), associations(slots) {}
  Sync& owner;
  MetaBuffer buffer;
  bool busy = false;
  bool waiting = false;  // for blocks
  bool again = false;    // the region was asked for once more meanwhile
  std::uint64_t region = 0;
  std::uint64_t next_block = 0;  // of the array
  std::uint64_t end_block = 0;
  std::uint64_t blocks = 0;  // of this chunk
  std::uint64_t began_ns = 0;
  OverlapHold hold;
  std::uint32_t source = nobody;
  iovec iov{};
  std::vector<BdevIo> ios;
  std::vector<Part> outcome;
  std::vector<std::uint64_t> associations;
  std::size_t pending = 0;
  std::size_t reports = 0;
  bool reading = false;
  bool spoiled = false;  // a source went away under it: the chunk is read anew
};

Sync::Sync(Core& core)
    : core_(core),
      maps_(core.maps()),
      todo_(maps_.capacity),
      copied_(maps_.capacity),
      started_(maps_.capacity),
      alarm_(core.executor().make_alarm([this] { start_copies(); })) {}

Sync::~Sync() {
  if (waits_for_blocks_) maps_.overlaps.wait_no_more(*this);
}

// --- what is to be done ---

void Sync::add(std::uint64_t first_region, std::uint64_t last_region, bool suspect) {
  if (suspect && suspects_ == 0) first_source_ = core_.source();
  for (std::uint64_t region = first_region; region <= last_region; ++region) {
    todo_.set(region);
    copied_.clear(region);
    if (suspect && maps_.suspect.set(region)) ++suspects_;
  }
  for (const auto& copy : copies_) {
    if (copy->busy && copy->region >= first_region && copy->region <= last_region) copy->again = true;
  }
  cursor_ = 0;
  progress_.regions_total = std::max(progress_.regions_total, progress_.regions_done + todo_.count());
  maps_.any_suspect.store(suspects_ > 0);
  if (core_.online()) look();
}

void Sync::add_marked(bool suspect) {
  for (std::uint64_t region = 0; region < maps_.regions; ++region) {
    if (!core_.marks().is_set(region)) continue;
    std::uint64_t last = region;
    while (last + 1 < maps_.regions && core_.marks().is_set(last + 1)) ++last;
    add(region, last, suspect);
    region = last;
  }
}

bool Sync::anything_to_copy() const { return !todo_.empty() && (core_.in_sync_count() > 1 || core_.anyone_rebuilding() || suspects_ > 0); }

// One member alone cannot differ from itself; what it has marked is copied when another one comes. Suspect regions stay for now: a read that holds
// their blocks may be writing to it what it has read from the member that went, so each of them ends with its blocks held once more.
void Sync::drop_todo() {
  for (std::uint64_t region = todo_.next(0); region < todo_.size(); region = todo_.next(region + 1)) {
    if (maps_.suspect.test(region)) continue;
    todo_.clear(region);
    copied_.clear(region);
  }
}

void Sync::look() {
  if (stopping_ || !core_.online() || core_.changing()) return;
  if (!anything_to_copy()) {
    drop_todo();
    return over();
  }
  if (!running_) begin();
  start_copies();
}

void Sync::begin() {
  running_ = true;
  process_ = core_.anyone_rebuilding() ? "rebuild" : "resync";
  progress_ = {};
  progress_.regions_total = todo_.count();
  cursor_ = 0;
  if (copies_.empty()) {
    const std::size_t bytes = std::min<std::uint64_t>(core_.options().copy_bytes, maps_.region_blocks * core_.options().block_size);
    for (std::uint32_t i = 0; i < core_.options().copies_in_flight; ++i) {
      copies_.push_back(std::make_unique<Copy>(*this, core_.slot_count(), std::max<std::size_t>(bytes, core_.options().block_size)));
    }
  }
  core_.listener().process_changed(process_, true, "");
}

void Sync::over() {
  if (std::ranges::any_of(copies_, &Copy::busy) || flushing_) return;
  if (todo_.empty() && core_.anyone_rebuilding()) {
    if (promoting_) return;
    promoting_ = true;
    core_.promote_rebuilt([this] { promoting_ = false; });
    return;
  }
  alarm_->disarm();
  if (!running_) return;
  running_ = false;
  copies_.clear();
  core_.listener().process_changed(process_, false, todo_.empty() ? "finished" : "stopped");
  core_.marks().watch();
}

void Sync::stop(std::function<void()> done) {
  stopping_ = true;
  stopped_ = std::move(done);
  alarm_->disarm();
  stopped();
}

void Sync::stopped() {
  if (!stopped_ || std::ranges::any_of(copies_, &Copy::busy) || flushing_) return;
  running_ = false;
  std::exchange(stopped_, nullptr)();
}

void Sync::set_limit(std::uint64_t bytes_per_second) {
  pace_.set_limit(bytes_per_second);
  alarm_->disarm();
  if (running_) look();
}

// --- regions ---

void Sync::start_copies() {
  if (stopping_ || !running_) return;
  start_some();
  const bool idle = !go_on_posted_ && std::ranges::none_of(copies_, &Copy::busy);
  if (copied_.count() >= regions_per_flush || (idle && !alarm_->armed() && !copied_.empty())) flush_copied();
  if (idle && copied_.empty() && !flushing_ && !alarm_->armed()) {
    if (todo_.empty()) return over();
    cursor_ = 0;  // what was added behind it
    start_some();
  }
}

// One region each at most: members that answer at once (memory) would have us copy all there is before anybody else of this thread has a turn.
// Whoever ends one comes back here by message.
void Sync::start_some() {
  for (std::size_t i = 0; i < copies_.size() && start_one(); ++i) {
  }
}

bool Sync::start_one() {
  const auto free = std::ranges::find(copies_, false, &Copy::busy);
  if (free == copies_.end() || !anything_to_copy()) return false;
  std::uint64_t region = todo_.next(cursor_);
  while (region < todo_.size() && (copied_.test(region) || started_.test(region))) region = todo_.next(region + 1);
  if (region >= todo_.size()) return false;
  Copy& copy = **free;
  const std::uint64_t now_ns = core_.executor().now_ns();
  const std::uint64_t wait_ns = pace_.ask(now_ns, maps_.region_blocks * core_.options().block_size);
  if (wait_ns > 0) {
    alarm_->arm_in_us(wait_ns / 1000 + 1);
    return false;
  }
  cursor_ = region + 1;
  started_.set(region);
  copy.busy = true;
  copy.again = false;
  copy.region = region;
  copy.next_block = region * maps_.region_blocks;
  copy.end_block = std::min(copy.next_block + maps_.region_blocks, core_.options().num_blocks);
  copy.began_ns = now_ns;
  next_chunk(copy);
  return true;
}

void Sync::region_over(Copy& copy) {
  started_.clear(copy.region);
  copy.busy = false;
  pace_.step_took(copy.began_ns, core_.executor().now_ns(), core_.foreground_ios());
  if (copy.again) {
    cursor_ = std::min(cursor_, copy.region);
  } else if (todo_.test(copy.region)) {
    copied_.set(copy.region);
  }
  if (stopping_) return stopped();
  // Not from here: members that answer at once would have us recurse region by region.
  if (std::exchange(go_on_posted_, true)) return;
  core_.executor().post([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    go_on_posted_ = false;
    look();
    if (running_) start_copies();
  });
}

void Sync::flush_copied() {
  if (flushing_) return;
  flushing_ = true;
  std::vector<std::uint64_t> regions;
  for (std::uint64_t region = copied_.next(0); region < copied_.size(); region = copied_.next(region + 1)) regions.push_back(region);
  if (!core_.options().steps.flush_resync) return copied_flushed(std::move(regions), true);
  core_.flush_members([this, regions = std::move(regions)](bool flushed) { copied_flushed(regions, flushed); });
}

void Sync::copied_flushed(std::vector<std::uint64_t> regions, bool flushed) {
  flushing_ = false;
  // While a change is under way lanes may still read from a member that was left out, which these copies passed over: what is here may differ from
  // it. After the change they are copied once more.
  const bool settled = flushed && !core_.changing();
  for (const std::uint64_t region : regions) {
    if (!copied_.test(region)) continue;  // asked for once more meanwhile
    copied_.clear(region);
    if (!settled) continue;
    todo_.clear(region);
    ++progress_.regions_done;
    if (!maps_.suspect.test(region)) continue;
    maps_.suspect.clear(region);
    maps_.any_suspect.store(--suspects_ > 0);
  }
  if (settled) core_.marks().clear_copied();
  core_.marks().watch();
  if (stopping_) return stopped();
  if (!flushed) return;  // the last member cannot flush: what is left stays as it is
  look();
}

// --- chunks ---

void Sync::next_chunk(Copy& copy) {
  if (copy.next_block >= copy.end_block || stopping_ || !anything_to_copy()) {
    if (copy.next_block < copy.end_block) copy.again = true;
    return region_over(copy);
  }
  copy.blocks = std::min(copy.end_block - copy.next_block, std::uint64_t{copy.buffer.size() / core_.options().block_size});
  take_blocks(copy);
}

void Sync::take_blocks(Copy& copy) {
  copy.hold = maps_.overlaps.hold(copy.next_block, copy.blocks);
  if (!core_.options().steps.serialise_overlaps || maps_.overlaps.take(copy.hold)) return read(copy);
  copy.waiting = true;
  if (!waits_for_blocks_) {
    waits_for_blocks_ = true;
    maps_.overlaps.wait(*this);
  }
  blocks_freed();
}

void Sync::blocks_freed() {
  if (wake_posted_.exchange(true)) return;
  core_.executor().post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) retry_blocks();
  });
}

void Sync::retry_blocks() {
  wake_posted_.store(false);
  for (std::size_t i = 0; i < copies_.size(); ++i) {
    Copy& copy = *copies_[i];
    if (!copy.waiting || !maps_.overlaps.take(copy.hold)) continue;
    copy.waiting = false;
    read(copy);
  }
  if (!waits_for_blocks_ || std::ranges::any_of(copies_, &Copy::waiting)) return;
  waits_for_blocks_ = false;
  maps_.overlaps.wait_no_more(*this);
}

std::uint32_t Sync::choose_source(const Copy& copy) const {
  for (std::uint32_t i = 0; i < core_.slots().size(); ++i) {
    const CoreSlot& slot = core_.slots()[i];
    if (slot.state == SlotState::in_sync && slot.port != nullptr && copy.outcome[i] == Part::none) return i;
  }
  return nobody;
}

void Sync::start_io(Copy& copy, std::uint32_t slot, Op op) {
  BdevIo& io = copy.ios[slot];
  io = BdevIo{};
  io.op = op;
  copy.iov = {copy.buffer.data(), copy.blocks * core_.options().block_size};
  io.iov = &copy.iov;
  io.iov_count = 1;
  io.offset_blocks = copy.next_block + core_.data_offset_blocks();
  io.num_blocks = copy.blocks;
  // The source got blocks that it could not read: reads take for granted that what it says is durable (Roles::source_settled).
  io.fua = op == Op::write && slot == core_.source();
  io.context = &copy;
  io.done = io_ended;
  copy.outcome[slot] = Part::sent;
  copy.associations[slot] = core_.slots()[slot].association;
  ++copy.pending;
  core_.slots()[slot].port->submit(io);
}

void Sync::io_ended(BdevIo& io) {
  Copy& copy = *static_cast<Copy*>(io.context);
  Sync& sync = copy.owner;
  const auto slot = static_cast<std::size_t>(&io - copy.ios.data());
  const bool same = sync.core_.same_association(static_cast<std::uint32_t>(slot), copy.associations[slot]);
  copy.outcome[slot] = io.status != Status::ok ? Part::failed : same ? Part::done : Part::stale;
  if (--copy.pending > 0) return;
  copy.reading ? sync.read_ended(copy) : sync.written(copy);
}

void Sync::read(Copy& copy) {
  std::ranges::fill(copy.outcome, Part::none);
  copy.spoiled = false;
  copy.reading = true;
  copy.source = choose_source(copy);
  if (copy.source == nobody) return unreadable(copy);
  const auto active = std::ranges::count_if(core_.slots(), [](const CoreSlot& slot) { return slot.active() && slot.port != nullptr; });
  if (active == 1) return chunk_over(copy);
  start_io(copy, copy.source, Op::read);
}

void Sync::read_ended(Copy& copy) {
  if (copy.outcome[copy.source] == Part::done) return write(copy);
  if (copy.outcome[copy.source] == Part::stale || copy.ios[copy.source].status == Status::removed) {
    FailureReport report;
    report.slot = copy.source;
    report.status = copy.ios[copy.source].status;
    core_.handle_failure(report, [this, &copy] {
      if (copy.outcome[copy.source] == Part::stale) copy.outcome[copy.source] = Part::none;
      copy.source = choose_source(copy);
      if (copy.source == nobody) return unreadable(copy);
      start_io(copy, copy.source, Op::read);
    });
    return;
  }
  // Bad blocks there: another member may have them, and then this one gets them back.
  copy.source = choose_source(copy);
  if (copy.source == nobody) return unreadable(copy);
  start_io(copy, copy.source, Op::read);
}

// Nobody has these blocks. A member that is being rebuilt cannot get them, so it never holds all data.
void Sync::unreadable(Copy& copy) {
  if (copy.blocks > 1) {
    copy.blocks = 1;  // which of them?
    return read(copy);
  }
  ++unreadable_blocks_;
  log_error("raid '{}': block {} cannot be read from any member", core_.superblock().name, copy.next_block);
  copy.reports = 1;
  const auto one_less = [this, &copy] {
    if (--copy.reports == 0) chunk_over(copy);
  };
  for (std::uint32_t i = 0; i < core_.slots().size(); ++i) {
    if (core_.slots()[i].state != SlotState::rebuilding) continue;
    ++copy.reports;
    core_.leave_out(i, SlotState::failed, "blocks that it needs cannot be read from any member", [one_less](const Result<void>&) { one_less(); });
  }
  one_less();
}

void Sync::write(Copy& copy) {
  copy.reading = false;
  const bool suspect = maps_.suspect.test(copy.region);
  copy.pending = 1;
  for (std::uint32_t i = 0; i < core_.slots().size(); ++i) {
    const CoreSlot& slot = core_.slots()[i];
    if (i == copy.source || !slot.active() || slot.port == nullptr) continue;
    if (slot.state == SlotState::in_sync && !suspect && copy.outcome[i] != Part::failed) continue;
    start_io(copy, i, Op::write);
    progress_.blocks_copied += copy.blocks;
  }
  if (--copy.pending == 0) written(copy);
}

void Sync::written(Copy& copy) {
  copy.reports = 1;
  const auto one_less = [this, &copy] {
    if (--copy.reports == 0) chunk_over(copy);
  };
  for (std::uint32_t i = 0; i < core_.slots().size(); ++i) {
    if (i == copy.source || (copy.outcome[i] != Part::failed && copy.outcome[i] != Part::stale)) continue;
    ++copy.reports;
    FailureReport report;
    report.slot = i;
    report.status = copy.ios[i].status;
    core_.handle_failure(report, one_less);
  }
  one_less();
}

void Sync::chunk_over(Copy& copy) {
  copy.next_block += copy.blocks;
  if (copy.hold.words_held > 0) maps_.overlaps.give_back(copy.hold);
  if (copy.next_block >= copy.end_block) return next_chunk(copy);
  // By message, so that a large region lets others have their turns as well.
  core_.executor().post([this, &copy, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) next_chunk(copy);
  });
}

}  // namespace catnap::bdev::raid1
