// See nvme_channel.h.
#include "bdev/nvme/nvme_channel.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <utility>

#include "bdev/nvme/controller.h"
#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "reactor/base/log_limit.h"

namespace catnap::bdev {
namespace {

using tcp::HostRequest;

LogLimit failed_io_log;

}  // namespace

// --- lists ---

void NvmeChannel::List::push_back(NvmeIo& io) {
  io.next = nullptr;
  (last != nullptr ? last->next : first) = &io;
  last = &io;
}

NvmeIo* NvmeChannel::List::pop_front() {
  NvmeIo* io = first;
  first = io->next;
  if (first == nullptr) last = nullptr;
  io->next = nullptr;
  return io;
}

bool NvmeChannel::List::remove(NvmeIo& io) {
  NvmeIo* before = nullptr;
  for (NvmeIo* at = first; at != nullptr; before = at, at = at->next) {
    if (at != &io) continue;
    (before != nullptr ? before->next : first) = io.next;
    if (last == &io) last = before;
    io.next = nullptr;
    return true;
  }
  return false;
}

// --- life ---

NvmeChannel::NvmeChannel(NvmeBdev& bdev, Thread& thread)
    : Channel(bdev, thread),
      // Paths published while this channel was made, before the bdev knew it.
      catch_up_([this] {
        if (auto now = nvme_bdev().paths(); now != set_) adopt(std::move(now));
        take_up_fences();
      }),
      delay_timer_([this] { delays_due(); }) {
  take_up_fences();
  adopt(bdev.paths());
  thread.make_ready(catch_up_);
}

NvmeChannel::~NvmeChannel() {
  for (auto* list : {&paths_, &retired_}) {
    for (const auto& path : *list) path->port->remove_user(*this);
  }
}

void NvmeChannel::adopt(std::shared_ptr<const PathSet> set) {
  std::vector<std::unique_ptr<Path>> before = std::exchange(paths_, {});
  set_ = std::move(set);
  for (const PathEntry& entry : set_->paths) {
    const auto known = std::ranges::find_if(before, [&entry](const auto& path) { return path != nullptr && path->entry.hub == entry.hub; });
    std::unique_ptr<Path> path;
    if (known != before.end()) {
      path = std::move(*known);
    } else {
      path = std::make_unique<Path>();
      path->port = entry.hub->port_of_current_thread();
      path->port->add_user(*this);
    }
    path->entry = entry;
    path->ana_doubtful = false;
    paths_.push_back(std::move(path));
  }
  for (auto& path : before) {
    if (path == nullptr) continue;
    path->retired = true;
    retired_.push_back(std::move(path));
  }
  retire_unused();
  chooser_.set_options(set_->multipath);  // forgets
  views_.assign(paths_.size(), PathView());
  look_at_paths();
  resume_waiting();
}

// Paths that are not published any more go with their last command.
void NvmeChannel::retire_unused() {
  std::erase_if(retired_, [this](const auto& path) {
    if (path->in_flight > 0) return false;
    path->port->remove_user(*this);
    return true;
  });
}

void NvmeChannel::look_at_paths() {
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    const Path& path = *paths_[i];
    const PathEntry& entry = path.entry;
    const PathClass now = path_class(path.port->connected(), entry.namespace_there, entry.ana_being_read || path.ana_doubtful, entry.ana_state);
    views_[i].outstanding = &path.port->outstanding();
    if (now == views_[i].path_class) continue;
    if (views_[i].path_class == PathClass::unusable) {
      chooser_.path_came_back(set_->auto_failback);
    } else {
      chooser_.forget();
    }
    views_[i].path_class = now;
  }
}

void NvmeChannel::port_changed() {
  look_at_paths();
  resume_waiting();
}

// Those that still find no path wait again, or fail if none may come any more.
void NvmeChannel::resume_waiting() {
  for (List all = std::exchange(waiting_, {}); !all.empty();) {
    NvmeIo& io = *all.pop_front();
    io.waiting = false;
    start(io);
  }
}

bool NvmeChannel::any_usable() const {
  return std::ranges::any_of(views_, [](const PathView& view) { return view.path_class != PathClass::unusable; });
}

