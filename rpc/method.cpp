// Decoding of parameters against their declaration, and the table of methods (method.h).
// Owner: app_thread. Left out: calling (dispatcher.cpp), showing declarations (introspection_rpc.cpp).
#include "rpc/method.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

#include "reactor/base/check.h"
#include "reactor/base/log.h"
#include "rpc/json.h"

namespace catnap::rpc {
namespace {

std::unexpected<RpcError> refuse(std::string reason) {
  // Callers look for these two words in front (spdk-csi; SPDK answers them alone).
  return std::unexpected<RpcError>(std::in_place, invalid_params, "Invalid parameters: " + reason);
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string names_of(const std::vector<Param>& declared) {
  std::vector<std::string> names;
  for (const Param& one : declared) {
    if (!one.is_ignored) names.push_back(one.name);
  }
  return names.empty() ? "no parameters" : join(names);
}

bool same_text(std::string_view left, std::string_view right, bool ignore_case) {
  if (!ignore_case) return left == right;
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](unsigned char one, unsigned char other) { return std::tolower(one) == std::tolower(other); });
}

const Param* find_param(const std::vector<Param>& declared, const std::string& name) {
  for (const Param& one : declared) {
    if (one.name == name || std::find(one.aliases.begin(), one.aliases.end(), name) != one.aliases.end()) return &one;
  }
  return nullptr;
}

void say_ignored_once(const std::string& method, const std::string& path) {
  static std::set<std::string> said;  // app_thread only, as all decoding of live calls is
  if (said.insert(method + "." + path).second) log_warning("{}: parameter '{}' is accepted and has no effect", method, path);
}

const char* type_phrase(ParamType type) {
  switch (type) {
    case ParamType::string:
      return "a string";
    case ParamType::boolean:
      return "true or false";
    case ParamType::integer:
      return "an integer";
    case ParamType::number:
      return "a number";
    case ParamType::object:
      return "an object";
    case ParamType::array_of_string:
      return "an array of strings";
    case ParamType::array_of_object:
      return "an array of objects";
    case ParamType::any:
      return "any value";
  }
  return "a value";
}

bool has_type(const Json::Value& value, ParamType type) {
  const auto all = [&](auto predicate) { return value.isArray() && std::all_of(value.begin(), value.end(), predicate); };
  switch (type) {
    case ParamType::string:
      return value.isString();
    case ParamType::boolean:
      return value.isBool();
    // Integral values written as 1e6 or 4.0 count as integers, as in SPDK.
    case ParamType::integer:
      return value.isInt64() || value.isUInt64();
    case ParamType::number:
      return value.isNumeric();
    case ParamType::object:
      return value.isObject();
    case ParamType::array_of_string:
      return all([](const Json::Value& one) { return one.isString(); });
    case ParamType::array_of_object:
      return all([](const Json::Value& one) { return one.isObject(); });
    case ParamType::any:
      return true;
  }
  return false;
}

std::string bounds_phrase(const Param& declared) {
  if (declared.minimum && declared.maximum) return fmt::format("from {} to {}", *declared.minimum, *declared.maximum);
  if (declared.minimum) return fmt::format("at least {}", *declared.minimum);
  return fmt::format("at most {}", *declared.maximum);
}

bool within_bounds(const Param& declared, const Json::Value& value) {
  if (declared.type == ParamType::number) {
    const double number = value.asDouble();
    return (!declared.minimum || number >= static_cast<double>(*declared.minimum)) &&
           (!declared.maximum || number <= static_cast<double>(*declared.maximum));
  }
  if (value.isUInt64()) {
    const std::uint64_t number = value.asUInt64();
    return (!declared.minimum || *declared.minimum <= 0 || number >= static_cast<std::uint64_t>(*declared.minimum)) &&
           (!declared.maximum || number <= *declared.maximum);
  }
  return !declared.minimum || value.asInt64() >= *declared.minimum;  // negative: never above an unsigned maximum
}

class Decoder {
 public:
  explicit Decoder(const std::string& method) : method_(method) {}

