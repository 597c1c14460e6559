// What the actors do, and what must hold at every step. See sleep_model.h.
#include "tests/sim/sleep_model.h"

#include <fmt/core.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "reactor/base/check.h"

namespace catnap::sim {
namespace {

constexpr std::uint64_t never_ns = TimerHeap::never_ns;
// Between reading the clock and waiting, steps of others may take this long; a deadline is late only beyond it.
constexpr std::uint64_t late_ns = 2 * ns_per_ms;
constexpr std::array modes{ReactorMode::interrupt, ReactorMode::interrupt, ReactorMode::adaptive, ReactorMode::poll};

}  // namespace

SleepModel::SleepModel(std::uint64_t seed, std::optional<Step> left_out) : interleaving_(seed) {
  if (left_out) interleaving_.leave_out(*left_out);
  make_reactors();
  const std::size_t threads = reactors_.size() + interleaving_.choose(3);
  threads_.resize(threads);
  for (std::size_t i = 0; i < threads; ++i) make_thread(i);
  budget_ = 20 + interleaving_.choose(60);
  const std::size_t senders = 1 + interleaving_.choose(2);
  for (std::size_t i = 0; i < senders; ++i) interleaving_.add_actor(fmt::format("s{}", i), [this, i] { sender(i); });
  interleaving_.check_with([this] { return check(); });
}

SleepModel::~SleepModel() {
  for (auto& actor : threads_) {
    for (auto& timer : actor.timers) timer->disarm();
    actor.deferred.reset();
  }
  for (const auto& bell : bells_) {
    Actor& actor = threads_[bell.thread];
    (void)(bell.in_child ? *actor.child : actor.thread->fds()).remove(bell.fd);
    close(bell.fd);
  }
  for (auto& actor : threads_) actor.child.reset();
}

void SleepModel::make_reactors() {
  const std::size_t count = 2 + interleaving_.choose(3);
  for (std::size_t i = 0; i < count; ++i) {
    ReactorOptions options;
    options.name = fmt::format("r{}", i);
    options.lcore = static_cast<unsigned>(i);
    options.mode = modes.at(interleaving_.choose(modes.size()));
    options.max_spin_us = 5;
    reactors_.push_back(std::make_unique<Reactor>(options, interleaving_.clock()));
    interleaving_.add_actor(options.name, [this, i] { reactors_[i]->run(); });
  }
  modes_being_set_.resize(count);
  stop_asked_.resize(count);
}

void SleepModel::make_thread(std::size_t index) {
  Actor& actor = threads_[index];
  auto made = std::make_unique<Thread>(fmt::format("t{}", index), CpuMask::of_cpu(0));
  actor.thread = made.get();
  actor.child = std::make_unique<FdGroup>(fmt::format("t{}.child", index), made.get());
  actor.nested = interleaving_.choose(2) == 0;
  if (actor.nested) CATNAP_CHECK(made->fds().nest(*actor.child).has_value());
  actor.earliest_ns = never_ns;
  for (int i = 0; i < 2; ++i) {
    actor.timers.push_back(std::make_unique<Timer>([this, index] {
      Actor& self = threads_[index];
      self.earliest_ns = never_ns;
      for (const auto& timer : self.timers) {
        if (timer->armed()) self.earliest_ns = std::min(self.earliest_ns, timer->deadline_ns());
      }
      act(index);
    }));
  }
  actor.deferred = std::make_unique<Deferred>([this, index] {
    threads_[index].deferred_due = false;
    act(index);
  });
  make_bell(index, false);
  make_bell(index, true);
  reactors_[interleaving_.choose(reactors_.size())]->adopt(std::move(made));
}

void SleepModel::make_bell(std::size_t thread, bool in_child) {
  Bell bell;
  bell.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  CATNAP_CHECK(bell.fd >= 0);
  bell.thread = thread;
  bell.edge = interleaving_.choose(2) == 0;
  bell.in_child = in_child;
  const std::size_t index = bells_.size();
  FdGroup& group = in_child ? *threads_[thread].child : threads_[thread].thread->fds();
  const std::uint32_t events = bell.edge ? EPOLLIN | EPOLLET : EPOLLIN;
  CATNAP_CHECK(group.add(bell.fd, events, "bell", [this, index](std::uint32_t) { answer(index); }, FdKind::eventfd).has_value());
  bells_.push_back(bell);
}

// --- what happens ---

void SleepModel::sender(std::size_t) {
  while (budget_ > 0 && !interleaving_.over()) {
    act_as_anybody();
    // A break now and then, so that the others come to rest.
    if (interleaving_.choose(6) == 0) interleaving_.wait(-1, static_cast<std::int64_t>(interleaving_.choose(100'000)));
  }
}

void SleepModel::act(std::optional<std::size_t> self) {
  ++events_;
  if (budget_ == 0 || interleaving_.over()) return;
  const std::uint64_t times = interleaving_.choose(3);
  for (std::uint64_t i = 0; i < times && budget_ > 0; ++i) {
    if (interleaving_.choose(2) == 0) {
      act_as_anybody();
    } else {
      act_on_own_thread(*self);
    }
  }
}

void SleepModel::act_as_anybody() {
  --budget_;
  switch (interleaving_.choose(11)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return send_message();
    case 4:
    case 5:
      return ring();
    case 6:
      return change_mode();
    case 7:
      return change_thread_mode();
    case 8:
    case 9:
      return move_thread();
    default:
      return adopt_another();
  }
}

void SleepModel::act_on_own_thread(std::size_t self) {
  --budget_;
  Actor& actor = threads_[self];
  switch (interleaving_.choose(5)) {
    case 0:
    case 1:
      return arm(self);
    case 2:
      return turn_nesting(self);
    case 3:
      actor.deferred_due = true;
      return actor.thread->make_ready(*actor.deferred);
    default:
      return add_busy_poller(self);
  }
}

void SleepModel::send_message() {
  sent_.push_back(std::make_unique<Sent>());
  Sent& sent = *sent_.back();
  sent.to = interleaving_.choose(threads_.size());
  interleaving_.note(fmt::format("send to t{}", sent.to));
  const bool taken = threads_[sent.to].thread->send([this, &sent] {
    sent.ran = true;
    act(sent.to);
  });
  CATNAP_CHECK(taken || winding_up_);
  sent.handed_over = true;
  if (!taken) sent.ran = true;
}

void SleepModel::ring() {
  Bell& bell = bells_[interleaving_.choose(bells_.size())];
  bell.rung = true;
  interleaving_.note(fmt::format("ring t{}", bell.thread));
  const std::uint64_t one = 1;
  CATNAP_CHECK(write(bell.fd, &one, sizeof one) == sizeof one);
}

void SleepModel::answer(std::size_t bell) {
  bells_[bell].rung = false;  // drained right before this
  act(bells_[bell].thread);
}

void SleepModel::arm(std::size_t self) {
  Actor& actor = threads_[self];
  Timer& timer = *actor.timers[interleaving_.choose(actor.timers.size())];
  actor.thread->arm_in_us(timer, interleaving_.choose(50));
  actor.earliest_ns = never_ns;
  for (const auto& each : actor.timers) {
    if (each->armed()) actor.earliest_ns = std::min(actor.earliest_ns, each->deadline_ns());
  }
}

void SleepModel::turn_nesting(std::size_t self) {
  Actor& actor = threads_[self];
  if (actor.nested) {
    CATNAP_CHECK(actor.thread->fds().unnest(*actor.child).has_value());
  } else {
    CATNAP_CHECK(actor.thread->fds().nest(*actor.child).has_value());
  }
  actor.nested = !actor.nested;
}

void SleepModel::change_mode() {
  const std::size_t which = interleaving_.choose(reactors_.size());
  const ReactorMode mode = modes.at(interleaving_.choose(modes.size()));
  interleaving_.note(fmt::format("r{} becomes {}", which, reactor_mode_name(mode)));
  ++modes_being_set_[which];
  reactors_[which]->set_mode(mode);
  --modes_being_set_[which];
}

void SleepModel::change_thread_mode() {
  constexpr std::array thread_modes{ThreadMode::inherit, ThreadMode::inherit, ThreadMode::interrupt, ThreadMode::adaptive, ThreadMode::poll};
  const std::size_t which = interleaving_.choose(threads_.size());
  const ThreadMode mode = thread_modes.at(interleaving_.choose(thread_modes.size()));
  interleaving_.note(fmt::format("t{} becomes {}", which, thread_mode_name(mode)));
  ++threads_[which].modes_being_set;
  threads_[which].thread->set_mode(mode);
  --threads_[which].modes_being_set;
}

void SleepModel::move_thread() {
  const std::size_t which = interleaving_.choose(threads_.size());
  const std::size_t to = interleaving_.choose(reactors_.size());
  Actor& actor = threads_[which];
  if (actor.moving) return;
  interleaving_.note(fmt::format("t{} to r{}", which, to));
  actor.moving = true;
  Reactor::move(*actor.thread, *reactors_[to], [this, &actor](const Result<void>& moved) {
    CATNAP_CHECK(moved.has_value() || winding_up_ || interleaving_.over());
    actor.moving = false;
    ++events_;
  });
}

void SleepModel::adopt_another() {
  arrivals_.push_back(std::make_unique<Arrival>());
  Arrival& arrival = *arrivals_.back();
  arrival.reactor = interleaving_.choose(reactors_.size());
  if (stop_asked_[arrival.reactor]) {
    arrival.handed_over = arrival.ran = true;
    return;
  }
  auto made = std::make_unique<Thread>(fmt::format("guest{}", arrivals_.size()), CpuMask::of_cpu(0));
  Thread& guest = *made;
  // Without a home nobody is woken: adopting alone must bring it to run.
  guest.send([&arrival, &guest] {
    arrival.ran = true;
    guest.request_exit();
  });
  interleaving_.note(fmt::format("guest to r{}", arrival.reactor));
  reactors_[arrival.reactor]->adopt(std::move(made));
  arrival.handed_over = true;
}

void SleepModel::add_busy_poller(std::size_t self) {
  Actor& actor = threads_[self];
  if (actor.poller != nullptr) return;
  actor.poller_runs_left = 1 + static_cast<int>(interleaving_.choose(4));
  actor.poller = &actor.thread->add_poller(
      "model",
      [this, self] {
        Actor& owner = threads_[self];
        if (--owner.poller_runs_left > 0) return 0;
        owner.thread->remove_poller(*std::exchange(owner.poller, nullptr));
        act(self);
        return 1;
      },
      0);
}

// --- what must hold ---

std::string SleepModel::check() const {
  if (interleaving_.wake_up_under_way()) return {};
  for (std::size_t i = 0; i < reactors_.size(); ++i) {
    if (!interleaving_.waits(i)) continue;
    if (std::string due = check_reactor(i); !due.empty()) return fmt::format("r{} is in its wait, and nobody will wake it: {}", i, due);
  }
  return {};
}

std::string SleepModel::check_reactor(std::size_t index) const {
  const Reactor* reactor = reactors_[index].get();
  // A thread on its way is nobody's yet: whoever moves it will wake where it goes. What lies at the reactors themselves is looked at below.
  const auto lives_here = [&](std::size_t thread) {
    return threads_[thread].thread->reactor() == reactor && !threads_[thread].moving && !threads_[thread].thread->exited();
  };
  for (const auto& sent : sent_) {
    if (sent->handed_over && !sent->ran && lives_here(sent->to)) return fmt::format("a message for t{}", sent->to);
  }
  for (const auto& arrival : arrivals_) {
    if (arrival->handed_over && !arrival->ran && arrival->reactor == index) return "an arriving thread";
  }
  for (const auto& bell : bells_) {
    const Actor& owner = threads_[bell.thread];
    if (bell.rung && lives_here(bell.thread) && (!bell.in_child || owner.nested)) return fmt::format("a bell of t{}", bell.thread);
  }
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    if (!lives_here(i)) continue;
    if (threads_[i].end_handed_over && !threads_[i].thread->exited()) return fmt::format("the end of t{}", i);
    if (threads_[i].deferred_due) return fmt::format("ready work of t{}", i);
    if (threads_[i].poller != nullptr) return fmt::format("a busy poller of t{}", i);
    const std::uint64_t earliest_ns = threads_[i].earliest_ns;
    if (earliest_ns != never_ns && earliest_ns + late_ns < interleaving_.clock().now_ns()) return fmt::format("a timer of t{}", i);
  }
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    if (lives_here(i) && threads_[i].thread->mode() == ThreadMode::poll && threads_[i].modes_being_set == 0)
      return fmt::format("mode poll of t{}", i);
  }
  if (!interleaving_.sending_under_way()) {
    // What an observer of a running process sees: the same question, asked of the reactor itself.
    if (const auto state = reactor->wait_state(); !state.due.empty() && !state.notified) return state.due;
  }
  // Its CPU is never shared here: the virtual clock does not move during a yield.
  if (reactor->mode() == ReactorMode::poll && modes_being_set_[index] == 0) return "mode poll";
  if (stop_asked_[index] && reactor->threads().empty()) return "a request to stop";
  return {};
}

bool SleepModel::all_done() const {
  return std::ranges::all_of(sent_, [](const auto& sent) { return sent->ran; }) &&
         std::ranges::all_of(arrivals_, [](const auto& arrival) { return arrival->ran; }) &&
         std::ranges::none_of(bells_, [&](const auto& bell) { return bell.rung && (!bell.in_child || threads_[bell.thread].nested); }) &&
         std::ranges::all_of(threads_, [](const auto& actor) { return actor.earliest_ns == never_ns && !actor.deferred_due && !actor.moving; });
}

SleepModel::Outcome SleepModel::run() {
  interleaving_.add_actor("end", [this] {
    // Its waits wake nobody else, so what is lost stays lost.
    while (!(budget_ == 0 && all_done()) && !interleaving_.over()) interleaving_.wait(-1, 20'000);
    winding_up_ = true;
    for (auto& actor : threads_) {
      actor.thread->request_exit();
      actor.end_handed_over = true;
    }
    for (std::size_t i = 0; i < reactors_.size(); ++i) {
      reactors_[i]->request_stop();
      stop_asked_[i] = true;
    }
  });
  interleaving_.run();
  Outcome outcome;
  outcome.failure = interleaving_.failure();
  outcome.steps = interleaving_.steps();
  outcome.events = events_;
  for (const auto& step : interleaving_.trace()) outcome.tail += step + "\n";
  return outcome;
}

}  // namespace catnap::sim
