// The state file: when it is written, and who waits for it. See state_store.h.
// Owner: app_thread; write() on a worker.
#include "server/state_store.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "reactor/base/log.h"
#include "server/happenings.h"

namespace catnap::server {

struct StateStore::Written {
  Result<void> outcome;
  bool changed = false;
  std::optional<std::string> text;  // what the file has now; nothing: unknown
};

StateStore::StateStore(Thread& app_thread, WorkerPool& workers, FileSteps& files, std::string path, std::optional<std::string> durable_text,
                       Take take)
    : app_thread_(app_thread),
      workers_(workers),
      files_(files),
      path_(std::move(path)),
      take_(std::move(take)),
      durable_text_(std::move(durable_text)),
      alive_(std::make_shared<bool>(true)) {
  if (durable_text_) status_.bytes = durable_text_->size();
}

StateStore::~StateStore() { *alive_ = false; }

void StateStore::end() {
  ended_ = true;
  taken_.reset();
  for (Done& done : std::exchange(waiters_, {})) done(fail(ECANCELED, "the process is ending"));
}

void StateStore::prepare(std::size_t request_bytes, Done done) {
  if (ended_) {
    done(fail(ECANCELED, "the process is ending"));
    return;
  }
  if (status_.fault) {
    keep([this, request_bytes, done = std::move(done)](Result<void> kept) mutable {
      if (kept) {
        prepare(request_bytes, std::move(done));
      } else {
        done(std::move(kept));
      }
    });
    return;
  }
  promised_bytes_ += room_per_change + room_per_request_byte * request_bytes;
  const std::size_t wanted = status_.bytes + promised_bytes_;
  if (reserved_bytes_ >= wanted) {
    ++unsettled_;
    done({});
    return;
  }
  reserve(wanted, [this, done = std::move(done)](Result<void> reserved) mutable {
    if (reserved) ++unsettled_;
    done(std::move(reserved));
  });
}

void StateStore::begins(bool prepared) {
  half_made_ = true;
  const bool others_to_come = unsettled_ > (prepared ? 1 : 0);
  if (!ended_ && (!waiters_.empty() || others_to_come)) taken_ = take_();
}

void StateStore::made() {
  half_made_ = false;
  taken_.reset();
  write_if_wanted();
}

void StateStore::reserve(std::size_t bytes, Done done) {
  reserving_ = true;
  auto work = [&files = files_, name = spare_path(spare_), bytes] { return files.reserve(name, bytes); };
  workers_.submit(app_thread_, std::move(work), [this, alive = alive_, bytes, done = std::move(done)](Result<void> reserved) mutable {
    if (!*alive) return;
    reserving_ = false;
    if (reserved) reserved_bytes_ = bytes;
    done(std::move(reserved));
    write_if_wanted();
  });
}

void StateStore::settle(Done done) {
  --unsettled_;
  keep(std::move(done));
}

void StateStore::keep(Done done) {
  if (ended_) {
    done(fail(ECANCELED, "the process is ending"));
    return;
  }
  waiters_.push_back(std::move(done));
  write_if_wanted();
}

void StateStore::write_if_wanted() {
  if (writing_ || reserving_ || waiters_.empty() || (half_made_ && !taken_)) return;
  writing_ = true;
  StatePieces state = taken_ ? std::move(*taken_) : take_();
  taken_.reset();
  promised_bytes_ = 0;
  reserved_bytes_ = 0;
  auto work = [&files = files_, path = path_, spare = spare_path(std::exchange(spare_, 1 - spare_)), state = std::move(state),
               text = std::exchange(durable_text_, std::nullopt)] { return write(files, path, spare, state, text); };
  workers_.submit(app_thread_, std::move(work), [this, alive = alive_, waited = std::exchange(waiters_, {})](Written outcome) mutable {
    if (*alive) written(std::move(outcome), std::move(waited));
  });
  // A change that is being made had its room there; it gets new room, and should there be none, it learns so when it ends.
  if (unsettled_ > 0) reserve(status_.bytes + unsettled_ * room_per_change, [](const Result<void>&) {});
}

StateStore::Written StateStore::write(FileSteps& files, const std::string& path, const std::string& spare, const StatePieces& state,
                                      const std::optional<std::string>& durable_text) {
  Written result;
  std::string text = joined(state);
  if (durable_text == text) {
    files.remove(spare);  // the room is given back: nothing is left beside the file while nothing happens
    result.text = std::move(text);
    return result;
  }
  result.changed = true;
  result.outcome = write_durably(files, path, spare, text);
  if (result.outcome) result.text = std::move(text);
  return result;
}

void StateStore::written(Written outcome, std::vector<Done> waited) {
  writing_ = false;
  durable_text_ = std::move(outcome.text);
  if (durable_text_) status_.bytes = durable_text_->size();
  if (outcome.changed) ++status_.writes;
  if (!outcome.outcome && !status_.fault) {
    log_error("state file: {}; changes are refused until it can be written", outcome.outcome.error().message);
    Happenings::instance().tell(Happening(state_not_kept, path_).with("reason", outcome.outcome.error().message));
  }
  if (outcome.outcome && status_.fault) {
    log_notice("state file {}: written again", path_);
    Happenings::instance().tell(Happening(state_kept_again, path_));
  }
  status_.fault = outcome.outcome ? std::nullopt : std::optional<Error>(outcome.outcome.error());
  if (outcome.outcome) status_.changes += waited.size();
  write_if_wanted();  // for those who came meanwhile; the answers below may bring more
  const auto alive = alive_;
  for (Done& done : waited) {
    if (*alive) done(outcome.outcome);
  }
}

}  // namespace catnap::server
