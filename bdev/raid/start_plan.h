// What a set of superblocks means: whether an array may start with the members that are there, and what each of them holds.
// Owner: none (pure functions). Left out: reading superblocks; what follows from the plan (raid1_core.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bdev/raid/superblock.h"

namespace catnap::bdev {

// One slot's member as it was found.
struct FoundMember {
  FoundMember() = default;
  bool present = false;
  std::optional<Superblock> superblock;  // none: not there, or nothing readable on it
};

struct StartPlan {
  StartPlan() = default;
  enum class Verdict : std::uint8_t {
    start,
    wait,    // for `waits_for`, or a forced start
    refuse,  // never by itself: `reason`
  };
  Verdict verdict = Verdict::wait;
  std::string reason;                    // wait, refuse: for whom or why, a sentence's part
  std::vector<std::uint32_t> waits_for;  // slots
  // start: what the array goes on with. `events` and forks are still as found; the first change counts them up.
  Superblock reference;
  // start: per slot. in_sync: serves; failed: there or not, left out, a delta rebuild is enough when it comes; blank: it would have to be copied
  // whole; rebuilding: there, goes on with the marked regions.
  std::vector<SlotState> states;
  std::vector<std::uint32_t> diverged;  // slots that are there and must not be used
  bool must_write = false;              // the states differ from what stands on some member: a change has to be written before I/O
  bool forked = false;                  // forced without a member that is recorded as in sync
};

// `found` by slot, each superblock of this array (same array_uuid). With `forced` a missing member does not hold it up (but nobody who lacks data
// serves).
StartPlan plan_start(const std::vector<FoundMember>& found, bool forced);

// The same where the only superblock stands on a bitmap_bdev and members say nothing: who is there is taken for who it was.
StartPlan plan_start_external(const Superblock& superblock, const std::vector<FoundMember>& found, bool forced);

// What a member that comes to a running array is: `running` is the array's present superblock.
enum class Returning : std::uint8_t {
  delta,     // as it was when it was left out: marked regions are enough
  full,      // known, but not as it was left: everything
  stranger,  // not a member of this array, or of another slot
  diverged,  // has gone on without us
};
Returning judge_return(const Superblock& running, std::uint32_t slot, const std::optional<Superblock>& found);

}  // namespace catnap::bdev
