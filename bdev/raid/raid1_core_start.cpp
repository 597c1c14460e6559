// A raid1 coming up, going down, and members that come. See raid1_core.h.
#include <fmt/format.h>

#include <algorithm>

#include "bdev/raid/raid1_core.h"
#include "bdev/raid/raid1_marks.h"
#include "bdev/raid/raid1_scrub.h"
#include "bdev/raid/raid1_sync.h"
#include "reactor/base/log.h"

namespace catnap::bdev::raid1 {
namespace {

Uuid random_member_uuid(const std::function<std::uint64_t()>& random) {
  Uuid uuid;
  for (std::size_t i = 0; i < uuid.size(); i += 8) {
    const std::uint64_t bits = random();
    for (std::size_t at = 0; at < 8; ++at) uuid[i + at] = static_cast<std::uint8_t>(bits >> (8 * at));
  }
  uuid[0] |= 1;  // never all zeroes
  return uuid;
}

}  // namespace

void Core::create(Superblock identity, bool clean, Done done) {
  superblock_ = std::move(identity);
  superblock_.host = options_.host;
  superblock_.fork_id = options_.random() | 1;
  superblock_.slots.assign(slots_.size(), SuperblockSlot());
  for (CoreSlot& slot : slots_) {
    slot.state = slot.port != nullptr ? SlotState::in_sync : SlotState::empty;
    slot.takes_marks = slot.port != nullptr;
    slot.uuid = slot.port != nullptr ? random_member_uuid(options_.random) : Uuid{};
    slot.superblock_copy = 1;  // the first goes to copy 0
  }
  external_copy_ = 1;
  marks_ = std::make_unique<Marks>(*this);
  sync_ = std::make_unique<Sync>(*this);
  scrub_ = std::make_unique<Scrub>(*this);
  // What may stand there of an earlier array goes first, since its event count may be higher; then the bitmap before the superblock: who finds a
  // superblock finds the bitmap that belongs to it.
  const auto go_on = [this, clean, done = std::move(done)] {
    if (!clean) suspect(0, maps_->regions - 1);
    // Twice, so that both copies are there.
    change([] { return true; }, {});
    loaded(true, done);
  };
  wipe_all_then([this, clean, go_on] {
    if (clean) return marks_->write_everywhere(go_on);
    marks_->mark_all(go_on);
  });
}

void Core::write_both_copies(Port& port, std::vector<std::byte> bytes, std::function<void(bool)> done) {
  runner_.write_copy(port, 0, bytes, 0, [this, &port, bytes, done = std::move(done)](Status first) {
    if (first != Status::ok) return done(false);
    runner_.write_copy(port, superblock_copy_bytes / options_.block_size, bytes, 0, [done](Status second) { done(second == Status::ok); });
  });
}

// Both copies on a new member, before it is recorded anywhere: they claim nothing.
void Core::join(std::uint32_t slot, std::function<void()> done) {
  slots_[slot].superblock_copy = 0;
  superblock_.slots[slot].member_uuid = slots_[slot].uuid;
  superblock_.slots[slot].state = SlotState::blank;
  superblock_.this_slot = slot;
  // Who cannot be written here cannot be written later either, which is dealt with there.
  write_both_copies(*slots_[slot].port, encode_superblock(superblock_), [done = std::move(done)](bool) { done(); });
}

void Core::wipe_all_then(std::function<void()> done) {
  auto pending = std::make_shared<std::size_t>(1);
  // Who cannot be written here cannot be written later either, which is dealt with there.
  const auto one_less = [pending, done = std::move(done)](bool) {
    if (--*pending == 0) done();
  };
  const std::vector<std::byte> zeroes(options_.block_size);
  if (options_.record == Record::external) {
    ++*pending;
    write_both_copies(*external_, zeroes, one_less);
  }
  for (const CoreSlot& slot : slots_) {
    if (options_.record != Record::members || slot.port == nullptr) continue;
    ++*pending;
    write_both_copies(*slot.port, zeroes, one_less);
  }
  one_less(true);
}

void Core::load(StartPlan plan, std::vector<std::uint32_t> copies, Done done) {
  superblock_ = std::move(plan.reference);
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    CoreSlot& slot = slots_[i];
    const SuperblockSlot& recorded = superblock_.slots[i];
    slot.uuid = recorded.member_uuid;
    slot.left_events = recorded.left_events;
    slot.superblock_copy = copies[i];
    slot.state = plan.states[i];
    if (slot.active() && slot.port == nullptr) slot.state = SlotState::failed;
    slot.recorded_in_sync = slot.state == SlotState::in_sync;
    slot.stands_in_sync = recorded.state == SlotState::in_sync;
    slot.takes_marks = slot.active();
    const bool was_active = recorded.state == SlotState::in_sync || recorded.state == SlotState::rebuilding;
    if (!slot.active() && was_active) slot.left_events = superblock_.events + 1;
    const bool usable = slot.port != nullptr && std::ranges::find(plan.diverged, i) == plan.diverged.end();
    if (!slot.active() && usable) take_back_later_.push_back(i);
    if (slot.port != nullptr || slot.state != SlotState::empty) listener_.slot_changed(i, slot.state, "");
  }
  if (options_.record == Record::external) external_copy_ = copies.back();
  if (plan.forked) {
    SuperblockFork line;
    line.id = superblock_.fork_id;
    line.last_events = superblock_.events;
    superblock_.earlier_forks.insert(superblock_.earlier_forks.begin(), line);
    if (superblock_.earlier_forks.size() > superblock_max_forks) superblock_.earlier_forks.pop_back();
    superblock_.fork_id = options_.random() | 1;
  }
  marks_ = std::make_unique<Marks>(*this);
  sync_ = std::make_unique<Sync>(*this);
  scrub_ = std::make_unique<Scrub>(*this);
  const bool must_write = plan.must_write || superblock_.host != options_.host;
  superblock_.host = options_.host;
  marks_->load([this, must_write, done = std::move(done)] {
    // Which of the marked regions were being written when it stopped is not known: all of them may differ.
    sync_->add_marked(in_sync_count() > 1);
    // A mark that only some members have must be on all before a write relies on it.
    marks_->write_everywhere([this, must_write, done] { loaded(must_write, done); });
  });
}