bool NvmeChannel::path_may_come() const {
  return std::ranges::any_of(paths_, [](const auto& path) { return path->entry.ana_may_pass && path->entry.hub->io_waits(); });
}

// --- I/O ---

NvmeIo& NvmeChannel::take(BdevIo& io) {
  if (free_ == nullptr) {
    ios_.push_back(std::make_unique<NvmeIo>());
    free_ = ios_.back().get();
    free_->channel = this;
    free_->request.context = free_->second.context = free_;
    free_->request.done = free_->second.done = &NvmeChannel::command_done;
  }
  NvmeIo& taken = *free_;
  free_ = taken.next;
  taken.next = nullptr;
  taken.io = &io;
  taken.retries = 0;
  taken.maybe_done = taken.abort_asked = false;
  taken.quiet_ns = 0;
  return taken;
}

void NvmeChannel::give_back(NvmeIo& io) {
  io.io = nullptr;
  io.next = std::exchange(free_, &io);
}

void NvmeChannel::execute(BdevIo& io) {
  NvmeIo& command = take(io);
  if (io.op == Op::flush && !nvme_bdev().info().write_cache) return end(command, Status::ok);
  if (io.op == Op::reset) return reset_controllers(command);
  if (io.op == Op::copy && io.source_offset_blocks == io.offset_blocks) return end(command, Status::ok);
  if (!build_commands(command, nvme_bdev().block_size(), nvme_bdev().limits())) return end(command, Status::invalid);
  if (fences_ != nullptr && must_wait_for_fence(command)) [[unlikely]]
    return;
  start(command);
}

void NvmeChannel::start(NvmeIo& io) {
  const std::uint32_t path = chooser_.next(views_);
  if (path != PathChooser::none) [[likely]]
    return submit(io, path);
  carry_out(io, decide_without_path(path_may_come()), nvme::PathStatus::internal_path_error);
}

void NvmeChannel::submit(NvmeIo& io, std::uint32_t index) {
  Path& path = *paths_[index];
  io.path = &path;
  io.started_ns = thread().now_ns();
  io.request.sqe.nsid = path.entry.nsid;
  io.request.late = false;
  io.halves_left = 1;
  if (io.request.second != nullptr) {
    io.second.sqe.nsid = path.entry.nsid;
    io.second.late = false;
    io.halves_left = 2;
  }
  ++path.in_flight;
  path.port->submit(io.request);
}

void NvmeChannel::command_done(HostRequest& request) {
  NvmeIo& io = *static_cast<NvmeIo*>(request.context);
  if (--io.halves_left == 0) static_cast<NvmeChannel*>(io.channel)->commands_over(io);
}

void NvmeChannel::commands_over(NvmeIo& io) {
  Path& path = *static_cast<Path*>(io.path);
  --path.in_flight;
  const bool fused = io.request.second != nullptr;
  const bool answered = io.request.outcome == HostRequest::Outcome::answered && (!fused || io.second.outcome == HostRequest::Outcome::answered);
  const bool good = answered && io.request.cqe.status_field() == 0 && (!fused || io.second.cqe.status_field() == 0);
  if (good) [[likely]] {
    if (set_->count_paths) count(path, io);
    if (path.retired) [[unlikely]]
      retire_unused();
    if (io.io->op == Op::copy && build_next(io, nvme_bdev().limits())) [[unlikely]]
      return io.abort_asked ? end(io, Status::aborted) : start(io);
    return end(io, Status::ok);
  }
  if (io.request.outcome == HostRequest::Outcome::lost || (fused && io.second.outcome == HostRequest::Outcome::lost)) {
    io.maybe_done = true;
    io.quiet_ns = std::max(io.quiet_ns, thread().now_ns() + path.port->quiesce_us() * ns_per_us);
  }
  nvme::Status status = nvme::GenericStatus::aborted_sq_deletion;
  // Of a pair, the half that failed by itself says why, not the one that failed with it.
  if (answered)
    status = io.request.status().is_success() || (fused && io.request.status().same_code(nvme::GenericStatus::failed_fused)) ? io.second.status()
                                                                                                                             : io.request.status();
  failed(io, status);
}

