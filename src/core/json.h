// The one place where JSON is read and written: strictly, and with errors that name the source. Internal: the public headers
// do not know of it.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace gpt::json {

/// null, true or false, a number, text, a list or an object. Our own, since nlohmann::json allocates in its destructor, which
/// ends the process when memory has run out.
class Value {
 public:
  struct Member;
  using Array = std::vector<Value>;
  /// In the order of the text. Finding a member is linear: walk through large objects.
  using Object = std::vector<Member>;

  Value(std::nullptr_t = nullptr) noexcept;
  template <std::integral T>
  Value(T value) noexcept {
    if constexpr (std::same_as<T, bool>)
      value_ = value;
    else
      set_integer(std::in_range<std::int64_t>(value), static_cast<std::uint64_t>(value));
  }
  Value(double value) noexcept;
  Value(std::string value) noexcept;
  Value(std::string_view value);
  Value(const char* value);
  Value(Array value) noexcept;
  Value(Object value) noexcept;

  Value(const Value& other);
  Value& operator=(const Value& other);
  Value(Value&&) noexcept;
  Value& operator=(Value&&) noexcept;
  ~Value();

  /// The value when it is of the type T: bool, std::int64_t, std::uint64_t (integers beyond int64 alone), double (numbers
  /// with a point or an exponent), std::string, Array or Object. Else null.
  template <class T>
  const T* get_if() const noexcept {
    return std::get_if<T>(&value_);
  }
  template <class T>
  T* get_if() noexcept {
    return std::get_if<T>(&value_);
  }
  template <class T>
  bool is() const noexcept {
    return std::holds_alternative<T>(value_);
  }
  bool is_null() const noexcept { return is<std::nullptr_t>(); }
  /// An integer from 0, of up to 64 bits.
  std::optional<std::uint64_t> to_unsigned() const noexcept;
  /// Any number, rounded where it is an integer beyond 2^53.
  std::optional<double> to_double() const noexcept;

  friend bool operator==(const Value& a, const Value& b);

 private:
  void set_integer(bool fits_int64, std::uint64_t value) noexcept;

  std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string, Array, Object> value_;
};

struct Value::Member {
  std::string key;
  Value value;

  friend bool operator==(const Member&, const Member&) = default;
};

/// The member of that name; null when there is none.
const Value* find(const Value::Object& object, std::string_view key) noexcept;

/// Appends members, given as keys and values in turn. Not by braces: where an element of an initializer list throws, g++ 12 may
/// destroy what was never made.
template <class... Rest>
void append(Value::Object& object, std::string_view key, Value value, Rest&&... rest) {
  object.push_back({std::string(key), std::move(value)});
  if constexpr (sizeof...(rest) > 0) append(object, std::forward<Rest>(rest)...);
}

/// An object of such members.
template <class... Members>
Value::Object object_of(Members&&... members) {
  Value::Object object;
  append(object, std::forward<Members>(members)...);
  return object;
}

inline constexpr int kMaxDepth = 100;

/// Parses one JSON document (RFC 8259, UTF-8). Throws FormatError naming `source`, line and column, also for a key that occurs
/// twice in an object, nesting deeper than kMaxDepth, NUL bytes and numbers beyond double precision; MemoryError naming it.
Value parse(std::string_view text, std::string_view source);

/// The same, for a document that must be an object.
Value::Object parse_object(std::string_view text, std::string_view source);

/// Parses a document that must be an object and hands over its members, in order, each forgotten before the next is read. Throws
/// what parse_object() does and FormatError for a member that consists of more than `most` values; that no key of the object itself
/// occurs twice is left to `visit`.
void for_each_member(std::string_view text, std::string_view source, std::size_t most,
                     const std::function<void(const Value::Member&)>& visit);

/// The text of a value, on one line, or with `indent` spaces a level. Throws ArgumentError for text that is not UTF-8.
std::string dump(const Value& value, int indent = 0);
std::string dump(const Value::Object& object, int indent = 0);

/// `text` as a JSON string with its quotation marks; nothing when it is not UTF-8.
std::optional<std::string> dump_string(const std::string& text);

/// What a value is, for an error message: its text when it is short, else "a list" or "an object".
std::string describe(const Value& value);

}  // namespace gpt::json
