// Reading the machine's topology. See placement.h.
// Owner: none; called at start, as it reads a few small files. Left out: CPUs and nodes that come and go while the process runs.
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "reactor/placement.h"

namespace catnap {
namespace {

namespace fs = std::filesystem;

Result<std::string> read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!file || (!std::getline(file, line) && !file.eof())) return fail(EIO, fmt::format("cannot read {}", path));
  return line;
}

// Numbers of the folders node0, node1, ... Empty: the kernel has no NUMA.
std::vector<unsigned> node_numbers(const std::string& folder) {
  std::vector<unsigned> numbers;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    unsigned number = 0;
    const char* last = name.data() + name.size();
    if (!name.starts_with("node")) continue;
    const auto [stop, bad] = std::from_chars(name.data() + 4, last, number);
    if (bad == std::errc{} && stop == last && name.size() > 4) numbers.push_back(number);
  }
  return numbers;
}

// CPU -> node. A node of memory alone has an empty list.
Result<std::map<unsigned, unsigned>> read_nodes(const std::string& folder, const std::vector<unsigned>& nodes) {
  std::map<unsigned, unsigned> node_of;
  for (const unsigned node : nodes) {
    const std::string path = fmt::format("{}/node{}/cpulist", folder, node);
    const auto list = read_line(path);
    if (!list) return std::unexpected(list.error());
    if (list->empty()) continue;
    const auto cpus = CpuMask::parse("[" + *list + "]");
    if (!cpus) return fail(EIO, fmt::format("{}: {}", path, cpus.error().message));
    for (const unsigned cpu : cpus->cpus()) node_of[cpu] = node;
  }
  return node_of;
}

std::vector<unsigned> ascending(std::vector<unsigned> numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// Line i of the matrix is in node i's folder; its columns are the online nodes, ascending.
Result<Topology::Distances> read_distances(const std::string& folder, const std::vector<unsigned>& nodes) {
  Topology::Distances distances;
  for (const unsigned from : nodes) {
    const std::string path = fmt::format("{}/node{}/distance", folder, from);
    const auto line = read_line(path);
    if (!line) return std::unexpected(line.error());
    std::size_t column = 0;
    const char* at = line->data();
    const char* const end = at + line->size();
    while (at != end && column < nodes.size()) {
      unsigned value = 0;
      const auto [stop, bad] = std::from_chars(at, end, value);
      if (bad != std::errc{}) break;
      distances[{from, nodes[column++]}] = value;
      at = stop;
      while (at != end && *at == ' ') ++at;
    }
    if (column != nodes.size() || at != end)
      return fail(EIO, fmt::format("{}: '{}' is not a distance for each of {} nodes", path, *line, nodes.size()));
  }
  return distances;
}

}  // namespace

Result<Topology> read_topology(const CpuMask& reactors, const std::string& root) {
  const std::string folder = root + "/node";
  const auto nodes = ascending(node_numbers(folder));
  const auto node_of = read_nodes(folder, nodes);
  if (!node_of) return std::unexpected(node_of.error());
  auto distances = read_distances(folder, nodes);
  if (!distances) return std::unexpected(distances.error());
  std::vector<Topology::Cpu> cpus;
  const std::vector<unsigned> allowed = CpuMask::of_process().cpus();
  for (const unsigned cpu : allowed) {
    const auto found = node_of->find(cpu);
    // In a container that hides /sys a CPU may have no node: all such are taken to be together.
    cpus.push_back({cpu, found == node_of->end() ? 0 : found->second, reactors.has(cpu)});
  }
  return Topology(std::move(cpus), std::move(*distances));
}

}  // namespace catnap
