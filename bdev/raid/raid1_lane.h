// A raid1 as one thread uses it: reads, writes, flushes and zeroing become I/Os of the members.
//
// A write: take its blocks (OverlapTable), see that its regions are marked (else wait for the core's next group commit), send it to every member that
// is written to, have the core deal with members that failed, give the blocks back, answer. On marked regions nothing of that leaves the thread.
//
// Owner: the lane's thread, but for what says "any thread". Left out: states of members, marks on disk, rebuilds (raid1_core.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "bdev/bdev.h"
#include "bdev/raid/raid1_maps.h"
#include "bdev/raid/raid1_ports.h"

namespace catnap::bdev::raid1 {

class Core;
class Lane;

// What lanes go by; the core publishes another one whenever something changes. Immutable.
struct Roles {
  Roles() = default;
  struct Slot {
    Slot() = default;
    bool readable = false;  // in sync
    bool writable = false;  // in sync or rebuilding
    bool remote = false;    // reads prefer those that are not
    bool unmaps = false;    // unmap goes down as it is; else zeroes are written
    std::uint64_t association = 0;
  };
  std::uint64_t generation = 0;
  bool acks_held = false;  // a change is being made durable: writes and flushes end when it is
  bool frozen = false;     // changes cannot be made durable: writes wait for another attempt, and fail with it
  std::uint64_t thaws_tried = 0;
  // Frozen, and a member without which the array goes on is still recorded as in sync: after a crash its word would count as much as any.
  bool loss_unrecorded = false;
  std::uint32_t source = 0;  // whose word counts where members may differ
  // It was the source from the beginning, so nobody copied to it: what it says is durable there.
  bool source_settled = false;
  std::vector<Slot> slots;
};

// How a member's part of an I/O ended.
enum class Part : std::uint8_t {
  none,
  sent,
  done,
  stale,  // well, but the member's association is another one than we know
  failed,
};

// An I/O of the array under way. From the lane's pool: no allocation once a lane has seen its peak.
struct LaneOp {
  static constexpr std::uint64_t all_blocks = ~std::uint64_t{0};
  LaneOp() = default;
  Lane* lane = nullptr;
  BdevIo* user = nullptr;
  void (Lane::*next_step)(LaneOp&) = nullptr;  // when all parts have ended, or when the blocks are held
  OverlapHold hold;
  std::uint32_t pending = 0;         // parts under way
  std::uint32_t reports = 0;         // failures that the core has not dealt with yet
  Status error = Status::ok;         // the first one
  bool answered = false;             // a read found its data
  bool asked_again = false;          // members with bad blocks, since the blocks are held
  std::uint32_t last_slot = 0;       // whose part ended last
  bool one_by_one = false;           // no member could give all of it, and its blocks were asked for one by one
  std::uint64_t block = all_blocks;  // of the user's, while that is so
  std::vector<iovec> block_iov;      // its memory
  std::vector<BdevIo> parts;         // by slot
  std::vector<Part> outcome;
  std::vector<std::uint64_t> associations;  // of the members when their parts were sent
};

class LaneHost {
 public:
  virtual void complete_io(BdevIo& io, Status status) = 0;

 protected:
  ~LaneHost() = default;
};

class Lane final : public std::enable_shared_from_this<Lane>, public OverlapWaiter {
 public:
  Lane(std::shared_ptr<Core> core, std::shared_ptr<Executor> executor, LaneHost& host);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Once, before the first I/O; close() when no I/O is left, before the host dies.
  void open();
  void close();
  void set_port(std::uint32_t slot, Port* port) { ports_[slot] = port; }
  void start(BdevIo& io);
  // True: it had not been sent to members yet and ends as aborted. Once sent it is not taken back: members would differ.
  bool abort(BdevIo& io);

  // The core's messages.
  void adopt(std::shared_ptr<const Roles> roles);
  void marks_changed();
  void dealt_with(LaneOp& op);
  // Any thread.
  void blocks_freed() override;
  Executor& executor() const { return *executor_; }
  // I/Os started so far. Any thread.
  std::uint64_t ios_started() const { return ios_started_.load(std::memory_order_relaxed); }

 private:
  LaneOp& take(BdevIo& io);
  void give_back(LaneOp& op);
  void lock_then(LaneOp& op, void (Lane::*step)(LaneOp&));
  void unlock(LaneOp& op);
  void retry_locks();
  bool marks_ready(const LaneOp& op);
  void ask_for_marks();
  void send(LaneOp& op, std::uint32_t slot, Op what, bool fua);
  void send_to_writable(LaneOp& op, Op what);
  static void part_done(BdevIo& part);
  void part_ended(LaneOp& op, std::uint32_t slot, Status status);
  // Has the core deal with a member whose part failed; the next step is taken when it has.
  void report(LaneOp& op, std::uint32_t slot);
  void settle(LaneOp& op);
  void thaw_tried();
  void complete(LaneOp& op, Status status);

  void start_write(BdevIo& io);
  void write_locked(LaneOp& op);
  void write_marked(LaneOp& op);
  void write_ended(LaneOp& op);
  Status write_status(const LaneOp& op) const;
  void start_flush(BdevIo& io);
  void start_reset(BdevIo& io);
  void reset_ended(LaneOp& op);
  void start_read(BdevIo& io);
  bool reads_suspect(const BdevIo& io) const;
  bool reads_marked(const BdevIo& io) const;
  void refuse_read(LaneOp& op);
  std::uint32_t choose_reader(const LaneOp& op);
  void read_on(LaneOp& op, void (Lane::*step)(LaneOp&));
  void read_ended(LaneOp& op);
  void repair_locked(LaneOp& op);
  void repair_on(LaneOp& op);
  static void forget_bad_blocks(LaneOp& op);
  void repair_read_ended(LaneOp& op);
  void read_through_locked(LaneOp& op);
  void through_read_ended(LaneOp& op);
  void read_block(LaneOp& op);
  void block_read_ended(LaneOp& op);
  void block_rewritten(LaneOp& op);
  void next_block(LaneOp& op);
  void read_elsewhere(LaneOp& op);
  void read_again(LaneOp& op);
  void rewritten(LaneOp& op);
  void read_settled(LaneOp& op);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Executor> executor_;
  LaneHost& host_;
  RegionMaps& maps_;
  const Steps steps_;
  const bool marks_in_memory_;
  std::shared_ptr<const Roles> roles_;
  bool closed_ = false;
  std::vector<Port*> ports_;
  std::vector<std::uint32_t> reading_;  // reads under way, by slot
  std::uint32_t next_reader_ = 0;
  std::atomic<std::uint64_t> ios_started_{0};

  std::vector<std::unique_ptr<LaneOp>> ops_;
  std::vector<LaneOp*> free_ops_;
  std::vector<LaneOp*> wait_for_blocks_;
  std::vector<LaneOp*> wait_for_marks_;
  std::vector<LaneOp*> held_;          // until a change is durable
  std::vector<LaneOp*> frozen_out_;    // until another attempt to record it was made
  std::vector<std::uint64_t> wanted_;  // regions to ask for at the end of this turn
  bool new_marks_ = false;             // in memory: tell the core that there are some
  std::unique_ptr<TurnEnd> turn_end_;
  std::atomic<bool> wake_posted_{false};
  bool registered_waiter_ = false;
};

}  // namespace catnap::bdev::raid1
