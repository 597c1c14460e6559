// Data buffers of one reactor, borrowed only while bytes are there; grows to a cap, and at the cap requests wait in one line, first in, first out.
// Owner: the reactor; every member is called on its OS thread. Buffers are freed there too: none crosses reactors yet.
// Left out: metadata buffers, huge pages, NUMA binding (placement adds it).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace catnap {

class BufferPool;

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
  void reset();

 private:
  friend class BufferPool;
  std::byte* data_ = nullptr;
  std::uint32_t size_bytes_ = 0;
  std::uint8_t size_class_ = 0;
  BufferPool* pool_ = nullptr;
};

// A place in the queue for a buffer. Destroying it gives the place up.
class BufferWaiter {
 public:
  // Called with the buffer, on the pool's OS thread, within the put() (or cap change) that freed it.
  explicit BufferWaiter(std::function<void(Buffer)> ready) : ready_(std::move(ready)) {}
  ~BufferWaiter();
  BufferWaiter(const BufferWaiter&) = delete;
  BufferWaiter& operator=(const BufferWaiter&) = delete;
  bool waiting() const { return pool_ != nullptr; }

 private:
  friend class BufferPool;
  std::function<void(Buffer)> ready_;
  BufferPool* pool_ = nullptr;
  BufferWaiter* previous_ = nullptr;
  BufferWaiter* next_ = nullptr;
  std::uint8_t size_class_ = 0;
};

class BufferPool {
 public:
  // Size classes in bytes; the largest is the largest I/O (MDTS) there can be.
  static constexpr std::array<std::uint32_t, 7> class_sizes_bytes = {4096, 8192, 16384, 32768, 131072, 524288, 1048576};
  static constexpr std::uint32_t max_size_bytes = class_sizes_bytes.back();

  // `cap_bytes` bounds all memory held; free buffers kept for reuse count. At least one buffer of the largest class is always granted.
  // `keep_bytes`: free memory kept when idle; what is above goes back to the system.
  explicit BufferPool(std::size_t cap_bytes, std::size_t keep_bytes = std::size_t{8} << 20);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // size_bytes in 1..max_size_bytes. Empty when the cap is reached or somebody waits already (no overtaking: a large
  // request is not starved by small ones).
  Buffer try_get(std::size_t size_bytes);
  // Joins the line; call only after try_get() came back empty.
  void wait(BufferWaiter& waiter, std::size_t size_bytes);

  // Gives free memory above keep_bytes back to the system. The reactor calls it when it has been idle for a while.
  void trim() { release_free(keep_bytes_); }
  bool worth_trimming() const { return free_bytes_ > keep_bytes_; }

  struct Stats {
    std::size_t held_bytes = 0, free_bytes = 0, waiting = 0;
    std::uint64_t gets = 0, waits = 0;
  };
  Stats stats() const;
  std::size_t cap_bytes() const { return cap_bytes_; }

 private:
  friend class Buffer;
  friend class BufferWaiter;

  static std::uint8_t class_of(std::size_t size_bytes);
  Buffer take(std::uint8_t size_class);
  bool make_room(std::size_t size_bytes);
  void release_free(std::size_t down_to_bytes);
  void put(std::byte* data, std::uint8_t size_class);
  void serve_waiters();
  void leave(BufferWaiter& waiter);

  std::size_t cap_bytes_;
  std::size_t keep_bytes_;
  std::size_t held_bytes_ = 0;
  std::size_t free_bytes_ = 0;
  std::size_t waiting_ = 0;
  std::uint64_t gets_ = 0, waits_ = 0;
  bool serving_ = false;
  std::array<std::vector<std::byte*>, class_sizes_bytes.size()> free_;
  BufferWaiter* first_ = nullptr;
  BufferWaiter* last_ = nullptr;
};

}  // namespace catnap
