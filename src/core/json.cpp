#include "core/json.h"

#include <algorithm>
#include <functional>
#include <new>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "core/quote.h"
#include "gpt/core/error.h"

namespace gpt::json {
namespace {

// Builds the document from the parser's events. nlohmann's own builder lets the last of several equal keys
// win and has no limit of depth.
class Builder final : public nlohmann::json_sax<Value> {
 public:
  Builder(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  Value take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::move(value)); }

  bool start_object(std::size_t) override { return open(Value::object()); }
  bool key(string_t& name) override {
    key_ = std::move(name);
    return true;
  }
  bool end_object() override {
    require_unique_keys(*open_.back());
    open_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override { return open(Value::array()); }
  bool end_array() override {
    open_.pop_back();
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ...", where the
    // column is wrong at the end of a line.
    std::string_view what = error.what();
    what.remove_prefix(what.find("] ") + 2);
    if (what.starts_with("parse error")) what.remove_prefix(what.find(": ") + 2);
    constexpr std::size_t kLimit = 300;  // it repeats the offending token, which may be the whole file
    const std::string_view before = text_.substr(0, std::max<std::size_t>(position, 1) - 1);
    const std::size_t line_begin = before.rfind('\n') + 1;  // 0 on the first line: npos + 1
    fail<FormatError>(source_, "is not valid JSON: line ", 1 + std::count(before.begin(), before.end(), '\n'),
                      ", column ", before.size() - line_begin + 1, ": ", what.substr(0, kLimit),
                      key_.empty() ? "" : concat(", after the key ", quote(key_)));
  }

 private:
  template <class T>
  bool add(T&& value) {
    insert(std::forward<T>(value));
    return true;
  }

  bool open(Value&& container) {
    if (open_.size() >= kMaxDepth)
      fail<FormatError>(source_, "is nested deeper than ", kMaxDepth, " levels, the limit for JSON");
    open_.push_back(insert(std::move(container)));
    return true;
  }

  // A container is appended to only while none inside it is open: the pointers in open_ stay valid.
  template <class T>
  Value* insert(T&& value) {
    if (open_.empty()) {
      root_ = std::forward<T>(value);
      return &root_;
    }
    Value& parent = *open_.back();
    if (parent.is_array()) return &parent.get_ref<Value::array_t&>().emplace_back(std::forward<T>(value));
    // Straight into the vector below: ordered_map::emplace would search all earlier keys.
    auto& members = static_cast<Value::object_t::Container&>(parent.get_ref<Value::object_t&>());
    return &members.emplace_back(key_, std::forward<T>(value)).second;
  }

  void require_unique_keys(const Value& object) const {
    // By hash first, which compares faster than text: vocabularies have a great many keys.
    std::vector<std::pair<std::size_t, std::string_view>> keys;
    keys.reserve(object.size());
    for (const auto& member : object.get_ref<const Value::object_t&>())
      keys.emplace_back(std::hash<std::string_view>{}(member.first), member.first);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      fail<FormatError>(source_, "has the key ", quote(twice->second), " twice in one object");
  }

  std::string_view text_;
  std::string_view source_;
  Value root_;
  std::vector<Value*> open_;
  std::string key_;
};

}  // namespace

Value parse(std::string_view text, std::string_view source) {
  // The parser would take a NUL for the end of the text.
  if (const auto nul = text.find('\0'); nul != text.npos)
    fail<FormatError>(source, "is not valid JSON: byte ", nul, " is NUL");
  Builder builder(text, source);
  try {
    Value::sax_parse(text.begin(), text.end(), &builder);
  } catch (const std::bad_alloc&) {
    fail<MemoryError>(source, "no memory to parse ", text.size(), " bytes of JSON");
  }
  return builder.take();
}

Value parse_object(std::string_view text, std::string_view source) {
  Value value = parse(text, source);
  if (!value.is_object()) fail<FormatError>(source, "is ", describe(value), ", expected a JSON object");
  return value;
}

std::string dump(const Value& value, int indent) { return value.dump(indent); }

std::optional<std::string> dump_string(const std::string& text) {
  try {
    return dump(text);
  } catch (const Value::type_error&) {
    return std::nullopt;
  }
}

std::string describe(const Value& value) {
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  if (value.is_string()) return quote(value.get_ref<const std::string&>());
  return dump(value);
}

}  // namespace gpt::json
