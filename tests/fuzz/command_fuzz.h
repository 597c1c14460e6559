// What the fuzzers of commands share: bytes become submission entries with data, and these go to a controller on the bench of the unit tests, as a
// transport would bring them. An answer given twice, a crash, or a report of a sanitizer ends the process.
// Owner: the libFuzzer process. Left out: framing (framing_fuzz.cpp), timing between threads (everything runs by hand).
//
// Input: records of a control byte, 64 bytes of submission entry, and (control & 7Fh) times 64 bytes of data, as far as there are any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>

#include "tests/unit/server/controller_bench.h"

namespace catnap::server {

class CommandFuzz {
 public:
  enum class Kind : std::uint8_t { fabrics, admin, io };
  explicit CommandFuzz(Kind kind);
  ~CommandFuzz();

  void run(std::span<const std::uint8_t> input);

 private:
  static constexpr std::size_t max_commands = 16;          // of one input
  static constexpr std::uint32_t inputs_a_bench = 20'000;  // the bench keeps every queue it ever made
  static constexpr std::uint8_t wait_flag = 0x80;

  void make_bench();
  void make_queue();
  void start(std::uint8_t control, std::span<const std::uint8_t> entry, std::span<const std::uint8_t> data);
  void settle_all();

  Kind kind_;
  std::unique_ptr<ControllerBench> bench_;
  FakeQueue* queue_ = nullptr;
  FakeQueue* admin_ = nullptr;
  std::uint32_t inputs_ = 0;
  std::uint16_t next_cid_ = 0;
  std::list<Command> commands_;
};

}  // namespace catnap::server