  RpcResult<Json::Value> object(const std::vector<Param>& declared, const Json::Value& given, const std::string& prefix) {
    Json::Value decoded(Json::objectValue);
    std::set<const Param*> seen;
    for (const std::string& name : given.getMemberNames()) {
      const Param* param = find_param(declared, name);
      const std::string path = prefix + printable(name);
      if (param == nullptr) {
        return refuse(fmt::format("unknown parameter '{}' ({} takes {})", path, prefix.empty() ? method_ : prefix.substr(0, prefix.size() - 1),
                                  names_of(declared)));
      }
      const Json::Value& value = given[name];
      if (value.isNull() && param->type != ParamType::any) continue;  // null says the same as leaving it out
      if (!seen.insert(param).second) {
        return refuse(
            fmt::format("duplicate parameter '{}': given under two of its names ({})", prefix + param->name, join(spellings(*param, given))));
      }
      if (param->is_ignored) {
        say_ignored_once(method_, path);
        continue;
      }
      auto checked = one(*param, value, path);
      if (!checked) return std::unexpected(checked.error());
      decoded[param->name] = std::move(*checked);
    }
    for (const Param& param : declared) {
      if (param.is_ignored || decoded.isMember(param.name)) continue;
      if (param.is_required) return refuse(fmt::format("missing parameter '{}' ({}, {})", prefix + param.name, type_phrase(param.type), param.help));
      if (param.default_value) decoded[param.name] = *param.default_value;
    }
    return decoded;
  }

 private:
  static std::vector<std::string> spellings(const Param& param, const Json::Value& given) {
    std::vector<std::string> found;
    if (given.isMember(param.name)) found.push_back(param.name);
    for (const std::string& alias : param.aliases) {
      if (given.isMember(alias)) found.push_back(alias);
    }
    return found;
  }

  static std::string excerpt(const Param& param, const Json::Value& value) { return param.is_secret ? "secret" : json_excerpt(value); }

  RpcResult<Json::Value> one(const Param& param, const Json::Value& value, const std::string& path) {
    if (!has_type(value, param.type)) {
      return refuse(fmt::format("parameter '{}' is {}, it must be {}", path, excerpt(param, value), type_phrase(param.type)));
    }
    switch (param.type) {
      case ParamType::string:
        return text(param, value, path);
      case ParamType::integer:
      case ParamType::number:
        return quantity(param, value, path);
      case ParamType::object:
        return param.fields.empty() ? RpcResult<Json::Value>(value) : object(param.fields, value, path + ".");
      case ParamType::array_of_string:
      case ParamType::array_of_object:
        return array(param, value, path);
      case ParamType::boolean:
      case ParamType::any:
        return value;
    }
    return value;
  }

  RpcResult<Json::Value> text(const Param& param, const Json::Value& value, const std::string& path) {
    const std::string given = value.asString();
    if (given.find('\0') != std::string::npos) {
      return refuse(fmt::format("parameter '{}' is {}, it must not contain a NUL character", path, excerpt(param, value)));
    }
    if (param.choices.empty()) return value;
    for (const std::string& choice : param.choices) {
      if (same_text(choice, given, param.ignore_case)) return Json::Value(choice);
    }
    return refuse(fmt::format("parameter '{}' is {}, it must be one of {}", path, json_excerpt(value), join(param.choices)));
  }

  RpcResult<Json::Value> quantity(const Param& param, const Json::Value& value, const std::string& path) {
    if ((param.minimum || param.maximum) && !within_bounds(param, value)) {
      return refuse(fmt::format("parameter '{}' is {}, it must be {}", path, json_excerpt(value), bounds_phrase(param)));
    }
    if (param.type == ParamType::number) return value;
    return value.isUInt64() ? Json::Value(Json::UInt64(value.asUInt64())) : Json::Value(Json::Int64(value.asInt64()));
  }

  RpcResult<Json::Value> array(const Param& param, const Json::Value& value, const std::string& path) {
    Json::Value decoded(Json::arrayValue);
    for (Json::ArrayIndex index = 0; index < value.size(); ++index) {
      const std::string element_path = fmt::format("{}[{}]", path, index);
      RpcResult<Json::Value> element = value[index];
      if (param.type == ParamType::array_of_string) {
        element = text(param, value[index], element_path);
      } else if (!param.fields.empty()) {
        element = object(param.fields, value[index], element_path + ".");
      }
      if (!element) return element;
      decoded.append(std::move(*element));
    }
    return decoded;
  }

  const std::string& method_;
};

}  // namespace

bool Params::has(std::string_view name) const { return values_.isObject() && values_.isMember(std::string(name)); }

const Json::Value& Params::json(std::string_view name) const {
  static const Json::Value absent;
  const Json::Value* found = values_.isObject() ? values_.find(name.data(), name.data() + name.size()) : nullptr;
  return found == nullptr ? absent : *found;
}

std::string Params::string(std::string_view name) const {
  const Json::Value& value = json(name);
  return value.isString() ? value.asString() : std::string();
}

bool Params::boolean(std::string_view name) const {
  const Json::Value& value = json(name);
  return value.isBool() && value.asBool();
}

