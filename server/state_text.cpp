// The text of the state file. See state_text.h.
// Owner: app_thread.
#include "server/state_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "reactor/base/check.h"
#include "rpc/json.h"
#include "server/pending_calls.h"

namespace catnap::server {
namespace {

void put_kept_values(const std::vector<rpc::Param>& declared, Json::Value& params) {
  if (!params.isObject()) return;
  for (const rpc::Param& param : declared) {
    if (param.kept_value && params.isMember(param.name)) params[param.name] = *param.kept_value;
  }
}

StateText::Piece fixed(std::string text) { return std::make_shared<const std::string>(std::move(text)); }

// Where calls stand in the page.
constexpr std::string_view call_indent = "        ";

std::string indented(std::string_view page) {
  if (page.ends_with('\n')) page.remove_suffix(1);
  std::string text(call_indent);
  for (const char c : page) {
    text += c;
    if (c == '\n') text += call_indent;
  }
  return text;
}

}  // namespace

std::string joined(const StatePieces& pieces) {
  std::size_t bytes = 0;
  for (const auto& piece : pieces) bytes += piece->size();
  std::string text;
  text.reserve(bytes);
  for (const auto& piece : pieces) text += *piece;
  return text;
}

Json::Value kept_calls(const rpc::MethodTable& methods, Json::Value calls) {
  Json::Value kept(Json::arrayValue);
  for (Json::Value& call : calls) {
    const rpc::Method* method = methods.find(call["method"].asString());
    if (method != nullptr && method->changes_state && !method->keeps(call.get("params", Json::Value()))) continue;
    if (method != nullptr && call.isMember("params")) put_kept_values(method->params, call["params"]);
    kept.append(std::move(call));
  }
  return kept;
}

// Calls between commas; "" when none of them is kept.
StateText::Piece StateText::piece_of(Json::Value calls) {
  ++made_;
  std::string text;
  for (const Json::Value& call : kept_calls(methods_, std::move(calls))) {
    if (!text.empty()) text += ",\n";
    text += indented(rpc::json_to_page(call));
  }
  return fixed(std::move(text));
}

// Puts one subsystem's pieces together, and remembers what was used.
class StateText::Writer final : public rpc::ConfigRegistry::Listener {
 public:
  explicit Writer(StateText& text) : text_(text) {}

  void begin(const std::string& subsystem) {
    static const Piece first = fixed("{\n  \"subsystems\": [\n"), next = fixed(",\n");
    pieces_.push_back(pieces_.empty() ? first : next);
    pieces_.push_back(fixed(fmt::format("    {{\n      \"subsystem\": {},\n      \"config\": [", rpc::json_to_text(subsystem))));
    empty_ = true;
  }
  void end() {
    static const Piece none = fixed("]\n    }"), some = fixed("\n      ]\n    }");
    pieces_.push_back(empty_ ? none : some);
  }
  StatePieces finish() {
    static const Piece none = fixed("{\n  \"subsystems\": []\n}\n"), some = fixed("\n  ]\n}\n");
    pieces_.push_back(pieces_.empty() ? none : some);
    text_.of_objects_ = std::move(objects_);
    text_.of_texts_ = std::move(texts_);
    return std::move(pieces_);
  }

  // As the file had it.
  void waiting(const Json::Value& call) { put(fixed(indented(rpc::json_to_page(call)))); }

  void call(Json::Value call) override {
    Json::Value alone(Json::arrayValue);
    alone.append(std::move(call));
    put(text_.piece_of(std::move(alone)));
  }
  void text(const std::string& call) override {
    const auto [entry, is_new] = texts_.try_emplace(call);
    if (is_new) {
      const auto known = text_.of_texts_.find(call);
      entry->second = known != text_.of_texts_.end() ? known->second : piece_of_text(call);
    }
    put(entry->second);
  }
  void same_for(const std::shared_ptr<const void>& of, const std::function<Json::Value()>& calls) override {
    const auto [entry, is_new] = objects_.try_emplace(of.get());
    if (is_new) {
      const auto known = text_.of_objects_.find(of.get());
      const bool same = known != text_.of_objects_.end() && !known->second.first.expired();
      entry->second = same ? known->second : std::pair(std::weak_ptr(of), text_.piece_of(calls()));
    }
    put(entry->second.second);
  }

 private:
  Piece piece_of_text(const std::string& call) {
    Json::Value alone(Json::arrayValue);
    auto parsed = rpc::parse_json(call);
    CATNAP_CHECK(parsed.has_value());  // our own modules write it
    alone.append(std::move(*parsed));
    return text_.piece_of(std::move(alone));
  }
  void put(const Piece& piece) {
    static const Piece first = fixed("\n"), next = fixed(",\n");
    if (piece->empty()) return;
    pieces_.push_back(std::exchange(empty_, false) ? first : next);
    pieces_.push_back(piece);
  }

  StateText& text_;
  StatePieces pieces_;
  bool empty_ = true;
  decltype(StateText::of_objects_) objects_;
  decltype(StateText::of_texts_) texts_;
};

StatePieces StateText::take() {
  Writer writer(*this);
  const auto waiting = pending_.waiting();
  std::vector<std::string> left;  // subsystems of waiting calls
  for (const auto& [subsystem, call] : waiting) {
    if (std::find(left.begin(), left.end(), subsystem) == left.end()) left.push_back(subsystem);
  }
  const auto end_with_waiting = [&](const std::string& name) {
    for (const auto& [subsystem, call] : waiting) {
      if (subsystem == name) writer.waiting(call);
    }
    writer.end();
  };
  for (const auto* subsystem : registry_.subsystems()) {
    writer.begin(subsystem->name);
    for (const auto& tell : subsystem->tellings) tell(writer);
    end_with_waiting(subsystem->name);
    std::erase(left, subsystem->name);
  }
  for (const std::string& name : left) {  // of another version
    writer.begin(name);
    end_with_waiting(name);
  }
  return writer.finish();
}

}  // namespace catnap::server
