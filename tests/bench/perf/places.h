// Which place of the namespace an I/O goes to, and what must be found there.
// Owner: one I/O queue, whose share of the namespace nobody else uses. Left out: I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace catnap::perf {

// Places are I/Os' sizes apart, numbered from the share's first.
class Places {
 public:
  // `count` places from the namespace's place `first` on. With `verify`, at least one more than the I/Os that are ever outstanding.
  Places(std::uint64_t first, std::uint64_t count, bool random, bool verify, std::uint64_t seed)
      : first_(first), count_(count), random_places_(random), random_(seed) {
    if (verify) {
      versions_.resize(count);
      busy_.resize(count);
    }
  }

  // With verification, never one that is in use: what is there would be either of two things.
  std::uint64_t take() {
    std::uint64_t place = random_places_ ? random_() % count_ : next_++ % count_;
    if (busy_.empty()) return place;
    while (busy_[place]) place = (place + 1) % count_;
    busy_[place] = true;
    return place;
  }
  void give_back(std::uint64_t place) {
    if (!busy_.empty()) busy_[place] = false;
  }
  // Of the whole namespace.
  std::uint64_t absolute(std::uint64_t place) const { return first_ + place; }
  bool percent(std::uint32_t percent) { return random_() % 100 < percent; }

  // What the next write there writes.
  void fill(std::uint64_t place, std::span<std::uint64_t> words) {
    const std::uint64_t key = word_key(place, ++versions_[place]);
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = key + i;
  }
  // Whether that is what was written last; nothing is known of places that were not.
  bool is_right(std::uint64_t place, std::span<const std::uint64_t> words) const {
    if (versions_[place] == 0) return true;
    const std::uint64_t key = word_key(place, versions_[place]);
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i] != key + i) return false;
    }
    return true;
  }

 private:
  // A multiplication by an odd number is one-to-one, and spreads places and versions over all bits.
  std::uint64_t word_key(std::uint64_t place, std::uint32_t version) const { return ((absolute(place) << 24) + version) * 0x9E37'79B9'7F4A'7C15ULL; }

  std::uint64_t first_;
  std::uint64_t count_;
  bool random_places_;
  std::mt19937_64 random_;
  std::uint64_t next_ = 0;
  std::vector<std::uint32_t> versions_;
  std::vector<bool> busy_;
};

}  // namespace catnap::perf
