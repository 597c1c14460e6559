// The baton, and the functions that the reactor's sim build calls. See interleaving.h.
#include "tests/sim/interleaving.h"

#include <poll.h>

#include <algorithm>
#include <array>

#include "reactor/base/check.h"

namespace catnap::sim {
namespace {

thread_local Interleaving* current_interleaving = nullptr;
thread_local std::size_t current_actor = 0;

// A run that does not end by itself by then goes round in circles.
constexpr std::uint64_t most_steps = 200'000;
// Of the trace: enough to see how a state came about.
constexpr std::size_t trace_bound = 400;

const char* name_of(Point point) {
  constexpr std::array names{"message_pushed", "home_read", "flag_seen_set", "flag_taken", "arrival_listed", "about_to_sleep",
                             "flag_set",       "rechecked", "looked",        "value_set",  "turn_ended"};
  return names.at(static_cast<std::size_t>(point));
}

bool readable(int fd) {
  pollfd asked{fd, POLLIN, 0};
  return poll(&asked, 1, 0) > 0;
}

}  // namespace

Interleaving* Interleaving::current() { return current_interleaving; }

void Interleaving::add_actor(std::string name, std::function<void()> run) {
  auto actor = std::make_unique<Actor>();
  actor->name = std::move(name);
  actor->run = std::move(run);
  actors_.push_back(std::move(actor));
}

void Interleaving::note(std::string text) {
  if (trace_.size() >= trace_bound) trace_.erase(trace_.begin(), trace_.begin() + trace_bound / 2);
  trace_.push_back(std::move(text));
}

bool Interleaving::can_go_on(const Actor& actor) const {
  if (actor.state == State::runnable) return true;
  return actor.state == State::waiting && (over_ || clock_.now_ns() >= actor.until_ns || readable(actor.epoll_fd));
}

bool Interleaving::waits(std::size_t actor) const { return actors_[actor]->state == State::waiting && !can_go_on(*actors_[actor]); }

bool Interleaving::wake_up_under_way() const {
  return std::ranges::any_of(actors_, [](const auto& actor) { return actor->state == State::runnable && actor->last == Point::flag_taken; });
}

bool Interleaving::sending_under_way() const {
  constexpr std::array steps{Point::message_pushed, Point::home_read,      Point::flag_seen_set,
                             Point::flag_taken,     Point::arrival_listed, Point::value_set};
  return std::ranges::any_of(
      actors_, [&](const auto& actor) { return actor->state == State::runnable && std::ranges::find(steps, actor->last) != steps.end(); });
}

void Interleaving::fail(std::string what) {
  if (over_) return;
  failure_ = std::move(what);
  over_ = true;
}

Interleaving::Actor* Interleaving::choose_next() {
  if (!over_ && check_) {
    if (std::string wrong = check_(); !wrong.empty()) fail(std::move(wrong));
  }
  if (!over_ && ++steps_ > most_steps) fail("it does not come to an end");
  while (true) {
    std::vector<Actor*> able;
    for (const auto& actor : actors_) {
      if (can_go_on(*actor)) able.push_back(actor.get());
    }
    if (!able.empty()) return able[choose(able.size())];
    std::uint64_t nearest_ns = ~std::uint64_t{0};
    bool all_done = true;
    for (const auto& actor : actors_) {
      if (actor->state == State::done) continue;
      all_done = false;
      nearest_ns = std::min(nearest_ns, actor->until_ns);
    }
    if (all_done) return nullptr;
    if (nearest_ns != ~std::uint64_t{0}) {
      clock_.advance_ns(nearest_ns - clock_.now_ns());
    } else {
      fail("everybody waits, and nothing will end it");
    }
  }
}

void Interleaving::hand_over(Actor* self) {
  Actor* next = choose_next();
  if (next == self && self != nullptr) return;
  if (next != nullptr) {
    next->baton.release();
  } else {
    all_done_.release();
  }
  if (self != nullptr && self->state != State::done) self->baton.acquire();
}

void Interleaving::at_point(Point point) {
  Actor& self = *actors_[current_actor];
  self.last = point;
  if (!over_) note(self.name + ":" + name_of(point));
  // Looking takes time by itself; everything else sometimes.
  if (point == Point::looked) clock_.advance_us(1);
  if (choose(8) == 0) clock_.advance_ns(choose(3'000));
  hand_over(&self);
  self.last = Point::turn_ended;
}

void Interleaving::wait(int epoll_fd, std::int64_t timeout_ns) {
  Actor& self = *actors_[current_actor];
  if (!over_) note(self.name + ":waits");
  self.state = State::waiting;
  self.epoll_fd = epoll_fd;
  self.until_ns = timeout_ns < 0 ? ~std::uint64_t{0} : clock_.now_ns() + static_cast<std::uint64_t>(timeout_ns);
  hand_over(&self);
  self.state = State::runnable;
  if (!over_) note(self.name + ":wakes");
}

void Interleaving::run() {
  for (std::size_t i = 0; i < actors_.size(); ++i) {
    actors_[i]->os_thread = std::thread([this, i] {
      current_interleaving = this;
      current_actor = i;
      Actor& self = *actors_[i];
      self.baton.acquire();
      self.run();
      self.state = State::done;
      hand_over(&self);
    });
  }
  hand_over(nullptr);
  all_done_.acquire();
  for (const auto& actor : actors_) actor->os_thread.join();
}

void point(Point point) {
  if (current_interleaving != nullptr) current_interleaving->at_point(point);
}
bool left_out(Step step) { return current_interleaving != nullptr && current_interleaving->is_left_out(step); }
std::int64_t wait(int epoll_fd, std::int64_t timeout_ns) {
  if (current_interleaving == nullptr) return timeout_ns;
  current_interleaving->wait(epoll_fd, timeout_ns);
  return 0;
}

}  // namespace catnap::sim
