// Superblocks and bitmap pages on their way to a device: some pieces at once, then a flush.
// Owner: the core's thread. Left out: what the bytes mean (superblock.h, bitmap_pages.h), where they go and in which order (raid1_core.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "bdev/raid/raid1_ports.h"

namespace catnap::bdev::raid1 {

// Aligned as O_DIRECT wants it.
class MetaBuffer {
 public:
  explicit MetaBuffer(std::size_t size_bytes);
  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  std::span<std::byte> bytes() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::size_t size_;
  std::unique_ptr<std::byte, Free> data_;
};

class MetaRunner {
 public:
  using Done = std::function<void(Status)>;
  struct Piece {
    Piece(std::uint64_t at, std::span<std::byte> memory) : offset_blocks(at), bytes(memory) {}
    std::uint64_t offset_blocks;
    std::span<std::byte> bytes;  // whole blocks; must stay until done
  };

  explicit MetaRunner(std::uint32_t block_size);
  ~MetaRunner();
  MetaRunner(const MetaRunner&) = delete;
  MetaRunner& operator=(const MetaRunner&) = delete;

  // What is tried again for a member that nothing can stand in for: one error of a write must not stop the array.
  static constexpr std::uint32_t retries_for_the_last = 3;

  // `done` with the first error (after so many `retries` of all of it), or ok; within the call if the port answers at once. One piece with `durable`
  // is one FUA write; several are written at once and then flushed.
  void write(Port& port, std::vector<Piece> pieces, bool durable, std::uint32_t retries, Done done);
  // The same with bytes of its own, for which it finds memory.
  void write_copy(Port& port, std::uint64_t offset_blocks, std::span<const std::byte> bytes, std::uint32_t retries, Done done);
  void read(Port& port, Piece piece, Done done);
  void flush(Port& port, Done done);
  bool idle() const { return runs_.empty(); }
  void forget();

 private:
  struct Run;
  Run& make(Port& port, Done done);
  void submit(Run& run, std::size_t index, Op op, bool fua);
  void submit_all(Run& run);
  void ended(Run& run);

  std::uint32_t block_size_;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, std::unique_ptr<Run>> runs_;
};

}  // namespace catnap::bdev::raid1
