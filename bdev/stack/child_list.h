// A two-way list of children that a stacked channel keeps for a while (delayed, held back).
// Owner: the channel's thread. Left out: memory (the channel's ChildPool has it).
#pragma once

#include "bdev/stacked.h"

namespace catnap::bdev {

// A child is in one list at most.
class ChildList {
 public:
  bool empty() const { return first_ == nullptr; }
  ChildIo* first() const { return first_; }
  ChildIo* last() const { return last_; }
  void push_back(ChildIo& child) { insert_after(last_, child); }
  // `before` null: at the front.
  void insert_after(ChildIo* before, ChildIo& child) {
    child.list_previous = before;
    child.list_next = before != nullptr ? before->list_next : first_;
    (before != nullptr ? before->list_next : first_) = &child;
    (child.list_next != nullptr ? child.list_next->list_previous : last_) = &child;
  }
  void remove(ChildIo& child) {
    (child.list_previous != nullptr ? child.list_previous->list_next : first_) = child.list_next;
    (child.list_next != nullptr ? child.list_next->list_previous : last_) = child.list_previous;
    child.list_previous = child.list_next = nullptr;
  }

 private:
  ChildIo* first_ = nullptr;
  ChildIo* last_ = nullptr;
};

}  // namespace catnap::bdev
