// Connections that do not leave this host: both ends have the same address, or a loopback one.
// Owner: none (calls on a connected socket). Left out: containers of one host with addresses of their own, which look like any other network.
#pragma once

#include <sys/socket.h>

namespace catnap::tcp {

// Whether a connection from `local` to `peer` stays within the host.
bool is_same_host(const sockaddr_storage& local, const sockaddr_storage& peer);

// Gives a connected socket that stays within the host Reno, which every kernel has and everybody may choose, in place of the system's congestion
// control: there is no queue between the two to be careful about. BBR, a common choice for real networks, paces: a timer for each 64 KiB, and less
// than a copy could move (docs/performance.md). Other sockets are left alone, and one that cannot be asked or refuses works as it is.
void spare_pacing(int fd);

}  // namespace catnap::tcp
