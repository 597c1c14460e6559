// Size-classed page-aligned memory with a cap and one line of waiters. See buffer_pool.h.
#include "reactor/buffer_pool.h"

#include <sched.h>
#include <sys/mman.h>

#include <mutex>
#include <new>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/numa_memory.h"
#include "reactor/reactor.h"
#include "reactor/thread.h"

namespace catnap {
namespace {

// Only for pools whose reactor is gone.
std::mutex retired_pools_mutex;

}  // namespace

struct BufferPool::Returned {
  Returned* next;
  std::uint8_t size_class;
};

std::byte* BufferPool::allocate(std::size_t size_bytes) const {
  void* memory = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  static_cast<void>(madvise(memory, size_bytes, MADV_DONTDUMP));  // data of hosts is nobody's who looks into a crash
  if (node_) prefer_node(memory, size_bytes, *node_);
  return static_cast<std::byte*>(memory);
}

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

BufferWaiter::~BufferWaiter() {
  if (pool_ != nullptr) pool_->leave(*this);
}

BufferPool::BufferPool(std::size_t cap_bytes, std::size_t keep_bytes, std::optional<unsigned> node)
    : cap_bytes_(cap_bytes), keep_bytes_(keep_bytes), node_(node) {}

BufferPool::~BufferPool() {
  CATNAP_CHECK(first_ == nullptr);
  collect_returned();
  release_free(0);
}

void BufferPool::retire(std::unique_ptr<BufferPool> pool) {
  pool->visitors_.fetch_add(1, std::memory_order_seq_cst);
  pool->retired_.store(true, std::memory_order_seq_cst);
  // Those who came before that leave without waiting for anything. Those who come later wait for the lock at most, and only count down.
  while (pool->visitors_.load(std::memory_order_seq_cst) != 1) sched_yield();
  const std::lock_guard lock(retired_pools_mutex);
  pool->collect_returned();
  const bool may_end = pool->may_end();
  // Else whoever comes with the last buffer frees it.
  if (pool->visitors_.fetch_sub(1, std::memory_order_seq_cst) != 1 || !may_end) static_cast<void>(pool.release());
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
    if (has_returned()) {
      collect_returned();
      return take(size_class);
    }
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
  waiter.size_class_ = class_of(size_bytes);
  waiter.thread_ = Thread::current();
  append(waiter);
  ++waits_;
}

void BufferPool::append(BufferWaiter& waiter) {
  waiter.pool_ = this;
  waiter.previous_ = last_;
  waiter.next_ = nullptr;
  (last_ != nullptr ? last_->next_ : first_) = &waiter;
  last_ = &waiter;
  set_waiting(waiting_ + 1);
}

void BufferPool::set_waiting(std::size_t waiting) {
  if ((waiting > 0) != (waiting_ > 0)) anyone_waits_.store(waiting > 0, std::memory_order_seq_cst);
  waiting_ = waiting;
}

void BufferPool::leave(BufferWaiter& waiter) {
  (waiter.previous_ != nullptr ? waiter.previous_->next_ : first_) = waiter.next_;
  (waiter.next_ != nullptr ? waiter.next_->previous_ : last_) = waiter.previous_;
  waiter.pool_ = nullptr;
  set_waiting(waiting_ - 1);
}

std::vector<BufferWaiter*> BufferPool::take_line(const Thread& thread) {
  std::vector<BufferWaiter*> taken;
  for (BufferWaiter* waiter = first_; waiter != nullptr;) {
    BufferWaiter& one = *std::exchange(waiter, waiter->next_);
    if (one.thread_ != &thread) continue;
    leave(one);
    taken.push_back(&one);
  }
  return taken;
}

void BufferPool::join_line(const std::vector<BufferWaiter*>& waiters) {
  for (BufferWaiter* waiter : waiters) append(*waiter);
  if (!waiters.empty()) serve_waiters();
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
    if (waiter.thread_ == nullptr || waiter.thread_ == Thread::current()) {
      waiter.ready_(std::move(buffer));
    } else {
      const Reactor::RunAs turn_of(*waiter.thread_);
      waiter.ready_(std::move(buffer));
    }
  }
  serving_ = false;
}

// --- buffers freed on other reactors ---

void BufferPool::put_from_elsewhere(std::byte* data, std::uint8_t size_class) {
  visitors_.fetch_add(1, std::memory_order_seq_cst);
  const std::size_t size_bytes = class_sizes_bytes[size_class];
  const std::size_t before_bytes = returned_bytes_.fetch_add(size_bytes, std::memory_order_seq_cst);
  auto* node = new (data) Returned{returned_.load(std::memory_order_relaxed), size_class};
  while (!returned_.compare_exchange_weak(node->next, node, std::memory_order_seq_cst, std::memory_order_relaxed)) {
  }
  const bool much = before_bytes <= keep_bytes_ && before_bytes + size_bytes > keep_bytes_;
  if (!retired_.load(std::memory_order_seq_cst)) {
    if (much || anyone_waits_.load(std::memory_order_seq_cst)) wake_();
    visitors_.fetch_sub(1, std::memory_order_seq_cst);  // from here on the pool may be gone
    return;
  }
  const std::lock_guard lock(retired_pools_mutex);
  collect_returned();
  if (visitors_.fetch_sub(1, std::memory_order_seq_cst) == 1 && may_end()) delete this;
}

void BufferPool::collect_returned() {
  Returned* node = returned_.exchange(nullptr, std::memory_order_seq_cst);
  while (node != nullptr) {
    const Returned one = *node;
    free_[one.size_class].push_back(reinterpret_cast<std::byte*>(node));
    free_bytes_ += class_sizes_bytes[one.size_class];
    returned_bytes_.fetch_sub(class_sizes_bytes[one.size_class], std::memory_order_seq_cst);
    node = one.next;
  }
}

bool BufferPool::return_is_urgent() const {
  return returned_.load(std::memory_order_seq_cst) != nullptr && (waiting_ > 0 || returned_bytes_.load(std::memory_order_seq_cst) > keep_bytes_);
}

void BufferPool::take_back_returned() {
  collect_returned();
  serve_waiters();
}

BufferPool::Stats BufferPool::stats() const { return {held_bytes_, free_bytes_, waiting_, gets_, waits_}; }

}  // namespace catnap
