// The events, and the observer. See wake_up_stress.h.
#include "tests/sim/wake_up_stress.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "reactor/base/check.h"

namespace catnap::sim {
namespace {

thread_local std::size_t epoch_of_this_os_thread = 0;

// Between two looks of the observer.
constexpr auto sample_every = std::chrono::microseconds(500);
// A due fd or deadline is the kernel's to notice; a virtual CPU that is not scheduled by its host holds that up for a while.
constexpr auto kernel_patience = std::chrono::milliseconds(250);
// From few events, so that reactors sleep, to many.
constexpr std::int64_t most_under_way = 24;
constexpr auto drain_bound = std::chrono::seconds(60);

std::uint64_t now_ns() { return system_clock().now_ns(); }

// 'S': asleep in the kernel; 'R': running, or woken and waiting for a CPU.
char os_thread_state(int os_thread_id) {
  std::ifstream stat(fmt::format("/proc/self/task/{}/stat", os_thread_id));
  std::string text;
  std::getline(stat, text);
  const auto after_name = text.rfind(") ");
  return after_name == std::string::npos ? '?' : text[after_name + 2];
}

bool readable(int fd) {
  pollfd asked{fd, POLLIN, 0};
  return poll(&asked, 1, 0) > 0;
}

}  // namespace

class WakeUpStress::Operation {
 public:
  explicit Operation(WakeUpStress& stress) : epoch_(stress.epochs_[epoch_of_this_os_thread].value) { epoch_.fetch_add(1, std::memory_order_seq_cst); }
  ~Operation() { epoch_.fetch_add(1, std::memory_order_seq_cst); }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

