#include "core/json.h"

#include <stdlib.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <new>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "core/c_locale.h"
#include "core/float_environment.h"
#include "core/quote.h"
#include "gpt/core/error.h"

namespace gpt::json {
namespace {

using Parser = nlohmann::json;

/// Whom the members of the outermost object are handed to, and how many values each may consist of.
struct Visitor {
  const std::function<void(const Value::Member&)>& visit;
  std::size_t most;
};

// Builds the document from the parser's events. nlohmann's own builder lets the last of several equal keys
// win and has no limit of depth. With a visitor only the member that is being read is held.
class Builder final : public nlohmann::json_sax<Parser> {
 public:
  Builder(std::string_view text, std::string_view source, const Visitor* visitor)
      : text_(text), source_(source), visitor_(visitor) {}

  Value take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t, const string_t& text) override { return add(number(text)); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // not in JSON

  bool start_object(std::size_t) override { return open(Value::Object()); }
  bool key(string_t& name) override {
    key_ = std::move(name);
    return true;
  }
  bool end_object() override {
    require_unique_keys(*open_.back()->get_if<Value::Object>());
    return close();
  }
  bool start_array(std::size_t) override { return open(Value::Array()); }
  bool end_array() override { return close(); }

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
                      ", column ", before.size() - line_begin + 1, ": ", what.substr(0, kLimit), after_key());
  }

 private:
  bool add(Value value) {
    insert(std::move(value));
    hand_over();
    return true;
  }

  bool close() {
    open_.pop_back();
    hand_over();
    return true;
  }

  // Once a member of the outermost object is complete.
  void hand_over() {
    if (visitor_ == nullptr || open_.size() != 1) return;
    auto* const members = root_.get_if<Value::Object>();
    if (members == nullptr) return;
    visitor_->visit(members->back());
    members->clear();
    values_ = 0;
  }

  bool open(Value container) {
    if (open_.size() >= kMaxDepth)
      fail<FormatError>(source_, "is nested deeper than ", kMaxDepth, " levels, the limit for JSON");
    open_.push_back(insert(std::move(container)));
    return true;
  }

  // The lexer writes for the point what localeconv() answers, and all threads share that answer: where another one, in another
  // locale, asked at the same time, the lexer's value ends there.
  double number(std::string text) const {
    if (const auto point = text.find_first_not_of("0123456789+-.eE"); point != text.npos) text[point] = '.';
    double value = 0.0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
    if (read.ec == std::errc()) return value;
    value = ::strtod_l(text.c_str(), nullptr,
                       ::uselocale(nullptr));  // zero or infinity; the C locale, as parse() has set
    if (std::isinf(value))
      fail<FormatError>(source_, "is not valid JSON: number overflow parsing ", quote(text), after_key());
    return value;
  }

  std::string after_key() const { return key_.empty() ? "" : concat(", after the key ", quote(key_)); }

  // A container is appended to only while none inside it is open: the pointers in open_ stay valid.
  Value* insert(Value value) {
    if (visitor_ != nullptr && !open_.empty() && ++values_ > visitor_->most) fail_too_large();
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (auto* list = open_.back()->get_if<Value::Array>()) return &list->emplace_back(std::move(value));
    auto& members = *open_.back()->get_if<Value::Object>();
    members.push_back({key_, std::move(value)});
    return &members.back().value;
  }

  [[noreturn]] void fail_too_large() const {
    const auto* const members = root_.get_if<Value::Object>();
    const std::string what =
        members == nullptr || members->empty() ? describe(root_) : quote(members->back().key);
    fail<FormatError>(source_, what, " has more than ", visitor_->most, " values");
  }

  void require_unique_keys(const Value::Object& object) const {
    // By hash first, which compares faster than text: vocabularies have a great many keys.
    std::vector<std::pair<std::size_t, std::string_view>> keys;
    keys.reserve(object.size());
    for (const Value::Member& member : object)
      keys.emplace_back(std::hash<std::string_view>{}(member.key), member.key);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      fail<FormatError>(source_, "has the key ", quote(twice->second), " twice in one object");
  }

  std::string_view text_;
  std::string_view source_;
  const Visitor* visitor_;
  std::size_t values_ = 0;  // of the member
  Value root_;
  std::vector<Value*> open_;
  std::string key_;
};

// Appends the text of values to a string.
class Writer {
 public:
  Writer(std::string& out, int indent) : out_(out), indent_(indent) {}

  void write(const Value& value) {
    if (const auto* list = value.get_if<Value::Array>())
      write_items('[', ']', *list, [this](const Value& item) { write(item); });
    else if (const auto* object = value.get_if<Value::Object>())
      write(*object);
    else if (const auto* text = value.get_if<std::string>())
      write_scalar(*text);
    else if (const auto* truth = value.get_if<bool>())
      write_scalar(*truth);
    else if (const auto* fraction = value.get_if<double>())
      write_scalar(*fraction);
    else if (const auto* integer = value.get_if<std::int64_t>())
      write_scalar(*integer);
    else if (const auto* large = value.get_if<std::uint64_t>())
      write_scalar(*large);
    else
      out_ += "null";
  }

  void write(const Value::Object& object) {
    write_items('{', '}', object, [this](const Value::Member& member) {
      write_scalar(member.key);
      out_ += indent_ > 0 ? ": " : ":";
      write(member.value);
    });
  }

