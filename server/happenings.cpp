// Who tells, who hears. See happenings.h.
#include "server/happenings.h"

#include <fmt/format.h>

namespace catnap::server {

// Never destroyed: other threads tell as long as they run.
Happenings& Happenings::instance() {
  static auto* happenings = new Happenings;
  return *happenings;
}

void Happenings::listen(Thread* app_thread, Listener listener) {
  app_thread_ = app_thread;
  listener_ = std::move(listener);
}

void Happenings::tell(Happening happening) {
  if (app_thread_ == nullptr) return;
  // Always by message: who listens is not on the stack of what happens.
  app_thread_->send([this, happening = std::move(happening)] {
    if (listener_) listener_(happening);
  });
}

void Happenings::tell_of_host(Happening happening) {
  if (app_thread_ == nullptr) return;
  const auto left_out = limit_.allow(fmt::format("{} {}", happening.type, happening.about));
  if (!left_out) return;
  happening.by_host = true;
  if (*left_out > 0) happening.details.emplace_back("left_out", fmt::to_string(*left_out));
  tell(std::move(happening));
}

}  // namespace catnap::server
