// Whole TLS records off a non-blocking socket, and never a byte beyond: what follows a handshake stays in the socket for whoever takes it over, which
// may be the kernel.
// Owner: whoever holds it. Left out: what records say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "transport/tls/digest.h"

namespace catnap::tls {

class RecordReader {
 public:
  enum class Got : std::uint8_t {
    record,  // one more is whole; take() has it
    more,    // the socket has no more now
    closed,  // the peer hung up (or the socket failed: errno)
    no_tls,  // the first bytes are no record of TLS 1.x; a first byte of a connection that is none stays in the socket
  };
  Got read(int fd);
  // The record that is whole.
  std::vector<std::byte> take();
  // The first bytes of what `no_tls` means, for the log.
  Bytes bytes() const { return Bytes(bytes_).first(have_); }

 private:
  bool first_is_no_tls(int fd);

  std::vector<std::byte> bytes_;
  std::size_t have_ = 0;
  bool begun_ = false;  // the first byte was looked at
};

}  // namespace catnap::tls
