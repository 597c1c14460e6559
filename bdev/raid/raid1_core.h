// A raid1 as a whole: which member holds what, what is recorded about that, and the order in which changes of it happen.
//
// Owner: one thread (the executor's), but for what says "any thread". Lanes (raid1_lane.h) do the I/O and tell the core what it must deal with;
// Marks (raid1_marks.h) keeps the bitmap, Sync (raid1_sync.h) copies. Left out: bdevs, RPCs, names (raid1.cpp).
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bdev/raid/raid1_lane.h"
#include "bdev/raid/raid1_maps.h"
#include "bdev/raid/raid1_meta.h"
#include "bdev/raid/raid1_ports.h"
#include "bdev/raid/start_plan.h"
#include "bdev/raid/superblock.h"

namespace catnap::bdev::raid1 {

class Marks;
class Scrub;
class Sync;

// Where write intents, and what is recorded about members, are kept.
enum class Record : std::uint8_t {
  memory,    // nowhere: an unclean stop is not noticed
  members,   // superblock and bitmap on every member
  external,  // both on one other device
};

struct CoreOptions {
  CoreOptions() = default;
  Record record = Record::memory;
  std::uint32_t block_size = 512;
  std::uint64_t num_blocks = 0;
  std::uint64_t capacity_blocks = 0;  // what it may grow to, by the room for its bitmap; 0: num_blocks
  std::uint64_t data_offset_blocks = 0;
  std::uint64_t region_blocks = 0;    // power of two
  std::uint32_t blocks_per_unit = 1;  // of overlaps
  // A mark is cleared when its region was not written for at least this long, and at most twice as long.
  std::uint64_t clear_after_us = 5'000'000;
  std::uint32_t copy_bytes = 1 << 20;  // one step of a copy or a scrub
  std::uint32_t copies_in_flight = 2;  // steps at a time: one being read while another is written
  // Record::memory: has somebody else remember who lacks data (member_notes.h).
  std::function<void(std::function<void()>)> keep;
  Uuid host{};  // whose the array is from now on
  Steps steps;
  std::function<std::uint64_t()> random;  // for UUIDs and fork ids
};

// What a lane saw fail.
struct FailureReport {
  FailureReport() = default;
  std::uint32_t slot = 0;
  Status status = Status::ok;  // ok: the I/O went well, but the member has a new association
  bool write = false;          // what the blocks hold now is not known
  std::uint64_t offset_blocks = 0;
  std::uint64_t num_blocks = 0;
};

class CoreListener {
 public:
  virtual void slot_changed(std::uint32_t slot, SlotState state, const std::string& reason) = 0;
  // A copy began ("resync", "rebuild", "scrub") or ended.
  virtual void process_changed(const char* type, bool running, const std::string& how) = 0;
  // Writes fail from now on, or no more (Core::frozen()).
  virtual void frozen_changed() {}

 protected:
  ~CoreListener() = default;
};

struct CoreSlot {
  CoreSlot() = default;
  Port* port = nullptr;  // on the core's thread; null: not there
  bool remote = false;
  bool unmaps = false;
  SlotState state = SlotState::empty;
  Uuid uuid{};
  std::uint64_t left_events = 0;
  std::uint64_t association = 0;
  bool takes_marks = false;           // its bitmap is complete, commits go there
  std::uint32_t superblock_copy = 0;  // the newest one; the next goes to the other
  bool recorded_in_sync = false;      // by the last superblocks that were written everywhere
  bool stands_in_sync = false;        // the same, and nothing else while the array is frozen
  bool active() const { return state == SlotState::in_sync || state == SlotState::rebuilding; }
};

class Core final : public std::enable_shared_from_this<Core> {
 public:
  using Done = std::function<void(Result<void>)>;

