// See start_plan.h and docs/raid.md, "Start".
#include "bdev/raid/start_plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace catnap::bdev {
namespace {

// Whether `older` lies on the line of history that leads to `newer`.
bool is_ancestor(const Superblock& older, const Superblock& newer) {
  if (older.fork_id == newer.fork_id) return older.events <= newer.events;
  const auto fork = std::ranges::find(newer.earlier_forks, older.fork_id, &SuperblockFork::id);
  return fork != newer.earlier_forks.end() && older.events <= fork->last_events;
}

bool claims_all_data(const Superblock& superblock) { return superblock.slots[superblock.this_slot].state == SlotState::in_sync; }

// Whether somebody's later record on the same line says that `claimant` had been left out, which it cannot know itself.
bool was_left_out(const Superblock& claimant, const std::vector<FoundMember>& found) {
  const std::uint32_t slot = claimant.this_slot;
  return std::ranges::any_of(found, [&](const FoundMember& member) {
    if (!member.superblock || member.superblock->events <= claimant.events || !is_ancestor(claimant, *member.superblock)) return false;
    const std::vector<SuperblockSlot>& slots = member.superblock->slots;
    return slot >= slots.size() || slots[slot].state != SlotState::in_sync || slots[slot].member_uuid != claimant.slots[slot].member_uuid;
  });
}

// The member whose word counts: who holds all data by its own superblock, with the longest history. Who claims to hold less cannot know what came
// later, but for this: that one who claims all had been left out.
const Superblock* find_reference(const std::vector<FoundMember>& found) {
  const Superblock* reference = nullptr;
  for (const FoundMember& member : found) {
    if (!member.superblock || !claims_all_data(*member.superblock) || was_left_out(*member.superblock, found)) continue;
    if (reference == nullptr || (is_ancestor(*reference, *member.superblock) && member.superblock->events > reference->events)) {
      reference = &*member.superblock;
    }
  }
  return reference;
}

bool same_member(const Superblock& reference, const Superblock& found, std::uint32_t slot) {
  return found.this_slot == slot && found.slots.size() > slot && found.slots[slot].member_uuid == reference.slots[slot].member_uuid;
}

// A member that the reference counts among those with all data.
SlotState judge_in_sync(const Superblock& reference, const Superblock& found) {
  // A change is durable on all before the next one begins, so who lags more than one behind was set back by somebody.
  return found.events + 1 >= reference.events ? SlotState::in_sync : SlotState::blank;
}

// One that it counts among those without.
SlotState judge_left(const Superblock& reference, const Superblock& found, std::uint32_t slot) {
  const SuperblockSlot& recorded = reference.slots[slot];
  if (recorded.state == SlotState::blank || recorded.state == SlotState::empty) return SlotState::blank;
  return found.events + 1 >= recorded.left_events ? recorded.state : SlotState::blank;
}

void judge_present(StartPlan& plan, std::uint32_t slot, const Superblock& found) {
  const Superblock& reference = plan.reference;
  if (!same_member(reference, found, slot)) {
    // Somebody else's superblock stands there: who was in this slot before, and was taken out, or who never belonged to it.
    plan.states[slot] = reference.slots[slot].state == SlotState::empty ? SlotState::empty : SlotState::blank;
    plan.diverged.push_back(slot);
    return;
  }
  if (!is_ancestor(found, reference)) {
    plan.diverged.push_back(slot);
    plan.states[slot] = SlotState::blank;
    return;
  }
  const bool in_sync = reference.slots[slot].state == SlotState::in_sync;
  plan.states[slot] = in_sync ? judge_in_sync(reference, found) : judge_left(reference, found, slot);
  if (found.events != reference.events) plan.must_write = true;
}

}  // namespace

StartPlan plan_start(const std::vector<FoundMember>& found, bool forced) {
  StartPlan plan;
  const Superblock* reference = find_reference(found);
  if (reference == nullptr) {
    plan.reason = "no member that holds all data is there";
    for (std::uint32_t slot = 0; slot < found.size(); ++slot) {
      if (!found[slot].superblock) plan.waits_for.push_back(slot);
    }
    return plan;
  }
  plan.reference = *reference;
  plan.states.resize(reference->slots.size());
  for (std::uint32_t slot = 0; slot < plan.states.size(); ++slot) {
    const SlotState recorded = reference->slots[slot].state;
    const bool known = slot < found.size() && found[slot].superblock.has_value();
    if (known) {
      judge_present(plan, slot, *found[slot].superblock);
      // What stands there is not the member that is meant, and that one may have gone on without the others.
      if (recorded == SlotState::in_sync && std::ranges::find(plan.diverged, slot) != plan.diverged.end()) plan.waits_for.push_back(slot);
    } else if (recorded == SlotState::in_sync) {
      plan.waits_for.push_back(slot);
      plan.states[slot] = SlotState::failed;
    } else {
      plan.states[slot] = recorded == SlotState::rebuilding ? SlotState::failed : recorded;
    }
    if (plan.states[slot] != recorded) plan.must_write = true;
  }
  // Two members that each went on without the other: which one is right is not for us to say. (One that was taken out, and has done nothing since,
  // has not gone on.)
  for (const std::uint32_t slot : plan.diverged) {
    if (!claims_all_data(*found[slot].superblock) || was_left_out(*found[slot].superblock, found)) continue;
    plan.verdict = StartPlan::Verdict::refuse;
    plan.reason = fmt::format("the members in slots {} and {} have diverged: each went on without the other", reference->this_slot, slot);
    return plan;
  }
  if (!plan.waits_for.empty() && !forced) {
    plan.reason = fmt::format("slot {} is recorded as in sync and is not there", plan.waits_for.front());
    return plan;
  }
  plan.forked = !plan.waits_for.empty();
  plan.verdict = StartPlan::Verdict::start;
  return plan;
}

StartPlan plan_start_external(const Superblock& superblock, const std::vector<FoundMember>& found, bool forced) {
  StartPlan plan;
  plan.reference = superblock;
  std::size_t with_all_data = 0;
  for (std::uint32_t slot = 0; slot < superblock.slots.size(); ++slot) {
    const SlotState recorded = superblock.slots[slot].state;
    const bool there = slot < found.size() && found[slot].present;
    const bool takes_part = recorded == SlotState::in_sync || recorded == SlotState::rebuilding;
    if (recorded == SlotState::in_sync && !there) plan.waits_for.push_back(slot);
    with_all_data += recorded == SlotState::in_sync && there ? 1 : 0;
    plan.states.push_back(takes_part && !there ? SlotState::failed : recorded);
    plan.must_write |= plan.states.back() != recorded;
  }
  if (with_all_data == 0) {
    plan.reason = "no member that holds all data is there";
  } else if (!plan.waits_for.empty() && !forced) {
    plan.reason = fmt::format("slot {} is recorded as in sync and is not there", plan.waits_for.front());
  } else {
    plan.verdict = StartPlan::Verdict::start;
  }
  return plan;
}

Returning judge_return(const Superblock& running, std::uint32_t slot, const std::optional<Superblock>& found) {
  if (!found || found->array_uuid != running.array_uuid) return Returning::stranger;
  if (slot >= running.slots.size() || !same_member(running, *found, slot)) return Returning::stranger;
  if (!is_ancestor(*found, running)) return Returning::diverged;
  const SlotState state = running.slots[slot].state == SlotState::in_sync ? judge_in_sync(running, *found) : judge_left(running, *found, slot);
  return state == SlotState::blank ? Returning::full : Returning::delta;
}

}  // namespace catnap::bdev
