// Asks every lightweight thread a question, each on itself, and waits for the answers only so long: a stuck reactor is named, not waited for.
// Owner: the asking thread (app_thread). Left out: asking one thread (call_on in task.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "reactor/runtime.h"
#include "reactor/task.h"

namespace catnap {

// How long RPCs wait for threads: far above a turn that does not block and what a machine that others use keeps a thread from its CPU, far below any
// caller's patience.
inline constexpr std::uint64_t thread_answer_us = 2'000'000;

template <typename Answer>
struct ThreadAnswers {
  std::map<std::uint64_t, Answer> by_id;  // by thread id; of loops, which all have id 0, in `of_loops`
  std::vector<Answer> of_loops;
  std::vector<std::string> silent_threads;  // names of those that did not answer; `ask` did not run there and never will
};

namespace detail {

// What the asker and one thread agree on: either the thread takes the question or the asker withdraws it, never both.
enum class Question : std::uint8_t { open, taken, withdrawn };

template <typename Answer>
struct AskRound {
  ThreadAnswers<Answer> answers;  // these three on the asker only
  std::size_t expected = 0;
  bool over = false;
  Promise<bool> done;
  struct One {
    explicit One(Thread& asked) : thread(asked) {}
    Thread& thread;
    std::atomic<Question> state{Question::open};
  };
  std::vector<std::unique_ptr<One>> all;

  void check() {
    if (answers.by_id.size() + answers.of_loops.size() == expected && !std::exchange(over, true)) done.set(true);
  }
  void withdraw() {
    for (const auto& one : all) {
      Question open = Question::open;
      if (!one->state.compare_exchange_strong(open, Question::withdrawn)) continue;
      answers.silent_threads.push_back(one->thread.name());
      --expected;
    }
    check();
  }
};

}  // namespace detail

// Runs `ask` on each of these threads. Called on a lightweight thread.
template <typename Answer>
Task<ThreadAnswers<Answer>> ask_threads(std::vector<Thread*> threads, std::function<Answer(Thread&)> ask) {
  using Round = detail::AskRound<Answer>;
  auto round = std::make_shared<Round>();
  Thread* home = Thread::current();
  for (Thread* thread : threads) round->all.push_back(std::make_unique<typename Round::One>(*thread));
  for (const auto& one : round->all) {
    const bool sent = one->thread.send([round, home, ask, asked = one.get()] {
      detail::Question open = detail::Question::open;
      if (!asked->state.compare_exchange_strong(open, detail::Question::taken)) return;
      home->send([round, id = asked->thread.id(), answer = ask(asked->thread)]() mutable {
        if (id == 0) {
          round->answers.of_loops.push_back(std::move(answer));
        } else {
          round->answers.by_id.emplace(id, std::move(answer));
        }
        round->check();
      });
    });
    if (sent) ++round->expected;
  }
  if (round->expected == 0) co_return ThreadAnswers<Answer>();
  Timer patience([round] { round->withdraw(); });
  home->arm_in_us(patience, thread_answer_us);
  const bool ended = co_await round->done;
  static_cast<void>(ended);
  co_return std::move(round->answers);
}

// Runs `ask` on every thread there is now.
template <typename Answer>
Task<ThreadAnswers<Answer>> ask_threads(Runtime* runtime, std::function<Answer(Thread&)> ask) {
  return ask_threads<Answer>(runtime->threads(), std::move(ask));
}

}  // namespace catnap
