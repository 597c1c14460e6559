// libmicrohttpd on the loop of app_thread (server.h).
// Owner: app_thread.
#include "web/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <microhttpd.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <utility>

#include "reactor/base/check.h"
#include "reactor/base/event_counter.h"
#include "web/peer.h"
#include "web/request.h"

namespace catnap::web {
namespace {

LogFlag log_http{"http"};

constexpr const char* connections_name = "catnap_http_connections_total";
constexpr const char* connections_help = "HTTP connections by what became of them when they came";
EventCounter taken{connections_name, connections_help, R"(result="taken")"};
EventCounter refused_by_address{connections_name, connections_help, R"(result="refused_address_limit")"};
EventCounter refused_without_fds{connections_name, connections_help, R"(result="refused_no_fds")"};

// Connections taken per wake-up; what is left keeps the listener readable.
constexpr int accept_budget = 16;
// TLS 1.2 and 1.3 with forward secrecy and authenticated encryption (GnuTLS priority string).
constexpr const char* tls_priorities = "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:-CIPHER-ALL:+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305";

void log_of_library(void*, const char* format, va_list arguments) {
  if (!log_http.enabled()) return;
  std::array<char, 512> line{};
  static_cast<void>(std::vsnprintf(line.data(), line.size(), format, arguments));
  std::string text(line.data());
  while (text.ends_with('\n')) text.pop_back();
  log_debug(log_http, "{}", text);
}

}  // namespace

// --- what is checked before anything runs ---

Prepared::Prepared(Prepared&& other) noexcept
    : options_(std::move(other.options_)),
      address_(other.address_),
      listen_fd_(std::exchange(other.listen_fd_, -1)),
      credentials_(std::move(other.credentials_)),
      certificate_(std::move(other.certificate_)) {}

Prepared::~Prepared() {
  if (listen_fd_ >= 0) ::close(listen_fd_);
}

Result<Prepared> Prepared::prepare(const Options& options, std::optional<uid_t> future_user) {
  Prepared prepared;
  prepared.options_ = options;
  auto address = Address::parse(options.address);
  if (!address) return std::unexpected(address.error());
  prepared.address_ = *address;
  if (!options.credentials_file.empty()) {
    auto credentials = Credentials::read(options.credentials_file, future_user);
    if (!credentials) return std::unexpected(credentials.error());
    prepared.credentials_ = std::move(*credentials);
  }
  if (!options.certificate_file.empty()) {
    auto certificate = Certificate::read(options.certificate_file, options.key_file);
    if (!certificate) return std::unexpected(certificate.error());
    prepared.certificate_ = std::move(*certificate);
  }
  if (!address->is_loopback() && !prepared.credentials_) {
    return fail(EACCES, fmt::format("--http {}: off loopback nobody is served without credentials; give --http-credentials", address->text()));
  }
  if (!address->is_loopback() && !prepared.tls()) {
    log_warning("--http {}: without --http-cert, credentials and answers go over the network as they are, for everybody on the way to read",
                address->text());
  }
  auto fd = listen_at(prepared.address_);
  if (!fd) return std::unexpected(fd.error());
  prepared.listen_fd_ = *fd;
  return prepared;
}

// --- libmicrohttpd's callbacks ---

struct Callbacks {
  static MHD_Result access(void* self, MHD_Connection* connection, const char* url, const char* method, const char*, const char* data,
                           std::size_t* length, void** context) {
    if (*context == nullptr) *context = static_cast<Server*>(self)->begun(connection);
    return static_cast<Request*>(*context)->on_data(url, method, data, length) ? MHD_YES : MHD_NO;
  }
  // The request line is there: from now on the request has its time.
  static void* request_line(void* self, const char*, MHD_Connection* connection) { return static_cast<Server*>(self)->begun(connection); }
  static void completed(void* self, MHD_Connection*, void** context, MHD_RequestTerminationCode) {
    if (*context != nullptr) static_cast<Server*>(self)->ended(static_cast<Request*>(*context));
    *context = nullptr;
  }
  static void connection(void* self, MHD_Connection* connection, void** context, MHD_ConnectionNotificationCode code) {
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
      static_cast<Server*>(self)->connection_began(connection, context);
    } else {
      static_cast<Server*>(self)->connection_ended(context);
    }
  }
};

namespace {

// GnuTLS asks what to show a client (gnutls_certificate_retrieve_function2); it only reads what it is given.
int certificate_of(gnutls_session_t session, const gnutls_datum_t*, int, const gnutls_pk_algorithm_t*, int, gnutls_pcert_st** chain, unsigned* length,
                   gnutls_privkey_t* key) {
  const auto* const peer = static_cast<const Peer*>(::gnutls_db_get_ptr(session));
  if (peer == nullptr || peer->certificate() == nullptr) return -1;
  *chain = peer->certificate()->chain();
  *length = peer->certificate()->chain_length();
  *key = peer->certificate()->key();
  return 0;
}

Peer& peer_of(MHD_Connection* connection) {
  const MHD_ConnectionInfo* info = ::MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  CATNAP_CHECK(info != nullptr && info->socket_context != nullptr);
  return *static_cast<Peer*>(info->socket_context);
}

}  // namespace

