// See handshake.h.
#include "transport/tls/handshake.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "reactor/limited_work.h"
#include "reactor/runtime.h"

namespace catnap::tls {

namespace {

constexpr std::size_t max_steps = 2;

}  // namespace

Executor worker_pool() {
  Runtime* runtime = Runtime::instance();
  if (runtime == nullptr) return [](std::move_only_function<void()> work) { work(); };
  // Steps at a time, of all handshakes: the pool has 4 workers, and the rest of the process needs them too.
  static LimitedWork steps(max_steps);
  return [workers = &runtime->workers()](std::move_only_function<void()> work) { steps.submit(*workers, std::move(work)); };
}

Handshake::Handshake(Thread& thread, int fd, std::string name, Executor executor, User user)
    : thread_(thread),
      fd_(fd),
      name_(std::move(name)),
      executor_(std::move(executor)),
      user_(std::move(user)),
      self_(std::make_shared<Handshake*>(this)) {}

Handshake::~Handshake() { stop(); }

void Handshake::stop() {
  *self_ = nullptr;
  watch(0);
}

void Handshake::watch(std::uint32_t events) {
  if (events == watched_) return;
  const std::uint32_t before = std::exchange(watched_, events);
  if (events == 0) {
    (void)thread_.fds().remove(fd_);
    return;
  }
  auto changed = before != 0 ? thread_.fds().modify(fd_, events) : thread_.fds().add(fd_, events, name_, [this](std::uint32_t) { on_event(); });
  if (changed) return;
  watched_ = 0;
  give_up(changed.error());
}

void Handshake::listen() { watch(EPOLLIN); }

void Handshake::on_event() {
  if (out_at_ < out_.size()) return go_on();
  switch (reader_.read(fd_)) {
    case RecordReader::Got::more:
      return;
    case RecordReader::Got::closed:
      return give_up(Error(errno == 0 ? ECONNRESET : errno, errno == 0 ? "the peer hung up during the TLS handshake"
                                                                       : fmt::format("receiving during the TLS handshake: {}", errno_text(errno))));
    case RecordReader::Got::no_tls:
      watch(0);
      if (user_.no_tls && !shaking_) return user_.no_tls(reader_.bytes());
      return give_up(Error(EPROTO, "what the peer sends is no TLS"));
    case RecordReader::Got::record:
      break;
  }
  std::vector<std::byte> record = reader_.take();
  if (!shaking_) return user_.first_record(std::move(record));  // stays in the fd group: the hello may come in pieces
  run([stream = std::move(stream_), record = std::move(record)]() mutable { return step(std::move(stream), record); });
}

Handshake::Turn Handshake::step(std::unique_ptr<Stream> stream, Bytes records) {
  Turn turn;
  turn.step = stream->shake(records, turn.out);
  if (turn.step == Stream::Step::failed) turn.why = stream->why();
  turn.stream = std::move(stream);
  return turn;
}

void Handshake::begin(std::move_only_function<Turn()> make) {
  shaking_ = true;
  run(std::move(make));
}

// Nothing is read meanwhile: the library can take one step at a time.
void Handshake::run(std::move_only_function<Turn()> work) {
  watch(0);
  executor_([home = &thread_, self = self_, work = std::move(work)]() mutable {
    auto turn = std::make_shared<Turn>(work());
    home->send([self, turn] {
      if (*self != nullptr) (*self)->stepped(std::move(*turn));
    });
  });
}

void Handshake::stepped(Turn turn) {
  step_ = turn.step;
  stream_ = std::move(turn.stream);
  out_ = std::move(turn.out);
  out_at_ = 0;
  if (step_ == Stream::Step::failed) {
    (void)send_out();  // an alert, as far as the socket takes it
    return give_up(Error(turn.by_peer ? ECONNREFUSED : EPROTO, turn.why));
  }
  go_on();
}

void Handshake::go_on() {
  if (!send_out()) return;
  if (out_at_ < out_.size()) return watch(EPOLLOUT);
  if (step_ == Stream::Step::done) return stream_->wants_kernel() ? offload() : finish(std::move(stream_));
  watch(EPOLLIN);
}

// False: the connection is gone, and the owner knows.
bool Handshake::send_out() {
  while (out_at_ < out_.size()) {
    const ssize_t sent = ::send(fd_, out_.data() + out_at_, out_.size() - out_at_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return true;
    if (sent < 0 && step_ == Stream::Step::failed) return true;  // there is a better reason to tell
    if (sent < 0) {
      give_up(Error(errno, fmt::format("sending during the TLS handshake: {}", errno_text(errno))));
      return false;
    }
    out_at_ += static_cast<std::size_t>(sent);
  }
  return true;
}

void Handshake::say(Bytes bytes) { (void)::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT); }

// On a worker as well: the first time, the kernel loads ciphers and tests them. The owner may close the socket meanwhile, so the worker has a
// descriptor of its own.
void Handshake::offload() {
  watch(0);
  const int fd = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return finish(std::move(stream_));
  executor_([home = &thread_, self = self_, fd, stream = std::move(stream_)]() mutable {
    stream->offload(fd);
    ::close(fd);
    home->send([self, stream = std::move(stream)]() mutable {
      if (*self != nullptr) (*self)->finish(std::move(stream));
    });
  });
}

void Handshake::finish(std::unique_ptr<Stream> stream) {
  watch(0);
  const auto done = std::move(user_.done);
  done(std::move(stream));
}

void Handshake::give_up(Error why) {
  watch(0);
  const auto failed = std::move(user_.failed);
  if (failed) failed(std::move(why));
}

}  // namespace catnap::tls
