// See raid1_meta.h.
#include "bdev/raid/raid1_meta.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace catnap::bdev::raid1 {
namespace {

constexpr std::size_t alignment = 4096;

}  // namespace

MetaBuffer::MetaBuffer(std::size_t size_bytes)
    : size_(size_bytes), data_(static_cast<std::byte*>(::operator new(std::max<std::size_t>(size_bytes, 1), std::align_val_t{alignment}))) {
  std::memset(data_.get(), 0, size_bytes);
}

void MetaBuffer::Free::operator()(std::byte* memory) const { ::operator delete(memory, std::align_val_t{alignment}); }

struct MetaRunner::Run {
  Run(MetaRunner& runner, Port& target) : owner(runner), port(target) {}
  MetaRunner& owner;
  Port& port;
  std::uint64_t id = 0;
  std::vector<Piece> pieces;
  std::vector<BdevIo> ios;
  std::vector<iovec> iovs;
  std::unique_ptr<MetaBuffer> copy;
  std::size_t pending = 0;
  bool durable = false;
  bool flush_after = false;
  std::uint32_t retries = 0;
  Status status = Status::ok;
  Done done;
};

MetaRunner::MetaRunner(std::uint32_t block_size) : block_size_(block_size) {}

MetaRunner::~MetaRunner() = default;

void MetaRunner::forget() { runs_.clear(); }

MetaRunner::Run& MetaRunner::make(Port& port, Done done) {
  auto run = std::make_unique<Run>(*this, port);
  run->id = next_id_++;
  run->done = std::move(done);
  Run& made = *run;
  runs_.emplace(made.id, std::move(run));
  return made;
}

void MetaRunner::submit(Run& run, std::size_t index, Op op, bool fua) {
  BdevIo& io = run.ios[index];
  io = BdevIo{};
  io.op = op;
  io.fua = fua;
  if (op != Op::flush) {
    const Piece& piece = run.pieces[index];
    run.iovs[index] = {piece.bytes.data(), piece.bytes.size()};
    io.offset_blocks = piece.offset_blocks;
    io.num_blocks = piece.bytes.size() / block_size_;
    io.iov = &run.iovs[index];
    io.iov_count = 1;
  }
  io.context = &run;
  io.done = [](BdevIo& ended) {
    Run& mine = *static_cast<Run*>(ended.context);
    if (ended.status != Status::ok && mine.status == Status::ok) mine.status = ended.status;
    if (--mine.pending == 0) mine.owner.ended(mine);
  };
  run.port.submit(io);
}

void MetaRunner::ended(Run& run) {
  if (run.status != Status::ok && run.retries > 0) {
    --run.retries;
    run.status = Status::ok;
    return submit_all(run);
  }
  if (run.flush_after && run.status == Status::ok) {
    run.flush_after = false;
    run.pending = 1;
    return submit(run, 0, Op::flush, false);
  }
  const auto node = runs_.extract(run.id);
  node.mapped()->done(run.status);
}

void MetaRunner::submit_all(Run& run) {
  run.flush_after = run.durable && run.pieces.size() != 1;
  run.pending = run.pieces.size() + 1;  // one for the loop
  for (std::size_t i = 0; i < run.pieces.size(); ++i) submit(run, i, Op::write, run.durable && run.pieces.size() == 1);
  if (--run.pending == 0) ended(run);
}

void MetaRunner::write(Port& port, std::vector<Piece> pieces, bool durable, std::uint32_t retries, Done done) {
  Run& run = make(port, std::move(done));
  run.pieces = std::move(pieces);
  const std::size_t count = std::max<std::size_t>(run.pieces.size(), 1);
  run.ios.resize(count);
  run.iovs.resize(count);
  run.durable = durable;
  run.retries = retries;
  submit_all(run);
}

void MetaRunner::write_copy(Port& port, std::uint64_t offset_blocks, std::span<const std::byte> bytes, std::uint32_t retries, Done done) {
  Run& run = make(port, std::move(done));
  run.copy = std::make_unique<MetaBuffer>(bytes.size());
  std::ranges::copy(bytes, run.copy->data());
  run.pieces.emplace_back(offset_blocks, run.copy->bytes());
  run.ios.resize(1);
  run.iovs.resize(1);
  run.durable = true;
  run.retries = retries;
  submit_all(run);
}

void MetaRunner::read(Port& port, Piece piece, Done done) {
  Run& run = make(port, std::move(done));
  run.pieces.push_back(piece);
  run.ios.resize(1);
  run.iovs.resize(1);
  run.pending = 1;
  submit(run, 0, Op::read, false);
}

void MetaRunner::flush(Port& port, Done done) {
  Run& run = make(port, std::move(done));
  run.ios.resize(1);
  run.iovs.resize(1);
  run.pending = 1;
  submit(run, 0, Op::flush, false);
}

}  // namespace catnap::bdev::raid1