void Core::loaded(bool must_write, Done done) {
  if (!must_write) return go_online(done);
  change([] { return true; }, [this, done = std::move(done)] { go_online(done); });
}

void Core::go_online(const Done& done) {
  if (frozen_) return done(fail(EIO, "superblocks or bitmap cannot be written"));
  marks_->publish_all();
  online_ = true;
  kept_in_sync_.clear();
  for (const CoreSlot& slot : slots_) kept_in_sync_.push_back(slot.state == SlotState::in_sync);
  publish({});
  done({});
  sync_->look();
  marks_->watch();
  take_back_all();
}

void Core::take_back_all() {
  for (const std::uint32_t slot : std::exchange(take_back_later_, {})) take_back(slot, {});
}

void Core::stop(std::function<void()> done) {
  online_ = false;
  scrub_->quit([this, done = std::move(done)] { sync_->stop([this, done] { stop_quietly(done); }); });
}

void Core::stop_quietly(std::function<void()> done) {
  const auto end = [this, done = std::move(done)] {
    marks_->disarm();
    when_idle(done);
  };
  if (frozen_) return end();
  flush_members([this, end](bool flushed) {
    stopped_whole_ = flushed && !frozen_ && in_sync_count() == slots_.size() && sync_->finished();
    if (!flushed || !marks_->idle()) return end();
    marks_->clear_all(end);
  });
}

// A change or a commit that somebody asked for shortly before: its I/O has to end before the core may die.
void Core::when_idle(std::function<void()> done) {
  constexpr std::uint64_t look_again_us = 1000;
  if (!changing_ && runner_.idle() && marks_->idle()) {
    if (idle_alarm_ != nullptr) idle_alarm_->disarm();
    return done();
  }
  idle_alarm_ = executor_->make_alarm([this, done = std::move(done)] {
    const auto call = done;  // the alarm that holds it may be replaced
    when_idle(call);
  });
  idle_alarm_->arm_in_us(look_again_us);
}

void Core::read_superblock(Port& port, std::function<void(Result<FoundSuperblock>)> done) {
  auto buffer = std::make_shared<MetaBuffer>(superblock_area_bytes);
  runner_.read(port, MetaRunner::Piece(0, buffer->bytes()), [buffer, done = std::move(done)](Status status) {
    if (status != Status::ok) return done(fail(EIO, "its superblock cannot be read"));
    done(newest_superblock(buffer->bytes()));
  });
}

