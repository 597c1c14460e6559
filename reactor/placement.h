// Where queues go: pure functions over a described topology, so that a machine of 96 CPUs is tested on one of 2. Both sides use them: the initiator
// gives the queues of a controller homes on reactors (plan_controller, queue_for_cpu), the target gives accepted connections to poll groups
// (place_connection). Owner: none (values). No threads, and no system call but in read_topology(). Left out: SMT siblings and shared caches, which
// CPUs of one node are near by number only; moving what is placed already (the scheduler moves poll groups).
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "reactor/base/error.h"
#include "reactor/cpumask.h"

namespace catnap {

// The CPUs of a machine, the NUMA node of each, and which of them have reactors. Only these get queues.
class Topology {
 public:
  // In the unit of ACPI's SLIT, which the kernel shows in /sys/devices/system/node/node*/distance.
  static constexpr unsigned local_distance = 10;
  static constexpr unsigned remote_distance = 20;  // what the kernel, too, takes for two nodes without a distance

  struct Cpu {
    unsigned cpu = 0;
    unsigned node = 0;
    bool has_reactor = false;
  };
  using Distances = std::map<std::pair<unsigned, unsigned>, unsigned>;  // (from node, to node)

  Topology() = default;
  // Each CPU once, in any order. Pairs without a distance are at remote_distance.
  explicit Topology(std::vector<Cpu> cpus, Distances distances = {});

  const std::vector<Cpu>& cpus() const { return cpus_; }  // by number
  // None: the machine has no such CPU, or not for us.
  std::optional<unsigned> node_of(unsigned cpu) const;
  std::vector<unsigned> nodes() const;  // that have CPUs, ascending
  unsigned distance(unsigned from_node, unsigned to_node) const;
  // CPUs with reactors, ascending; of one node, or of all.
  std::vector<unsigned> reactor_cpus(std::optional<unsigned> node = std::nullopt) const;

 private:
  std::vector<Cpu> cpus_;
  Distances distances_;
};

// The real machine: the CPUs this process may use (sched_getaffinity), with their nodes and distances from `root`/node. A kernel without NUMA has no
// such folder: then all CPUs are on node 0. `reactors`: which CPUs have one. Errors: EIO with the file that cannot be understood.
Result<Topology> read_topology(const CpuMask& reactors, const std::string& root = "/sys/devices/system");

struct ControllerPlan;

// Queues per CPU, over all controllers: without it, every controller of few queues would begin on the same CPUs.
class LoadTable {
 public:
  std::uint32_t on(unsigned cpu) const { return cpu < queues_.size() ? queues_[cpu] : 0; }
  void add(unsigned cpu);
  // One that was added.
  void remove(unsigned cpu);
  // The homes of all queues of the plan, created or not: a home is a claim, or two controllers that connect together would make the same one.
  void add(const ControllerPlan& plan);
  void remove(const ControllerPlan& plan);

 private:
  std::vector<std::uint32_t> queues_;  // by CPU number
};

// --- initiator: the queues of one controller ---

struct QueueRequest {
  std::optional<unsigned> controller_node;  // of the device, or of the network card towards it; none: every CPU is as near as any other
  std::uint32_t queues = 0;                 // I/O queues that the controller grants
  std::uint32_t controller_index = 0;       // counts controllers: each begins at another CPU
};

struct PlannedQueue {
  unsigned home = 0;     // the CPU whose reactor owns the queue
  bool created = false;  // connected, or connecting
};

// The queues of one controller; queue identifier = index + 1.
struct ControllerPlan {
  std::vector<PlannedQueue> queues;
};

// Homes for all queues of a controller. Empty when there is no CPU with a reactor. The rules, the first before the others:
// 1. No CPU gets a second queue of the controller while one with a reactor has none: a reactor needs one queue, and shares one only for want of
// another.
// 2. Near CPUs first: those of the controller's node, then by distance. The node beats load: a queue of another controller on the CPU costs little,
// every
//    transfer across nodes costs. A node is full when each of its CPUs has a queue of this controller; only the rest goes to the next node.
// 3. At one distance, the CPUs with the fewest queues (of all controllers) first: none overlaps another's while there are free ones, and
//    the difference on a node never grows beyond one (if it was larger, because controllers went, it does not grow).
// 4. Among equally loaded CPUs by stride, from an offset that is the controller's index: the queues of one controller spread over the
//    caches and cores of the node, and queue 1, the first that is used, is on another CPU for each controller.
// The caller counts the plan: load.add(plan), and load.remove(plan) when the controller is gone.
ControllerPlan plan_controller(const Topology& topology, const LoadTable& load, const QueueRequest& request);

struct QueueChoice {
  enum class Kind : std::uint8_t {
    own,     // a queue whose home is this CPU; to be created if it is not
    taken,   // one that nobody has created yet: from now on its home is this CPU
    shared,  // the nearest created one: its owner has to be sent a message for each I/O
  };
  std::size_t queue = 0;  // index into ControllerPlan::queues
  Kind kind = Kind::own;
};

// The queue that a CPU's I/O goes to: its own; else the nearest that is not created yet, wherever its home was planned (a CPU that does I/O now has a
// better claim than one that may never do any); else, all being created, the nearest home. So no CPU shares while an unused queue remains. Nearest:
// by node distance, then by place among the CPUs of the node, in a circle, so that evenly spread homes serve equally many CPUs each. None: the plan
// has no queue.
std::optional<QueueChoice> queue_for_cpu(const Topology& topology, const ControllerPlan& plan, unsigned cpu);

// Carries out a choice of queue_for_cpu() for `cpu`: the queue counts as created, and a taken one has moved in the plan and in the load table.
void apply_choice(ControllerPlan& plan, LoadTable& load, const QueueChoice& choice, unsigned cpu);

// --- target: one accepted connection ---

struct GroupLoad {
  std::uint32_t queues = 0;     // connections it has, or is about to get
  std::optional<unsigned> cpu;  // of the reactor it runs on now; none: unknown
};

// The poll group for a new connection, as index into `groups`; none when there is no group. The first rule that decides:
// 1. the fewest queues. Preferences never cost balance;
// 2. with a preferred CPU (the one on which the connection's packets arrive): a group on it, then one on the nearest node to it;
// 3. in turn: the first at or after index `rotation`. A caller that counts on from its last answer spreads hosts that come and go by ones.
//
// What that gives, if `groups` is true at each call: a difference (most minus fewest) of at most one is kept by every connect, and a larger one never
// grows. Which connections end is for hosts to say, so disconnects can make a larger one. As many connects as there were disconnects since the groups
// were even make them even again; before that, nothing does, as no live connection is moved.
std::optional<std::size_t> place_connection(const Topology& topology, std::span<const GroupLoad> groups, std::optional<unsigned> preferred_cpu,
                                            std::size_t rotation);

}  // namespace catnap