 private:
  std::atomic<std::uint64_t>& epoch_;
};

WakeUpStress::WakeUpStress(std::uint64_t seed) : seed_(seed) {
  for (std::size_t i = 0; i < reactor_count; ++i) {
    ReactorOptions options;
    options.name = fmt::format("stress_{}", i);
    options.lcore = static_cast<unsigned>(i);
    options.mode = i % 2 == 0 ? ReactorMode::interrupt : ReactorMode::adaptive;
    options.stall_us = 60'000'000;  // two CPUs are shared by all of them: stalls say nothing
    reactors_.push_back(std::make_unique<Reactor>(options));
  }
  for (std::size_t i = 0; i < thread_count; ++i) make_worker(i);
  for (std::size_t i = 0; i < reactor_count; ++i) {
    os_threads_.emplace_back([this, i] {
      epoch_of_this_os_thread = i;
      reactors_[i]->run();
    });
  }
}

WakeUpStress::~WakeUpStress() {
  stopping_ = true;
  for (auto& sender : senders_) sender.join();
  for (auto& worker : workers_) worker.thread->request_exit();
  for (const auto& reactor : reactors_) {
    reactor->request_stop();
    reactor->notify();
  }
  for (auto& os_thread : os_threads_) os_thread.join();
  for (auto& worker : workers_) {
    for (const auto& bell : worker.bells) {
      (void)(bell->kind == BellKind::in_child ? *worker.child : worker.thread->fds()).remove(bell->read_fd);
      close(bell->read_fd);
      if (bell->write_fd != bell->read_fd) close(bell->write_fd);
    }
    worker.child.reset();
    worker.timer.reset();
    worker.deferred.reset();
  }
}

void WakeUpStress::make_worker(std::size_t index) {
  Worker& worker = workers_[index];
  auto made = std::make_unique<Thread>(fmt::format("worker_{}", index), CpuMask::of_cpu(0));
  worker.thread = made.get();
  worker.random.seed(static_cast<std::uint32_t>(seed_ * 1000 + index));
  worker.child = std::make_unique<FdGroup>(fmt::format("worker_{}.child", index), made.get());
  CATNAP_CHECK(made->fds().nest(*worker.child).has_value());
  worker.nested = true;
  worker.timer = std::make_unique<Timer>([this, &worker] {
    worker.worst_timer_ns = std::max(worker.worst_timer_ns, now_ns() - worker.timer->deadline_ns());
    worker.timer_token = false;
    event(worker);
  });
  worker.deferred = std::make_unique<Deferred>([this, &worker] { event(worker); });
  for (const BellKind kind : bell_kinds) make_bell(worker, kind);
  reactors_[index % reactor_count]->adopt(std::move(made));
}

void WakeUpStress::make_bell(Worker& worker, BellKind kind) {
  worker.bells.push_back(std::make_unique<Bell>());
  Bell& bell = *worker.bells.back();
  bell.kind = kind;
  if (kind == BellKind::pipe) {
    int ends[2];
    CATNAP_CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    bell.read_fd = ends[0];
    bell.write_fd = ends[1];
  } else {
    bell.read_fd = bell.write_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CATNAP_CHECK(bell.read_fd >= 0);
  }
  FdGroup& group = kind == BellKind::in_child ? *worker.child : worker.thread->fds();
  const std::uint32_t events = kind == BellKind::edge_eventfd ? EPOLLIN | EPOLLET : EPOLLIN;
  auto added = group.add(
      bell.read_fd, events, "bell",
      [this, &worker, &bell](std::uint32_t) {
        char byte;
        if (bell.kind == BellKind::pipe) CATNAP_CHECK(read(bell.read_fd, &byte, 1) == 1);
        // In a child it may have been due while the child was nowhere.
        if (bell.kind != BellKind::in_child)
          worker.worst_fd_ns = std::max(worker.worst_fd_ns, now_ns() - bell.rung_ns.load(std::memory_order_relaxed));
        bell.rung.store(false, std::memory_order_seq_cst);
        event(worker);
      },
      kind == BellKind::pipe ? FdKind::plain : FdKind::eventfd);
  CATNAP_CHECK(added.has_value());
}

// --- events: each that happens makes the next, so that their number stays as it is wanted ---

std::uint64_t WakeUpStress::happened() const {
  std::uint64_t sum = 0;
  for (const auto& count : counts_) sum += count.value.load(std::memory_order_relaxed);
  return sum;
}

void WakeUpStress::event(Worker& worker) {
  auto& count = counts_[static_cast<std::size_t>(&worker - workers_.data())].value;
  count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (under_way_.load(std::memory_order_relaxed) > wanted_.load(std::memory_order_relaxed)) {
    under_way_.fetch_sub(1);
    return;
  }
  go_on(worker.random, &worker);
}

void WakeUpStress::go_on(std::mt19937& random, Worker* self) {
  if (random() % 64 == 0) switch_mode(random);
  if (self != nullptr && random() % 3 == 0 && go_on_alone(random, *self)) return;
  const std::size_t to = random() % thread_count;
  if (random() % 64 == 0) return move(to, random() % reactor_count);
  if (random() % 3 == 0) return ring(to, random() % bell_kinds.size());
  send_message(to);
}

// The next event is one that a thread makes for itself. False: that one is under way already.
bool WakeUpStress::go_on_alone(std::mt19937& random, Worker& self) {
  switch (random() % 8) {
    case 0:
      if (self.deferred->queued()) return false;
      self.thread->make_ready(*self.deferred);
      return true;
    case 1: {  // away and back: the message that brings it back is the event
      if (!self.nested) return false;
      CATNAP_CHECK(self.thread->fds().unnest(*self.child).has_value());
      self.nested = false;
      nestings_.fetch_add(1, std::memory_order_relaxed);
      self.thread->send([this, &self] {
        CATNAP_CHECK(self.thread->fds().nest(*self.child).has_value());
        self.nested = true;
        event(self);
      });
      return true;
    }
    default:
      if (self.timer_token) return false;
      self.timer_token = true;
      self.thread->arm_in_us(*self.timer, random() % 200);
      return true;
  }
}

void WakeUpStress::send_message(std::size_t to) {
  Worker& worker = workers_[to];
  const Operation operation(*this);
  worker.thread->send([this, &worker, sent_ns = now_ns()] {
    worker.worst_message_ns = std::max(worker.worst_message_ns, now_ns() - sent_ns);
    event(worker);
  });
}

void WakeUpStress::ring(std::size_t to, std::size_t index) {
  Bell& bell = *workers_[to].bells[index];
  if (bell.rung.exchange(true, std::memory_order_seq_cst)) return send_message(to);  // two rings would be heard as one
  const Operation operation(*this);
  bell.rung_ns.store(now_ns(), std::memory_order_relaxed);
  const std::uint64_t one = 1;
  const std::size_t length = bell.kind == BellKind::pipe ? 1 : sizeof one;
  CATNAP_CHECK(write(bell.write_fd, &one, length) == static_cast<ssize_t>(length));
}

void WakeUpStress::switch_mode(std::mt19937& random) {
  // Poll mode seldom and not for long: it needs no wake-ups, and takes the CPU from those who do.
  constexpr std::array modes{ReactorMode::interrupt, ReactorMode::interrupt, ReactorMode::interrupt, ReactorMode::adaptive,
                             ReactorMode::adaptive,  ReactorMode::interrupt, ReactorMode::adaptive,  ReactorMode::poll};
  const Operation operation(*this);
  reactors_[random() % reactor_count]->set_mode(modes.at(random() % modes.size()));
  mode_switches_.fetch_add(1, std::memory_order_relaxed);
}

// Away to another reactor; the event is a message to it, sent once it is there.
void WakeUpStress::move(std::size_t which, std::size_t to) {
  const Operation operation(*this);
  Reactor::move(*workers_[which].thread, *reactors_[to], [this, which](const Result<void>& moved) {
    if (moved) moves_.fetch_add(1, std::memory_order_relaxed);
    send_message(which);
  });
}

// Keeps the number of events as it is wanted, and changes what is wanted: now and then everybody comes to rest.
void WakeUpStress::sender(std::size_t number) {
  epoch_of_this_os_thread = reactor_count + number;
  std::mt19937 random(static_cast<std::uint32_t>(seed_ * 7919 + number));
  while (!stopping_.load()) {
    if (number == 0) {
      if (random() % 256 == 0)
        wanted_ = random() % 4 == 0 ? static_cast<std::int64_t>(random() % 3) : static_cast<std::int64_t>(random() % most_under_way);
      // In poll mode for good, a reactor would hide what is lost.
      if (wanted_ == 0) {
        const Operation operation(*this);
        for (const auto& reactor : reactors_) reactor->set_mode(ReactorMode::interrupt);
      }
    }
    if (under_way_.load() < wanted_.load()) {
      under_way_.fetch_add(1);
      go_on(random, nullptr);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));  // the pace of what comes from outside
  }
}

