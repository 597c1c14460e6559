// See for_each.h.
#include "reactor/for_each.h"

#include <memory>
#include <utility>

#include "reactor/base/check.h"

namespace catnap {
namespace {

struct Round {
  Round(Thread& asker, std::function<void(Thread&)> visitor, Message completion)
      : origin(asker), visit(std::move(visitor)), done(std::move(completion)), hold(asker, "for-each operations") {}
  Thread& origin;
  std::function<void(Thread&)> visit;
  Message done;
  Thread::Hold hold;
  std::size_t left = 0;  // on `origin` only
};

void one_less(Round* round) {
  if (--round->left > 0) return;
  const std::unique_ptr<Round> over(round);  // the hold is given back here, on the thread that took it
  round->done();
}

}  // namespace

void for_each_of(const std::vector<Thread*>& threads, std::function<void(Thread&)> visit, Message done) {
  Thread* const origin = Thread::current();
  CATNAP_CHECK(origin != nullptr);
  auto* const round = new Round(*origin, std::move(visit), std::move(done));
  const auto count_down = [round] { one_less(round); };
  round->left = threads.size() + 1;
  for (Thread* thread : threads) {
    const bool sent = thread->send([round, thread, count_down] {
      round->visit(*thread);
      round->origin.send(count_down);
    });
    if (!sent) origin->send(count_down);
  }
  origin->send(count_down);  // also ends a round over no thread, and never within the call
}

}  // namespace catnap
