// A set of CPUs, in SPDK's two spellings: hexadecimal ("0x3", "f") and list ("[0,2-3]").
// Owner: none (values). Left out: NUMA nodes (placement).
#pragma once

#include <bitset>
#include <string>
#include <string_view>
#include <vector>

#include "reactor/base/error.h"

namespace catnap {

class CpuMask {
 public:
  static constexpr unsigned max_cpus = 1024;  // CPU_SETSIZE, the kernel's fixed-size affinity mask

  // Errors: EINVAL with the text at fault.
  static Result<CpuMask> parse(std::string_view text);
  static CpuMask of_cpu(unsigned cpu);
  static CpuMask of_process();  // what sched_getaffinity allows

  bool has(unsigned cpu) const { return cpu < max_cpus && bits_.test(cpu); }
  void set(unsigned cpu) { bits_.set(cpu); }
  bool empty() const { return bits_.none(); }
  unsigned count() const { return static_cast<unsigned>(bits_.count()); }
  std::vector<unsigned> cpus() const;
  std::string hex() const;  // lower case without prefix, as thread_get_stats shows it: "3"
  bool operator==(const CpuMask&) const = default;

 private:
  std::bitset<max_cpus> bits_;
};

}  // namespace catnap
