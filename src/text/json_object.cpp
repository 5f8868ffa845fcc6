#include "text/json_object.h"

#include <algorithm>
#include <utility>

#include "gpt/core/error.h"

namespace gpt {

JsonObject::JsonObject(const json::Value& value, std::string_view source, std::string path)
    : members_(value.get_if<json::Value::Object>()), source_(source), path_(std::move(path)) {
  if (members_ == nullptr)
    fail<FormatError>(source_, path_, " is ", json::describe(value), ", expected an object");
}

std::string JsonObject::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : concat(path_, ".", key);
}

bool JsonObject::has(std::string_view key) const { return json::find(*members_, key) != nullptr; }

const json::Value* JsonObject::find(std::string_view key) const {
  const json::Value* value = json::find(*members_, key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

template <class T>
const T* JsonObject::typed(std::string_view key, std::string_view expected) const {
  const json::Value* value = find(key);
  if (value == nullptr) return nullptr;
  const T* found = value->get_if<T>();
  if (found == nullptr) fail_type(key, expected);
  return found;
}

std::optional<bool> JsonObject::boolean(std::string_view key) const {
  const bool* value = typed<bool>(key, "true or false");
  return value == nullptr ? std::nullopt : std::optional(*value);
}

std::optional<std::string> JsonObject::string(std::string_view key) const {
  const std::string* value = typed<std::string>(key, "a string");
  return value == nullptr ? std::nullopt : std::optional(*value);
}

std::optional<JsonObject> JsonObject::object(std::string_view key) const {
  const json::Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  return JsonObject(*value, source_, path_of(key));
}

const json::Value::Array* JsonObject::array(std::string_view key) const {
  return typed<json::Value::Array>(key, "a list");
}

TokenId JsonObject::token_id(std::string_view key) const {
  const json::Value* member = find(key);
  const auto id = member == nullptr ? std::nullopt : to_token_id(*member);
  if (!id) fail_type(key, kTokenIds);
  return *id;
}

std::string JsonObject::required_string(std::string_view key) const {
  auto member = string(key);
  if (!member) fail_type(key, "a string");
  return *std::move(member);
}

JsonObject JsonObject::required_object(std::string_view key) const {
  auto member = object(key);
  if (!member) fail_type(key, "an object");
  return *std::move(member);
}

void JsonObject::require_known(std::initializer_list<std::string_view> keys) const {
  for (const auto& member : *members_)
    if (std::find(keys.begin(), keys.end(), member.key) == keys.end()) fail_unsupported(member.key);
}

void JsonObject::require_not(std::string_view key) const {
  if (boolean(key).value_or(false)) fail_unsupported(key);
}

void JsonObject::fail_type(std::string_view key, std::string_view expected) const {
  const json::Value* value = json::find(*members_, key);
  fail<FormatError>(source_, path_of(key), " is ", value == nullptr ? "missing" : json::describe(*value),
                    ", expected ", expected);
}

void JsonObject::fail_unsupported(std::string_view key) const {
  const json::Value* value = json::find(*members_, key);
  fail<UnsupportedError>(source_, path_of(key), " is ", value == nullptr ? "missing" : json::describe(*value),
                         ", which libgpt does not support");
}

std::optional<TokenId> to_token_id(const json::Value& value) {
  const auto* integer = value.get_if<std::int64_t>();
  if (integer == nullptr || *integer < 0 || !std::in_range<TokenId>(*integer)) return std::nullopt;
  return static_cast<TokenId>(*integer);
}

}  // namespace gpt
