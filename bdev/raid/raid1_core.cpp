// Members, superblocks and the order of changes. See raid1_core.h and docs/raid.md.
#include "bdev/raid/raid1_core.h"

#include <fmt/format.h>

#include <algorithm>

#include "bdev/raid/raid1_marks.h"
#include "bdev/raid/raid1_scrub.h"
#include "bdev/raid/raid1_sync.h"
#include "reactor/base/log.h"

namespace catnap::bdev::raid1 {

Core::Core(std::shared_ptr<Executor> executor, CoreOptions options, std::size_t slots, CoreListener& listener)
    : executor_(std::move(executor)),
      options_(std::move(options)),
      listener_(listener),
      maps_(std::make_unique<RegionMaps>(options_.num_blocks, std::max(options_.capacity_blocks, options_.num_blocks), options_.region_blocks,
                                         options_.blocks_per_unit)),
      runner_(options_.block_size),
      slots_(slots) {}

Core::~Core() = default;

void Core::abandon() {
  runner_.forget();
  idle_alarm_.reset();
  changes_.clear();
  scrub_.reset();
  sync_.reset();
  marks_.reset();
  const std::lock_guard lock(mutex_);
  lanes_.clear();
}

void Core::set_port(std::uint32_t slot, Port* port, bool remote, bool unmaps) {
  slots_[slot].port = port;
  slots_[slot].remote = remote;
  slots_[slot].unmaps = unmaps;
  if (port != nullptr) slots_[slot].association = port->association();
}

std::size_t Core::in_sync_count() const { return static_cast<std::size_t>(std::ranges::count(slots_, SlotState::in_sync, &CoreSlot::state)); }

bool Core::can_do_without(std::uint32_t slot) const {
  const CoreSlot& member = slots_[slot];
  return member.state != SlotState::in_sync || std::ranges::any_of(slots_, [&member](const CoreSlot& other) {
           return &other != &member && other.state == SlotState::in_sync && (other.recorded_in_sync || !member.recorded_in_sync);
         });
}

bool Core::anyone_missing() const {
  return std::ranges::any_of(slots_, [](const CoreSlot& slot) { return !slot.active(); });
}

bool Core::anyone_rebuilding() const { return std::ranges::find(slots_, SlotState::rebuilding, &CoreSlot::state) != slots_.end(); }

std::uint32_t Core::source() const {
  return static_cast<std::uint32_t>(std::ranges::find(slots_, SlotState::in_sync, &CoreSlot::state) - slots_.begin());
}

// --- lanes ---

std::shared_ptr<const Roles> Core::enlist(std::shared_ptr<Lane> lane) {
  const std::lock_guard lock(mutex_);
  lanes_.push_back(std::move(lane));
  return roles_;
}

void Core::strike_off(Lane& lane) {
  const std::lock_guard lock(mutex_);
  std::erase_if(lanes_, [&lane](const auto& each) { return each.get() == &lane; });
}

void Core::ask_marks(std::shared_ptr<Lane> lane, std::vector<std::uint64_t> regions) {
  executor_->post([self = shared_from_this(), lane = std::move(lane), regions = std::move(regions)] {
    if (self->marks_ != nullptr) self->marks_->ask(lane, regions);
  });
}

void Core::marks_made() {
  executor_->post([self = shared_from_this()] {
    if (self->marks_ != nullptr) self->marks_->made_in_memory();
  });
}

void Core::report_failure(FailureReport report, std::shared_ptr<Lane> lane, LaneOp& op) {
  executor_->post([self = shared_from_this(), report, lane = std::move(lane), &op] {
    self->handle_failure(report, [lane, &op] { lane->executor().post([lane, &op] { lane->dealt_with(op); }); });
  });
}

std::uint64_t Core::foreground_ios() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t total = 0;
  for (const auto& lane : lanes_) total += lane->ios_started();
  return total;
}

