// TLS of the Linux kernel (Documentation/networking/tls.rst): it encrypts what is sent and decrypts what is received on a connected socket, once the
// handshake is done elsewhere.
// Owner: none (functions). Left out: devices that do it in hardware (the kernel's own choice), new keys during the connection (the kernel takes them
// from 6.14 on only).
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>

#include "transport/tls/digest.h"

namespace catnap::tls {

// Whether the kernel takes connections over; found out once, with a socket of its own.
bool kernel_has_tls();

// Each false: the kernel does not do it, and nothing has changed.
bool attach_kernel(int fd);
enum class Direction : std::uint8_t { sending, receiving };
// Of a connection on which nothing has been sent, or received, under this traffic secret yet.
bool give_to_kernel(int fd, Direction direction, Hash hash, Bytes traffic_secret);

struct KernelReceived {
  ssize_t bytes = -1;           // as recvmsg's
  bool ends = false;            // close_notify, or the socket's end
  const char* fault = nullptr;  // an alert, or a handshake message that the kernel cannot follow
};
KernelReceived receive_by_kernel(int fd, const iovec* to, std::size_t count);
// close_notify.
void send_close_by_kernel(int fd);

}  // namespace catnap::tls
