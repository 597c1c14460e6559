// I/Os that their module does not take as they come are cut, and those that it leaves to the core are carried out there.
#include <cstring>
#include <random>

#include "tests/unit/bdev/toy_bdev.h"

namespace catnap::bdev {
namespace {

class Split : public ToyTest {
 protected:
  void fill(std::vector<std::byte>& bytes, std::uint32_t seed) {
    std::mt19937 random(seed);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  }
};

TEST_F(Split, AtTheBoundaryAndTheLargestSize) {
  BdevInfo info;
  info.optimal_io_boundary_blocks = 8;
  info.split_at_boundary = true;
  info.max_io_blocks = 5;
  make(std::move(info));
  std::vector<std::byte> source(20 * 512);
  fill(source, 1);
  EXPECT_EQ(submit(Op::write, 6, 20, source.data()).io.status, Status::ok);
  EXPECT_EQ(bdev_->seen, (std::vector<std::uint64_t>{6, 8, 13, 16, 21, 24}));
  EXPECT_EQ(bdev_->sizes, (std::vector<std::uint64_t>{2, 5, 3, 5, 3, 2}));
  EXPECT_EQ(std::memcmp(block(6), source.data(), source.size()), 0);
  std::vector<std::byte> target(20 * 512);
  EXPECT_EQ(submit(Op::read, 6, 20, target.data()).io.status, Status::ok);
  EXPECT_EQ(target, source);
  EXPECT_EQ(bdev_->stats().ops[static_cast<std::size_t>(Op::write)], 1u);
  EXPECT_EQ(bdev_->stats().bytes[static_cast<std::size_t>(Op::read)], source.size());
  // What fits is not touched.
  bdev_->seen.clear();
  submit(Op::read, 8, 5);
  EXPECT_EQ(bdev_->seen.size(), 1u);
}

TEST_F(Split, ByNumberOfPiecesAndThroughABufferWhereNoCutFits) {
  BdevInfo info;
  info.max_segments = 3;
  make(std::move(info));
  std::vector<std::byte> source(8 * 512);
  fill(source, 2);
  Request& request = prepare(Op::write, 10, 8);
  request.iov.clear();
  for (std::size_t at = 0; at < source.size(); at += 256) request.iov.push_back({source.data() + at, 256});
  request.io.iov = request.iov.data();
  request.io.iov_count = static_cast<std::uint32_t>(request.iov.size());
  EXPECT_EQ(start(request).io.status, Status::ok);
  EXPECT_EQ(std::memcmp(block(10), source.data(), source.size()), 0);
  EXPECT_EQ(bdev_->seen.size(), 8u);  // three pieces hold one whole block
  for (const std::uint32_t segments : bdev_->segments) EXPECT_LE(segments, 3u);
  // A block in four pieces.
  bdev_->seen.clear();
  std::vector<std::byte> target(2 * 512);
  Request& crumbs = prepare(Op::read, 10, 2);
  crumbs.iov.clear();
  for (std::size_t at = 0; at < target.size(); at += 128) crumbs.iov.push_back({target.data() + at, 128});
  crumbs.io.iov = crumbs.iov.data();
  crumbs.io.iov_count = static_cast<std::uint32_t>(crumbs.iov.size());
  EXPECT_EQ(start(crumbs).io.status, Status::ok);
  EXPECT_EQ(std::memcmp(target.data(), source.data(), target.size()), 0);
  for (const std::uint32_t segments : bdev_->segments) EXPECT_LE(segments, 3u);
}

TEST_F(Split, UnmapAndWriteZeroesByTheirOwnLimits) {
  BdevInfo info;
  info.max_unmap_blocks = 100;
  info.max_write_zeroes_blocks = 64;
  make(std::move(info));
  bdev_->unmaps = true;
  EXPECT_EQ(submit(Op::unmap, 0, 250).io.status, Status::ok);
  EXPECT_EQ(bdev_->sizes, (std::vector<std::uint64_t>{100, 100, 50}));
  bdev_->sizes.clear();
  EXPECT_EQ(submit(Op::write_zeroes, 0, 65).io.status, Status::ok);
  EXPECT_EQ(bdev_->sizes, (std::vector<std::uint64_t>{64, 1}));
}

// The medium refuses the parts: each is written as zeroes, and the whole ends once.
TEST_F(Split, PartsThatTheModuleCannotDoAreDoneByTheCore) {
  BdevInfo info;
  info.max_write_zeroes_blocks = 64;
  make(std::move(info));
  bdev_->refuses_zeroes = true;
  std::memset(block(0), 0x55, 200 * 512);
  const Request& request = submit(Op::write_zeroes, 1, 150);
  EXPECT_EQ(request.io.status, Status::ok);
  EXPECT_EQ(request.ended, 1);
  EXPECT_EQ(block(0)[0], std::byte{0x55});
  EXPECT_EQ(block(1)[0], std::byte{0});
  EXPECT_EQ(block(150)[511], std::byte{0});
  EXPECT_EQ(block(151)[0], std::byte{0x55});
}

TEST_F(Split, SomePartsAtOnceAndTheFirstErrorEndsTheWhole) {
  BdevInfo info;
  info.max_io_blocks = 1;
  make(std::move(info));
  bdev_->inline_completion = false;
  const Request& request = submit(Op::read, 0, 100);
  EXPECT_EQ(bdev_->held.size(), 8u);
  finish_one();
  EXPECT_EQ(bdev_->held.size(), 8u);
  bdev_->answer = Status::read_error;
  finish_one();
  EXPECT_EQ(request.ended, 0);
  bdev_->answer = Status::ok;
  finish_all();
  EXPECT_EQ(request.ended, 1);
  EXPECT_EQ(request.io.status, Status::read_error);
  EXPECT_EQ(bdev_->seen.size(), 9u);
}

TEST_F(Split, PartsWithoutResourcesWaitAndGoOn) {
  BdevInfo info;
  info.max_io_blocks = 2;
  make(std::move(info));
  bdev_->refuse_every = 3;
  std::vector<std::byte> source(64 * 512);
  fill(source, 3);
  const Request& request = submit(Op::write, 5, 64, source.data());
  for (int i = 0; i < 100 && request.ended == 0; ++i) hand_.advance_us(starved_retry_us);
  EXPECT_EQ(request.io.status, Status::ok);
  EXPECT_EQ(std::memcmp(block(5), source.data(), source.size()), 0);
}

// Borrowed bytes are gone when submit() returns: all parts are with the module by then, or copied.
TEST_F(Split, BorrowedBytes) {
  BdevInfo info;
  info.max_io_blocks = 1;
  info.consumes_inline = true;
  make(std::move(info));
  bdev_->refuse_every = 2;
  std::vector<std::byte> source(32 * 512);
  fill(source, 4);
  const std::vector<std::byte> expected = source;
  Request& request = prepare(Op::write, 5, 32, source.data());
  request.io.borrowed = true;
  start(request);
  std::ranges::fill(source, std::byte{0xEE});
  for (int i = 0; i < 100 && request.ended == 0; ++i) hand_.advance_us(starved_retry_us);
  EXPECT_EQ(request.io.status, Status::ok);
  EXPECT_EQ(std::memcmp(block(5), expected.data(), expected.size()), 0);
}

TEST_F(Split, AnAbortedWholeStartsNoMoreParts) {
  BdevInfo info;
  info.max_io_blocks = 1;
  make(std::move(info));
  bdev_->inline_completion = false;
  Request& given_back = submit(Op::write, 0, 100);
  EXPECT_TRUE(abort(given_back));
  EXPECT_EQ(given_back.ended, 1);
  EXPECT_EQ(given_back.io.status, Status::aborted);
  bdev_->gives_back = false;
  Request& kept = submit(Op::write, 0, 100);
  EXPECT_TRUE(abort(kept));
  EXPECT_EQ(kept.ended, 0);
  finish_all();
  EXPECT_EQ(kept.ended, 1);
  EXPECT_EQ(kept.io.status, Status::aborted);
  EXPECT_EQ(bdev_->seen.size(), 16u);
}

// Proves: command | Copy | NVM Command Set 1.0c 3.2.2
TEST_F(Split, CopyIsAReadAndAWriteInPartsAlsoWhereSourceAndDestinationOverlap) {
  make();
  std::vector<std::byte> model(bdev_->bytes.size());
  fill(model, 5);
  bdev_->bytes = model;
  for (const auto& [source, target, blocks] :
       {std::tuple{0, 2000, 1000}, std::tuple{100, 130, 900}, std::tuple{900, 860, 700}, std::tuple{7, 7, 300}, std::tuple{1, 2, 1}}) {
    Request& request = prepare(Op::copy, static_cast<std::uint64_t>(target), static_cast<std::uint64_t>(blocks));
    request.io.source_offset_blocks = static_cast<std::uint64_t>(source);
    EXPECT_EQ(start(request).io.status, Status::ok);
    std::memmove(model.data() + target * 512, model.data() + source * 512, static_cast<std::size_t>(blocks) * 512);
    ASSERT_EQ(bdev_->bytes, model) << source << " " << target << " " << blocks;
  }
  Request& behind_the_end = prepare(Op::copy, 0, 10);
  behind_the_end.io.source_offset_blocks = 4090;
  EXPECT_EQ(start(behind_the_end).io.status, Status::out_of_range);
}

TEST_F(Split, CopyKeepsToBoundariesInBothPlaces) {
  BdevInfo info;
  info.optimal_io_boundary_blocks = 16;
  info.split_at_boundary = true;
  info.max_io_blocks = 7;
  make(std::move(info));
  std::vector<std::byte> model(bdev_->bytes.size());
  fill(model, 6);
  bdev_->bytes = model;
  for (const auto& [source, target] : {std::pair{3, 1009}, std::pair{5, 12}}) {
    Request& request = prepare(Op::copy, static_cast<std::uint64_t>(target), 100);
    request.io.source_offset_blocks = static_cast<std::uint64_t>(source);
    EXPECT_EQ(start(request).io.status, Status::ok);
    std::memmove(model.data() + target * 512, model.data() + source * 512, 100 * 512);
    ASSERT_EQ(bdev_->bytes, model);
  }
  for (std::size_t i = 0; i < bdev_->seen.size(); ++i) {
    EXPECT_LE(bdev_->seen[i] % 16 + bdev_->sizes[i], 16u);
    EXPECT_LE(bdev_->sizes[i], 7u);
  }
}

// Proves: command | Verify | NVM Command Set 1.0c 3.2.5
TEST_F(Split, VerifyReadsAndReportsWhatCannotBeRead) {
  make();
  EXPECT_EQ(submit(Op::verify, 3, 1000).io.status, Status::ok);
  for (const Op op : bdev_->ops) EXPECT_EQ(op, Op::read);
  bdev_->answer = Status::media_error;
  EXPECT_EQ(submit(Op::verify, 3, 1000).io.status, Status::media_error);
}

}  // namespace
}  // namespace catnap::bdev
