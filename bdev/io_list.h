// A queue of I/Os, linked through BdevIo::next: no memory of its own, first in, first out.
// Owner: the channel's thread. Left out: taking one out of the middle in constant time (aborts are rare).
#pragma once

#include "bdev/bdev.h"

namespace catnap::bdev {

class IoList {
 public:
  bool empty() const { return first_ == nullptr; }
  BdevIo* front() const { return first_; }
  void push_back(BdevIo& io) {
    io.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &io;
    last_ = &io;
  }
  void push_front(BdevIo& io) {
    io.next = first_;
    first_ = &io;
    if (last_ == nullptr) last_ = &io;
  }
  BdevIo* pop_front() {
    BdevIo* io = first_;
    first_ = io->next;
    if (first_ == nullptr) last_ = nullptr;
    io->next = nullptr;
    return io;
  }
  // False: it is not in here.
  bool remove(const BdevIo& io) {
    BdevIo* before = nullptr;
    for (BdevIo* at = first_; at != nullptr; before = at, at = at->next) {
      if (at != &io) continue;
      (before != nullptr ? before->next : first_) = at->next;
      if (last_ == at) last_ = before;
      at->next = nullptr;
      return true;
    }
    return false;
  }
  // Everything, leaving this empty.
  IoList take() {
    IoList all = *this;
    first_ = last_ = nullptr;
    return all;
  }

 private:
  BdevIo* first_ = nullptr;
  BdevIo* last_ = nullptr;
};

}  // namespace catnap::bdev
