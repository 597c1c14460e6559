// Threads that come to a reactor, and threads that go from one to another. See Reactor::adopt() and Reactor::move().
//
// A move is made by the OS thread of the reactor that is left, between callbacks: a message of its loop. From then on the thread is the new
// reactor's, which finds it among its arrivals and runs it once before it may sleep. A sender who still read the old home has pushed its message
// before that, so the new reactor finds it; one who reads the new home wakes it.
#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "reactor/base/sim_point.h"
#include "reactor/buffer_pool.h"
#include "reactor/reactor_impl.h"

namespace catnap {
namespace {

std::mutex moves_mutex;

// epoll_ctl has no memory, or the user has too many watches (ENOSPC): a while that a loaded system can use.
constexpr std::uint64_t watch_again_us = 10'000;

}  // namespace

std::unique_lock<std::mutex> Reactor::hold_moves() { return std::unique_lock(moves_mutex); }

Thread& Reactor::loop() { return *impl_->loop; }

void Reactor::adopt(std::unique_ptr<Thread> thread) {
  thread->set_home(this);
  {
    const std::lock_guard lock(impl_->list_mutex);
    impl_->arrivals.push_back({std::move(thread), {}, false});
    impl_->has_arrivals.store(true, std::memory_order_seq_cst);
  }
  sim::point(sim::Point::arrival_listed);
  notify();
}

void Reactor::take_arrivals() {
  if (!impl_->has_arrivals.load(std::memory_order_seq_cst)) return;
  std::vector<Impl::Arrival> arrived;
  std::vector<Thread*> threads;
  {
    const std::lock_guard lock(impl_->list_mutex);
    impl_->has_arrivals.store(false, std::memory_order_seq_cst);
    arrived = std::exchange(impl_->arrivals, {});
    for (auto& arrival : arrived) {
      threads.push_back(arrival.thread.get());
      impl_->threads.push_back(std::move(arrival.thread));
    }
  }
  // Time must not go back for a thread whose last turn elsewhere began after this one.
  turn_ns_ = clock_.now_ns();
  for (std::size_t i = 0; i < arrived.size(); ++i) {
    Thread& thread = *threads[i];
    thread.set_host(this);
    thread.begin_account(turn_ns_);
    impl_->not_nested.push_back(&thread.fds());
    if (!arrived[i].moved) continue;
    thread.tell_arrived();
    buffers_->join_line(arrived[i].line);
  }
  watch_arrived_fds();
  ring_alarm();
}

// The kernel may refuse to watch them here; the thread runs meanwhile, deaf but alive, and nothing that its fds have to say gets lost.
void Reactor::watch_arrived_fds() {
  std::erase_if(impl_->not_nested, [this](FdGroup* group) {
    auto nested = fds_.nest(*group);
    if (!nested) log_error("reactor '{}': {}; next try in {} ms", options_.name, nested.error().message, watch_again_us / 1000);
    return nested.has_value();
  });
  if (!impl_->not_nested.empty()) impl_->loop->arm_in_us(*impl_->nest_again, watch_again_us);
}

void Reactor::move(Thread& thread, Reactor& target, Moved moved) {
  Reactor* home = thread.reactor();
  CATNAP_CHECK(home != nullptr);
  home->loop().send([home, &thread, &target, moved = std::move(moved)]() mutable { home->hand_over(thread, target, std::move(moved)); });
}

void Reactor::hand_over(Thread& thread, Reactor& target, Moved moved) {
  const auto found = std::ranges::find(impl_->threads, &thread, [](const auto& one) { return one.get(); });
  if (thread.exit_requested() || thread.exited()) return moved(fail(ESRCH, fmt::format("thread '{}' exits", thread.name())));
  // It went elsewhere since this was asked for, or it is about to arrive here: ask again where it is by then.
  if (found == impl_->threads.end()) return move(thread, target, std::move(moved));
  if (&target == this) return moved({});
  Impl::Arrival arrival;
  arrival.moved = true;
  {
    const auto moving = hold_moves();
    if (stop_requested() || target.stop_requested()) return moved(fail(ECANCELED, "reactors stop"));
    thread.tell_leaving();
    thread.set_host(nullptr);
    std::erase(impl_->not_nested, &thread.fds());
    fds_.lift(thread.fds());
    thread.account(clock_.now_ns());
    arrival.line = buffers_->take_line(thread);
    thread.set_home(&target);
    {
      const std::lock_guard lock(impl_->list_mutex);
      arrival.thread = std::move(*found);
      impl_->threads.erase(found);
    }
    const std::lock_guard lock(target.impl_->list_mutex);
    target.impl_->arrivals.push_back(std::move(arrival));
    target.impl_->has_arrivals.store(true, std::memory_order_seq_cst);
  }
  sim::point(sim::Point::arrival_listed);
  target.notify();
  buffers_->serve_line();  // it may have held up the others
  moved({});
}

}  // namespace catnap
