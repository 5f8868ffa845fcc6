// A JSON object whose members are read by type, with errors that name the file and the path of the key.
#pragma once

#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"
#include "gpt/core/token.h"

namespace gpt {

/// A view: the value must outlive it. A member that is null counts as missing. All members throw FormatError
/// for a value of another type.
class JsonObject {
 public:
  /// `path` is that of the value itself.
  JsonObject(const json::Value& value, std::string_view source, std::string path);
  JsonObject(const json::Value::Object& root, std::string_view source) : members_(&root), source_(source) {}

  const json::Value::Object& members() const noexcept { return *members_; }
  std::string_view source() const noexcept { return source_; }
  /// The path of a member, "model.vocab".
  std::string path_of(std::string_view key) const;

  bool has(std::string_view key) const;  // also when null
  const json::Value* find(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> string(std::string_view key) const;
  std::optional<JsonObject> object(std::string_view key) const;
  const json::Value::Array* array(std::string_view key) const;
  TokenId token_id(std::string_view key) const;

  /// Throws FormatError when there is no such member.
  std::string required_string(std::string_view key) const;
  JsonObject required_object(std::string_view key) const;

  /// Throws UnsupportedError naming a member outside the list.
  void require_known(std::initializer_list<std::string_view> keys) const;
  /// Throws UnsupportedError when the member is true.
  void require_not(std::string_view key) const;
  [[noreturn]] void fail_type(std::string_view key, std::string_view expected) const;
  [[noreturn]] void fail_unsupported(std::string_view key) const;

 private:
  template <class T>
  const T* typed(std::string_view key, std::string_view expected) const;

  const json::Value::Object* members_;
  std::string_view source_;
  std::string path_;
};

/// The token id that a value is, or nothing; kTokenIds says what it should be.
std::optional<TokenId> to_token_id(const json::Value& value);
inline constexpr std::string_view kTokenIds = "an integer from 0 to 2147483647";
static_assert(std::numeric_limits<TokenId>::max() == 2147483647);

}  // namespace gpt
