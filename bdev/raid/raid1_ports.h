// What the engine of raid1 stands on: a member as one thread sees it, and a thread. Production makes these of channels and lightweight threads
// (raid1.cpp), the simulation of disks that fail and an order of events that a seed chooses (tests/sim/raid1_world.h).
// Owner: each port and executor belongs to the thread that it stands for. Left out: anything about arrays.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "bdev/bdev.h"

namespace catnap::bdev::raid1 {

// A member, seen from one thread. Blocks count from the member's beginning, as they stand on it.
class Port {
 public:
  virtual ~Port() = default;
  // As Channel::submit(): `done` runs once, now or later, on this thread.
  virtual void submit(BdevIo& io) = 0;
  // Goes up whenever the member may have lost what was not flushed, or may be another one (a reconnect below us), before an I/O of the new
  // association is answered.
  virtual std::uint64_t association() const = 0;
};

// A deadline of an executor; nothing is left of it when it dies.
class Alarm {
 public:
  virtual ~Alarm() = default;
  virtual void arm_in_us(std::uint64_t delay_us) = 0;
  virtual void disarm() = 0;
  virtual bool armed() const = 0;
};

// Runs once at the end of the turn in which it was asked for, after everything else of the thread.
class TurnEnd {
 public:
  virtual ~TurnEnd() = default;
  virtual void request() = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;
  // Runs it later, in order of posting. Any OS thread. False: the thread has gone, and it never runs.
  virtual bool post(Message message) = 0;
  virtual std::uint64_t now_ns() const = 0;
  virtual std::unique_ptr<Alarm> make_alarm(std::function<void()> fire) = 0;
  virtual std::unique_ptr<TurnEnd> make_turn_end(std::function<void()> run) = 0;
};

// Steps of the order of operations that the simulation can leave out, to prove that it notices. All true in production (tests/sim/raid1_*).
struct Steps {
  bool mark_before_data = true;          // a write waits for the mark of its region
  bool flush_marks = true;               // a mark is flushed before it counts
  bool serialise_overlaps = true;        // writes that overlap go one after another
  bool clear_without_writes = true;      // no clear with a write in flight in the region
  bool flush_before_clear = true;        // members' data is flushed before a mark is cleared
  bool keep_marks_while_missing = true;  // no clear while a member is missing
  bool durable_drop = true;              // the survivors' superblocks are written before a failed write is acknowledged
  bool single_source = true;             // regions that may differ are read from one member
  bool flush_resync = true;              // copies are flushed before the region counts as equal
  bool check_association = true;         // a member with a new association is left out and rebuilt
  bool two_copies = true;                // superblocks are written to the copy that is not the newest
  bool wait_for_members = true;          // no start without a member that is not recorded as failed
};

}  // namespace catnap::bdev::raid1