// `adopted` when every lane goes by the present state. A lane that is made meanwhile begins with it.
void Core::publish(std::function<void()> adopted) {
  auto roles = std::make_shared<Roles>();
  roles->acks_held = acks_held_;
  roles->frozen = frozen_;
  roles->loss_unrecorded =
      frozen_ && std::ranges::any_of(slots_, [](const CoreSlot& slot) { return slot.stands_in_sync && slot.state != SlotState::in_sync; });
  roles->thaws_tried = thaws_tried_;
  roles->source = source();
  roles->source_settled = sync_ != nullptr && sync_->first_source() == roles->source;
  for (const CoreSlot& slot : slots_) {
    Roles::Slot& role = roles->slots.emplace_back();
    role.readable = slot.state == SlotState::in_sync;
    role.writable = slot.active();
    role.remote = slot.remote;
    role.unmaps = slot.unmaps;
    role.association = slot.association;
  }
  std::vector<std::shared_ptr<Lane>> lanes;
  {
    const std::lock_guard lock(mutex_);
    roles->generation = roles_ != nullptr ? roles_->generation + 1 : 1;
    roles_ = roles;
    lanes = lanes_;
  }
  struct Waiting {
    std::size_t lanes;
    std::function<void()> adopted;
  };
  auto waiting = std::make_shared<Waiting>(lanes.size() + 1, std::move(adopted));
  const auto one_less = [waiting] {
    if (--waiting->lanes == 0 && waiting->adopted) waiting->adopted();
  };
  for (const auto& lane : lanes) {
    const bool sent = lane->executor().post([self = shared_from_this(), lane, roles, one_less] {
      lane->adopt(roles);
      self->executor_->post(one_less);
    });
    if (!sent) --waiting->lanes;
  }
  one_less();
}

// --- changes: one after another, each durable before the next ---

void Core::change(std::function<bool()> apply, std::function<void()> done) {
  changes_.push_back({std::move(apply), std::move(done)});
  if (!changing_) next_change();
}

void Core::next_change() {
  while (!changes_.empty()) {
    changing_ = true;
    Change next = std::move(changes_.front());
    changes_.pop_front();
    if (!next.apply()) {
      if (next.done) next.done();
      continue;
    }
    make_durable(
        [done = std::move(next.done)] {
          if (done) done();
        },
        [this] { next_change(); });
    return;
  }
  changing_ = false;
  sync_->look();
  marks_->watch();
  if (online_) take_back_all();
}

// Lanes stop using who is left out, then it is recorded, then what waits for that is answered.
void Core::make_durable(std::function<void()> done, std::function<void()> next) {
  if (!options_.steps.durable_drop) {
    publish([this, done = std::move(done), next = std::move(next)] {
      done();
      write_superblocks([this, next] {
        publish({});
        next();
      });
    });
    return;
  }
  acks_held_ = true;
  publish([this, done = std::move(done), next = std::move(next)] {
    write_superblocks([this, done, next] {
      acks_held_ = false;
      publish({});
      done();
      next();
    });
  });
}

bool Core::same_association(std::uint32_t slot, std::uint64_t when_asked) const {
  const Port* port = slots_[slot].port;
  return port == nullptr || port->association() == when_asked || !options_.steps.check_association;
}

void Core::write_superblocks(std::function<void()> done) {
  if (options_.record == Record::memory || (frozen_ && !thawing_)) {
    for (CoreSlot& slot : slots_) slot.recorded_in_sync = slot.state == SlotState::in_sync;
    return keep_elsewhere(std::move(done));
  }
  ++superblock_.events;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    superblock_.slots[i].state = slots_[i].state;
    if (slots_[i].port != nullptr) superblock_.slots[i].remote = slots_[i].remote;
    superblock_.slots[i].member_uuid = slots_[i].uuid;
    superblock_.slots[i].left_events = slots_[i].left_events;
    superblock_.slots[i].data_blocks = options_.num_blocks;
  }
  failed_to_record_.clear();
  // Who was recorded with all data first: who gains something by the change must not know of it before all those whose word counts do.
  write_phase(true, [this, done = std::move(done)] {
    if (!failed_to_record_.empty()) return superblocks_written(done);
    write_phase(false, [this, done] { superblocks_written(done); });
  });
}

