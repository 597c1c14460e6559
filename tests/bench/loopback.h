// What bare servers and their clients do to CPUs and sockets before they are measured. Owner: each process for itself. Left out: connecting.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

namespace catnap::perf {

// Room for what any depth of the benches has in flight.
inline constexpr int socket_buffer_bytes = 4 << 20;

// The calling OS thread runs on `cpu` alone; false: errno says why not.
inline bool pin_to(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

// No waiting for fuller segments, and large buffers on both sides.
inline void tune_socket(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &socket_buffer_bytes, sizeof socket_buffer_bytes);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &socket_buffer_bytes, sizeof socket_buffer_bytes);
}

}  // namespace catnap::perf