void Core::take_back(std::uint32_t slot, Done done) {
  CoreSlot& member = slots_[slot];
  if (member.port == nullptr || member.active()) {
    if (done) done(fail(EINVAL, "it is not a member that was left out"));
    return;
  }
  // Whatever is read now is of this association; should there be another one, I/O that follows will show it.
  member.association = member.port->association();
  if (options_.record != Record::members) return bring_in(slot, member.state != SlotState::failed, false, std::move(done));
  read_superblock(*member.port, [this, slot, done = std::move(done)](Result<FoundSuperblock> found) {
    std::optional<Superblock> superblock;
    if (found && !found->other_is_blank) superblock = found->superblock;
    const Returning returning = judge_return(superblock_, slot, superblock);
    if (found) slots_[slot].superblock_copy = found->copy;
    const auto refuse = [&](const char* why) {
      listener_.slot_changed(slot, slots_[slot].state, why);
      if (done) done(fail(EINVAL, why));
    };
    switch (returning) {
      case Returning::delta:
        return bring_in(slot, false, false, done);
      case Returning::full:
        return bring_in(slot, true, false, done);
      case Returning::stranger:
        return refuse("what is there is not the member that left");
      case Returning::diverged:
        return refuse("it has diverged: it went on without this array");
    }
  });
}

void Core::bring_in(std::uint32_t slot, bool full, bool joins, Done done) {
  CoreSlot& member = slots_[slot];
  if (member.port == nullptr || member.active() || !online_) {
    if (done) done(fail(EINVAL, "it is not a member that was left out"));
    return;
  }
  if (joins) return become_new(slot, std::move(done));
  if (member.uuid == Uuid{}) member.uuid = random_member_uuid(options_.random);
  mark_and_rebuild(slot, full, Judged(member), std::move(done));
}

// Its new identity is recorded, as of one that holds nothing, before it is written to it: a crash in between finds neither a member in sync that is
// not there any more, nor a disk that counts as what another one was when it was left out.
void Core::become_new(std::uint32_t slot, Done done) {
  change(
      [this, slot] {
        CoreSlot& coming = slots_[slot];
        if (coming.active() || coming.port == nullptr || !online_) return false;
        coming.uuid = random_member_uuid(options_.random);
        coming.state = SlotState::blank;
        coming.takes_marks = false;
        return true;
      },
      [this, slot, done = std::move(done)] {
        const CoreSlot& coming = slots_[slot];
        if (coming.state != SlotState::blank || coming.port == nullptr || !online_) {
          if (done) done(fail(EINVAL, "it is not a member that was left out"));
          return;
        }
        const Judged judged(coming);
        if (options_.record != Record::members) return mark_and_rebuild(slot, true, judged, done);
        join(slot, [this, slot, judged, done] { mark_and_rebuild(slot, true, judged, done); });
      });
}

// `full`: all is marked first.
void Core::mark_and_rebuild(std::uint32_t slot, bool full, Judged judged, Done done) {
  const auto marked = [this, slot, full, judged, done = std::move(done)] {
    marks_->copy_to(slot, [this, slot, full, judged, done](bool copied) {
      if (!copied) {
        if (done) done(fail(EIO, "its bitmap cannot be written"));
        return;
      }
      change(
          [this, slot, judged] {
            CoreSlot& coming = slots_[slot];
            if (coming.active() || coming.port == nullptr || !online_) {
              coming.takes_marks = coming.active();
              return false;
            }
            // It was in and left out again, or became another one, since its superblock was judged: that has to be done anew.
            if (coming.left_events != judged.left_events || coming.uuid != judged.uuid || !same_association(slot, judged.association)) {
              coming.takes_marks = false;
              take_back_later_.push_back(slot);
              return false;
            }
            coming.association = judged.association;
            set_state(slot, SlotState::rebuilding, "");
            sync_->add_marked(false);
            return true;
          },
          [this, slot, full, done] {
            // Writes that began before all lanes wrote to it too have marked their regions: they are copied as well.
            if (slots_[slot].state == SlotState::rebuilding) full ? sync_->add(0, maps_->regions - 1, false) : sync_->add_marked(false);
            if (done) done({});
          });
    });
  };
  if (full) return marks_->mark_all(marked);
  marked();
}

void Core::grow(std::uint64_t num_blocks, Done done) {
  const std::uint64_t capacity = maps_->capacity * maps_->region_blocks;
  if (num_blocks > capacity) return done(fail(ENOSPC, fmt::format("its bitmap has room for {} blocks, not {}", capacity, num_blocks)));
  if (num_blocks <= options_.num_blocks) return done({});
  const std::uint64_t first = maps_->region_of(options_.num_blocks - 1);
  maps_->regions = maps_->region_of(num_blocks - 1) + 1;
  // Marked before the superblocks name the new size, as when an array is created.
  marks_->mark_range(first, maps_->regions - 1, [this, num_blocks, first, done = std::move(done)] {
    change(
        [this, num_blocks] {
          options_.num_blocks = superblock_.num_blocks = num_blocks;
          return true;
        },
        [this, first, done] {
          if (frozen_) return done(fail(EIO, "its new size cannot be recorded"));
          suspect(first, maps_->regions - 1);
          done({});
        });
  });
}

}  // namespace catnap::bdev::raid1