// --- the observer ---

// Is this reactor in its wait with something due that ought to have ended it?
bool WakeUpStress::is_due(std::size_t reactor, const Reactor::WaitState& state, std::string& what) const {
  if (!state.waiting) return false;
  if (!state.notified && !state.due.empty()) {
    what = state.due;
    return true;
  }
  // The kernel's part: an OS thread that it has woken is in state R.
  const bool fd = readable(state.epoll_fd);
  const bool late = state.until_ns != TimerHeap::never_ns && state.until_ns < now_ns();
  if ((!fd && !late) || os_thread_state(state.os_thread_id) != 'S') return false;
  const Reactor::WaitState after = reactors_[reactor]->wait_state();
  what = fd ? "a ready fd" : "a deadline";
  return after.waiting && after.waits == state.waits;
}

// Whoever is in the middle of a send finishes it: then nothing is under way that would still wake the reactor.
void WakeUpStress::wait_for_operations_under_way() const {
  for (const auto& epoch : epochs_) {
    const std::uint64_t seen = epoch.value.load(std::memory_order_seq_cst);
    while (seen % 2 == 1 && epoch.value.load(std::memory_order_seq_cst) == seen) std::this_thread::yield();
  }
  // A reactor that hands a thread over wakes its new one within the same turn.
  for (const auto& reactor : reactors_) {
    const std::uint64_t turns = reactor->stats().turns;
    while (!reactor->wait_state().waiting && reactor->stats().turns == turns) std::this_thread::yield();
  }
}

void WakeUpStress::confirm(std::size_t reactor, const Reactor::WaitState& first, const std::string& what) {
  ++report_.suspects;
  wait_for_operations_under_way();
  const auto until = std::chrono::steady_clock::now() + (first.due.empty() || first.notified ? kernel_patience : std::chrono::milliseconds(0));
  while (true) {
    const Reactor::WaitState again = reactors_[reactor]->wait_state();
    std::string still;
    if (again.waits != first.waits || !is_due(reactor, again, still)) return;
    if (std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(sample_every);
      continue;
    }
    report_.lost = fmt::format("{} is in the same wait twice (after {} others), seed {}: first {}, then {} is due", reactors_[reactor]->name(),
                               again.waits, seed_, what, still);
    return;
  }
}

void WakeUpStress::observe() {
  for (std::size_t i = 0; i < reactor_count && report_.lost.empty(); ++i) {
    ++report_.samples;
    const Reactor::WaitState state = reactors_[i]->wait_state();
    if (std::string what; is_due(i, state, what)) confirm(i, state, what);
  }
}

WakeUpStress::Report WakeUpStress::run(std::uint64_t events) {
  for (std::size_t i = 0; i < sender_count; ++i) senders_.emplace_back([this, i] { sender(i); });
  while (happened() < events && report_.lost.empty()) {
    observe();
    std::this_thread::sleep_for(sample_every);
  }
  stopping_ = true;
  for (auto& sender : senders_) sender.join();
  senders_.clear();
  wanted_ = -1;
  for (const auto& reactor : reactors_) reactor->set_mode(ReactorMode::interrupt);
  const auto give_up = std::chrono::steady_clock::now() + drain_bound;
  while (under_way_ > 0 && report_.lost.empty() && std::chrono::steady_clock::now() < give_up) {
    observe();
    std::this_thread::sleep_for(sample_every);
  }
  report_.left = report_.lost.empty() ? static_cast<std::uint64_t>(under_way_.load()) : 0;
  report_.events = happened();
  report_.mode_switches = mode_switches_;
  report_.nestings = nestings_;
  report_.moves = moves_;
  for (const auto& reactor : reactors_) report_.sleeps += reactor->stats().sleeps;
  if (report_.left == 0 && report_.lost.empty()) {
    for (const auto& worker : workers_) {  // all at rest: each count was published before the last event was counted off
      report_.worst_message_ns = std::max(report_.worst_message_ns, worker.worst_message_ns);
      report_.worst_fd_ns = std::max(report_.worst_fd_ns, worker.worst_fd_ns);
      report_.worst_timer_ns = std::max(report_.worst_timer_ns, worker.worst_timer_ns);
    }
  }
  return report_;
}

}  // namespace catnap::sim
