// Described machines, and what the tests look at in them.
// Owner: the test. Left out: distances other than the kernel's usual ones.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include "reactor/placement.h"

namespace catnap::test {

// `nodes` nodes of `cpus_per_node` CPUs each, numbered through, all with reactors.
inline Topology machine(unsigned nodes, unsigned cpus_per_node) {
  std::vector<Topology::Cpu> cpus;
  for (unsigned cpu = 0; cpu < nodes * cpus_per_node; ++cpu) cpus.push_back({cpu, cpu / cpus_per_node, true});
  return Topology(std::move(cpus));
}

struct Spread {
  std::uint32_t fewest = 0;
  std::uint32_t most = 0;
  std::uint32_t difference() const { return most - fewest; }
};

inline Spread spread_of(const std::vector<std::uint32_t>& counts) {
  const auto [fewest, most] = std::minmax_element(counts.begin(), counts.end());
  return {*fewest, *most};
}

inline Spread spread_on(const Topology& topology, const LoadTable& load, unsigned node) {
  std::vector<std::uint32_t> counts;
  for (const unsigned cpu : topology.reactor_cpus(node)) counts.push_back(load.on(cpu));
  return spread_of(counts);
}

// CATNAP_SEED repeats a failed run; the seed is part of every failure message.
inline std::uint32_t seed() {
  const char* given = std::getenv("CATNAP_SEED");
  return given == nullptr ? 20261121U : static_cast<std::uint32_t>(std::strtoul(given, nullptr, 0));
}

// In [0, below).
inline std::uint32_t draw(std::mt19937& random, std::size_t below) { return static_cast<std::uint32_t>(random() % below); }

}  // namespace catnap::test
