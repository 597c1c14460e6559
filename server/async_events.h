// Asynchronous events of one controller: which are pending, which are told and wait for their log page to be read.
// Owner: the admin queue's thread. Left out: the outstanding requests (controller.h), error and SMART events (nothing raises them).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace catnap::server {

class AsyncEvents {
 public:
  // In the order of delivery.
  enum class Kind : std::uint8_t { namespace_attribute, ana_change, discovery_log };
  static constexpr std::size_t kinds = 3;

  // The bit of OAES and of feature 0Bh.
  static std::uint32_t bit(Kind kind);

  // Asynchronous Event Configuration (feature 0Bh). What is switched off is not told any more, pending or not.
  void configure(std::uint32_t enabled);
  std::uint32_t enabled() const { return enabled_; }

  // Something happened. Told once; then masked until log_page_read() (Base 2.0 section 5.2).
  void raise(Kind kind);
  // The event that may be told now: it counts as told. Nothing when none is pending.
  std::optional<Kind> take();
  bool any_pending() const;
  // The log page of this kind was read with RAE 0.
  void log_page_read(Kind kind);
  void reset();

  // DW0 of the completion.
  static std::uint32_t dw0(Kind kind);

 private:
  enum class State : std::uint8_t { idle, pending, told };
  State& state(Kind kind) { return states_[static_cast<std::size_t>(kind)]; }

  std::uint32_t enabled_ = 0;
  std::array<State, kinds> states_{};
};

}  // namespace catnap::server
