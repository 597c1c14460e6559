// Strict reading and writing of JSON over jsoncpp (json.h). jsoncpp lets raw control characters, bad UTF-8 and numbers like "01" or "-"
// pass even in its strict mode, so a pass of our own over the tokens comes first.
// Owner: none. Left out: values of single numbers and literals at the top level (JSON-RPC has only arrays and objects there).
#include "rpc/json.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

namespace catnap::rpc {
namespace {

bool is_space(char byte) { return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r'; }
bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

// Length of the UTF-8 sequence at the start of `text` (1..4), 0 when it is none (RFC 3629 section 4: no overlong forms, no surrogates).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t index) { return index < text.size() ? static_cast<unsigned char>(text[index]) : 0u; };
  const auto tail = [&](std::size_t index) { return byte(index) >= 0x80 && byte(index) <= 0xBF; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return tail(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const unsigned low = first == 0xE0 ? 0xA0 : 0x80, high = first == 0xED ? 0x9F : 0xBF;
    return byte(1) >= low && byte(1) <= high && tail(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const unsigned low = first == 0xF0 ? 0x90 : 0x80, high = first == 0xF4 ? 0x8F : 0xBF;
    return byte(1) >= low && byte(1) <= high && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

// Length of the number at the start of `text` as RFC 8259 section 6 writes it; 0 when it is none.
std::size_t number_length(std::string_view text) {
  std::size_t at = 0;
  const auto peek = [&] { return at < text.size() ? text[at] : '\0'; };
  const auto digits = [&] {
    const std::size_t start = at;
    while (is_digit(peek())) ++at;
    return at > start;
  };
  if (peek() == '-') ++at;
  if (peek() == '0') {
    ++at;
  } else if (!digits()) {
    return 0;
  }
  if (peek() == '.') {
    ++at;
    if (!digits()) return 0;
  }
  if (peek() == 'e' || peek() == 'E') {
    ++at;
    if (peek() == '+' || peek() == '-') ++at;
    if (!digits()) return 0;
  }
  return at;
}

std::string at_byte(std::string_view what, std::size_t offset) { return std::string(what) + " at byte " + std::to_string(offset); }

// What jsoncpp would let pass: nothing when the tokens are well formed. Structure (commas, colons, brackets) is left to jsoncpp.
std::optional<std::string> token_fault(std::string_view text) {
  bool in_string = false;
  for (std::size_t at = 0; at < text.size();) {
    const char byte = text[at];
    if (in_string) {
      const std::size_t length = utf8_length(text.substr(at));
      if (length == 0) return at_byte("bytes that are not UTF-8", at);
      if (static_cast<unsigned char>(byte) < 0x20) return at_byte("a control character within a string", at);
      if (byte == '"') in_string = false;
      at += byte == '\\' ? 2 : length;
      continue;
    }
    if (byte == '-' || is_digit(byte)) {
      const std::size_t length = number_length(text.substr(at));
      const char next = at + length < text.size() ? text[at + length] : ' ';
      if (length == 0 || !(is_space(next) || next == ',' || next == ']' || next == '}')) return at_byte("a malformed number", at);
      at += length;
      continue;
    }
    if (byte == '"') in_string = true;
    // Brackets, commas, colons, quotes and the letters of true, false and null; jsoncpp judges their order.
    const bool known = is_space(byte) || (byte >= 'a' && byte <= 'z') || std::string_view("{}[],:\"").find(byte) != std::string_view::npos;
    if (!known) return at_byte("a character that no JSON token begins with", at);
    ++at;
  }
  return std::nullopt;
}

const Json::CharReaderBuilder& reader_builder(DuplicateKeys duplicates) {
  const auto make = [](bool reject) {
    Json::CharReaderBuilder builder;
    Json::CharReaderBuilder::strictMode(&builder.settings_);
    builder["rejectDupKeys"] = reject;
    builder["stackLimit"] = max_json_depth + 1;
    builder["allowSpecialFloats"] = false;
    return builder;
  };
  static const Json::CharReaderBuilder refusing = make(true);
  static const Json::CharReaderBuilder keeping = make(false);
  return duplicates == DuplicateKeys::refuse ? refusing : keeping;
}

// jsoncpp's report has lines "* Line L, Column C" each followed by "  REASON".
JsonError error_of(const std::string& report) {
  static constexpr std::string_view mark = "Duplicate key: '";
  if (const auto start = report.find(mark); start != std::string::npos) {
    const auto name = start + mark.size();
    const auto end = report.find("'\n", name);
    return {JsonError::Kind::duplicate_key, report.substr(name, end == std::string::npos ? end : end - name)};
  }
  std::string line = report.substr(0, report.find('\n', report.find('\n') + 1));
  for (char& byte : line) {
    if (byte == '\n') byte = ' ';
  }
  return {JsonError::Kind::syntax, printable(line.starts_with("* ") ? std::string_view(line).substr(2) : std::string_view(line), 200)};
}

}  // namespace

std::expected<Json::Value, JsonError> parse_json(std::string_view text, DuplicateKeys duplicates) {
  if (auto fault = token_fault(text)) return std::unexpected(JsonError(JsonError::Kind::syntax, std::move(*fault)));
  try {
    const std::unique_ptr<Json::CharReader> reader(reader_builder(duplicates).newCharReader());
    Json::Value value;
    std::string report;
    if (!reader->parse(text.data(), text.data() + text.size(), &value, &report)) return std::unexpected(error_of(report));
    return value;
  } catch (const Json::Exception& broken) {
    return std::unexpected(JsonError(JsonError::Kind::syntax, printable(broken.what(), 200)));  // nesting beyond stackLimit
  }
}

namespace {

std::string text_by_jsoncpp(const Json::Value& value) {
  static const Json::StreamWriterBuilder builder = [] {
    Json::StreamWriterBuilder compact;
    compact["indentation"] = "";
    compact["emitUTF8"] = false;
    return compact;
  }();
  try {
    return Json::writeString(builder, value);
  } catch (const Json::Exception&) {
    return "null";  // only for settings jsoncpp does not know; there are none
  }
}

void append_string(std::string& text, const char* begin, const char* end) {
  const auto plain = [](char c) { return static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7F && c != '"' && c != '\\'; };
  if (std::all_of(begin, end, plain)) {
    text += '"';
    text.append(begin, end);
    text += '"';
  } else {
    text += text_by_jsoncpp(Json::Value(begin, end));
  }
}

template <typename Number>
void append_number(std::string& text, Number number) {
  char digits[24];
  const auto [end, error] = std::to_chars(std::begin(digits), std::end(digits), number);
  text.append(digits, end);
}

// What jsoncpp writes, without its stream: lists of a thousand objects are asked for each second.
void append_json(std::string& text, const Json::Value& value) {
  switch (value.type()) {
    case Json::nullValue:
      text += "null";
      return;
    case Json::booleanValue:
      text += value.asBool() ? "true" : "false";
      return;
    case Json::intValue:
      return append_number(text, value.asInt64());
    case Json::uintValue:
      return append_number(text, value.asUInt64());
    case Json::realValue:
      text += text_by_jsoncpp(value);
      return;
    case Json::stringValue: {
      const char *begin = nullptr, *end = nullptr;
      value.getString(&begin, &end);
      return append_string(text, begin, end);
    }
    case Json::arrayValue: {
      text += '[';
      Json::ArrayIndex next = 0;  // jsoncpp's arrays are maps: places that nobody has set are not in them
      for (auto element = value.begin(); element != value.end(); ++element, ++next) {
        for (; next < element.index(); ++next) text += next > 0 ? ",null" : "null";
        if (next > 0) text += ',';
        append_json(text, *element);
      }
      text += ']';
      return;
    }
    case Json::objectValue: {
      text += '{';
      bool first = true;
      for (auto member = value.begin(); member != value.end(); ++member) {
        if (!std::exchange(first, false)) text += ',';
        const char* end = nullptr;
        const char* begin = member.memberName(&end);
        append_string(text, begin, end);
        text += ':';
        append_json(text, *member);
      }
      text += '}';
      return;
    }
  }
}

}  // namespace

std::string json_to_text(const Json::Value& value) {
  std::string text;
  append_json(text, value);
  return text;
}

std::string json_to_page(const Json::Value& value) {
  static const Json::StreamWriterBuilder builder = [] {
    Json::StreamWriterBuilder indented;
    indented["indentation"] = "  ";
    indented["emitUTF8"] = false;
    return indented;
  }();
  try {
    return Json::writeString(builder, value) + "\n";
  } catch (const Json::Exception&) {
    return "null\n";  // as above
  }
}

std::string json_excerpt(const Json::Value& value, std::size_t max_length) {
  std::string text = json_to_text(value);
  if (text.size() > max_length) text = text.substr(0, max_length) + "…";
  return text;
}

std::string printable(std::string_view text, std::size_t max_length) {
  std::string shown;
  for (std::size_t at = 0; at < text.size();) {
    if (shown.size() >= max_length) return shown + "…";
    const std::size_t length = utf8_length(text.substr(at));
    const bool plain = length > 0 && static_cast<unsigned char>(text[at]) >= 0x20 && text[at] != 0x7F;
    if (plain) {
      shown += text.substr(at, length);
    } else {
      shown += '?';
    }
    at += length > 0 ? length : 1;
  }
  return shown;
}

ValueScanner::State ValueScanner::scan(std::string_view buffer) {
  for (; position_ < buffer.size(); ++position_) {
    const char byte = buffer[position_];
    if (depth_ == 0) {
      if (is_space(byte)) continue;
      if (byte != '{' && byte != '[') {
        error_ = at_byte("a request begins with { (or [ for a batch), not with '" + printable(buffer.substr(position_, 1)) + "',", position_);
        return State::not_a_value;
      }
      begin_ = position_;
      depth_ = 1;
    } else if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (byte == '\\') {
        escaped_ = true;
      } else if (byte == '"') {
        in_string_ = false;
      }
    } else if (byte == '"') {
      in_string_ = true;
    } else if (byte == '{' || byte == '[') {
      if (++depth_ > max_json_depth) {
        error_ = at_byte("nesting deeper than " + std::to_string(max_json_depth), position_);
        return State::not_a_value;
      }
    } else if (byte == '}' || byte == ']') {
      if (--depth_ == 0) {
        ++position_;
        return State::complete;
      }
    }
  }
  return State::need_more;
}

}  // namespace catnap::rpc
