#include "text/json_object.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "gpt/core/error.h"

namespace gpt {

JsonObject::JsonObject(const json::Value& value, std::string_view source, std::string path)
    : value_(&value), source_(source), path_(std::move(path)) {
  if (value.is_object()) return;
  if (path_.empty()) fail<FormatError>(source_, "is ", json::describe(value), ", expected an object");
  fail<FormatError>(source_, path_, " is ", json::describe(value), ", expected an object");
}

std::string JsonObject::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : concat(path_, ".", key);
}

bool JsonObject::has(std::string_view key) const { return value_->contains(std::string(key)); }

const json::Value* JsonObject::find(std::string_view key) const {
  const auto member = value_->find(std::string(key));
  return member == value_->end() || member->is_null() ? nullptr : &*member;
}

std::optional<bool> JsonObject::boolean(std::string_view key) const {
  const json::Value* member = find(key);
  if (member == nullptr) return std::nullopt;
  if (!member->is_boolean()) fail_type(key, "true or false");
  return member->get<bool>();
}

std::optional<std::string> JsonObject::string(std::string_view key) const {
  const json::Value* member = find(key);
  if (member == nullptr) return std::nullopt;
  if (!member->is_string()) fail_type(key, "a string");
  return member->get<std::string>();
}

std::optional<JsonObject> JsonObject::object(std::string_view key) const {
  const json::Value* member = find(key);
  if (member == nullptr) return std::nullopt;
  return JsonObject(*member, source_, path_of(key));
}

const json::Value* JsonObject::array(std::string_view key) const {
  const json::Value* member = find(key);
  if (member != nullptr && !member->is_array()) fail_type(key, "a list");
  return member;
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
  for (const auto& member : value_->items())
    if (std::find(keys.begin(), keys.end(), member.key()) == keys.end()) fail_unsupported(member.key());
}

void JsonObject::require_not(std::string_view key) const {
  if (boolean(key).value_or(false)) fail_unsupported(key);
}

void JsonObject::fail_type(std::string_view key, std::string_view expected) const {
  const auto member = value_->find(std::string(key));
  if (member == value_->end()) fail<FormatError>(source_, path_of(key), " is missing, expected ", expected);
  fail<FormatError>(source_, path_of(key), " is ", json::describe(*member), ", expected ", expected);
}

void JsonObject::fail_unsupported(std::string_view key) const {
  const auto member = value_->find(std::string(key));
  fail<UnsupportedError>(source_, path_of(key), " is ",
                         member == value_->end() ? "missing" : json::describe(*member),
                         ", which libgpt does not support");
}

std::optional<TokenId> to_token_id(const json::Value& value) {
  if (!value.is_number_unsigned() || !std::in_range<TokenId>(value.get<std::uint64_t>())) return std::nullopt;
  return value.get<TokenId>();
}

}  // namespace gpt
