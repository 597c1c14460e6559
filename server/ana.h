// Asymmetric namespace access (NVMe Base 2.0, section 8.1): groups and states as one listener shows them, change counts, the log page, who is told of
// a change, and which commands a state refuses.
// Owner: none (pure functions of snapshots). Left out: changing states (target_ana.cpp), JSON (nvmf_ana_rpc.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/command_error.h"
#include "server/snapshot.h"
#include "transport/command_sink.h"

namespace catnap::server {

// ANATT: no group is in the state `change` for longer. Linux gives up on a controller after twice this; operators' switch-overs take a few seconds.
inline constexpr std::uint8_t ana_transition_limit_s = 10;

// "optimized", "non_optimized", "inaccessible", "persistent_loss", "change".
const char* ana_state_name(AnaState state);
std::optional<AnaState> ana_state_named(std::string_view name);

// The ANA group of a namespace: its own, or when none was given, one by itself.
std::uint32_t ana_group_of(const NamespaceConfig& config);
// Null listener: it is being taken away.
AnaState ana_state_of(const SubsystemSnapshot::ListenerEntry* listener, std::uint32_t group);

// Brings the change counts of `next` up to date: each listener whose log page differs from the one in `old` counts one more, and the groups that
// differ note that count. Null `old`: a new subsystem.
void count_ana_changes(const SubsystemSnapshot* old, SubsystemSnapshot& next);

// Is the host that came in at `local` to be told (Base 2.0 section 5.2, Asymmetric Namespace Access Change)? The state or the group of a namespace
// that it saw before and sees now differs. Coming and going namespaces have an event of their own.
bool ana_differs_for_host(const SubsystemSnapshot& old, const SubsystemSnapshot& next, const transport::CommandQueue::Address& local,
                          const std::string& hostnqn);

// The log page (0Ch) for this host. `groups_only` (RGO): without namespace ids.
std::vector<std::byte> build_ana_log(const SubsystemSnapshot& subsystem, const SubsystemSnapshot::ListenerEntry* listener, const std::string& hostnqn,
                                     bool groups_only);

// What a command that needs the namespace's medium gets in this state; ok() when it may go on. Path statuses come without DNR: another path may
// serve.
CommandError ana_refusal(AnaState state);
// Capacities are reported as 0 in these states (Base 2.0 section 8.1.3.3 to 8.1.3.5).
inline bool ana_hides_capacity(AnaState state) { return state != AnaState::optimized && state != AnaState::non_optimized; }

}  // namespace catnap::server