std::uint64_t Params::integer(std::string_view name) const {
  const Json::Value& value = json(name);
  if (value.isUInt64()) return value.asUInt64();
  return value.isInt64() ? static_cast<std::uint64_t>(value.asInt64()) : 0;
}

std::int64_t Params::signed_integer(std::string_view name) const {
  const Json::Value& value = json(name);
  if (value.isInt64()) return value.asInt64();
  return value.isUInt64() ? static_cast<std::int64_t>(value.asUInt64()) : 0;
}

double Params::number(std::string_view name) const {
  const Json::Value& value = json(name);
  return value.isNumeric() ? value.asDouble() : 0;
}

Params Params::object(std::string_view name) const {
  const Json::Value& value = json(name);
  return Params(value.isObject() ? value : Json::Value(Json::objectValue));
}

std::vector<std::string> Params::strings(std::string_view name) const {
  std::vector<std::string> texts;
  const Json::Value& value = json(name);
  if (!value.isArray()) return texts;
  for (const Json::Value& one : value) {
    if (one.isString()) texts.push_back(one.asString());
  }
  return texts;
}

namespace {

// bdev_X_delete takes back what waits under that name, if it declares nothing else.
void add_usual_take_back(Method& method) {
  if (!method.takes_back.empty() || !method.name.starts_with("bdev_") || !method.name.ends_with("_delete")) return;
  using Same = std::vector<std::pair<std::string, std::string>>;
  method.takes_back.emplace_back(std::vector<std::string>{"bdev_*"}, Same{{"name", "name"}});
  method.takes_back.emplace_back(std::vector<std::string>{"nvmf_subsystem_add_ns"}, Same{{"name", "namespace.bdev_name"}});
}

}  // namespace

void MethodTable::add(Method method) {
  CATNAP_CHECK(find(method.name) == nullptr);
  for (const std::string& alias : method.aliases) CATNAP_CHECK(find(alias) == nullptr);
  CATNAP_CHECK(static_cast<bool>(method.sync) != static_cast<bool>(method.task));
  add_usual_take_back(method);
  methods_.push_back(std::make_unique<Method>(std::move(method)));
}

const Method* MethodTable::find(std::string_view name) const {
  for (const auto& one : methods_) {
    if (one->name == name || std::find(one->aliases.begin(), one->aliases.end(), name) != one->aliases.end()) return one.get();
  }
  return nullptr;
}

std::vector<const Method*> MethodTable::all() const {
  std::vector<const Method*> sorted;
  for (const auto& one : methods_) sorted.push_back(one.get());
  std::sort(sorted.begin(), sorted.end(), [](const Method* left, const Method* right) { return left->name < right->name; });
  return sorted;
}

bool Method::acts(const Json::Value& call_params) const {
  if (changes_state || does_something) return true;
  return call_params.isObject() && std::any_of(params.begin(), params.end(), [&](const Param& param) {
           const Json::Value given = call_params.get(param.name, Json::Value());
           return param.does_something && !given.isNull() && !(param.default_value && given == *param.default_value);
         });
}

std::vector<std::string> MethodTable::allow_only(const std::vector<std::string>& patterns) {
  std::vector<std::string> without_method;
  for (const auto& one : methods_) one->is_allowed = false;
  for (const std::string& pattern : patterns) {
    const auto fits = [&](std::string_view name) {
      return pattern.ends_with('*') ? name.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1)) : name == pattern;
    };
    bool any = false;
    for (const auto& one : methods_) {
      if (!fits(one->name) && !std::any_of(one->aliases.begin(), one->aliases.end(), fits)) continue;
      one->is_allowed = true;
      any = true;
    }
    if (!any) without_method.push_back(pattern);
  }
  return without_method;
}

Json::Value MethodTable::without_secrets(const Method& method, const Json::Value& params) {
  if (!params.isObject()) return params;
  Json::Value shown = params;
  for (const Param& param : method.params) {
    if (param.is_secret && shown.isMember(param.name)) shown[param.name] = "secret";
  }
  return shown;
}

RpcResult<Params> MethodTable::decode(const Method& method, const Json::Value& params) {
  if (!params.isNull() && !params.isObject()) return refuse(fmt::format("params is {}, it must be an object", json_excerpt(params)));
  const Json::Value empty(Json::objectValue);
  auto decoded = Decoder(method.name).object(method.params, params.isNull() ? empty : params, "");
  if (!decoded) return std::unexpected(decoded.error());
  return Params(std::move(*decoded));
}

}  // namespace catnap::rpc
