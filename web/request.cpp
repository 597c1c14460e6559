// A request's way (request.h).
// Owner: app_thread.
#include "web/request.h"

#include <fmt/format.h>
#include <microhttpd.h>
#include <strings.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "reactor/base/log_limit.h"
#include "rpc/exchange.h"
#include "rpc/json.h"
#include "rpc/reply.h"
#include "rpc/request.h"
#include "rpc/server.h"
#include "web/assets.h"
#include "web/peer.h"
#include "web/prometheus.h"
#include "web/server.h"

namespace catnap::web {
namespace {

constexpr const char* json_type = "application/json";
// The page has everything from here, and asks here alone; nobody may frame it.
constexpr const char* content_security_policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'";

LogLimit refusal_log;

bool has_type(std::string_view content_type, std::string_view wanted) {
  const std::string_view type = content_type.substr(0, content_type.find_first_of("; \t"));
  return type.size() == wanted.size() && ::strncasecmp(type.data(), wanted.data(), wanted.size()) == 0;
}

// Is one of the entity tags of If-None-Match this one, or any wanted? (RFC 9110 section 13.1.2; weak ones count as well)
bool matches(std::string_view header, std::string_view etag) { return header == "*" || header.find(etag) != std::string_view::npos; }

}  // namespace

Request::Request(Server& server, Peer& peer, MHD_Connection* connection)
    : server_(server), peer_(peer), connection_(connection), alive_(std::make_shared<Alive>(this)) {}

Request::~Request() {
  alive_->request = nullptr;
  wipe(body_);  // keys come in parameters
}

void Request::give_up() {
  alive_->request = nullptr;
  set_answer(Answer::line(MHD_HTTP_SERVICE_UNAVAILABLE, "catnapd is ending"));
}

std::string_view Request::header(const char* name) const {
  const char* value = ::MHD_lookup_connection_value(connection_, MHD_HEADER_KIND, name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

bool Request::on_data(const char* url, const char* method, const char* data, std::size_t* length) {
  in_handler_ = true;
  bool goes_on = true;
  switch (stage_) {
    case Stage::fresh:
      goes_on = begin(url, method);
      break;
    case Stage::reading:
      if (std::exchange(asked_again_, false)) {
        // The same call as the one that began it.
      } else if (*length > 0) {
        goes_on = body_.size() + *length <= std::size_t{server_.options().max_request_kib} << 10;
        if (goes_on) body_.append(data, *length);
        *length = 0;
      } else {
        call();
      }
      break;
    default:
      break;
  }
  in_handler_ = false;
  if (!goes_on) return false;
  if (answer_ != nullptr) return queue_answer();
  if (stage_ == Stage::authenticating || stage_ == Stage::working) {
    suspended_ = true;
    server_.suspended(*this);
    peer_.expect_nothing();
    ::MHD_suspend_connection(connection_);
  }
  return true;
}

// --- may it ---

bool Request::begin(const char* url, const char* method) {
  path_ = url;
  head_ = std::strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
  post_ = std::strcmp(method, MHD_HTTP_METHOD_POST) == 0;
  const bool get = head_ || std::strcmp(method, MHD_HTTP_METHOD_GET) == 0;
  const bool health = path_ == "/healthz" || path_ == "/readyz";
  const bool is_rpc = path_ == "/rpc" || (path_ == "/" && post_);
  const bool known = health || is_rpc || path_ == "/metrics" || find_asset(path_) != nullptr;
  if (!known) {
    set_answer(Answer::line(MHD_HTTP_NOT_FOUND, "there is /, /rpc, /metrics, /healthz and /readyz"));
  } else if (is_rpc ? !post_ : !get) {
    Answer answer = Answer::line(MHD_HTTP_METHOD_NOT_ALLOWED, is_rpc ? "JSON-RPC is called with POST" : "this is read with GET");
    answer.headers.emplace_back(MHD_HTTP_HEADER_ALLOW, is_rpc ? "POST" : path_ == "/" ? "GET, HEAD, POST" : "GET, HEAD");
    set_answer(std::move(answer));
  } else if (health) {
    const auto& why_not = path_ == "/healthz" ? server_.services().not_alive : server_.services().not_ready;
    const std::string reason = why_not ? why_not() : std::string();
    set_answer(reason.empty() ? Answer::line(MHD_HTTP_OK, "ok") : Answer::line(MHD_HTTP_SERVICE_UNAVAILABLE, reason));
  } else if (guard_against_other_sites()) {
    // The page itself says nothing about this target, and asks for credentials itself.
    if (is_rpc || path_ == "/metrics") return authenticate();
    serve_asset();
  }
  return true;
}

// Pages of other sites can send requests here in the name of the person before the browser. They name themselves (Origin, Sec-Fetch-Site), cannot set
// the type of a request without asking (Content-Type), and, where their name was made to lead to this machine's loopback, name that in Host.
bool Request::guard_against_other_sites() {
  const std::string_view host = header(MHD_HTTP_HEADER_HOST);
  const std::string_view origin = header(MHD_HTTP_HEADER_ORIGIN);
  const std::string_view site = header("Sec-Fetch-Site");
  const bool open = server_.authenticator() == nullptr;
  if (open && !names_loopback(host)) {
    set_answer(Answer::line(MHD_HTTP_FORBIDDEN, fmt::format("Host is '{}': without credentials only names of the loopback are served (localhost, "
                                                            "127.0.0.1, [::1])",
                                                            rpc::printable(host))));
  } else if (post_ && !origin.empty() && !same_origin(origin, host, server_.tls())) {
    set_answer(Answer::line(MHD_HTTP_FORBIDDEN, fmt::format("Origin is '{}': pages of other sites may not call", rpc::printable(origin))));
  } else if (post_ && !site.empty() && site != "same-origin" && site != "none") {
    set_answer(Answer::line(MHD_HTTP_FORBIDDEN, fmt::format("Sec-Fetch-Site is '{}': pages of other sites may not call", rpc::printable(site))));
  } else if (open && post_ && !has_type(header(MHD_HTTP_HEADER_CONTENT_TYPE), json_type)) {
    set_answer(Answer::line(MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "without credentials Content-Type must be application/json"));
  }
  if (answer_ == nullptr) return true;
  log_limited(refusal_log, LogLevel::warning, peer_.address(), "HTTP: {}: {}", peer_.place(), answer_->body.substr(0, answer_->body.size() - 1));
  return false;
}

bool Request::authenticate() {
  Authenticator* const authenticator = server_.authenticator();
  if (authenticator == nullptr) {
    authenticated(Authenticator::Answer(Authenticator::Outcome::accepted, nullptr));
    return true;
  }
  stage_ = Stage::authenticating;
  Presented presented = read_authorization(header(MHD_HTTP_HEADER_AUTHORIZATION));
  if (presented.scheme == Presented::Scheme::none) {
    authenticated(Authenticator::Answer(Authenticator::Outcome::refused, nullptr));
    return true;
  }
  authenticator->check(std::move(presented), peer_.address(), [alive = alive_](Authenticator::Answer answer) {
    if (alive->request != nullptr) alive->request->authenticated(answer);
  });
  return true;
}

void Request::authenticated(Authenticator::Answer answer) {
  stage_ = Stage::answered;
  if (answer.outcome == Authenticator::Outcome::throttled) {
    Answer refusal = Answer::line(MHD_HTTP_TOO_MANY_REQUESTS, "too many wrong credentials from this address; wait a minute");
    refusal.headers.emplace_back(MHD_HTTP_HEADER_RETRY_AFTER, "60");
    log_limited(refusal_log, LogLevel::warning, peer_.address(), "HTTP: {}: too many wrong credentials", peer_.place());
    return set_answer(std::move(refusal));
  }
  if (answer.outcome == Authenticator::Outcome::refused) {
    Answer refusal = Answer::line(MHD_HTTP_UNAUTHORIZED, "credentials are needed (Basic or Bearer)");
    // The dashboard asks for them itself; a browser that saw Basic would open a window of its own over it.
    const bool from_page = !header("Sec-Fetch-Mode").empty() && header("Sec-Fetch-Mode") != "navigate";
    refusal.headers.emplace_back(MHD_HTTP_HEADER_WWW_AUTHENTICATE,
                                 from_page ? R"(Bearer realm="catnap")" : R"(Basic realm="catnap", charset="UTF-8")");
    if (!header(MHD_HTTP_HEADER_AUTHORIZATION).empty()) {
      log_limited(refusal_log, LogLevel::warning, peer_.address(), "HTTP: {}: wrong credentials", peer_.place());
    }
    return set_answer(std::move(refusal));
  }
  auto caller = std::make_shared<rpc::Caller>(rpc::CallerKind::http);
  caller->address = peer_.place();
  if (answer.credential != nullptr) {
    caller->user = answer.credential->name;
    caller->role = answer.credential->role;
  }
  caller_ = std::move(caller);
  route();
}

// --- what it asks for ---

void Request::route() {
  if (path_ == "/metrics") {
    serve_metrics();
  } else if (expect_body()) {
    stage_ = Stage::reading;
    asked_again_ = suspended_;
    if (std::exchange(suspended_, false)) server_.go_on(*this);
  }
}

bool Request::expect_body() {
  if (server_.services().takes_rpcs && !server_.services().takes_rpcs()) {
    Answer answer = Answer::line(MHD_HTTP_SERVICE_UNAVAILABLE, "catnapd is starting");
    answer.headers.emplace_back(MHD_HTTP_HEADER_RETRY_AFTER, "1");
    set_answer(std::move(answer));
    return false;
  }
  const std::string_view length_text = header(MHD_HTTP_HEADER_CONTENT_LENGTH);
  std::uint64_t length = 0;
  const auto [end, failed] = std::from_chars(length_text.data(), length_text.data() + length_text.size(), length);
  const std::uint64_t most = std::uint64_t{server_.options().max_request_kib} << 10;
  if (length <= most && failed != std::errc::result_out_of_range) return true;
  set_answer(Answer::line(MHD_HTTP_CONTENT_TOO_LARGE, fmt::format("the body may have {} bytes (--http-max-request-kib)", most)));
  return false;
}

void Request::serve_asset() {
  const Asset* asset = find_asset(path_);
  const bool unchanged = matches(header(MHD_HTTP_HEADER_IF_NONE_MATCH), asset->etag) && !header(MHD_HTTP_HEADER_IF_NONE_MATCH).empty();
  Answer answer(unchanged ? MHD_HTTP_NOT_MODIFIED : MHD_HTTP_OK, std::string(asset->content_type), "");
  if (!unchanged) answer.asset = asset;
  answer.headers.emplace_back(MHD_HTTP_HEADER_ETAG, asset->etag);
  answer.headers.emplace_back(MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
  answer.headers.emplace_back("Content-Security-Policy", content_security_policy);
  set_answer(std::move(answer));
}

void Request::serve_metrics() {
  stage_ = Stage::working;
  server_.services().metrics([alive = alive_](std::string page) {
    if (alive->request != nullptr) alive->request->set_answer(Answer(MHD_HTTP_OK, MetricsPage::content_type, std::move(page)));
  });
}

// The body is there. SPDK's proxy answers 200 also where the RPC failed, and so do we; what is no JSON at all gets 400, with the JSON-RPC error.
void Request::call() {
  stage_ = Stage::working;
  rpc::Message message = rpc::read_message(body_, rpc::ServerOptions{}.max_batch_requests);
  wipe(body_);
  const unsigned status = message.fault && message.fault->code == rpc::parse_error ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_OK;
  rpc::answer(server_.services().dispatcher, std::move(message), caller_, [alive = alive_, status](std::string reply) {
    if (alive->request == nullptr) return;
    const bool silent = reply.empty();
    alive->request->set_answer(silent ? Answer(MHD_HTTP_NO_CONTENT, "", "") : Answer(status, json_type, std::move(reply)));
  });
}

// --- the answer ---

void Request::set_answer(Answer answer) {
  stage_ = Stage::answered;
  answer_ = std::make_unique<Answer>(std::move(answer));
  if (std::exchange(suspended_, false)) server_.go_on(*this);
}

bool Request::queue_answer() {
  const std::unique_ptr<Answer> answer = std::move(answer_);
  peer_.expect_within(server_.options().timeout_s);
  MHD_Response* response = nullptr;
  if (answer->asset != nullptr) {
    // libmicrohttpd only reads persistent memory, though it asks for a pointer that could be written through.
    response =
        ::MHD_create_response_from_buffer(answer->asset->content.size(), const_cast<char*>(answer->asset->content.data()), MHD_RESPMEM_PERSISTENT);
  } else {
    auto text = std::make_unique<std::string>(std::move(answer->body));
    response = ::MHD_create_response_from_buffer_with_free_callback_cls(
        text->size(), text->data(), [](void* owned) { delete static_cast<std::string*>(owned); }, text.get());
    if (response != nullptr) static_cast<void>(text.release());
  }
  if (response == nullptr) return false;
  const auto add = [&](const char* name, const char* value) { static_cast<void>(::MHD_add_response_header(response, name, value)); };
  if (!answer->content_type.empty()) add(MHD_HTTP_HEADER_CONTENT_TYPE, answer->content_type.c_str());
  add("X-Content-Type-Options", "nosniff");
  add("Referrer-Policy", "no-referrer");
  add("X-Frame-Options", "DENY");
  add("Cross-Origin-Resource-Policy", "same-origin");
  bool cached = false;
  for (const auto& [name, value] : answer->headers) {
    add(name, value.c_str());
    cached = cached || std::strcmp(name, MHD_HTTP_HEADER_CACHE_CONTROL) == 0;
  }
  if (!cached) add(MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
  const bool queued = ::MHD_queue_response(connection_, answer->status, response) == MHD_YES;
  ::MHD_destroy_response(response);
  return queued;
}

}  // namespace catnap::web