  Core(std::shared_ptr<Executor> executor, CoreOptions options, std::size_t slots, CoreListener& listener);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // --- bringing up, in this order ---
  void set_port(std::uint32_t slot, Port* port, bool remote, bool unmaps);
  void set_external_port(Port* port) { external_ = port; }
  // The device with the bitmap is there again, as it was left; `copy`: which of its superblock copies is the newest.
  void external_returned(Port* port, std::uint32_t copy);
  // A new array of the members with ports. `identity`: name, uuid, level, offsets for the superblock. `clean`: they are known to be equal.
  void create(Superblock identity, bool clean, Done done);
  // One that stands on the members, as planned. `copies`: by slot, which superblock copy is the newest.
  void load(StartPlan plan, std::vector<std::uint32_t> copies, Done done);
  // Of an array whose lanes are all closed: marks are cleared if members are equal.
  void stop(std::function<void()> done);
  // It was stopped with all members there, equal and flushed.
  bool stopped_whole() const { return stopped_whole_; }

  // Forgets what is under way, as a process does that dies: nothing may be called any more, and no I/O may end. For simulations.
  void abandon();

  // --- members ---
  // `state`: failed (may return), blank (nothing is known of it) or empty (removed). The last one with all data stays: EBUSY.
  void leave_out(std::uint32_t slot, SlotState state, std::string reason, Done done);
  // A member with a port that is left out becomes a rebuilding one. `full`: everything is copied; `joins`: it gets an identity of its own.
  void bring_in(std::uint32_t slot, bool full, bool joins, Done done);
  // Reads the superblock of a member that was left out and takes it in again as far as it deserves. Without superblocks: by marks.
  void take_back(std::uint32_t slot, Done done);
  // How often a write of metadata to it is tried again: see MetaRunner.
  std::uint32_t retries_for(std::uint32_t slot) const { return slot < slots_.size() && can_do_without(slot) ? 0 : MetaRunner::retries_for_the_last; }
  // Members have more blocks now. What is new counts as different and is copied. Errors: ENOSPC, naming the capacity.
  void grow(std::uint64_t num_blocks, Done done);
  // Somebody else holds all data; for one whose word counts by what is on disk: somebody else whose word does. (Else a start could find only the
  // word of the one that was left out, which does not know it.)
  bool can_do_without(std::uint32_t slot) const;

  // --- for lanes; any thread ---
  RegionMaps& maps() { return *maps_; }
  const Steps& steps() const { return options_.steps; }
  std::size_t slot_count() const { return slots_.size(); }
  std::uint64_t data_offset_blocks() const { return options_.data_offset_blocks; }
  bool marks_in_memory() const { return options_.record == Record::memory; }
  std::shared_ptr<const Roles> enlist(std::shared_ptr<Lane> lane);
  void strike_off(Lane& lane);
  void ask_marks(std::shared_ptr<Lane> lane, std::vector<std::uint64_t> regions);
  void marks_made();
  // The core answers with Lane::dealt_with() when the member is left out durably, or stays as the last one.
  void report_failure(FailureReport report, std::shared_ptr<Lane> lane, LaneOp& op);
  // A write has come while the array is frozen. All lanes hear of the outcome by Roles::thaws_tried.
  void ask_thaw();
  void count_repaired_read() { repaired_reads_.fetch_add(1, std::memory_order_relaxed); }
  std::uint64_t repaired_reads() const { return repaired_reads_.load(std::memory_order_relaxed); }
  std::uint64_t foreground_ios() const;

  // --- for Marks, Sync and who shows it ---
  const CoreOptions& options() const { return options_; }
  const std::vector<CoreSlot>& slots() const { return slots_; }
  Executor& executor() const { return *executor_; }
  MetaRunner& runner() { return runner_; }
  CoreListener& listener() const { return listener_; }
  Marks& marks() const { return *marks_; }
  Sync& sync() const { return *sync_; }
  Scrub& scrub() const { return *scrub_; }
  const Superblock& superblock() const { return superblock_; }
  Port* external_port() const { return external_; }
  std::size_t in_sync_count() const;
  // A member is neither in sync nor being rebuilt.
  bool anyone_missing() const;
  bool anyone_rebuilding() const;
  bool changing() const { return changing_; }
  bool frozen() const { return frozen_; }
  // The member whose word counts where members may differ.
  std::uint32_t source() const;
  // Leaves the member out for what it did, or, as the last one, keeps it; one that only was away is taken back then.
  void handle_failure(const FailureReport& report, std::function<void()> dealt);
  bool online() const { return online_; }
  // It still has the association that it had when it was asked: what it answered counts.
  bool same_association(std::uint32_t slot, std::uint64_t when_asked) const;
  // Flushes every active member; those that fail, or have a new association, are left out first. False: the last one failed.
  void flush_members(std::function<void(bool)> done);
  // All rebuilding members hold all data now, durably.
  void promote_rebuilt(std::function<void()> done);
  // Members may differ there from now on: to be copied, reads from the source.
  void suspect(std::uint64_t first_region, std::uint64_t last_region);
  // A metadata write failed on `slot` (its own number of slots: the external device): left out, or, if it is the last, the array is frozen.
  void record_failed(std::uint32_t slot, std::function<void()> done);
  // What must be recorded cannot be: writes fail from now on, each after another attempt to record it (raid1_core_freeze.cpp).
  void freeze(const std::string& reason);
  void set_takes_marks(std::uint32_t slot) { slots_[slot].takes_marks = true; }
  // Reads a member's superblocks.
  void read_superblock(Port& port, std::function<void(Result<FoundSuperblock>)> done);

