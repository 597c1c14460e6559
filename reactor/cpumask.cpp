// Parsing and printing of CPU sets. See cpumask.h.
#include "reactor/cpumask.h"

#include <fmt/core.h>
#include <sched.h>

#include <charconv>
#include <optional>

namespace catnap {
namespace {

std::unexpected<Error> bad_mask(std::string_view text, std::string_view reason) {
  return fail(EINVAL, fmt::format("cpumask '{}': {}", text, reason));
}

std::optional<unsigned> parse_cpu(std::string_view digits) {
  unsigned cpu = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), cpu);
  if (error != std::errc{} || end != digits.data() + digits.size() || cpu >= CpuMask::max_cpus) return std::nullopt;
  return cpu;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// "0,2-3" (the brackets already gone).
Result<CpuMask> parse_list(std::string_view text, std::string_view list) {
  CpuMask mask;
  while (true) {
    const auto comma = list.find(',');
    const std::string_view item = trim(list.substr(0, comma));
    const auto dash = item.find('-');
    const auto first = parse_cpu(trim(item.substr(0, dash)));
    const auto last = dash == std::string_view::npos ? first : parse_cpu(trim(item.substr(dash + 1)));
    if (!first || !last || *first > *last)
      return bad_mask(text, fmt::format("'{}' is neither a CPU number below {} nor a range of them", item, CpuMask::max_cpus));
    for (unsigned cpu = *first; cpu <= *last; ++cpu) mask.set(cpu);
    if (comma == std::string_view::npos) return mask;
    list.remove_prefix(comma + 1);
  }
}

Result<CpuMask> parse_hex(std::string_view text, std::string_view digits) {
  CpuMask mask;
  unsigned cpu = 0;
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) {
    if (*digit == ',') continue;  // the kernel prints groups of eight digits
    unsigned value = 0;
    const auto [end, error] = std::from_chars(&*digit, &*digit + 1, value, 16);
    if (error != std::errc{} || end != &*digit + 1) return bad_mask(text, "not a hexadecimal number and not a list in brackets");
    for (unsigned bit = 0; bit < 4; ++bit) {
      if ((value >> bit & 1u) == 0) continue;
      if (cpu + bit >= CpuMask::max_cpus) return bad_mask(text, fmt::format("CPU {} is beyond the largest, {}", cpu + bit, CpuMask::max_cpus - 1));
      mask.set(cpu + bit);
    }
    cpu += 4;
  }
  return mask;
}

}  // namespace

Result<CpuMask> CpuMask::parse(std::string_view text) {
  const std::string_view body = trim(text);
  if (body.empty()) return bad_mask(text, "empty");
  auto mask = body.front() == '[' ? (body.back() == ']' ? parse_list(text, body.substr(1, body.size() - 2)) : bad_mask(text, "no closing bracket"))
                                  : parse_hex(text, body.starts_with("0x") || body.starts_with("0X") ? body.substr(2) : body);
  if (mask && mask->empty()) return bad_mask(text, "names no CPU");
  return mask;
}

CpuMask CpuMask::of_cpu(unsigned cpu) {
  CpuMask mask;
  mask.set(cpu);
  return mask;
}

CpuMask CpuMask::of_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CpuMask mask;
  if (sched_getaffinity(0, sizeof set, &set) != 0) {
    mask.set(0);
    return mask;
  }
  for (unsigned cpu = 0; cpu < max_cpus && cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) mask.set(cpu);
  }
  return mask;
}

std::vector<unsigned> CpuMask::cpus() const {
  std::vector<unsigned> list;
  for (unsigned cpu = 0; cpu < max_cpus; ++cpu) {
    if (bits_.test(cpu)) list.push_back(cpu);
  }
  return list;
}

std::string CpuMask::hex() const {
  std::string digits;
  for (unsigned nibble = max_cpus / 4; nibble-- > 0;) {
    unsigned value = 0;
    for (unsigned bit = 0; bit < 4; ++bit) value |= static_cast<unsigned>(bits_.test(nibble * 4 + bit)) << bit;
    if (value != 0 || !digits.empty() || nibble == 0) digits.push_back("0123456789abcdef"[value]);
  }
  return digits;
}

}  // namespace catnap
