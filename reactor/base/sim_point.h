// Where steps of the sleep protocol can be interleaved with those of other OS threads: the model in tests/sim stops there and lets another one go on.
// Owner: nobody. The model builds its own copy of the reactor with CATNAP_SIM; everywhere else these functions are empty and cost nothing.
// Left out: the model (tests/sim/interleaving.h defines the functions).
#pragma once

#include <cstdint>

namespace catnap::sim {

// What was just done.
enum class Point : std::uint8_t {
  message_pushed,  // sender: before it asks where the thread lives
  home_read,       // sender: before it looks at the reactor's sleeping flag
  flag_seen_set,   // sender: before it takes the wake-up upon itself
  flag_taken,      // sender: before it writes the eventfd
  arrival_listed,  // adopt(), move(): before the reactor is notified
  about_to_sleep,  // reactor: found nothing, has not said so yet
  flag_set,        // reactor: said that it sleeps, has not looked again
  rechecked,       // reactor: looked again, is not in the wait yet
  looked,          // reactor: one look of an adaptive one
  value_set,       // mode or stop request set, reactor not notified yet
  turn_ended,      // reactor: between two turns
};

// Steps that the model can leave out, to prove that it would notice.
enum class Step : std::uint8_t { recheck_messages, recheck_arrivals, notify_after_push, home_after_push };

#ifdef CATNAP_SIM
inline constexpr bool enabled = true;
void point(Point point);
bool left_out(Step step);
// Stands for the kernel's wait: returns when the epoll set has something or the time is over. What it returns is the time left to wait (0).
std::int64_t wait(int epoll_fd, std::int64_t timeout_ns);
#else
inline constexpr bool enabled = false;
inline void point(Point) {}
inline constexpr bool left_out(Step) { return false; }
inline std::int64_t wait(int, std::int64_t timeout_ns) { return timeout_ns; }
#endif

}  // namespace catnap::sim
