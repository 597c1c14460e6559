// libmicrohttpd on the loop of app_thread (server.h).
// Owner: app_thread.
#include "web/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <microhttpd.h>
#include <sys/epoll.h>
#include <sys/stat.h>
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
constexpr std::size_t max_pem_bytes = 1 << 20;
// TLS 1.2 and 1.3 with forward secrecy and authenticated encryption (GnuTLS priority string).
constexpr const char* tls_priorities = "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:-CIPHER-ALL:+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305";

Result<std::string> read_pem(const char* option, const std::string& path, bool secret) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(errno, fmt::format("{} '{}': {}", option, path, errno_text(errno)));
  struct stat info{};
  std::string text(max_pem_bytes, '\0');
  const bool known = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  const ssize_t got = known ? ::read(fd, text.data(), text.size()) : -1;
  const int err = errno;
  ::close(fd);
  if (!known) return fail(EINVAL, fmt::format("{} '{}' is no regular file", option, path));
  if (secret && (info.st_mode & S_IRWXO) != 0) {
    return fail(EACCES, fmt::format("{} '{}' has mode {:04o}: others must not have access to it (chmod o=)", option, path, info.st_mode & 07777U));
  }
  if (got < 0) return fail(err, fmt::format("{} '{}': {}", option, path, errno_text(err)));
  text.resize(static_cast<std::size_t>(got));
  if (text.find("-----BEGIN ") == std::string::npos) return fail(EINVAL, fmt::format("{} '{}' has nothing in PEM in it", option, path));
  return text;
}

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
      certificate_(std::move(other.certificate_)),
      key_(std::move(other.key_)) {}

Prepared::~Prepared() {
  wipe(key_);
  if (listen_fd_ >= 0) ::close(listen_fd_);
}

Result<Prepared> Prepared::prepare(const Options& options) {
  Prepared prepared;
  prepared.options_ = options;
  auto address = Address::parse(options.address);
  if (!address) return std::unexpected(address.error());
  prepared.address_ = *address;
  if (!options.credentials_file.empty()) {
    auto credentials = Credentials::read(options.credentials_file);
    if (!credentials) return std::unexpected(credentials.error());
    prepared.credentials_ = std::move(*credentials);
  }
  if (!options.certificate_file.empty()) {
    auto certificate = read_pem("--http-cert", options.certificate_file, false);
    if (!certificate) return std::unexpected(certificate.error());
    auto key = read_pem("--http-key", options.key_file, true);
    if (!key) return std::unexpected(key.error());
    prepared.certificate_ = std::move(*certificate);
    prepared.key_ = std::move(*key);
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
      tls_(prepared.tls()),
      listen_fd_(std::exchange(prepared.listen_fd_, -1)),
      spare_fd_(::open("/dev/null", O_RDONLY | O_CLOEXEC)),
      run_again_([this] { run(); }) {
  if (prepared.credentials_) {
    authenticator_ = std::make_shared<Authenticator>(std::move(*prepared.credentials_), options_.max_failures, services_.workers);
  }
}

Result<std::unique_ptr<Server>> Server::serve(Prepared prepared, Services services) {
  std::string certificate = std::move(prepared.certificate_);
  std::string key = std::move(prepared.key_);
  prepared.certificate_ = certificate;  // tls() of the one that is given on
  std::unique_ptr<Server> server(new Server(std::move(prepared), std::move(services)));
  auto started = server->start(certificate, key);
  wipe(key);
  if (!started) return std::unexpected(started.error());
  return server;
}

Result<void> Server::start(const std::string& certificate, const std::string& key) {
  unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
  std::array<MHD_OptionItem, 4> tls_items{{{MHD_OPTION_END, 0, nullptr}}};
  if (tls_) {
    flags |= MHD_USE_TLS;
    // The library reads them while it starts, and keeps what GnuTLS made of them.
    tls_items[0] = {MHD_OPTION_HTTPS_MEM_CERT, 0, const_cast<char*>(certificate.c_str())};
    tls_items[1] = {MHD_OPTION_HTTPS_MEM_KEY, 0, const_cast<char*>(key.c_str())};
    tls_items[2] = {MHD_OPTION_HTTPS_PRIORITIES, 0, const_cast<char*>(tls_priorities)};
    tls_items[3] = {MHD_OPTION_END, 0, nullptr};
  }
  daemon_ = ::MHD_start_daemon(flags, 0, nullptr, nullptr, &Callbacks::access, this, MHD_OPTION_EXTERNAL_LOGGER, &log_of_library, nullptr,
                               MHD_OPTION_CONNECTION_MEMORY_LIMIT, std::size_t{options_.max_header_kib} << 10, MHD_OPTION_CONNECTION_LIMIT,
                               options_.max_connections, MHD_OPTION_CONNECTION_TIMEOUT, 0U, MHD_OPTION_NOTIFY_COMPLETED, &Callbacks::completed, this,
                               MHD_OPTION_NOTIFY_CONNECTION, &Callbacks::connection, this, MHD_OPTION_URI_LOG_CALLBACK, &Callbacks::request_line,
                               this, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, tls_items.data(), MHD_OPTION_END);
  if (daemon_ == nullptr) {
    return fail(EINVAL, fmt::format("--http {}: the HTTP library does not start{} (--logflag http says what it says)", address_.text(),
                                    tls_ ? "; does --http-key belong to --http-cert?" : ""));
  }
  const MHD_DaemonInfo* info = ::MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD);
  CATNAP_CHECK(info != nullptr && info->epoll_fd >= 0);
  auto watched = thread_.fds().add(info->epoll_fd, EPOLLIN, "http connections", [this](std::uint32_t) { run(); });
  if (!watched) return watched;
  watched = thread_.fds().add(listen_fd_, EPOLLIN, "http listener", [this](std::uint32_t) { accept_ready(); });
  if (!watched) return watched;
  listening_ = true;
  log_notice("HTTP{} at {}, {}", tls_ ? "S" : "", address_.text(),
             authenticator_ ? fmt::format("for those of {}", options_.credentials_file) : std::string("for everybody on this machine"));
  return {};
}

Server::~Server() { close(); }

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
