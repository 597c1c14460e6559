// Data buffers of one reactor, borrowed only while bytes are there; grows to a cap, and at the cap requests wait in one line, first in, first out.
// Owner: the reactor; every member but those marked "any OS thread" is called on its OS thread. A buffer may be freed anywhere: when its thread has
// moved to another reactor meanwhile, it returns through a queue without a lock, and its owner takes it back in the next turn that it has.
// Left out: metadata buffers, huge pages.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace catnap {

class BufferPool;
class Thread;

// Page-aligned memory of at least the size asked for. Move-only; returns itself to its pool when destroyed.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() { reset(); }

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_bytes_; }  // of the class, at least what was asked for
  explicit operator bool() const { return data_ != nullptr; }
  inline void reset();
  // Somebody waits in the line of the pool that it came from. Any OS thread.
  inline bool wanted() const;

 private:
  friend class BufferPool;
  std::byte* data_ = nullptr;
  std::uint32_t size_bytes_ = 0;
  std::uint8_t size_class_ = 0;
  BufferPool* pool_ = nullptr;
};

// A place in the queue for a buffer, of the thread that took it: it moves along to the line of another reactor's pool, at its end. Destroying it
// gives the place up.
class BufferWaiter {
 public:
  // Called with the buffer as that thread (Thread::current()), within the put() (or turn) that freed it.
  explicit BufferWaiter(std::function<void(Buffer)> ready) : ready_(std::move(ready)) {}
  ~BufferWaiter();
  BufferWaiter(const BufferWaiter&) = delete;
  BufferWaiter& operator=(const BufferWaiter&) = delete;
  bool waiting() const { return pool_ != nullptr; }

 private:
  friend class BufferPool;
  std::function<void(Buffer)> ready_;
  BufferPool* pool_ = nullptr;
  Thread* thread_ = nullptr;
  BufferWaiter* previous_ = nullptr;
  BufferWaiter* next_ = nullptr;
  std::uint8_t size_class_ = 0;
};

class BufferPool {
 public:
  // Size classes in bytes; the largest is the largest I/O (MDTS) there can be.
  static constexpr std::array<std::uint32_t, 7> class_sizes_bytes = {4096, 8192, 16384, 32768, 131072, 524288, 1048576};
  static constexpr std::uint32_t max_size_bytes = class_sizes_bytes.back();
  static constexpr std::size_t default_keep_bytes = std::size_t{8} << 20;

  // `cap_bytes` bounds all memory held; free buffers kept for reuse count. At least one buffer of the largest class is always granted.
  // `keep_bytes`: free memory kept when idle; what is above goes back to the system. `node`: NUMA node that the memory should be of.
  explicit BufferPool(std::size_t cap_bytes, std::size_t keep_bytes = default_keep_bytes, std::optional<unsigned> node = std::nullopt);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // From now on only an OS thread that has entered this pool (Scope) is its owner; elsewhere buffers go through the queue. `wake`: brings about a
  // turn of the owner; any OS thread.
  void belong_to(std::function<void()> wake) { wake_ = std::move(wake); }
  // Frees the pool: at once, or with the last of its buffers that others still have. No OS thread owns it any more.
  static void retire(std::unique_ptr<BufferPool> pool);

  // The calling OS thread is the owner's.
  class Scope {
   public:
    explicit Scope(BufferPool& pool) : previous_(std::exchange(current_, &pool)) {}
    ~Scope() { current_ = previous_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    BufferPool* previous_;
  };

  // size_bytes in 1..max_size_bytes. Empty when the cap is reached or somebody waits already (no overtaking: a large
  // request is not starved by small ones).
  Buffer try_get(std::size_t size_bytes);
  // Joins the line; call only after try_get() came back empty.
  void wait(BufferWaiter& waiter, std::size_t size_bytes);

  // Takes a thread's places out of the line, in their order; they are nobody's until another pool lets them join. serve_line() afterwards, as a
  // large request may have held up the others.
  std::vector<BufferWaiter*> take_line(const Thread& thread);
  void serve_line() { serve_waiters(); }
  void join_line(const std::vector<BufferWaiter*>& waiters);

  // Gives free memory above keep_bytes back to the system. The reactor calls it when it has been idle for a while.
  void trim() { release_free(keep_bytes_); }
  bool worth_trimming() const { return free_bytes_ > keep_bytes_; }

  // Buffers have come back from other reactors. Any OS thread.
  bool has_returned() const { return returned_.load(std::memory_order_relaxed) != nullptr; }
  // And the owner has to see to it now: somebody waits, or it is much. Then it must not go to sleep.
  bool return_is_urgent() const;
  void take_back_returned();

  struct Stats {
    std::size_t held_bytes = 0, free_bytes = 0, waiting = 0;
    std::uint64_t gets = 0, waits = 0;
  };
  Stats stats() const;
  std::size_t cap_bytes() const { return cap_bytes_; }
  // Buffers that are out stay out; serve_line() lets those go on that wait and now may.
  void set_cap_bytes(std::size_t cap_bytes) {
    cap_bytes_ = cap_bytes;
    serve_line();
  }
  // Somebody waits in the line. Any OS thread.
  bool anyone_waits() const { return anyone_waits_.load(std::memory_order_relaxed); }

 private:
  friend class Buffer;
  friend class BufferWaiter;
  // What a buffer on its way back holds in its first bytes.
  struct Returned;

  static std::uint8_t class_of(std::size_t size_bytes);
  Buffer take(std::uint8_t size_class);
  bool make_room(std::size_t size_bytes);
  std::byte* allocate(std::size_t size_bytes) const;
  void release_free(std::size_t down_to_bytes);
  void give_back(std::byte* data, std::uint8_t size_class) {
    if (current_ == this || !wake_) {
      put(data, size_class);
    } else {
      put_from_elsewhere(data, size_class);
    }
  }
  void put(std::byte* data, std::uint8_t size_class);
  void put_from_elsewhere(std::byte* data, std::uint8_t size_class);
  void collect_returned();
  bool may_end() const { return held_bytes_ == free_bytes_; }
  void serve_waiters();
  void append(BufferWaiter& waiter);
  void leave(BufferWaiter& waiter);
  void set_waiting(std::size_t waiting);

  inline static constinit thread_local BufferPool* current_ = nullptr;

  std::size_t cap_bytes_;
  std::size_t keep_bytes_;
  std::optional<unsigned> node_;
  std::function<void()> wake_;
  std::size_t held_bytes_ = 0;
  std::size_t free_bytes_ = 0;
  std::size_t waiting_ = 0;
  std::uint64_t gets_ = 0, waits_ = 0;
  bool serving_ = false;
  std::array<std::vector<std::byte*>, class_sizes_bytes.size()> free_;
  BufferWaiter* first_ = nullptr;
  BufferWaiter* last_ = nullptr;

  // Written by any OS thread. Sequentially consistent where one side says "I wait" and then looks, and the other gives and then looks who waits.
  std::atomic<Returned*> returned_{nullptr};  // a stack
  std::atomic<std::size_t> returned_bytes_{0};
  std::atomic<bool> anyone_waits_{false};
  std::atomic<std::uint32_t> visitors_{0};  // OS threads within put_from_elsewhere()
  std::atomic<bool> retired_{false};
};

inline void Buffer::reset() {
  if (data_ != nullptr) pool_->give_back(std::exchange(data_, nullptr), size_class_);
}

inline bool Buffer::wanted() const { return data_ != nullptr && pool_->anyone_waits(); }

}  // namespace catnap
