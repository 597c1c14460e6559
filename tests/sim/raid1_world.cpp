// The world's machinery: threads, deadlines, ports, lives. See raid1_world.h.
#include "tests/sim/raid1_world.h"

#include <fmt/format.h>

#include <algorithm>

#include "bdev/raid/raid1_marks.h"
#include "bdev/raid/raid1_sync.h"
#include "tests/sim/raid1_world_parts.h"

namespace catnap::sim {

using bdev::BdevIo;
using bdev::FoundMember;
using bdev::SlotState;
using bdev::StartPlan;
using bdev::Status;
using bdev::raid1::Core;
using bdev::raid1::CoreOptions;
using bdev::raid1::Lane;
using bdev::raid1::Record;

Raid1World::Raid1World(Raid1Options options) : options_(options), random_(options.seed) {
  const std::uint32_t members = chance(30) ? 3 : 2;
  // Now and then many small regions, so that the bitmap has two pages and users write around their border.
  const bool two_pages = chance(10);
  region_blocks_ = two_pages ? 1 : std::uint64_t{1} << draw(4);
  window_blocks_ = 16 + draw(24);
  num_blocks_ = two_pages ? 4000 : window_blocks_;
  window_first_ = two_pages ? 3950 : 0;
  bitmap_offset_ = bdev::superblock_area_bytes / SimDisk::block_size;
  data_offset_ = bitmap_offset_ + 2;
  if (options_.record != Record::members) data_offset_ = 0;
  for (std::uint32_t slot = 0; slot < members; ++slot) {
    auto& disk = disks_.emplace_back(std::make_unique<SimDisk>());
    if (options_.assume_clean && slot > 0) next_content_ -= window_blocks_;  // as on the first one
    for (std::uint64_t i = 0; i < window_blocks_; ++i) {
      SimDisk::Block data = fill(next_content_);
      history_.may_begin_with(window_first_ + i, next_content_++);
      disk->set_durable(data_offset_ + window_first_ + i, data);
    }
  }
  eager_deadlines_ = chance(30);
  absent_.resize(members);
  erred_.resize(members);
  crash_operation_ = options_.crash_at != 0 ? options_.crash_at : 0;
}

Raid1World::~Raid1World() { tear_down(); }

void Raid1World::note(std::string what) {
  log_.push_back(fmt::format("{}: {}", now_, std::move(what)));
  if (log_.size() > 400) log_.pop_front();
}

void Raid1World::fail(std::string what) {
  if (!outcome_.failure.empty()) return;
  note("FAILURE " + what);
  outcome_.failure = std::move(what);
}

Raid1Outcome Raid1World::run() {
  for (std::uint32_t i = 1; i <= options_.lives && outcome_.failure.empty(); ++i) {
    const bool last = i == options_.lives;
    if (last) {
      outcome_.before_last_life = outcome_.device_operations;
      crash_operation_ = 0;
    } else if (options_.crash_at == 0) {
      crash_operation_ = outcome_.device_operations + 1 + draw(500);
    }
    live(last);
  }
  for (const std::string& line : log_) outcome_.log += line + "\n";
  return outcome_;
}

// --- lives ---

void Raid1World::live(bool last) {
  power_gone_ = false;
  online_ = false;
  clock_ns_ += 1'000'000;
  // Not everybody is there at once.
  for (std::uint32_t slot = 0; slot < disks_.size(); ++slot) {
    disks_[slot]->recover();
    erred_[slot] = false;
    const bool hurt = std::ranges::any_of(disks_, [](const auto& disk) { return disk->hurt(); });
    absent_[slot] = created_ && options_.faults && !hurt && chance(15);
  }
  for (std::uint32_t attempt = 0; !start_array(attempt > 0 && anyone_blank()); ++attempt) {
    if (!outcome_.failure.empty()) return;
    if (power_gone_) break;
    std::fill(absent_.begin(), absent_.end(), false);
    if (attempt > 0) return fail("all members are there and it does not start");
  }
  if (!power_gone_) {
    actions_left_ = static_cast<std::uint32_t>(draw(options_.actions) + 1);
    faults_allowed_ = options_.faults;
    const std::uint64_t limit = outcome_.steps + 20'000;
    while (!power_gone_ && outcome_.failure.empty() && outcome_.steps < limit && step()) {
    }
  }
  if (!outcome_.failure.empty()) return;
  if (last && !power_gone_) return quiet_end();
  crash();
}

namespace {

Result<bdev::FoundSuperblock> superblock_of(const SimDisk& disk) {
  std::vector<std::byte> area;
  for (std::uint64_t block = 0; block < bdev::superblock_area_bytes / SimDisk::block_size; ++block) {
    const SimDisk::Block data = disk.view(block);
    area.insert(area.end(), data.begin(), data.end());
  }
  auto newest = bdev::newest_superblock(area);
  if (newest && newest->other_is_blank) return catnap::fail(ENOENT, "a disk that was replaced");
  return newest;
}

}  // namespace

bool Raid1World::blank(std::uint32_t slot) const { return options_.record == Record::members && !superblock_of(*disks_[slot]); }

bool Raid1World::joined_in_vain(std::uint32_t slot) const {
  const auto newest = superblock_of(*disks_[slot]);
  return options_.record == Record::members && newest && newest->superblock.slots[slot].state == SlotState::blank;
}

bool Raid1World::anyone_blank() const {
  for (std::uint32_t slot = 0; slot < disks_.size(); ++slot) {
    if (blank(slot)) return true;
  }
  return false;
}

std::vector<FoundMember> Raid1World::read_superblocks(std::vector<std::uint32_t>* copies) const {
  std::vector<FoundMember> found;
  for (std::uint32_t slot = 0; slot < disks_.size(); ++slot) {
    FoundMember& member = found.emplace_back();
    if (copies != nullptr) copies->push_back(0);
    if (absent_[slot]) continue;
    member.present = true;
    auto newest = superblock_of(*disks_[slot]);
    if (!newest) continue;
    if (copies != nullptr) copies->back() = newest->copy;
    member.superblock = std::move(newest->superblock);
  }
  return found;
}

StartPlan Raid1World::plan(bool forced, std::vector<std::uint32_t>* copies) const {
  const auto found = read_superblocks(copies);
  if (options_.record != Record::external) return bdev::plan_start(found, forced);
  const auto newest = superblock_of(marks_disk_);
  if (!newest) return {};
  if (copies != nullptr) copies->push_back(newest->copy);
  return bdev::plan_start_external(newest->superblock, found, forced);
}

bdev::Superblock Raid1World::identity() const {
  bdev::Superblock superblock;
  superblock.name = "sim";
  superblock.array_uuid = {1, 2, 3, 4, 5, 6, 7, 8};
  superblock.block_size = SimDisk::block_size;
  superblock.num_blocks = num_blocks_;
  superblock.data_offset_blocks = data_offset_;
  superblock.bitmap_offset_blocks = bitmap_offset_;
  superblock.bitmap_blocks = 2;
  superblock.region_blocks = region_blocks_;
  return superblock;
}

// `forced`: as an operator does who knows that a member will never be what it was.
bool Raid1World::start_array(bool forced) {
  tear_down();
  for (std::uint32_t i = 0; i < 3; ++i) threads_.push_back(std::make_shared<Thread>(*this, i));
  ports_.clear();
  for (std::uint32_t thread = 0; thread < 3; ++thread) {
    for (auto& disk : disks_) ports_.push_back(std::make_unique<Port>(*this, *threads_[thread], *disk));
  }
  CoreOptions core;
  core.record = options_.record;
  core.block_size = SimDisk::block_size;
  core.num_blocks = num_blocks_;
  core.data_offset_blocks = data_offset_;
  core.region_blocks = region_blocks_;
  core.clear_after_us = 1000;
  core.copy_bytes = SimDisk::block_size * 4;
  core.steps = options_.steps;
  core.random = [this] { return random_(); };
  core_ = std::make_shared<Core>(threads_[0], core, disks_.size(), *this);

  std::vector<std::uint32_t> copies;
  for (std::uint32_t slot = 0; slot < disks_.size(); ++slot) {
    if (!absent_[slot]) core_->set_port(slot, ports_[slot].get(), false, true);
  }
  marks_port_ = std::make_unique<Port>(*this, *threads_[0], marks_disk_);
  if (options_.record == Record::external) core_->set_external_port(marks_port_.get());
  bool started = false;
  const auto done = [this, &started](const Result<void>& result) {
    if (!result) fail("start: " + result.error().message);
    started = true;
  };
  if (!created_) {
    note("create");
    core_->create(identity(), options_.assume_clean, done);
  } else {
    StartPlan begin = plan(forced || !options_.steps.wait_for_members, &copies);
    note(fmt::format("start: verdict {} {}", static_cast<int>(begin.verdict), begin.reason));
    if (begin.verdict == StartPlan::Verdict::refuse) fail("start is refused: " + begin.reason);
    if (begin.verdict != StartPlan::Verdict::start) return false;
    core_->load(begin, copies, done);
  }
  while (!started && !power_gone_ && outcome_.failure.empty() && step()) {
  }
  if (power_gone_ || !outcome_.failure.empty()) return false;
  if (!started) {
    fail("the start does not end");
    return false;
  }
  created_ = true;
  online_ = true;
  for (std::uint32_t thread = 1; thread < 3; ++thread) {
    auto& lane = lanes_.emplace_back(std::make_shared<Lane>(core_, threads_[thread], *this));
    for (std::uint32_t slot = 0; slot < disks_.size(); ++slot) lane->set_port(slot, ports_[thread * disks_.size() + slot].get());
    lane->open();
  }
  return true;
}

// Everything of the process is gone at once; what it had begun ends nowhere.
void Raid1World::tear_down() {
  for (const auto& thread : threads_) thread->messages.clear();
  in_flight_.clear();
  if (core_ != nullptr) core_->abandon();
  lanes_.clear();
  core_.reset();
  threads_.clear();
  users_.clear();
  ports_.clear();
  marks_port_.reset();
  online_ = false;
}

void Raid1World::crash() {
  note("CRASH");
  ++outcome_.crashes;
  for (const InFlight& io : in_flight_) io.port->disk.tear(*io.io, random_);
  for (const auto& disk : disks_) disk->lose_unflushed(random_);
  marks_disk_.lose_unflushed(random_);
  marks_disk_.recover();
  marks_trouble_ = false;
  tear_down();
  history_.crashed(++now_);
  std::fill(absent_.begin(), absent_.end(), false);
  if (created_) check_media();
  // A process that died while it created the array has not created it: the disks are taken anew.
  if (options_.crash_at != 0) crash_operation_ = 0;
}

// --- steps ---

bool Raid1World::step() {
  ++outcome_.steps;
  ++now_;
  if (marks_trouble_) look_whether_recorded();
  std::uint32_t messages = 0;
  for (const auto& thread : threads_) messages += thread->messages.empty() ? 0 : 1;
  const bool due = !deadlines_.empty();
  const bool can_act = online_ && actions_left_ > 0 && users_.size() < 6;
  const std::uint64_t kind = draw(100);
  if (can_act && kind < 15) {
    act();
    return true;
  }
  if (due && kind < (eager_deadlines_ ? 30 : 18)) {
    fire_one_deadline();
    return true;
  }
  if (messages > 0 && (kind < 60 || in_flight_.empty())) {
    run_one_message();
    return true;
  }
  if (!in_flight_.empty()) {
    end_one_io();
    return true;
  }
  if (messages > 0) {
    run_one_message();
    return true;
  }
  if (can_act) {
    act();
    return true;
  }
  if (due) {
    fire_one_deadline();
    return true;
  }
  return false;
}

void Raid1World::run_one_message() {
  std::uint64_t nth = draw(threads_.size());
  while (threads_[nth]->messages.empty()) nth = (nth + 1) % threads_.size();
  auto& messages = threads_[nth]->messages;
  Message message = std::move(messages.front());
  messages.pop_front();
  message();
}

void Raid1World::end_one_io() {
  const std::uint64_t nth = draw(in_flight_.size());
  if (++outcome_.device_operations == crash_operation_) {
    power_gone_ = true;
    return;
  }
  const InFlight ended = in_flight_[nth];
  in_flight_.erase(in_flight_.begin() + static_cast<std::ptrdiff_t>(nth));
  ended.io->status = ended.port->disk.end(*ended.io, ended.ticket, random_);
  if (ended.io->status == Status::removed || ended.io->status == Status::write_error) {
    for (std::uint32_t slot = 0; slot < disks_.size(); ++slot) erred_[slot] = erred_[slot] || disks_[slot].get() == &ended.port->disk;
  }
  ended.io->done(*ended.io);
}

void Raid1World::fire_one_deadline() {
  const auto nearest =
      std::ranges::min_element(deadlines_, {}, [](const Deadline* deadline) { return std::pair(deadline->at_ns, deadline->number); });
  Deadline& deadline = **nearest;
  clock_ns_ = std::max(clock_ns_, deadline.at_ns);
  deadline.disarm();
  deadline.fire();
}

void Raid1World::until(const std::function<bool()>& done, const char* what) {
  const std::uint64_t limit = outcome_.steps + 200'000;
  while (!done() && outcome_.failure.empty()) {
    if (!step() && !done()) return fail(fmt::format("nothing moves, and it is not {}", what));
    if (outcome_.steps > limit) return fail(fmt::format("it never becomes {}", what));
  }
}

// --- ports, threads ---

void Raid1World::Port::submit(BdevIo& io) {
  if (++world.outcome_.device_operations == world.crash_operation_) world.power_gone_ = true;
  if (&disk != &world.marks_disk_ && io.num_blocks > 0 && io.offset_blocks + io.num_blocks > world.data_offset_ + world.num_blocks_)
    world.fail("I/O beyond the end");
  world.in_flight_.push_back({this, &io, disk.begin()});
}

bool Raid1World::Thread::post(Message message) {
  messages.push_back(std::move(message));
  return true;
}

std::uint64_t Raid1World::Thread::now_ns() const { return world.clock_ns_; }

std::unique_ptr<bdev::raid1::Alarm> Raid1World::Thread::make_alarm(std::function<void()> fire) {
  return std::make_unique<Deadline>(world, std::move(fire));
}

std::unique_ptr<bdev::raid1::TurnEnd> Raid1World::Thread::make_turn_end(std::function<void()> run) {
  return std::make_unique<TurnEnd>(*this, std::move(run));
}

void Raid1World::Deadline::arm_in_us(std::uint64_t delay_us) {
  disarm();
  at_ns = world.clock_ns_ + delay_us * 1000;
  number = ++world.now_;
  world.deadlines_.push_back(this);
}

void Raid1World::Deadline::disarm() { std::erase(world.deadlines_, this); }

bool Raid1World::Deadline::armed() const { return std::ranges::find(world.deadlines_, this) != world.deadlines_.end(); }

}  // namespace catnap::sim
