// A random run over every module and stack, in which it is known at every moment what each block may hold (block_model.h): many I/Os in flight over
// few blocks, with aborts and resets cut in. CATNAP_SEED replays a run, CATNAP_SOAK=1 makes it 1 million operations for each.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <utility>

#include "tests/unit/bdev/block_model.h"
#include "tests/unit/bdev/conformance_fixture.h"

namespace catnap::bdev {
namespace {

constexpr std::uint64_t model_blocks = 96;
constexpr std::uint64_t max_io_blocks = 12;
constexpr std::size_t max_in_flight = 24;
constexpr std::size_t starts_per_turn = 64;
constexpr std::uint64_t soak_operations = 1'000'000;

std::uint64_t operations(bool is_slow) {
  if (std::getenv("CATNAP_SOAK") != nullptr) return soak_operations;
  return is_slow ? 400 : 2'000;
}

std::uint64_t seed() {
  const char* given = std::getenv("CATNAP_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : 20261121;
}

class RandomModel : public Conformance {
 protected:
  using Value = BlockModel::Value;
  using Outcome = BlockModel::Outcome;

  struct Run {
    BdevIo io;
    Bytes bytes;
    std::vector<iovec> iov;
    RandomModel* test = nullptr;
    std::uint64_t began = 0;
    std::vector<Value> values;  // that it writes, per block
    bool contended = false;     // others write there meanwhile
    bool busy = false;
  };

  std::uint64_t pick(std::uint64_t below) { return random_() % below; }

  void run_all(std::uint64_t count) {
    left_ = count;
    for (std::size_t i = 0; i < max_in_flight; ++i) {
      runs_.push_back(std::make_unique<Run>());
      runs_.back()->test = this;
    }
    bench_.on_thread([this] { keep_going(); });
    bench_.until([this] { return (left_ == 0 || failed_) && in_flight_ == 0; });
  }

  // Fills the queue. Answers come from within as well, so a flag keeps it flat; and it lets the reactor turn now and then, since some I/O waits for
  // messages.
  void keep_going() {
    if (going_) {
      again_ = true;
      return;
    }
    going_ = true;
    std::size_t started = 0;
    do {
      again_ = false;
      for (const auto& run : runs_) {
        if (left_ == 0 || failed_ || started >= starts_per_turn) break;
        if (run->busy) continue;
        start(*run);
        ++started;
      }
    } while (again_ && left_ > 0 && !failed_ && started < starts_per_turn);
    going_ = false;
    if (left_ > 0 && !failed_ && in_flight_ < max_in_flight && !std::exchange(sent_, true)) {
      bench_.thread->send([this] {
        sent_ = false;
        keep_going();
      });
    }
  }

  void start(Run& run) {
    --left_;
    BdevIo& io = run.io;
    io = {};
    run.busy = true;
    run.contended = false;
    run.values.clear();
    io.num_blocks = 1 + pick(max_io_blocks);
    io.offset_blocks = pick(model_blocks - io.num_blocks + 1);
    io.op = choose(io);
    run.began = model_->moment();
    prepare(run);
    for (std::uint64_t i = 0; i < run.values.size(); ++i) {
      const std::uint64_t block = io.offset_blocks + i;
      if (model_->writes_under_way(block) > 0) run.contended = true;
      model_->begin_write(block, run.values[i], run.began);
    }
    if (!run.values.empty()) note_contention(run);
    for (std::uint64_t i = 0; io.op == Op::read && i < io.num_blocks; ++i) {
      if (model_->writes_under_way(io.offset_blocks + i) > 0) run.contended = true;
    }
    io.context = &run;
    io.done = [](BdevIo& ended) {
      Run& over = *static_cast<Run*>(ended.context);
      over.test->answered(over);
    };
    ++in_flight_;
    channel_->submit(io);
    if (pick(16) == 0) abort_one();
  }

  void note_contention(const Run& writer) {
    for (const auto& other : runs_) {
      if (other.get() == &writer || !other->busy) continue;
      if (other->io.offset_blocks < writer.io.offset_blocks + writer.io.num_blocks &&
          writer.io.offset_blocks < other->io.offset_blocks + other->io.num_blocks) {
        other->contended = true;
      }
    }
  }

  void abort_one() {
    Run& victim = *runs_[pick(runs_.size())];
    if (victim.busy && channel_->abort(victim.io)) ++aborts_;
  }

  // All blocks of a range hold one known value each.
  bool all_settled(std::uint64_t offset, std::uint64_t count) const {
    for (std::uint64_t block = offset; block < offset + count; ++block) {
      if (model_->settled(block) == nullptr) return false;
    }
    return true;
  }

  Op choose(const BdevIo& io) {
    const std::uint64_t roll = pick(100);
    if (roll < 35) return Op::read;
    if (roll < 70) return Op::write;
    if (roll < 76) return Op::write_zeroes;
    if (roll < 81) return GetParam().bottom.unmaps ? Op::unmap : Op::write_zeroes;
    if (roll < 83) return Op::flush;
    const bool known = all_settled(io.offset_blocks, io.num_blocks);
    if (roll < 89) return known ? Op::compare : Op::read;
    if (roll < 96) return known && bdev_->supports(Op::compare_and_write) ? Op::compare_and_write : Op::write;
    if (roll < 99) return bdev_->supports(Op::verify) ? Op::verify : Op::read;
    return pick(8) == 0 ? Op::reset : Op::flush;
  }

  void prepare(Run& run) {
    BdevIo& io = run.io;
    const std::uint64_t count = io.num_blocks;
    run.bytes.assign(count * block_ * (io.op == Op::compare_and_write ? 2 : 1), std::byte{0xEE});
    switch (io.op) {
      case Op::write:
        io.fua = pick(16) == 0;
        new_values(run, run.bytes.data());
        break;
      case Op::compare:
        known_values(run);
        break;
      case Op::compare_and_write:
        known_values(run);
        new_values(run, run.bytes.data() + count * block_);
        break;
      case Op::write_zeroes:
        run.values.assign(count, Value{});
        break;
      case Op::unmap:
        run.values.assign(count, Value{bdev_->info().unmap_reads_zeroes ? 0 : BlockModel::noise, 0});
        break;
      case Op::flush:
      case Op::reset:
        io.offset_blocks = io.num_blocks = 0;
        break;
      default:
        break;
    }
    const bool with_data = io.op == Op::read || io.op == Op::write || io.op == Op::compare || io.op == Op::compare_and_write;
    if (!with_data) return;
    cut(run);
    io.iov = run.iov.data();
    io.iov_count = static_cast<std::uint32_t>(run.iov.size());
  }

  void new_values(Run& run, std::byte* to) {
    const std::uint64_t tag = ++last_tag_;
    for (std::uint64_t i = 0; i < run.io.num_blocks; ++i) {
      run.values.push_back({tag, run.io.offset_blocks + i});
      BlockModel::fill(to + i * block_, block_, run.values.back());
    }
  }
  void known_values(Run& run) {
    for (std::uint64_t i = 0; i < run.io.num_blocks; ++i) {
      BlockModel::fill(run.bytes.data() + i * block_, block_, *model_->settled(run.io.offset_blocks + i));
    }
  }
  void cut(Run& run) {
    run.iov.clear();
    const std::size_t most = pick(3) == 0 ? 1000 : run.bytes.size();
    for (std::size_t at = 0; at < run.bytes.size();) {
      const std::size_t piece = std::min<std::size_t>(run.bytes.size() - at, 1 + pick(most) + (most > 1000 ? run.bytes.size() : 0));
      run.iov.push_back({run.bytes.data() + at, piece});
      at += piece;
    }
  }

  void answered(Run& run) {
    model_->moment();
    --in_flight_;
    check_status(run);
    const Status status = run.io.status;
    const Outcome outcome = status == Status::ok ? Outcome::happened : status == Status::compare_failed ? Outcome::did_not_happen : Outcome::unknown;
    for (std::uint64_t i = 0; i < run.values.size(); ++i) model_->end_write(run.io.offset_blocks + i, run.values[i], run.began, outcome);
    if (run.io.op == Op::read && status == Status::ok) check_read(run);
    run.busy = false;
    forget();
    keep_going();
  }

  void check_status(const Run& run) {
    const Status status = run.io.status;
    const bool comparing = run.io.op == Op::compare || run.io.op == Op::compare_and_write;
    if (status == Status::ok || status == Status::aborted) return;
    if (comparing && status == Status::compare_failed && run.contended) return;
    failed_ = true;
    ADD_FAILURE() << op_name(run.io.op) << " of blocks " << run.io.offset_blocks << " + " << run.io.num_blocks << ": " << status_name(status)
                  << (run.contended ? ", contended" : "") << ", seed " << seed() << ", operation " << run.began;
  }

  void check_read(const Run& run) {
    for (std::uint64_t i = 0; i < run.io.num_blocks; ++i) {
      const std::uint64_t block = run.io.offset_blocks + i;
      const Value seen = BlockModel::look(run.bytes.data() + i * block_, block_);
      ++blocks_checked_;
      if (model_->may_see(block, seen, run.began)) continue;
      failed_ = true;
      ADD_FAILURE() << "block " << block << " read as " << (seen.tag == BlockModel::noise ? "torn or strange" : "write " + std::to_string(seen.tag))
                    << " of block " << seen.block << ", seed " << seed() << ", operation " << run.began;
      return;
    }
  }

  void forget() {
    if (++since_forgotten_ < 256) return;
    since_forgotten_ = 0;
    std::uint64_t oldest = model_->moment();
    for (const auto& run : runs_) {
      if (run->busy) oldest = std::min(oldest, run->began);
    }
    model_->forget_before(oldest);
  }

  std::mt19937_64 random_{seed()};
  std::unique_ptr<BlockModel> model_;
  std::vector<std::unique_ptr<Run>> runs_;
  std::uint64_t left_ = 0, in_flight_ = 0, last_tag_ = 0, blocks_checked_ = 0, aborts_ = 0, since_forgotten_ = 0;
  bool going_ = false, again_ = false, sent_ = false, failed_ = false;
};

TEST_P(RandomModel, NoBlockEverHoldsWhatItMayNot) {
  if (!GetParam().keeps_data()) GTEST_SKIP() << "a disk without contents has nothing to judge";
  fill_with_zeroes();
  model_ = std::make_unique<BlockModel>(model_blocks);
  const std::uint64_t count = operations(GetParam().is_slow());
  run_all(count);
  EXPECT_GT(blocks_checked_, count / 4);
  std::cout << "random model: " << GetParam().name << ", " << count << " operations, seed " << seed() << ": " << blocks_checked_
            << " blocks checked, " << aborts_ << " aborts" << std::endl;
}

// The judge itself must condemn what is wrong.
TEST(BlockModelTest, CondemnsLostTornAndStaleBlocks) {
  BlockModel model(4);
  using Value = BlockModel::Value;
  using Outcome = BlockModel::Outcome;
  const Value first{1, 0}, second{2, 0};
  const std::uint64_t first_began = model.moment();
  model.begin_write(0, first, first_began);
  const std::uint64_t early_read = model.moment();
  EXPECT_TRUE(model.may_see(0, Value{}, early_read));
  EXPECT_TRUE(model.may_see(0, first, early_read));
  model.moment();
  model.end_write(0, first, first_began, Outcome::happened);
  EXPECT_TRUE(model.may_see(0, Value{}, early_read));  // it began before the answer
  const std::uint64_t late_read = model.moment();
  EXPECT_FALSE(model.may_see(0, Value{}, late_read));  // a lost write
  EXPECT_FALSE(model.may_see(0, Value{BlockModel::noise, 0}, late_read));
  ASSERT_NE(model.settled(0), nullptr);
  EXPECT_EQ(*model.settled(0), first);
  const std::uint64_t second_began = model.moment();
  model.begin_write(0, second, second_began);
  EXPECT_EQ(model.settled(0), nullptr);
  model.moment();
  model.end_write(0, second, second_began, Outcome::unknown);
  const std::uint64_t read = model.moment();
  EXPECT_TRUE(model.may_see(0, first, read));
  EXPECT_TRUE(model.may_see(0, second, read));
  model.forget_before(read);
  EXPECT_FALSE(model.may_see(0, Value{}, 0));
  std::vector<std::byte> block(512);
  BlockModel::fill(block.data(), 512, second);
  EXPECT_EQ(BlockModel::look(block.data(), 512), second);
  block[300] ^= std::byte{1};
  EXPECT_EQ(BlockModel::look(block.data(), 512).tag, BlockModel::noise);
}

INSTANTIATE_TEST_SUITE_P(All, RandomModel, testing::ValuesIn(all_stacks()), stack_name);

}  // namespace
}  // namespace catnap::bdev