Request* Server::begun(MHD_Connection* connection) {
  Peer& peer = peer_of(connection);
  peer.expect_within(options_.timeout_s);
  return new Request(*this, peer, connection);
}

void Server::ended(Request* request) {
  suspended_.erase(request);
  request->peer().expect_within(options_.idle_timeout_s);
  delete request;
}

void Server::connection_began(MHD_Connection* connection, void** context) {
  const MHD_ConnectionInfo* info = ::MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  auto* const peer = new Peer(thread_, info->connect_fd, arriving_.host(), arriving_.text());
  peers_.insert(peer);
  ++peers_of_address_[peer->address()];
  peer->expect_within(options_.timeout_s);
  *context = peer;
  if (!tls()) return;
  peer->show(certificate_);
  const MHD_ConnectionInfo* session = ::MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
  // Where GnuTLS keeps a pointer for a store of sessions, which nobody uses here.
  if (session != nullptr) ::gnutls_db_set_ptr(static_cast<gnutls_session_t>(session->tls_session), peer);
}

void Server::connection_ended(void** context) {
  auto* const peer = static_cast<Peer*>(*context);
  if (peer == nullptr) return;
  *context = nullptr;
  const auto of_address = peers_of_address_.find(peer->address());
  if (--of_address->second == 0) peers_of_address_.erase(of_address);
  peers_.erase(peer);
  delete peer;
  if (peers_.size() < options_.max_connections) listen(true);
}

// --- serving ---

Server::Server(Prepared prepared, Services services)
    : options_(std::move(prepared.options_)),
      address_(prepared.address_),
      services_(std::move(services)),
      thread_(*Thread::current()),
      listen_fd_(std::exchange(prepared.listen_fd_, -1)),
      spare_fd_(::open("/dev/null", O_RDONLY | O_CLOEXEC)),
      run_again_([this] { run(); }),
      certificate_(std::move(prepared.certificate_)),
      alive_(std::make_shared<Server*>(this)) {
  if (prepared.credentials_) {
    authenticator_ = std::make_shared<Authenticator>(std::move(*prepared.credentials_), options_.max_failures, services_.workers);
  }
}

Result<std::unique_ptr<Server>> Server::serve(Prepared prepared, Services services) {
  std::unique_ptr<Server> server(new Server(std::move(prepared), std::move(services)));
  auto started = server->start();
  if (!started) return std::unexpected(started.error());
  return server;
}

Result<void> Server::start() {
  unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
  std::array<MHD_OptionItem, 3> tls_items{{{MHD_OPTION_END, 0, nullptr}}};
  if (tls()) {
    flags |= MHD_USE_TLS;
    // Each handshake asks for the certificate of its moment.
    tls_items[0] = {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, reinterpret_cast<void*>(&certificate_of)};
    tls_items[1] = {MHD_OPTION_HTTPS_PRIORITIES, 0, const_cast<char*>(tls_priorities)};
    tls_items[2] = {MHD_OPTION_END, 0, nullptr};
  }
  daemon_ = ::MHD_start_daemon(flags, 0, nullptr, nullptr, &Callbacks::access, this, MHD_OPTION_EXTERNAL_LOGGER, &log_of_library, nullptr,
                               MHD_OPTION_CONNECTION_MEMORY_LIMIT, std::size_t{options_.max_header_kib} << 10, MHD_OPTION_CONNECTION_LIMIT,
                               options_.max_connections, MHD_OPTION_CONNECTION_TIMEOUT, 0U, MHD_OPTION_NOTIFY_COMPLETED, &Callbacks::completed, this,
                               MHD_OPTION_NOTIFY_CONNECTION, &Callbacks::connection, this, MHD_OPTION_URI_LOG_CALLBACK, &Callbacks::request_line,
                               this, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, tls_items.data(), MHD_OPTION_END);
  if (daemon_ == nullptr) {
    return fail(EINVAL, fmt::format("--http {}: the HTTP library does not start (--logflag http says what it says)", address_.text()));
  }
  const MHD_DaemonInfo* info = ::MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD);
  CATNAP_CHECK(info != nullptr && info->epoll_fd >= 0);
  auto watched = thread_.fds().add(info->epoll_fd, EPOLLIN, "http connections", [this](std::uint32_t) { run(); });
  if (!watched) return watched;
  watched = thread_.fds().add(listen_fd_, EPOLLIN, "http listener", [this](std::uint32_t) { accept_ready(); });
  if (!watched) return watched;
  listening_ = true;
  log_notice("HTTP{} at {}, {}{}", tls() ? "S" : "", address_.text(),
             authenticator_ ? fmt::format("for those of {}", options_.credentials_file) : std::string("for everybody on this machine"),
             tls() ? fmt::format("; certificate {}", certificate_->validity()) : std::string());
  return {};
}

Server::~Server() {
  *alive_ = nullptr;
  close();
}

// --- reading again ---