void NvmeChannel::failed(NvmeIo& io, nvme::Status status) {
  Path& path = *static_cast<Path*>(io.path);
  look_at_paths();
  RetryQuestion question;
  question.status = status;
  const auto here = std::ranges::find_if(paths_, [&path](const auto& known) { return known.get() == &path; });
  question.path_usable = here != paths_.end() && views_[static_cast<std::size_t>(here - paths_.begin())].path_class != PathClass::unusable;
  question.controller_available = path.port->connected();
  question.path_may_come = path_may_come();
  question.retry_count_limit = set_->retry_count;
  question.retries = io.retries;
  question.crdt = path.entry.crdt;
  const RetryDecision before = decide_retry(question);
  if (before.read_ana_state) ask_for_ana(path);
  question.other_path_usable = any_usable();
  RetryDecision decision = decide_retry(question);
  if (io.abort_asked) decision = RetryDecision();
  // Carried out or not: a second try could not tell its own doing from somebody else's (docs/initiator.md, "Writes in flight").
  if (io.maybe_done && !is_repeatable(*io.io)) decision = RetryDecision();
  if (path.retired) retire_unused();
  carry_out(io, decision, status);
}

void NvmeChannel::carry_out(NvmeIo& io, const RetryDecision& decision, nvme::Status status) {
  if (decision.counts) ++io.retries;
  switch (decision.action) {
    case RetryAction::fail_up:
      if (io.abort_asked) return end(io, Status::aborted);
      if (!is_answer(status)) {
        log_limited(failed_io_log, LogLevel::warning, bdev().name(), "{}: {} of {} blocks at {} failed: {}", bdev().name(), op_name(io.io->op),
                    io.io->num_blocks, io.io->offset_blocks, status_text(status));
      }
      return end(io, status_of_nvme(status, io.io->op));
    case RetryAction::wait_for_path:
      io.waiting = true;
      return waiting_.push_back(io);
    case RetryAction::other_path:
    case RetryAction::same_path:
      // Through the list: a controller that fails each try at once would deepen the stack with each.
      return delay(io, thread().now_ns() + decision.delay_us * ns_per_us);
  }
}

void NvmeChannel::delay(NvmeIo& io, std::uint64_t until_ns) {
  io.delayed = true;
  io.due_ns = until_ns;
  delayed_.push_back(io);
  if (!delay_timer_.armed() || until_ns < delay_timer_.deadline_ns()) thread().arm_at(delay_timer_, until_ns);
}

void NvmeChannel::delays_due() {
  const std::uint64_t now_ns = thread().now_ns();
  std::uint64_t nearest = TimerHeap::never_ns;
  for (List all = std::exchange(delayed_, {}); !all.empty();) {
    NvmeIo& io = *all.pop_front();
    if (io.due_ns > now_ns) {
      delayed_.push_back(io);
      continue;
    }
    io.delayed = false;
    if (fences_ == nullptr || !must_wait_for_fence(io)) start(io);
  }
  for (const NvmeIo* io = delayed_.first; io != nullptr; io = io->next) nearest = std::min(nearest, io->due_ns);
  if (nearest != TimerHeap::never_ns) thread().arm_at(delay_timer_, nearest);
}

// A write of blocks where an older one may still be at work (write_fence.h).
bool NvmeChannel::must_wait_for_fence(NvmeIo& io) {
  const std::uint64_t now_ns = thread().now_ns();
  if (fences_->over(now_ns)) {
    fences_.reset();
    return false;
  }
  if (!changes_blocks(io.io->op)) return false;
  const std::uint64_t until_ns = fences_->until_ns(io.io->offset_blocks, io.io->num_blocks, now_ns);
  if (until_ns == 0) return false;
  delay(io, until_ns);
  return true;
}

// The user hears of it when every channel holds later writes back.
void NvmeChannel::end_behind_fence(NvmeIo& io, Status status) {
  const FencedRange range{io.io->offset_blocks, io.io->num_blocks, io.quiet_ns};
  io.maybe_done = false;
  // What a lost copy reads late it writes late: its source has to stay as well.
  if (io.io->op == Op::copy) nvme_bdev().fence({io.io->source_offset_blocks, io.io->num_blocks, io.quiet_ns}, thread().now_ns(), [] {});
  nvme_bdev().fence(range, thread().now_ns(), [this, &io, status] { end(io, status); });
}

