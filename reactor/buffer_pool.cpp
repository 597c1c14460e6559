// Size-classed page-aligned memory with a cap and one line of waiters. See buffer_pool.h.
#include "reactor/buffer_pool.h"

#include <sys/mman.h>

#include <new>
#include <utility>

#include "reactor/base/check.h"

namespace catnap {
namespace {

std::byte* allocate(std::size_t size_bytes) {
  void* memory = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

}  // namespace

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_bytes_(other.size_bytes_), size_class_(other.size_class_), pool_(other.pool_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  reset();
  data_ = std::exchange(other.data_, nullptr);
  size_bytes_ = other.size_bytes_;
  size_class_ = other.size_class_;
  pool_ = other.pool_;
  return *this;
}

void Buffer::reset() {
  if (data_ != nullptr) pool_->put(std::exchange(data_, nullptr), size_class_);
}

BufferWaiter::~BufferWaiter() {
  if (pool_ != nullptr) pool_->leave(*this);
}

BufferPool::BufferPool(std::size_t cap_bytes, std::size_t keep_bytes) : cap_bytes_(cap_bytes), keep_bytes_(keep_bytes) {}

BufferPool::~BufferPool() {
  CATNAP_CHECK(first_ == nullptr);
  release_free(0);
}

std::uint8_t BufferPool::class_of(std::size_t size_bytes) {
  CATNAP_CHECK(size_bytes > 0 && size_bytes <= max_size_bytes);
  std::uint8_t size_class = 0;
  while (class_sizes_bytes[size_class] < size_bytes) ++size_class;
  return size_class;
}

void BufferPool::release_free(std::size_t down_to_bytes) {
  for (std::size_t i = class_sizes_bytes.size(); i-- > 0;) {
    auto& list = free_[i];
    while (!list.empty() && free_bytes_ > down_to_bytes) {
      munmap(list.back(), class_sizes_bytes[i]);
      list.pop_back();
      free_bytes_ -= class_sizes_bytes[i];
      held_bytes_ -= class_sizes_bytes[i];
    }
  }
}

// Makes held memory small enough for size_bytes more. With nothing lent out there is always room: the cap never stops the only I/O.
bool BufferPool::make_room(std::size_t size_bytes) {
  if (held_bytes_ + size_bytes <= cap_bytes_) return true;
  const std::size_t lent = held_bytes_ - free_bytes_;
  if (lent != 0 && lent + size_bytes > cap_bytes_) return false;
  release_free(cap_bytes_ > lent + size_bytes ? cap_bytes_ - lent - size_bytes : 0);
  return true;
}

Buffer BufferPool::take(std::uint8_t size_class) {
  Buffer buffer;
  const std::uint32_t size = class_sizes_bytes[size_class];
  auto& list = free_[size_class];
  if (!list.empty()) {
    buffer.data_ = list.back();
    list.pop_back();
    free_bytes_ -= size;
  } else {
    if (!make_room(size)) return buffer;
    buffer.data_ = allocate(size);
    if (buffer.data_ == nullptr) return buffer;  // the system is out of memory: wait as at the cap
    held_bytes_ += size;
  }
  buffer.size_bytes_ = size;
  buffer.size_class_ = size_class;
  buffer.pool_ = this;
  ++gets_;
  return buffer;
}

Buffer BufferPool::try_get(std::size_t size_bytes) {
  const std::uint8_t size_class = class_of(size_bytes);
  if (waiting_ > 0) return {};
  return take(size_class);
}

void BufferPool::wait(BufferWaiter& waiter, std::size_t size_bytes) {
  CATNAP_CHECK(waiter.pool_ == nullptr);
  waiter.pool_ = this;
  waiter.size_class_ = class_of(size_bytes);
  waiter.previous_ = last_;
  waiter.next_ = nullptr;
  (last_ != nullptr ? last_->next_ : first_) = &waiter;
  last_ = &waiter;
  ++waiting_;
  ++waits_;
}

void BufferPool::leave(BufferWaiter& waiter) {
  (waiter.previous_ != nullptr ? waiter.previous_->next_ : first_) = waiter.next_;
  (waiter.next_ != nullptr ? waiter.next_->previous_ : last_) = waiter.previous_;
  waiter.pool_ = nullptr;
  --waiting_;
}

void BufferPool::put(std::byte* data, std::uint8_t size_class) {
  free_[size_class].push_back(data);
  free_bytes_ += class_sizes_bytes[size_class];
  serve_waiters();
}

void BufferPool::serve_waiters() {
  if (serving_) return;  // a served waiter that puts a buffer back at once: the loop below goes on
  serving_ = true;
  while (first_ != nullptr) {
    Buffer buffer = take(first_->size_class_);
    if (!buffer) break;
    BufferWaiter& waiter = *first_;
    leave(waiter);
    waiter.ready_(std::move(buffer));
  }
  serving_ = false;
}

BufferPool::Stats BufferPool::stats() const { return {held_bytes_, free_bytes_, waiting_, gets_, waits_}; }

}  // namespace catnap
