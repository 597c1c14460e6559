// The I/Os that a stacked channel sends to the channel below it: one per I/O of its own (or per part of one), from a pool that only grows.
// Owner: the channel's thread. Left out: what a module does with them (virtual_bdev.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bdev/bdev.h"

namespace catnap::bdev {

// One I/O to the base. `parent` is whose; the two words are the module's.
struct ChildIo : BdevIo {
  BdevIo* parent = nullptr;
  ChildIo* next_free = nullptr;
  // Two-way list that a module may keep its children in (delayed, pending).
  ChildIo* list_previous = nullptr;
  ChildIo* list_next = nullptr;
  std::uint64_t word = 0;
  void* pointer = nullptr;
};

// First in, first out unless inserted elsewhere; a child is in one list at most.
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

class ChildPool {
 public:
  // Memory is taken for this many at once, when there are more in flight than ever before; after that nothing is allocated.
  static constexpr std::size_t chunk_children = 32;

  ChildIo& take() {
    if (free_ == nullptr) grow();
    ChildIo& child = *free_;
    free_ = child.next_free;
    return child;
  }
  void give_back(ChildIo& child) {
    child.parent = nullptr;
    child.next_free = free_;
    free_ = &child;
  }
  // A child of that parent which is in use, or null. Looks at all: for aborts, not for each I/O.
  ChildIo* find(const BdevIo& parent) {
    for (const auto& chunk : chunks_) {
      for (std::size_t i = 0; i < chunk_children; ++i) {
        if (chunk[i].parent == &parent) return &chunk[i];
      }
    }
    return nullptr;
  }

 private:
  void grow() {
    auto& chunk = chunks_.emplace_back(std::make_unique<ChildIo[]>(chunk_children));
    for (std::size_t i = chunk_children; i > 0; --i) give_back(chunk[i - 1]);
  }

  std::vector<std::unique_ptr<ChildIo[]>> chunks_;
  ChildIo* free_ = nullptr;
};

}  // namespace catnap::bdev