 private:
  template <class Items, class WriteItem>
  void write_items(char open, char close, const Items& items, const WriteItem& write_item) {
    out_ += open;
    ++depth_;
    for (const auto& item : items) {
      if (&item != &items.front()) out_ += ',';
      new_line();
      write_item(item);
    }
    --depth_;
    if (!items.empty()) new_line();
    out_ += close;
  }

  void new_line() {
    if (indent_ <= 0) return;
    out_ += '\n';
    out_.append(static_cast<std::size_t>(indent_ * depth_), ' ');
  }

  template <class T>
  void write_scalar(const T& value) {
    out_ += Parser(value).dump();
  }

  std::string& out_;
  int indent_;
  int depth_ = 0;
};

template <class T>
std::string text_of(const T& value, int indent) {
  std::string text;
  const CLocale locale("JSON");
  try {
    Writer(text, indent).write(value);
  } catch (const Parser::type_error&) {
    fail<ArgumentError>("JSON", "cannot hold text that is not UTF-8");
  }
  return text;
}

}  // namespace

Value::Value(std::nullptr_t) noexcept {}
Value::Value(double value) noexcept : value_(value) {}
Value::Value(std::string value) noexcept : value_(std::move(value)) {}
Value::Value(std::string_view value) : value_(std::string(value)) {}
Value::Value(const char* value) : value_(std::string(value)) {}
Value::Value(Array value) noexcept : value_(std::move(value)) {}
Value::Value(Object value) noexcept : value_(std::move(value)) {}

// Not by std::variant: where a copy of an alternative throws, libstdc++'s destroys an alternative that was never made, for it
// takes a variant of strings and vectors to be never without a value.
Value::Value(const Value& other) : Value() {
  std::visit([this](auto copy) { value_ = std::move(copy); }, other.value_);
}
Value& Value::operator=(const Value& other) { return *this = Value(other); }
Value::Value(Value&&) noexcept = default;
Value& Value::operator=(Value&&) noexcept = default;
Value::~Value() = default;

void Value::set_integer(bool fits_int64, std::uint64_t value) noexcept {
  if (fits_int64)
    value_ = static_cast<std::int64_t>(value);
  else
    value_ = value;
}

std::optional<std::uint64_t> Value::to_unsigned() const noexcept {
  if (const auto* large = get_if<std::uint64_t>()) return *large;
  const auto* integer = get_if<std::int64_t>();
  if (integer == nullptr || *integer < 0) return std::nullopt;
  return static_cast<std::uint64_t>(*integer);
}

std::optional<double> Value::to_double() const noexcept {
  if (const auto* fraction = get_if<double>()) return *fraction;
  if (const auto* integer = get_if<std::int64_t>()) return static_cast<double>(*integer);
  if (const auto* large = get_if<std::uint64_t>()) return static_cast<double>(*large);
  return std::nullopt;
}

bool operator==(const Value& a, const Value& b) { return a.value_ == b.value_; }

const Value* find(const Value::Object& object, std::string_view key) noexcept {
  const auto found =
      std::find_if(object.begin(), object.end(), [&](const Value::Member& m) { return m.key == key; });
  return found == object.end() ? nullptr : &found->value;
}

namespace {

Value parse(std::string_view text, std::string_view source, const Visitor* visitor) {
  // The parser would take a NUL for the end of the text.
  if (const auto nul = text.find('\0'); nul != text.npos)
    fail<FormatError>(source, "is not valid JSON: byte ", nul, " is NUL");
  const DefaultFloatEnvironment environment;  // numbers are read to the nearest
  const CLocale locale(source);
  Builder builder(text, source, visitor);
  try {
    Parser::sax_parse(text.begin(), text.end(), &builder);
  } catch (const std::bad_alloc&) {
    fail<MemoryError>(source, "no memory to parse ", text.size(), " bytes of JSON");
  }
  return builder.take();
}

Value::Object require_object(Value value, std::string_view source) {
  auto* object = value.get_if<Value::Object>();
  if (object == nullptr) fail<FormatError>(source, "is ", describe(value), ", expected a JSON object");
  return std::move(*object);
}

}  // namespace

Value parse(std::string_view text, std::string_view source) { return parse(text, source, nullptr); }

Value::Object parse_object(std::string_view text, std::string_view source) {
  return require_object(parse(text, source), source);
}

void for_each_member(std::string_view text, std::string_view source, std::size_t most,
                     const std::function<void(const Value::Member&)>& visit) {
  const Visitor visitor{visit, most};
  require_object(parse(text, source, &visitor), source);
}

std::string dump(const Value& value, int indent) { return text_of(value, indent); }
std::string dump(const Value::Object& object, int indent) { return text_of(object, indent); }

std::optional<std::string> dump_string(const std::string& text) {
  const CLocale locale("JSON");
  try {
    return Parser(text).dump();
  } catch (const Parser::type_error&) {
    return std::nullopt;
  }
}

std::string describe(const Value& value) {
  if (value.is<Value::Array>()) return "a list";
  if (value.is<Value::Object>()) return "an object";
  if (const auto* text = value.get_if<std::string>()) return quote(*text);
  return dump(value);
}

}  // namespace gpt::json