void Core::keep_elsewhere(std::function<void()> done) {
  std::vector<bool> in_sync;
  for (const CoreSlot& slot : slots_) in_sync.push_back(slot.state == SlotState::in_sync);
  if (options_.record != Record::memory || !options_.keep || !online_ || in_sync == kept_in_sync_) return done();
  kept_in_sync_ = std::move(in_sync);
  options_.keep(std::move(done));
}

void Core::write_phase(bool first, std::function<void()> done) {
  std::vector<std::uint32_t> targets;
  if (options_.record == Record::external) {
    if (first) targets.push_back(static_cast<std::uint32_t>(slots_.size()));
  } else {
    for (std::uint32_t i = 0; i < slots_.size(); ++i) {
      const CoreSlot& slot = slots_[i];
      if (!slot.active() || slot.port == nullptr) continue;
      if ((slot.state == SlotState::in_sync && slot.recorded_in_sync) == first) targets.push_back(i);
    }
  }
  auto pending = std::make_shared<std::size_t>(targets.size() + 1);
  const auto one_less = [pending, done = std::move(done)] {
    if (--*pending == 0) done();
  };
  for (const std::uint32_t target : targets) {
    write_superblock(target, [this, target, one_less](bool written) {
      if (!written) failed_to_record_.push_back(target);
      one_less();
    });
  }
  one_less();
}

void Core::write_superblock(std::uint32_t slot, std::function<void(bool)> done) {
  const bool outside = slot == slots_.size();
  Port& port = outside ? *external_ : *slots_[slot].port;
  std::uint32_t& newest = outside ? external_copy_ : slots_[slot].superblock_copy;
  const std::uint32_t copy = options_.steps.two_copies ? 1 - newest : newest;
  superblock_.this_slot = outside ? 0 : slot;
  const std::uint64_t association = outside ? 0 : slots_[slot].association;
  const auto bytes = encode_superblock(superblock_);
  runner_.write_copy(port, copy * (superblock_copy_bytes / options_.block_size), bytes, retries_for(slot),
                     [this, &newest, copy, slot, outside, association, done = std::move(done)](Status status) {
                       if (status == Status::ok) newest = copy;
                       // Written on another association: what it stands on now may be an empty disk. The last one has nobody to judge it by.
                       if (status == Status::ok && !outside && !same_association(slot, association)) {
                         if (can_do_without(slot)) {
                           take_back_later_.push_back(slot);
                           return done(false);
                         }
                         slots_[slot].association = slots_[slot].port->association();
                       }
                       done(status == Status::ok);
                     });
}

// Who could not record the change does not take part any more, which is a change itself.
void Core::superblocks_written(std::function<void()> done) {
  if (!failed_to_record_.empty()) {
    bool changed = false;
    for (const std::uint32_t slot : failed_to_record_) {
      if (slot < slots_.size()) changed |= apply_leave_out(slot, SlotState::failed, "its superblock cannot be written");
    }
    if (!changed || failed_to_record_.front() == slots_.size()) {
      // The only ones whose word counts do not know of whom the change would have given all data.
      for (std::uint32_t i = 0; i < slots_.size(); ++i) {
        if (slots_[i].state == SlotState::in_sync && !slots_[i].recorded_in_sync)
          set_state(i, SlotState::rebuilding, "it cannot be recorded as in sync");
      }
      freeze("what is known about members cannot be recorded any more");
      return done();
    }
    publish([this, done = std::move(done)] { write_superblocks(done); });
    return;
  }
  for (CoreSlot& slot : slots_) slot.recorded_in_sync = slot.stands_in_sync = slot.state == SlotState::in_sync;
  done();
}

void Core::set_state(std::uint32_t slot, SlotState state, const std::string& reason) {
  slots_[slot].state = state;
  if (!slots_[slot].active()) slots_[slot].takes_marks = false;
  listener_.slot_changed(slot, state, reason);
}

// --- leaving out ---

