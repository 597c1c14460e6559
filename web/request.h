// One HTTP request: where it goes, whether it may, and its answer. libmicrohttpd asks the same request again and again until an answer is queued; a
// request that waits is suspended meanwhile. Owner: app_thread. Left out: sockets and parsing (server.h, libmicrohttpd).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rpc/caller.h"
#include "web/authenticator.h"

struct MHD_Connection;

namespace catnap::web {

class Peer;
class Server;
struct Asset;

// What is sent back.
struct Answer {
  Answer(unsigned http_status, std::string type, std::string text) : status(http_status), content_type(std::move(type)), body(std::move(text)) {}
  // For people and logs: one line.
  static Answer line(unsigned http_status, std::string text) { return {http_status, "text/plain; charset=utf-8", std::move(text) + "\n"}; }

  unsigned status;
  std::string content_type;
  std::string body;
  const Asset* asset = nullptr;  // instead of body
  std::vector<std::pair<const char*, std::string>> headers;
  bool close = false;  // the connection ends behind it
};

class Request {
 public:
  Request(Server& server, Peer& peer, MHD_Connection* connection);
  ~Request();
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  // libmicrohttpd's access handler. False: the connection is to be ended.
  bool on_data(const char* url, const char* method, const char* data, std::size_t* length);
  Peer& peer() const { return peer_; }
  MHD_Connection* connection() const { return connection_; }
  // The server ends: whoever still works for it finds nobody.
  void give_up();

 private:
  enum class Stage : std::uint8_t { fresh, authenticating, reading, working, answered };
  // A token for those who work for the request: empty when it is gone.
  struct Alive {
    Request* request;
  };

  std::string_view header(const char* name) const;
  bool begin(const char* url, const char* method);
  bool guard_against_other_sites();
  bool authenticate();
  void authenticated(Authenticator::Answer answer);
  void route();
  void serve_asset();
  void serve_metrics();
  bool expect_body();
  void call();
  void set_answer(Answer answer);
  bool queue_answer();

  Server& server_;
  Peer& peer_;
  MHD_Connection* connection_;
  std::shared_ptr<Alive> alive_;
  Stage stage_ = Stage::fresh;
  bool suspended_ = false;
  bool in_handler_ = false;
  bool asked_again_ = false;  // resumed before its body: the next call brings nothing of it
  bool head_ = false;
  bool post_ = false;
  std::string path_;
  std::string body_;
  rpc::CallerPtr caller_;
  std::unique_ptr<Answer> answer_;
};

}  // namespace catnap::web
