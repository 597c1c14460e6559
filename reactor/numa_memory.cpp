// mbind and get_mempolicy of libnuma's low level (numa(7)). See numa_memory.h.
#include "reactor/numa_memory.h"

#include <fmt/core.h>
#include <numaif.h>

#include <array>
#include <cerrno>
#include <climits>

#include "reactor/base/error.h"
#include "reactor/base/log.h"

namespace catnap {
namespace {

constexpr unsigned bits_per_word = sizeof(unsigned long) * CHAR_BIT;
// The kernel's own bound (CONFIG_NODES_SHIFT is 10 at most).
constexpr unsigned max_nodes = 1024;
using NodeMask = std::array<unsigned long, max_nodes / bits_per_word>;

}  // namespace

void prefer_node(void* memory, std::size_t size_bytes, unsigned node) {
  if (node >= max_nodes) return;
  NodeMask mask{};
  mask[node / bits_per_word] = 1UL << (node % bits_per_word);
  if (mbind(memory, size_bytes, MPOL_PREFERRED, mask.data(), max_nodes, 0) == 0) return;
  static LogOnce refused;
  if (refused.first())
    log_notice("buffers cannot be asked for from NUMA node {}: {}; the kernel takes the node of the CPU that uses them first", node,
               errno_text(errno));
}

std::optional<unsigned> preferred_node(void* memory) {
  NodeMask mask{};
  int policy = MPOL_DEFAULT;
  if (get_mempolicy(&policy, mask.data(), max_nodes, memory, MPOL_F_ADDR) != 0 || policy != MPOL_PREFERRED) return std::nullopt;
  for (unsigned node = 0; node < max_nodes; ++node) {
    if ((mask[node / bits_per_word] >> (node % bits_per_word) & 1) != 0) return node;
  }
  return std::nullopt;
}

}  // namespace catnap
