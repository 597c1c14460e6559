// See stream_copy.h.
#include "bdev/malloc/stream_copy.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace catnap::bdev {

// From sysfs: what a processor says of itself (which sysconf asks) is the sum over all its parts, of which a CPU uses one.
std::size_t last_level_cache_bytes() {
  std::size_t largest = 0;
  for (int index = 0;; ++index) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/size");
    std::size_t size = 0;
    char unit = 0;
    if (!(file >> size)) return largest;
    file >> unit;
    largest = std::max(largest, size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0));
  }
}

#if defined(__x86_64__)
namespace {

constexpr std::size_t vector_bytes = 32;
constexpr std::size_t step_bytes = 4 * vector_bytes;  // two cache lines: a line must be written whole to need no read

__attribute__((target("avx2"))) std::size_t stream_steps(std::byte* to, const std::byte* from, std::size_t bytes) {
  std::size_t at = 0;
  for (; at + step_bytes <= bytes; at += step_bytes) {
    const auto* source = reinterpret_cast<const __m256i*>(from + at);
    auto* target = reinterpret_cast<__m256i*>(to + at);
    const __m256i first = _mm256_loadu_si256(source);
    const __m256i second = _mm256_loadu_si256(source + 1);
    const __m256i third = _mm256_loadu_si256(source + 2);
    const __m256i fourth = _mm256_loadu_si256(source + 3);
    _mm256_stream_si256(target, first);
    _mm256_stream_si256(target + 1, second);
    _mm256_stream_si256(target + 2, third);
    _mm256_stream_si256(target + 3, fourth);
  }
  _mm_sfence();
  return at;
}

}  // namespace

void stream_copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  static const bool can = __builtin_cpu_supports("avx2");
  std::size_t done = 0;
  if (can && bytes >= 2 * step_bytes) {
    done = (vector_bytes - reinterpret_cast<std::uintptr_t>(to) % vector_bytes) % vector_bytes;
    std::memcpy(to, from, done);
    done += stream_steps(to + done, from + done, bytes - done);
  }
  std::memcpy(to + done, from + done, bytes - done);
}
#else
void stream_copy(std::byte* to, const std::byte* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
#endif

}  // namespace catnap::bdev