 private:
  struct Change {
    std::function<bool()> apply;  // false: there is nothing to change after all
    std::function<void()> done;
  };
  // What a member was when it was decided how it is taken in; if that has changed, it has to be decided anew.
  struct Judged {
    explicit Judged(const CoreSlot& member) : association(member.association), left_events(member.left_events), uuid(member.uuid) {}
    std::uint64_t association;
    std::uint64_t left_events;
    Uuid uuid;
  };
  void change(std::function<bool()> apply, std::function<void()> done);
  void next_change();
  void make_durable(std::function<void()> done, std::function<void()> next);
  void write_superblocks(std::function<void()> done);
  void keep_elsewhere(std::function<void()> done);
  void write_phase(bool first, std::function<void()> done);
  void write_superblock(std::uint32_t slot, std::function<void(bool)> done);
  void superblocks_written(std::function<void()> done);
  void publish(std::function<void()> adopted);
  void set_state(std::uint32_t slot, SlotState state, const std::string& reason);
  bool apply_leave_out(std::uint32_t slot, SlotState state, const std::string& reason);
  void last_failed(const FailureReport& report);
  void write_both_copies(Port& port, std::vector<std::byte> bytes, std::function<void(bool)> done);
  void wipe_all_then(std::function<void()> done);
  void loaded(bool must_write, Done done);
  void stop_quietly(std::function<void()> done);
  void when_idle(std::function<void()> done);
  void go_online(const Done& done);
  void take_back_all();
  void join(std::uint32_t slot, std::function<void()> done);
  void become_new(std::uint32_t slot, Done done);
  void mark_and_rebuild(std::uint32_t slot, bool full, Judged judged, Done done);
  void thaw();
  void thaw_over();

  const std::shared_ptr<Executor> executor_;
  CoreOptions options_;  // but for num_blocks as they were given
  CoreListener& listener_;
  std::unique_ptr<RegionMaps> maps_;
  MetaRunner runner_;
  std::vector<CoreSlot> slots_;
  Port* external_ = nullptr;
  std::uint32_t external_copy_ = 0;
  Superblock superblock_;
  std::unique_ptr<Marks> marks_;
  std::unique_ptr<Sync> sync_;
  std::unique_ptr<Scrub> scrub_;

  bool online_ = false;
  bool stopped_whole_ = false;
  std::unique_ptr<Alarm> idle_alarm_;  // while stopping: looks whether all is over
  bool frozen_ = false;
  bool thawing_ = false;
  bool thaw_failed_ = false;
  std::uint64_t thaws_tried_ = 0;
  std::atomic<bool> thaw_asked_{false};
  bool acks_held_ = false;
  bool changing_ = false;
  std::deque<Change> changes_;
  std::vector<std::uint32_t> failed_to_record_;
  std::vector<bool> kept_in_sync_;              // what options_.keep was called with last
  std::vector<std::uint32_t> take_back_later_;  // when no change is under way
  std::atomic<std::uint64_t> repaired_reads_{0};

  mutable std::mutex mutex_;  // the two below: lanes come and go on their threads
  std::shared_ptr<const Roles> roles_;
  std::vector<std::shared_ptr<Lane>> lanes_;
};

}  // namespace catnap::bdev::raid1
