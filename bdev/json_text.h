// The few pieces of JSON text that modules write about themselves (driver_specific_json, config_json); bdev/ needs no JSON library for that.
// Owner: none (values). Left out: parsing, nesting (callers concatenate).
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>

namespace catnap::bdev {

// `text` as a JSON string, quotes included (RFC 8259 section 7). Bytes that are not UTF-8 become U+FFFD, so that what we answer always parses.
std::string json_quote(std::string_view text);

// {"key": value, …} in the order of adding.
class JsonObject {
 public:
  JsonObject& add(std::string_view key, std::string_view text) { return add_raw(key, json_quote(text)); }
  JsonObject& add(std::string_view key, const char* text) { return add_raw(key, json_quote(text)); }
  JsonObject& add(std::string_view key, bool value) { return add_raw(key, value ? "true" : "false"); }
  JsonObject& add(std::string_view key, std::uint64_t value) { return add_raw(key, fmt::format("{}", value)); }
  JsonObject& add(std::string_view key, std::uint32_t value) { return add(key, std::uint64_t{value}); }
  // `json` is JSON already.
  JsonObject& add_raw(std::string_view key, std::string_view json) {
    members_ += fmt::format("{}{}:{}", members_.empty() ? "" : ",", json_quote(key), json);
    return *this;
  }
  std::string text() const { return "{" + members_ + "}"; }

 private:
  std::string members_;
};

// What config_json() gives back: {"method": …, "params": …}.
inline std::string config_call(std::string_view method, const JsonObject& params) {
  return JsonObject().add("method", method).add_raw("params", params.text()).text();
}

}  // namespace catnap::bdev
