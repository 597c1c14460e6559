// What users and faults do in the world, and what must hold. See raid1_world.h.
#include <fmt/format.h>

#include <algorithm>

#include "bdev/raid/bitmap_pages.h"
#include "bdev/raid/raid1_marks.h"
#include "bdev/raid/raid1_scrub.h"
#include "bdev/raid/raid1_sync.h"
#include "tests/sim/raid1_world.h"
#include "tests/sim/raid1_world_parts.h"

namespace catnap::sim {

using bdev::BdevIo;
using bdev::Op;
using bdev::SlotState;
using bdev::StartPlan;
using bdev::Status;
using bdev::raid1::BitmapPages;
using bdev::raid1::Record;

// --- users ---

void Raid1World::act() {
  if (faults_allowed_ && chance(12)) return fault();
  if (options_.operators && faults_allowed_ && chance(8)) return operate();
  if (!users_.empty() && chance(6)) return abort_one();
  --actions_left_;
  start_user_io();
}

void Raid1World::abort_one() {
  UserIo& user = *users_[draw(users_.size())];
  const std::size_t before = users_.size();
  const bool taken = lanes_[user.lane]->abort(user.io);
  if (taken != (users_.size() < before)) fail("an I/O that was taken back has not ended, or one that was not has");
}

void Raid1World::start_user_io() {
  auto& user = *users_.emplace_back(std::make_unique<UserIo>());
  const std::uint64_t kind = draw(100);
  BdevIo& io = user.io;
  io.op = kind < 40 ? Op::read : kind < 80 ? Op::write : kind < 85 ? Op::write_zeroes : kind < 88 ? Op::unmap : Op::flush;
  user.began = now_;
  if (io.op != Op::flush) {
    // Few places, so that I/Os meet.
    io.offset_blocks = window_first_ + (chance(60) ? draw(std::min<std::uint64_t>(window_blocks_, 8)) : draw(window_blocks_));
    io.num_blocks = 1 + draw(std::min<std::uint64_t>(4, window_first_ + window_blocks_ - io.offset_blocks));
  }
  std::vector<std::uint64_t> contents;
  if (io.op == Op::write || io.op == Op::read) {
    user.data.resize(io.num_blocks * SimDisk::block_size);
    user.iov = {user.data.data(), user.data.size()};
    io.iov = &user.iov;
    io.iov_count = 1;
  }
  for (std::uint64_t i = 0; i < io.num_blocks && io.op != Op::read; ++i) {
    contents.push_back(io.op == Op::write ? next_content_++ : 0);
    const SimDisk::Block block = fill(contents.back());
    if (io.op == Op::write) std::memcpy(user.data.data() + i * SimDisk::block_size, block.data(), block.size());
  }
  if (!contents.empty()) {
    io.fua = chance(30);
    user.write = history_.write_begins(io.offset_blocks, contents, now_);
    ++outcome_.writes;
  }
  io.context = &user;
  io.done = [](BdevIo&) {};
  note(fmt::format("user {} {}+{}{}{}", bdev::op_name(io.op), io.offset_blocks, io.num_blocks, io.fua ? " fua" : "",
                   contents.empty() ? "" : fmt::format(" {:x}..", contents.front())));
  user.lane = draw(lanes_.size());
  lanes_[user.lane]->start(io);
}

void Raid1World::complete_io(BdevIo& io, Status status) {
  UserIo& user = *static_cast<UserIo*>(io.context);
  ++now_;
  note(fmt::format("done {} {}+{} {}", bdev::op_name(io.op), io.offset_blocks, io.num_blocks, bdev::status_name(status)));
  // One member that is well is always left, so nothing may fail, but for what must be recorded where nothing can be.
  const bool unrecorded = marks_trouble_ && status == (io.op == Op::read ? Status::read_error : Status::write_error);
  if (status != Status::ok && status != Status::aborted && !unrecorded)
    fail(fmt::format("{} of {}+{} ends with {}", bdev::op_name(io.op), io.offset_blocks, io.num_blocks, bdev::status_name(status)));
  if (io.op == Op::flush && status == Status::ok) history_.flushed(user.began);
  if (user.write != 0) history_.write_ends(user.write, status == Status::ok, io.fua && status == Status::ok, now_, oldest_read_began());
  for (std::uint64_t i = 0; io.op == Op::read && status == Status::ok && i < io.num_blocks; ++i) {
    std::uint64_t content;
    std::memcpy(&content, user.data.data() + i * SimDisk::block_size, sizeof content);
    const std::string wrong = history_.read(io.offset_blocks + i, content, user.began, now_);
    if (!wrong.empty()) fail(wrong);
    ++outcome_.reads;
  }
  std::erase_if(users_, [&user](const auto& each) { return each.get() == &user; });
}

// Of reads under way; now, if there are none.
std::uint64_t Raid1World::oldest_read_began() const {
  std::uint64_t oldest = now_;
  for (const auto& user : users_) {
    if (user->write == 0) oldest = std::min(oldest, user->began);
  }
  return oldest;
}

// --- faults ---

// One other member stays that holds all data, is known for it on disk, and has not been hurt.
bool Raid1World::may_fail(std::uint32_t slot) const {
  if (marks_trouble_) return false;  // what cannot be recorded must not be needed
  for (std::uint32_t i = 0; i < disks_.size(); ++i) {
    if (i != slot && core_->slots()[i].state == SlotState::in_sync && core_->slots()[i].recorded_in_sync && !disks_[i]->hurt() && !erred_[i] &&
        disks_[i]->association() == core_->slots()[i].association) {
      return true;
    }
  }
  return false;
}

// The device with the bitmap takes and gives nothing for a while.
void Raid1World::marks_fault() {
  const bool well = marks_disk_.dead();
  note(well ? "the bitmap's device is well again" : "the bitmap's device fails");
  marks_disk_.set_dead(!well);
  marks_trouble_ = true;
}

// Its device is well, nothing that it has refused is under way to the core, the core has recorded all, and every lane has heard of it: one that has
// not yet still gives errors, by right.
void Raid1World::look_whether_recorded() {
  if (marks_disk_.dead() || core_ == nullptr || core_->frozen()) return;
  if (std::ranges::any_of(threads_, [](const auto& thread) { return !thread->messages.empty(); })) return;
  if (std::ranges::any_of(in_flight_, [this](const InFlight& io) { return &io.port->disk == &marks_disk_; })) return;
  marks_trouble_ = false;
}

void Raid1World::fault() {
  if (options_.record == Record::external && (marks_disk_.dead() ? chance(40) : chance(10))) return marks_fault();
  const auto slot = static_cast<std::uint32_t>(draw(disks_.size()));
  SimDisk& disk = *disks_[slot];
  if (absent_[slot] || disk.dead()) return revive(slot);
  if (!core_->slots()[slot].active()) return revive(slot);
  if (!may_fail(slot)) return;
  ++outcome_.member_faults;
  const std::uint64_t kind = draw(100);
  note(fmt::format("fault {} of slot {}", kind, slot));
  if (kind < 30) {
    disk.set_dead(true);
  } else if (kind < 50) {
    disk.fail_next_write();
  } else if (kind < 65) {
    disk.spoil(data_offset_ + window_first_ + draw(window_blocks_));
  } else if (kind < 97 || options_.record != Record::members) {
    disk.associate_anew(random_);
  } else {
    disk.associate_anew(random_);
    disk.wipe();
  }
}

// What people do by RPC while users go on.
void Raid1World::operate() {
  if (chance(40)) return exchange_member();
  if (chance(20)) return spoil_another();
  if (core_->scrub().running()) {
    if (chance(20)) core_->scrub().stop();
    return;
  }
  core_->scrub().start(chance(70), 0);  // refused where there are no two to compare
}

// A block of a member goes bad, where others have bad blocks already, but can still read this one.
void Raid1World::spoil_another() {
  const auto slot = static_cast<std::uint32_t>(draw(disks_.size()));
  const std::uint64_t block = data_offset_ + window_first_ + draw(window_blocks_);
  for (std::uint32_t i = 0; i < disks_.size(); ++i) {
    const bool well = core_->slots()[i].state == SlotState::in_sync && core_->slots()[i].recorded_in_sync && !disks_[i]->fails() && !erred_[i] &&
                      disks_[i]->association() == core_->slots()[i].association;
    if (!well || (i != slot && disks_[i]->bad(block))) return;
  }
  note(fmt::format("block {} of slot {} goes bad", block - data_offset_, slot));
  disks_[slot]->spoil(block);
}

// Taken out for good, and a disk that is none of its members any more put in its place.
void Raid1World::exchange_member() {
  const auto slot = static_cast<std::uint32_t>(draw(disks_.size()));
  if (absent_[slot] || disks_[slot]->dead() || !may_fail(slot)) return;
  note(fmt::format("slot {} is taken out", slot));
  ++outcome_.exchanges;
  erred_[slot] = true;  // nobody else may fail because this one is there
  core_->leave_out(slot, SlotState::empty, "taken out", [this, slot](const Result<void>& left) {
    if (!left) {
      erred_[slot] = false;
      return;
    }
    note(fmt::format("slot {} gets a new member", slot));
    disks_[slot]->associate_anew(random_);
    disks_[slot]->wipe();
    core_->set_port(slot, ports_[slot].get(), false, true);
    core_->bring_in(slot, true, true, {});
  });
}

void Raid1World::revive(std::uint32_t slot) {
  SimDisk& disk = *disks_[slot];
  if (core_->slots()[slot].active()) {
    if (disk.dead()) disk.set_dead(false);  // nobody noticed
    return;
  }
  note(fmt::format("slot {} comes back", slot));
  if (disk.dead() && chance(50)) disk.associate_anew(random_);
  disk.set_dead(false);
  absent_[slot] = false;
  core_->set_port(slot, ports_[slot].get(), false, true);
  if (blank(slot) || joined_in_vain(slot) || core_->slots()[slot].state == SlotState::empty) {
    core_->bring_in(slot, true, true, {});
  } else {
    core_->take_back(slot, {});
  }
}

void Raid1World::slot_changed(std::uint32_t slot, SlotState state, const std::string& reason) {
  note(fmt::format("slot {} is {} {}", slot, static_cast<int>(state), reason));
  erred_[slot] = false;
  if (state == SlotState::rebuilding) ++outcome_.rebuilds;
}

void Raid1World::process_changed(const char* type, bool running, const std::string& how) {
  note(fmt::format("{} {} {}", type, running ? "begins" : "ends", how));
  if (running || std::string_view(type) != "scrub") return;
  // Nothing rots before the end of the run, so members never differ where a scrub looks.
  const auto& report = core_->scrub().report();
  outcome_.scrubs += report.finished ? 1 : 0;
  if (!expects_rot_ && report.blocks_different > 0)
    fail(fmt::format("a scrub finds {} blocks that differ unmarked, the first is {}", report.blocks_different, report.first_different));
}

// --- invariants ---

// On the media, with nobody at work: whoever takes part or could come back by a delta differs from the others only where it is marked.
void Raid1World::check_media() {
  if (options_.record == Record::memory) return;
  const StartPlan found = plan(anyone_blank(), nullptr);
  if (found.verdict == StartPlan::Verdict::refuse) return fail("members have diverged: " + found.reason);
  if (found.verdict != StartPlan::Verdict::start) return fail("with all members there it would wait: " + found.reason);
  BitmapPages marks((num_blocks_ + region_blocks_ - 1) / region_blocks_, SimDisk::block_size, 0x0807060504030201);
  std::uint32_t reference = 0;
  for (std::uint32_t slot = 0; slot < disks_.size(); ++slot) {
    if (found.states[slot] != SlotState::in_sync) continue;
    reference = slot;
    const SimDisk& bitmap = options_.record == Record::external ? marks_disk_ : *disks_[slot];
    for (std::uint64_t page = 0; page < marks.pages(); ++page) marks.merge(page, bitmap.durable(bitmap_offset_ + page));
  }
  for (std::uint32_t slot = 0; slot < disks_.size(); ++slot) {
    const SlotState state = found.states[slot];
    if (state == SlotState::blank || state == SlotState::empty || blank(slot)) continue;
    for (std::uint64_t block = 0; block < num_blocks_; ++block) {
      if (block < window_first_ || block >= window_first_ + window_blocks_) continue;
      if (disks_[slot]->durable(data_offset_ + block) == disks_[reference]->durable(data_offset_ + block)) continue;
      if (marks.test(block / region_blocks_)) continue;
      return fail(fmt::format("unmarked difference: block {} of slots {} and {} (state {})", block, reference, slot, static_cast<int>(state)));
    }
  }
}

void Raid1World::check_equal() {
  for (std::uint64_t block = window_first_; block < window_first_ + window_blocks_; ++block) {
    for (std::uint32_t slot = 1; slot < disks_.size(); ++slot) {
      if (disks_[slot]->view(data_offset_ + block) == disks_[0]->view(data_offset_ + block)) continue;
      return fail(fmt::format("after resync members 0 and {} differ in block {}", slot, block));
    }
  }
}

// Bad blocks that nobody met yet, and a block that changed by itself.
void Raid1World::scrub_finds_all() {
  const std::uint64_t rotten = data_offset_ + window_first_ + draw(window_blocks_);
  SimDisk& disk = *disks_.back();
  // One that an operator has begun.
  core_->scrub().stop();
  until([this] { return !core_->scrub().running(); }, "not scrubbed any more");
  // With a bad block elsewhere it could be the only one that answers, and nobody would know.
  const bool rots = chance(30) && std::ranges::none_of(disks_, [](const auto& each) { return each->hurt(); });
  if (rots) disk.set_durable(rotten, fill(~next_content_));
  const bool seen = rots && disk.view(rotten) == fill(~next_content_);
  expects_rot_ = seen;
  const auto& report = core_->scrub().report();
  // A member that was away without anybody's notice is rebuilt first, which ends a scrub of two.
  bool finished = false;
  for (int tries = 0; tries < 2 && !finished && outcome_.failure.empty(); ++tries) {
    until([this] { return core_->in_sync_count() == disks_.size() && !core_->sync().running() && !core_->changing(); }, "whole before the scrub");
    if (auto started = core_->scrub().start(true, 0); !started) return fail("scrub: " + started.error().message);
    until([this] { return !core_->scrub().running(); }, "scrubbed");
    finished = report.finished;
  }
  if (!finished) return fail("the scrub does not finish");
  if (report.blocks_different != (seen ? 1 : 0))
    return fail(fmt::format("the scrub finds {} blocks that differ, not {}", report.blocks_different, seen ? 1 : 0));
  while (step() && outcome_.failure.empty()) {
  }
  if (std::ranges::any_of(disks_, [](const auto& each) { return each->hurt(); })) fail("a bad block stays after the scrub");
}

void Raid1World::quiet_end() {
  note("quiet end");
  faults_allowed_ = false;
  actions_left_ = 0;
  for (const auto& disk : disks_) disk->recover();
  marks_disk_.recover();
  crash_operation_ = 0;
  until([this] { return users_.empty(); }, "without I/O of users");
  if (core_->frozen()) core_->ask_thaw();
  until([this] { return !core_->frozen(); }, "recorded again");
  const auto whole = [this] {
    return core_->in_sync_count() == disks_.size() && core_->sync().finished() && !core_->changing() && !core_->sync().running();
  };
  for (std::uint32_t round = 0; round < 20 && outcome_.failure.empty() && !whole(); ++round) {
    for (std::uint32_t slot = 0; slot < disks_.size(); ++slot) revive(slot);
    while (step() && outcome_.failure.empty()) {
    }
  }
  if (!outcome_.failure.empty()) return;
  if (!whole()) return fail("with all members there and well it does not become whole");
  while (step() && outcome_.failure.empty()) {
  }
  scrub_finds_all();
  if (!outcome_.failure.empty()) return;
  if (core_->marks().count() != 0) fail(fmt::format("{} marks stay although nothing is written", core_->marks().count()));
  if (!deadlines_.empty()) fail("an array at rest has a deadline");
  check_equal();
  // Everything once more, as users see it.
  for (std::uint64_t block = window_first_; block < window_first_ + window_blocks_ && outcome_.failure.empty(); ++block) {
    std::uint64_t content;
    const SimDisk::Block data = disks_[0]->view(data_offset_ + block);
    std::memcpy(&content, data.data(), sizeof content);
    const std::string wrong = history_.read(block, content, now_, now_);
    if (!wrong.empty()) fail("at the end: " + wrong);
  }
  bool stopped = false;
  core_->stop([&stopped] { stopped = true; });
  until([&stopped] { return stopped; }, "stopped");
}

}  // namespace catnap::sim
