// A message as the caller gave it, and no more than so many bytes of it: what a replaced sendmsg() or recvmsg() hands on to the real one.
// Owner: the call it lives in. Left out: replacing the calls (pieces_test.cpp, foresee_test.cpp).
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace catnap::tcp {

class LessOf {
 public:
  LessOf(const msghdr& message, std::size_t most_bytes) : less_(message) {
    for (std::size_t i = 0; i < message.msg_iovlen && most_bytes > 0; ++i) {
      const std::size_t length = std::min(message.msg_iov[i].iov_len, most_bytes);
      pieces_.push_back({message.msg_iov[i].iov_base, length});
      most_bytes -= length;
    }
    less_.msg_iov = pieces_.data();
    less_.msg_iovlen = pieces_.size();
  }
  LessOf(const LessOf&) = delete;
  LessOf& operator=(const LessOf&) = delete;

  msghdr* get() { return &less_; }

 private:
  std::vector<iovec> pieces_;
  msghdr less_;
};

}  // namespace catnap::tcp
