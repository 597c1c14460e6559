// Long lists in results, made in slices: whoever lists thousands of objects does not hold up other callers meanwhile, nor hosts that connect.
// Owner: the thread that lists. Left out: writing a long result as text (exchange.cpp has a worker do that).
#pragma once

#include <json/json.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "reactor/clock.h"
#include "reactor/task.h"

namespace catnap::rpc {

// Of the CPU at one time: a turn costs about 1 µs besides its work, and nobody who waits for a call notices 1 ms.
inline constexpr std::uint64_t listing_slice_ns = ns_per_ms;

template <typename Item>
using Shown = Json::Value (*)(const Item&);

// An array of what `shown` makes of each item. Others are served between slices, so the items must stay what they are by
// themselves (shared pointers, copies): each is shown as it is at its own moment.
template <typename Item>
Task<Json::Value> list_in_slices(std::vector<Item> items, Shown<Item> shown) {
  Json::Value list(Json::arrayValue);
  std::uint64_t began_ns = system_clock().now_ns();
  for (const Item& item : items) {
    list.append(shown(item));
    if (system_clock().now_ns() - began_ns < listing_slice_ns) continue;
    const Promise<bool> next_turn;
    next_turn.set(true);
    co_await next_turn;
    began_ns = system_clock().now_ns();
  }
  co_return list;
}

}  // namespace catnap::rpc
