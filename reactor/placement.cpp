// Where queues go. See placement.h.
// Owner: none. Left out: reading the machine (topology.cpp).
#include "reactor/placement.h"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "reactor/base/check.h"

namespace catnap {
namespace {

// `count` of `cpus`, evenly apart, beginning at `offset` and round the end. count <= cpus.size().
std::vector<unsigned> stride_over(const std::vector<unsigned>& cpus, std::size_t count, std::size_t offset) {
  std::vector<unsigned> chosen;
  for (std::size_t i = 0; i < count; ++i) chosen.push_back(cpus[(offset + i * cpus.size() / count) % cpus.size()]);
  return chosen;
}

// The CPUs with reactors in the order in which they get queues: groups of equal distance, the nearest first.
std::vector<std::vector<unsigned>> rings_around(const Topology& topology, std::optional<unsigned> node) {
  std::map<unsigned, std::vector<unsigned>> rings;
  for (const Topology::Cpu& cpu : topology.cpus()) {
    if (cpu.has_reactor) rings[node ? topology.distance(*node, cpu.node) : 0].push_back(cpu.cpu);
  }
  std::vector<std::vector<unsigned>> ordered;
  for (auto& [distance, cpus] : rings) ordered.push_back(std::move(cpus));
  return ordered;
}

// Up to `wanted` CPUs of `pool`, each once, the least loaded first.
std::vector<unsigned> take_from(std::vector<unsigned> pool, const LoadTable& load, std::size_t wanted, std::size_t offset) {
  std::vector<unsigned> taken;
  while (taken.size() < wanted && !pool.empty()) {
    std::uint32_t least = std::numeric_limits<std::uint32_t>::max();
    for (const unsigned cpu : pool) least = std::min(least, load.on(cpu));
    std::vector<unsigned> level;
    std::copy_if(pool.begin(), pool.end(), std::back_inserter(level), [&](unsigned cpu) { return load.on(cpu) == least; });
    std::erase_if(pool, [&](unsigned cpu) { return load.on(cpu) == least; });
    const auto chosen = stride_over(level, std::min(wanted - taken.size(), level.size()), offset);
    taken.insert(taken.end(), chosen.begin(), chosen.end());
  }
  return taken;
}

// Steps from `cpu` to `home`, in a circle over the CPUs of home's node. A CPU of another node stands where it would if its own were as large.
struct Steps {
  std::size_t count = 0;
  bool ahead = false;  // the home comes after the CPU: of two equally near ones the one before is taken, so that neither gets both sides
  auto operator<=>(const Steps&) const = default;
};

std::size_t place_in(const std::vector<unsigned>& cpus, unsigned cpu) {
  return static_cast<std::size_t>(std::lower_bound(cpus.begin(), cpus.end(), cpu) - cpus.begin());
}

Steps steps_between(const std::vector<unsigned>& own, const std::vector<unsigned>& homes, unsigned cpu, unsigned home) {
  if (own.empty() || homes.empty()) return {};
  const std::size_t from = place_in(own, cpu) * homes.size() / own.size() % homes.size();
  const std::size_t to = place_in(homes, home) % homes.size();
  const std::size_t forward = (to + homes.size() - from) % homes.size();
  const std::size_t back = (homes.size() - forward) % homes.size();
  return {std::min(forward, back), forward < back};
}

// The nearest queue to `cpu` among those that are created, or among those that are not.
std::optional<std::size_t> nearest(const Topology& topology, const ControllerPlan& plan, unsigned cpu, bool created) {
  const auto own_node = topology.node_of(cpu);
  const auto own = topology.reactor_cpus(own_node);
  std::map<unsigned, std::vector<unsigned>> cpus_of_node;
  for (const unsigned node : topology.nodes()) cpus_of_node.emplace(node, topology.reactor_cpus(node));
  std::optional<std::size_t> best;
  std::pair<unsigned, Steps> best_key;
  for (std::size_t i = 0; i < plan.queues.size(); ++i) {
    if (plan.queues[i].created != created) continue;
    const auto home_node = topology.node_of(plan.queues[i].home);
    const unsigned distance = own_node && home_node ? topology.distance(*own_node, *home_node) : Topology::remote_distance;
    const Steps steps = home_node ? steps_between(own, cpus_of_node[*home_node], cpu, plan.queues[i].home) : Steps{};
    const std::pair key(distance, steps);
    if (best && best_key <= key) continue;
    best = i;
    best_key = key;
  }
  return best;
}

}  // namespace

// --- topology ---

Topology::Topology(std::vector<Cpu> cpus, Distances distances) : cpus_(std::move(cpus)), distances_(std::move(distances)) {
  std::sort(cpus_.begin(), cpus_.end(), [](const Cpu& a, const Cpu& b) { return a.cpu < b.cpu; });
  CATNAP_CHECK(std::adjacent_find(cpus_.begin(), cpus_.end(), [](const Cpu& a, const Cpu& b) { return a.cpu == b.cpu; }) == cpus_.end());
}

std::optional<unsigned> Topology::node_of(unsigned cpu) const {
  const auto found = std::lower_bound(cpus_.begin(), cpus_.end(), cpu, [](const Cpu& entry, unsigned number) { return entry.cpu < number; });
  if (found == cpus_.end() || found->cpu != cpu) return std::nullopt;
  return found->node;
}

std::vector<unsigned> Topology::nodes() const {
  std::set<unsigned> found;
  for (const Cpu& cpu : cpus_) found.insert(cpu.node);
  return {found.begin(), found.end()};
}

unsigned Topology::distance(unsigned from_node, unsigned to_node) const {
  const auto found = distances_.find({from_node, to_node});
  if (found != distances_.end()) return found->second;
  return from_node == to_node ? local_distance : remote_distance;
}

std::vector<unsigned> Topology::reactor_cpus(std::optional<unsigned> node) const {
  std::vector<unsigned> found;
  for (const Cpu& cpu : cpus_) {
    if (cpu.has_reactor && (!node || cpu.node == *node)) found.push_back(cpu.cpu);
  }
  return found;
}

// --- load ---

void LoadTable::add(unsigned cpu) {
  if (cpu >= queues_.size()) queues_.resize(cpu + 1);
  ++queues_[cpu];
}

void LoadTable::remove(unsigned cpu) {
  CATNAP_CHECK(on(cpu) > 0);
  --queues_[cpu];
}

void LoadTable::add(const ControllerPlan& plan) {
  for (const PlannedQueue& queue : plan.queues) add(queue.home);
}

void LoadTable::remove(const ControllerPlan& plan) {
  for (const PlannedQueue& queue : plan.queues) remove(queue.home);
}

// --- initiator ---

ControllerPlan plan_controller(const Topology& topology, const LoadTable& load, const QueueRequest& request) {
  ControllerPlan plan;
  const auto rings = rings_around(topology, request.controller_node);
  if (rings.empty()) return plan;
  LoadTable counted = load;
  // More than one round only with more queues than reactors: then, and only then, a CPU gets several.
  while (plan.queues.size() < request.queues) {
    for (const auto& ring : rings) {
      for (const unsigned cpu : take_from(ring, counted, request.queues - plan.queues.size(), request.controller_index)) {
        plan.queues.push_back({cpu, false});
        counted.add(cpu);
      }
    }
  }
  return plan;
}

std::optional<QueueChoice> queue_for_cpu(const Topology& topology, const ControllerPlan& plan, unsigned cpu) {
  const auto own = std::find_if(plan.queues.begin(), plan.queues.end(), [&](const PlannedQueue& queue) { return queue.home == cpu; });
  if (own != plan.queues.end()) return QueueChoice{static_cast<std::size_t>(own - plan.queues.begin()), QueueChoice::Kind::own};
  if (const auto unused = nearest(topology, plan, cpu, false)) return QueueChoice{*unused, QueueChoice::Kind::taken};
  if (const auto used = nearest(topology, plan, cpu, true)) return QueueChoice{*used, QueueChoice::Kind::shared};
  return std::nullopt;
}

void apply_choice(ControllerPlan& plan, LoadTable& load, const QueueChoice& choice, unsigned cpu) {
  CATNAP_CHECK(choice.queue < plan.queues.size());
  PlannedQueue& queue = plan.queues[choice.queue];
  if (choice.kind == QueueChoice::Kind::shared) return;
  if (choice.kind == QueueChoice::Kind::taken) {
    CATNAP_CHECK(!queue.created);
    load.remove(queue.home);
    load.add(cpu);
    queue.home = cpu;
  }
  queue.created = true;
}

// --- target ---

std::optional<std::size_t> place_connection(const Topology& topology, std::span<const GroupLoad> groups, std::optional<unsigned> preferred_cpu,
                                            std::size_t rotation) {
  const auto preferred_node = preferred_cpu ? topology.node_of(*preferred_cpu) : std::nullopt;
  // 0: on the preferred CPU; else how far its node is, and what is not known is farthest.
  const auto farness = [&](const GroupLoad& group) -> unsigned {
    constexpr unsigned unknown = std::numeric_limits<unsigned>::max();
    if (!preferred_cpu) return 0;
    if (!group.cpu) return unknown;
    if (*group.cpu == *preferred_cpu) return 0;
    const auto node = topology.node_of(*group.cpu);
    return node && preferred_node ? topology.distance(*preferred_node, *node) : unknown;
  };
  std::optional<std::size_t> best;
  std::tuple<std::uint32_t, unsigned> best_key;
  for (std::size_t step = 0; step < groups.size(); ++step) {
    const std::size_t index = (rotation + step) % groups.size();
    const std::tuple key(groups[index].queues, farness(groups[index]));
    if (best && best_key <= key) continue;
    best = index;
    best_key = key;
  }
  return best;
}

}  // namespace catnap
