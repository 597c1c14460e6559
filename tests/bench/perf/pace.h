// When I/Os of a run with a rate are due: evenly spaced, or so many at once at the same mean.
// Owner: the run. Left out: clocks.
#pragma once

#include <cstdint>

namespace catnap::perf {

class Pace {
 public:
  Pace(std::uint64_t rate, std::uint32_t burst, std::uint64_t began_ns) : rate_(rate), burst_(burst), began_ns_(began_ns) {}

  // Calls `due(when_ns)` for every I/O that is due by now and was not yet.
  template <typename Due>
  void advance(std::uint64_t now_ns, Due due) {
    while (next_due_ns() <= now_ns) {
      for (std::uint32_t i = 0; i < burst_; ++i) due(next_due_ns());
      ++bursts_;
    }
  }
  std::uint64_t next_due_ns() const {
    const auto ios = static_cast<unsigned __int128>(bursts_) * burst_;
    return began_ns_ + static_cast<std::uint64_t>(ios * 1'000'000'000 / rate_);
  }

 private:
  std::uint64_t rate_;
  std::uint32_t burst_;
  std::uint64_t began_ns_;
  std::uint64_t bursts_ = 0;
};

}  // namespace catnap::perf
