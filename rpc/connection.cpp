// The life of one RPC connection (connection.h).
// Owner: app_thread. Left out: time limits (the peers are local and few; a silent one costs one fd).
#include "rpc/connection.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "reactor/thread.h"
#include "rpc/exchange.h"
#include "rpc/reply.h"
#include "rpc/server.h"

namespace catnap::rpc {
namespace {

// Read per wake-up: one connection's flood gives way to the others after this much.
constexpr std::size_t read_chunk_bytes = 64 * 1024;
// Buffers that grew beyond this for one long request or reply are given back.
constexpr std::size_t keep_buffer_bytes = 256 * 1024;

}  // namespace

Connection::Connection(Server& server, int fd, CallerPtr caller)
    : server_(server), fd_(fd), caller_(std::move(caller)), send_at_turn_end_([this] { flush(); }), go_on_([this] {
        const auto keep = shared_from_this();
        process_input();
        settle();
      }) {}

Connection::~Connection() {
  if (!closed_) ::close(fd_);
}

Result<void> Connection::open() {
  events_ = EPOLLIN;
  return server_.thread_.fds().add(fd_, events_, "rpc connection", [self = shared_from_this()](std::uint32_t events) { self->on_events(events); });
}

void Connection::close() {
  if (closed_) return;
  const auto keep = shared_from_this();
  closed_ = true;
  send_at_turn_end_.cancel();
  go_on_.cancel();
  static_cast<void>(server_.thread_.fds().remove(fd_));  // fails only when open() did
  server_.forget(fd_);
  ::close(fd_);
  input_ = std::string();
  output_ = std::string();
  output_start_ = 0;
}

bool Connection::paused() const {
  return unsent_bytes() >= server_.options_.max_unsent_bytes || in_flight_ >= server_.options_.max_requests_in_flight;
}

void Connection::on_events(std::uint32_t events) {
  const auto keep = shared_from_this();
  if (closed_) return;
  if ((events & EPOLLOUT) != 0) flush();
  if (closed_) return;
  if (!ended_ && !paused() && stalled_) {
    process_input();
  } else if (!ended_ && !paused() && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
    read_some();
  } else if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
    close();  // nobody is left to read replies, and epoll would report this without end
    return;
  }
  settle();
}

void Connection::read_some() {
  const std::size_t before = input_.size();
  ssize_t got = -1;
  int err = 0;
  input_.resize_and_overwrite(before + read_chunk_bytes, [&](char* data, std::size_t) {
    got = ::recv(fd_, data + before, read_chunk_bytes, MSG_DONTWAIT);
    err = errno;
    return before + (got > 0 ? static_cast<std::size_t>(got) : 0);
  });
  if (got < 0) {
    if (err != EAGAIN && err != EINTR) close();
    return;
  }
  if (got == 0) {
    ended_ = true;  // half a request is nobody's request: it is dropped
    return;
  }
  process_input();
}

void Connection::process_input() {
  const std::size_t limit = server_.options_.max_request_bytes;
  std::size_t consumed = 0;
  stalled_ = false;
  while (!closed_ && !ended_) {
    if (paused()) {
      stalled_ = true;
      break;
    }
    const std::string_view rest = std::string_view(input_).substr(consumed);
    const ValueScanner::State state = scanner_.scan(rest);
    if (state == ValueScanner::State::not_a_value) {
      fail_stream(RpcError(parse_error, "Parse error: " + scanner_.error()));
    } else if (scanner_.started() ? rest.size() > limit : state == ValueScanner::State::complete && scanner_.end() - scanner_.begin() > limit) {
      fail_stream(RpcError(invalid_request, fmt::format("Invalid Request: longer than {} bytes", limit)));
    } else if (state == ValueScanner::State::complete) {
      handle(rest.substr(scanner_.begin(), scanner_.end() - scanner_.begin()));
      consumed += scanner_.end();
      scanner_.restart();
    } else {
      if (!scanner_.started()) {  // only white space
        consumed = input_.size();
        scanner_.restart();
      }
      break;
    }
  }
  if (closed_) return;
  input_.erase(0, consumed);
  if (input_.empty() && input_.capacity() > keep_buffer_bytes) input_ = std::string();
}

void Connection::handle(std::string_view text) {
  Message message = read_message(text, server_.options_.max_batch_requests);
  if (message.fault && message.fault->code == parse_error) {
    fail_stream(std::move(*message.fault));
    return;
  }
  const std::size_t requests = message.requests.size();
  in_flight_ += requests;
  answer(server_.dispatcher_, std::move(message), caller_,
         [self = shared_from_this(), requests](std::string reply) { self->finish(requests, std::move(reply)); });
}

void Connection::finish(std::size_t requests, std::string reply) {
  if (closed_) return;
  in_flight_ -= requests;
  send(std::move(reply));
}

// Called with nothing to send too: something may have ended that others waited for.
void Connection::send(std::string text) {
  if (closed_) return;
  output_ += text;
  server_.thread_.at_turn_end(send_at_turn_end_);
}

void Connection::fail_stream(RpcError error) {
  ended_ = true;
  send(error_reply(Json::Value(), error));
}

void Connection::flush() {
  const auto keep = shared_from_this();
  if (closed_) return;
  while (unsent_bytes() > 0) {
    const ssize_t sent = ::send(fd_, output_.data() + output_start_, unsent_bytes(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) {
      close();
      return;
    }
    if (sent < 0) break;
    output_start_ += static_cast<std::size_t>(sent);
  }
  blocked_ = unsent_bytes() > 0;
  if (!blocked_ || output_start_ > keep_buffer_bytes) {
    output_.erase(0, output_start_);
    output_start_ = 0;
    if (output_.empty() && output_.capacity() > keep_buffer_bytes) output_ = std::string();
  }
  settle();
}

// After every change: close when all is said, go on when there is room again, and wait for exactly what is needed.
void Connection::settle() {
  if (closed_) return;
  if (ended_ && in_flight_ == 0 && unsent_bytes() == 0) {
    close();
    return;
  }
  if (stalled_ && !ended_ && !paused()) server_.thread_.make_ready(go_on_);
  const bool reads = !ended_ && !paused() && !stalled_;
  const std::uint32_t wanted = (reads ? EPOLLIN : 0u) | (blocked_ ? EPOLLOUT : 0u);
  if (wanted == events_) return;
  events_ = wanted;
  if (auto changed = server_.thread_.fds().modify(fd_, wanted); !changed) close();
}

}  // namespace catnap::rpc