// False: it is not taking part, or is the last one with all data.
bool Core::apply_leave_out(std::uint32_t slot, SlotState state, const std::string& reason) {
  CoreSlot& member = slots_[slot];
  if (!member.active()) {
    member.takes_marks = false;
    if (member.state == state || state == SlotState::failed) return false;
    if (state == SlotState::empty) member.uuid = {};
    set_state(slot, state, reason);
    return true;
  }
  if (!can_do_without(slot)) return false;
  member.left_events = superblock_.events + 1;
  if (state == SlotState::empty) member.uuid = {};
  set_state(slot, state, reason);
  return true;
}

void Core::leave_out(std::uint32_t slot, SlotState state, std::string reason, Done done) {
  change([this, slot, state, reason] { return apply_leave_out(slot, state, reason); },
         [this, slot, done = std::move(done)] {
           if (!done) return;
           if (slots_[slot].state == SlotState::in_sync) return done(fail(EBUSY, "it is the last member that holds all data"));
           done({});
         });
}

void Core::handle_failure(const FailureReport& report, std::function<void()> dealt) {
  const std::uint32_t slot = report.slot;
  if (!slots_[slot].active()) return dealt();
  const bool again = report.status == Status::ok;
  // Of an association whose end has been dealt with already.
  if (again && same_association(slot, slots_[slot].association)) return dealt();
  std::string reason = again ? "it was away for a moment" : fmt::format("{} failed", report.write ? "a write" : "an I/O");
  change([this, slot, reason] { return apply_leave_out(slot, SlotState::failed, reason); },
         [this, report, slot, again, dealt = std::move(dealt)] {
           if (slots_[slot].state == SlotState::in_sync) last_failed(report);
           dealt();
           if (again && slots_[slot].state == SlotState::failed) take_back(slot, {});
         });
}

// The last one is never left out. What a failed write has left behind may differ from what a member being rebuilt got.
void Core::last_failed(const FailureReport& report) {
  CoreSlot& member = slots_[report.slot];
  if (report.status == Status::ok && member.port != nullptr && member.port->association() != member.association) {
    member.association = member.port->association();
    publish({});
  }
  if (!report.write || report.status == Status::ok || report.num_blocks == 0) return;
  suspect(maps_->region_of(report.offset_blocks), maps_->region_of(report.offset_blocks + report.num_blocks - 1));
}

void Core::suspect(std::uint64_t first_region, std::uint64_t last_region) { sync_->add(first_region, last_region, in_sync_count() > 1); }

void Core::record_failed(std::uint32_t slot, std::function<void()> done) {
  if (slot == slots_.size()) {
    freeze("the bitmap cannot be written");
    return done();
  }
  leave_out(slot, SlotState::failed, "its bitmap cannot be written", [this, done = std::move(done)](const Result<void>& left) {
    if (!left) freeze("the bitmap cannot be written");
    done();
  });
}

// --- flushing ---

void Core::flush_members(std::function<void(bool)> done) {
  struct Flushing {
    std::size_t pending = 1;
    bool good = true;
    std::function<void(bool)> done;
  };
  auto flushing = std::make_shared<Flushing>();
  flushing->done = std::move(done);
  const auto one_less = [flushing] {
    if (--flushing->pending == 0) flushing->done(flushing->good);
  };
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].active() || slots_[i].port == nullptr) continue;
    ++flushing->pending;
    runner_.flush(*slots_[i].port, [this, i, association = slots_[i].association, flushing, one_less](Status status) {
      if (status == Status::ok && same_association(i, association)) return one_less();
      if (association != slots_[i].association) flushing->good = false;  // it was away and is back already: this flush says nothing
      if (status != Status::ok || in_sync_count() == 1) flushing->good = false;
      FailureReport report;
      report.slot = i;
      report.status = status;
      handle_failure(report, one_less);
    });
  }
  one_less();
}

void Core::promote_rebuilt(std::function<void()> done) {
  change(
      [this] {
        bool any = false;
        for (std::uint32_t i = 0; i < slots_.size(); ++i) {
          if (slots_[i].state != SlotState::rebuilding || !sync_->finished()) continue;
          set_state(i, SlotState::in_sync, "");
          any = true;
        }
        return any;
      },
      std::move(done));
}

}  // namespace catnap::bdev::raid1
