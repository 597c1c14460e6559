// Memory of the NUMA node that uses it. Owner: none (functions). Left out: huge pages, moving pages that are there already.
#pragma once

#include <cstddef>
#include <optional>

namespace catnap {

// Pages of this range that are touched from now on come from `node`, or from elsewhere when it has none left. Where the kernel or a container forbids
// to ask (ENOSYS, EPERM), and with a node that is not there, nothing changes: the node of the CPU that touches a page first is taken then, which for
// a pinned reactor is the same one. Said in the log once.
void prefer_node(void* memory, std::size_t size_bytes, unsigned node);

// The node that prefer_node() asked for in this range; none: nothing was asked for, or the kernel does not tell.
std::optional<unsigned> preferred_node(void* memory);

}  // namespace catnap
