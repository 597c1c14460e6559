// The malloc bdev: a disk in memory. Its pages come from a memfd and are taken only as they are written; unmap and write zeroes give whole
// pages back. Everything but a contended write and a large unmap completes within submit(); nothing ever wakes an idle thread.
//
// A block is never seen half written (NVMe AWUN/AWUPF of one block). The disk is cut into stripes of 64 KiB, each with a lock that readers share
// for the length of one copy, or of one send when the bytes are lent, and that a writer holds alone for the length of one copy. A writer that finds
// a stripe taken does not wait on its reactor: it keeps a copy of its data (the caller may reuse the buffer at once, as consumes_inline promises) and
// tries again through the ready list.
//
// Reads are lent: the transport sends from the disk's own pages. Stretches that were never written are lent from a shared area of zeroes, since
// touching a hole of a memfd through its mapping would allocate it.
//
// Owner: a MallocBdev belongs to app_thread, its channels to their threads; the pages are shared under the stripe locks.
// Left out: metadata and protection information (refused by the RPC).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "bdev/bdev.h"
#include "bdev/malloc/bad_blocks.h"
#include "bdev/malloc/malloc_memory.h"

namespace catnap {
class WorkerPool;
}

namespace catnap::bdev {

struct MallocOptions {
  std::string name;
  std::uint32_t block_size = 512;         // bytes
  std::uint32_t physical_block_size = 0;  // bytes; 0: block_size
  std::uint64_t num_blocks = 0;
  std::uint32_t optimal_io_boundary_blocks = 0;
  std::string uuid;                   // empty: made up
  std::optional<unsigned> numa_node;  // where its pages should be; none: where they are first written
};

class MallocBdev final : public Bdev {
 public:
  // Errors: EINVAL (sizes, named), ENOMEM (no address space). Not yet in the Registry.
  // `workers`: gives the memory back at the end, which can take seconds; null: done on the spot.
  static Result<std::shared_ptr<MallocBdev>> create(MallocOptions options, WorkerPool* workers);

  bool supports(Op op) const override;
  std::string config_json() const override;
  std::optional<std::uint64_t> allocated_blocks() const override;
  void destroy(std::move_only_function<void()> done) override;
  const MallocMemory& memory() const { return *memory_; }

 private:
  MallocBdev(BdevInfo info, std::unique_ptr<MallocMemory> memory, WorkerPool* workers, std::optional<unsigned> numa_node)
      : Bdev(std::move(info)), memory_(std::move(memory)), workers_(workers), numa_node_(numa_node) {}
  Result<std::unique_ptr<Channel>> create_channel(Thread& thread) override;

  std::unique_ptr<MallocMemory> memory_;
  BadBlocks bad_blocks_;
  WorkerPool* workers_;
  std::optional<unsigned> numa_node_;
};

}  // namespace catnap::bdev
