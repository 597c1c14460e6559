// The engine of raid1 (bdev/raid/raid1_core.h) with disks, threads and users that a seed moves: every order of messages, of ends of I/Os, of faults
// and of crashes that the interfaces allow.
//
// One run is some lives of the process. In each the array is started from what the disks hold, users read, write and flush on two threads, members
// fail, come back, lose what they had not flushed, and then the power goes, at a device operation that is counted or drawn. The last life ends
// quietly: all members come back, and everything must be equal and unmarked.
//
// Owner: one OS thread. Left out: bdevs (tests/unit/bdev runs those), sockets.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bdev/raid/raid1_core.h"
#include "bdev/raid/raid1_lane.h"
#include "tests/sim/raid1_disk.h"
#include "tests/sim/raid1_model.h"

namespace catnap::sim {

struct Raid1Options {
  Raid1Options() = default;
  std::uint64_t seed = 1;
  bdev::raid1::Steps steps;
  std::uint32_t lives = 3;
  std::uint32_t actions = 60;  // of users, per life, at most
  bool faults = true;          // members fail and return
  std::uint64_t crash_at = 0;  // device operation (begin or end) of the run at which the power goes for the first time; 0: drawn
  bool assume_clean = false;   // members are equal at first, and the array is created without a resync
  bool operators = false;      // scrubs that repair, and members that are taken out and put in as new, in the middle of everything
  bdev::raid1::Record record = bdev::raid1::Record::members;
};

struct Raid1Outcome {
  Raid1Outcome() = default;
  std::string failure;  // empty: every invariant held
  std::string log;      // the last events
  std::uint64_t device_operations = 0;
  std::uint64_t before_last_life = 0;  // device operations of the lives that a crash ended
  std::uint64_t crashes = 0;
  std::uint64_t steps = 0;
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t member_faults = 0;
  std::uint64_t rebuilds = 0;
  std::uint64_t scrubs = 0;     // that compared everything
  std::uint64_t exchanges = 0;  // of members, by operators
};

class Raid1World final : public bdev::raid1::LaneHost, public bdev::raid1::CoreListener {
 public:
  explicit Raid1World(Raid1Options options);
  ~Raid1World();
  Raid1Outcome run();
  // What the seed has chosen: a bitmap of two pages, with thousands of regions.
  bool has_two_pages() const { return window_first_ > 0; }

 private:
  class Thread;
  class Port;
  struct InFlight;
  struct UserIo;
  struct Deadline;

  // Lives.
  bool start_array(bool forced);
  void create_array();
  void live(bool last);
  void crash();
  void quiet_end();
  void scrub_finds_all();
  void tear_down();

  // Steps.
  bool step();
  void end_one_io();
  void run_one_message();
  void fire_one_deadline();
  void until(const std::function<bool()>& done, const char* what);

  // Users and faults.
  void act();
  void start_user_io();
  void abort_one();
  void complete_io(bdev::BdevIo& io, bdev::Status status) override;
  void fault();
  void operate();
  void exchange_member();
  void spoil_another();
  void marks_fault();
  void look_whether_recorded();
  void revive(std::uint32_t slot);
  std::uint64_t oldest_read_began() const;
  bool may_fail(std::uint32_t slot) const;
  void slot_changed(std::uint32_t slot, bdev::SlotState state, const std::string& reason) override;
  void process_changed(const char* type, bool running, const std::string& how) override;

  // Invariants.
  void check_media();
  void check_equal();
  void fail(std::string what);
  void note(std::string what);

  std::uint64_t draw(std::uint64_t below) { return random_() % below; }
  bool chance(std::uint32_t percent) { return draw(100) < percent; }
  // Nothing tells that it was a member: it came back empty.
  bool blank(std::uint32_t slot) const;
  // It was taken in as new, and the power went before that was recorded: a stranger, by right.
  bool joined_in_vain(std::uint32_t slot) const;
  bool anyone_blank() const;
  bdev::Superblock identity() const;
  std::vector<bdev::FoundMember> read_superblocks(std::vector<std::uint32_t>* copies) const;
  bdev::StartPlan plan(bool forced, std::vector<std::uint32_t>* copies) const;

  Raid1Options options_;
  Random random_;
  Raid1Outcome outcome_;
  std::deque<std::string> log_;
  std::uint64_t now_ = 1;  // counts events
  std::uint64_t clock_ns_ = 0;
  std::uint64_t crash_operation_ = 0;
  bool power_gone_ = false;

  std::uint64_t num_blocks_ = 0;
  std::uint64_t region_blocks_ = 0;
  std::uint64_t window_first_ = 0;  // users touch only these blocks
  std::uint64_t window_blocks_ = 0;
  std::uint64_t bitmap_offset_ = 0;
  std::uint64_t data_offset_ = 0;
  bool created_ = false;
  bool eager_deadlines_ = false;  // they fall due in the middle of things
  bool expects_rot_ = false;      // a block was changed behind the array's back

  std::vector<std::unique_ptr<SimDisk>> disks_;
  SimDisk marks_disk_;          // with Record::external: superblock and bitmap
  bool marks_trouble_ = false;  // it fails, or the array has not got over that yet
  std::vector<bool> absent_;
  std::vector<bool> erred_;  // it has answered with an error that the core has not dealt with yet
  BlockHistory history_;
  std::uint64_t next_content_ = 1;

  std::vector<std::shared_ptr<Thread>> threads_;  // 0: the core's
  std::vector<std::unique_ptr<Port>> ports_;      // by thread and slot
  std::unique_ptr<Port> marks_port_;
  std::vector<InFlight> in_flight_;
  std::vector<Deadline*> deadlines_;
  std::shared_ptr<bdev::raid1::Core> core_;
  std::vector<std::shared_ptr<bdev::raid1::Lane>> lanes_;
  std::vector<std::unique_ptr<UserIo>> users_;
  std::uint32_t actions_left_ = 0;
  bool faults_allowed_ = false;
  bool online_ = false;
};

}  // namespace catnap::sim