void NvmeChannel::end(NvmeIo& io, Status status) {
  if (io.maybe_done && changes_blocks(io.io->op) && io.quiet_ns > thread().now_ns()) [[unlikely]]
    return end_behind_fence(io, status);
  BdevIo& user = *io.io;
  give_back(io);
  complete(user, status);
}

void NvmeChannel::count(Path& path, const NvmeIo& io) {
  const BdevIo& user = *io.io;
  const std::uint64_t bytes = user.num_blocks * nvme_bdev().block_size();
  const std::uint64_t latency_ns = thread().now_ns() - io.started_ns;
  if (user.op == Op::read) {
    path.stats.bytes_read += bytes;
    ++path.stats.num_read_ops;
    path.stats.read_latency_ns += latency_ns;
  } else if (user.op == Op::write) {
    path.stats.bytes_written += bytes;
    ++path.stats.num_write_ops;
    path.stats.write_latency_ns += latency_ns;
  } else if (user.op == Op::unmap) {
    path.stats.bytes_unmapped += bytes;
    ++path.stats.num_unmap_ops;
    path.stats.unmap_latency_ns += latency_ns;
  }
}

bool NvmeChannel::abort_in_module(BdevIo& io) {
  const auto found = std::ranges::find_if(ios_, [&io](const auto& command) { return command->io == &io; });
  if (found == ios_.end()) return false;
  NvmeIo& command = **found;
  if (command.waiting || command.delayed) {
    (command.waiting ? waiting_ : delayed_).remove(command);
    command.waiting = command.delayed = false;
    end(command, Status::aborted);
    return true;
  }
  if (io.op == Op::reset) return false;
  command.abort_asked = true;
  IoPort& port = *static_cast<Path*>(command.path)->port;
  if (port.take_back(command.request)) return true;
  port.abort(command.request);  // ends early if the controller can
  return false;
}

// --- controllers ---

// What it said about the namespace's state is not what was published: nothing goes there until the log was read.
void NvmeChannel::ask_for_ana(Path& path) {
  if (std::exchange(path.ana_doubtful, true)) return;
  look_at_paths();
  path.entry.hub->tell_controller([](NvmeController& controller) { controller.ana_doubtful(); });
}

// Every path's controller; done when all are through, and good if one is.
void NvmeChannel::reset_controllers(NvmeIo& io) {
  struct Round {
    std::size_t left = 1;
    bool good = false;
  };
  auto round = std::make_shared<Round>();
  Thread& thread = this->thread();
  auto over = [this, round, &io, &thread](bool good) {
    // On app_thread.
    round->good = round->good || good;
    if (--round->left > 0) return;
    thread.send([this, &io, all_good = round->good] { end(io, all_good ? Status::ok : Status::write_error); });
  };
  std::vector<std::shared_ptr<PortHub>> hubs;
  for (const auto& path : paths_) hubs.push_back(path->entry.hub);
  if (hubs.empty()) return end(io, Status::write_error);
  Thread& app_thread = hubs.front()->app_thread();
  app_thread.send([round, over, hubs = std::move(hubs)] {
    for (const auto& hub : hubs) {
      const auto controller = hub->controller();
      if (controller == nullptr) continue;
      ++round->left;
      spawn<Result<void>>(controller->reset(), [over](Result<void> result) { over(result.has_value()); });
    }
    over(false);
  });
}

std::vector<PathReport> NvmeChannel::report() const {
  std::vector<PathReport> all;
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    const Path& path = *paths_[i];
    PathReport report;
    report.name = path.entry.name;
    report.cntlid = path.entry.cntlid;
    report.current = chooser_.current() == i;
    report.connected = path.port->connected();
    report.accessible =
        path.entry.namespace_there && (path.entry.ana_state == AnaState::optimized || path.entry.ana_state == AnaState::non_optimized);
    report.stats = path.stats;
    all.push_back(std::move(report));
  }
  return all;
}

std::vector<PathReport> report_paths(Channel& channel) { return static_cast<NvmeChannel&>(channel).report(); }

}  // namespace catnap::bdev