struct Server::Fresh {
  std::optional<Result<Credentials>> credentials;
  std::optional<Result<std::shared_ptr<const Certificate>>> certificate;
};

Server::Fresh Server::read_again(const Options& options) {
  Fresh fresh;
  if (!options.credentials_file.empty()) fresh.credentials.emplace(Credentials::read(options.credentials_file));
  if (!options.certificate_file.empty()) fresh.certificate.emplace(Certificate::read(options.certificate_file, options.key_file));
  return fresh;
}

std::optional<std::int64_t> Server::certificate_end_s() const { return certificate_ == nullptr ? std::nullopt : certificate_->end_s(); }

void Server::reload(std::function<void()> done) {
  services_.workers.submit(
      thread_, [options = options_] { return read_again(options); },
      [alive = alive_, done = std::move(done)](Fresh fresh) {
        if (*alive == nullptr) return;
        (*alive)->take(std::move(fresh));
        done();
      });
}

void Server::take(Fresh fresh) {
  if (!fresh.credentials && !fresh.certificate) return log_notice("HTTP: there are no credentials and no certificate to read again");
  if (fresh.credentials && *fresh.credentials) {
    log_notice("HTTP: {} entries of {} count from now on", (*fresh.credentials)->entries().size(), options_.credentials_file);
    authenticator_->replace(std::move(**fresh.credentials));
  } else if (fresh.credentials) {
    log_error("HTTP: the credentials stay as they were: {}", fresh.credentials->error().message);
  }
  if (fresh.certificate && *fresh.certificate) {
    certificate_ = std::move(**fresh.certificate);
    log_notice("HTTP: new connections are shown the certificate of {}, {}", options_.certificate_file, certificate_->validity());
  } else if (fresh.certificate) {
    log_error("HTTP: the certificate stays as it was ({}): {}", certificate_->validity(), fresh.certificate->error().message);
  }
}

void Server::close() {
  if (listen_fd_ < 0) return;
  static_cast<void>(thread_.fds().remove(listen_fd_));  // fails only when start() did
  listening_ = false;
  ::close(std::exchange(listen_fd_, -1));
  if (spare_fd_ >= 0) ::close(std::exchange(spare_fd_, -1));
  if (daemon_ == nullptr) return;
  // The library may not be stopped with suspended requests.
  while (!suspended_.empty()) (*suspended_.begin())->give_up();
  run();  // what is answered goes out as far as the sockets take it
  const MHD_DaemonInfo* info = ::MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD);
  static_cast<void>(thread_.fds().remove(info->epoll_fd));
  run_again_.cancel();
  ::MHD_stop_daemon(std::exchange(daemon_, nullptr));
}

void Server::listen(bool on) {
  if (listen_fd_ < 0 || on == listening_) return;
  listening_ = on;
  static_cast<void>(thread_.fds().modify(listen_fd_, on ? EPOLLIN : 0U));
}

void Server::accept_ready() {
  for (int budget = accept_budget; budget > 0; --budget) {
    if (peers_.size() >= options_.max_connections) {
      if (limit_said_.first()) log_warning("HTTP: {} connections are open, further ones wait (--http-max-connections)", peers_.size());
      return listen(false);
    }
    Address from;
    from.length = sizeof from.storage;
    const int fd = ::accept4(listen_fd_, reinterpret_cast<sockaddr*>(&from.storage), &from.length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      admit(fd, from);
    } else if (errno == EMFILE || errno == ENFILE) {
      return shed_one_without_fds();
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;  // EAGAIN: all taken
    }
  }
}

void Server::shed_one_without_fds() {
  refused_without_fds.add();
  if (spare_fd_ >= 0) ::close(spare_fd_);
  const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) ::close(fd);
  spare_fd_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void Server::admit(int fd, const Address& from) {
  const auto of_address = peers_of_address_.find(from.host());
  if (of_address != peers_of_address_.end() && of_address->second >= options_.max_connections_per_address) {
    refused_by_address.add();
    ::close(fd);
    return;
  }
  taken.add();
  arriving_ = from;
  // On failure the library has closed the socket.
  static_cast<void>(::MHD_add_connection(daemon_, fd, reinterpret_cast<const sockaddr*>(&from.storage), from.length));
  thread_.make_ready(run_again_);
}

void Server::go_on(Request& request) {
  suspended_.erase(&request);
  request.peer().expect_within(options_.timeout_s);  // for the rest of its body, or the taking of its answer
  ::MHD_resume_connection(request.connection());
  thread_.make_ready(run_again_);
}

// Lets the library do what is due. It says how long it may be left alone: not at all while it holds bytes that epoll does not see (TLS), else until a
// socket is ready, as it has no time-outs of its own (peer.h has them).
void Server::run() {
  if (running_ || daemon_ == nullptr) return;
  running_ = true;
  static_cast<void>(::MHD_run(daemon_));
  running_ = false;
  MHD_UNSIGNED_LONG_LONG wait_ms = 0;
  if (::MHD_get_timeout(daemon_, &wait_ms) == MHD_YES && wait_ms == 0) thread_.make_ready(run_again_);
}

}  // namespace catnap::web
