// Asynchronous events of one controller: which are pending, which are told and wait for their log page to be read.
// Owner: the admin queue's thread. Left out: the outstanding requests (controller.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace catnap::server {

class AsyncEvents {
 public:
  // In the order of delivery.
  enum class Kind : std::uint8_t {
    error,   // a transient internal error, told by log page 01h; cannot be switched off (Base 2.0 section 5.2)
    health,  // a critical warning of log page 02h: reliability
    namespace_attribute,
    ana_change,
    discovery_log,
    host_discovery_log,
    reservation_log,  // always on: feature 82h says what gets into the log
  };
  static constexpr std::size_t kinds = 7;

  // The bit of OAES (but for health) and of feature 0Bh; 0: always on.
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
  bool is_on(Kind kind) const { return bit(kind) == 0 || (enabled_ & bit(kind)) != 0; }
  State& state(Kind kind) { return states_[static_cast<std::size_t>(kind)]; }

  std::uint32_t enabled_ = 0;
  std::array<State, kinds> states_{};
};

}  // namespace catnap::server
