#include "gpt/io/hf_config.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <type_traits>

#include "core/json.h"
#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"

namespace gpt {
namespace {

/// The keys asked for. Const getters add to it, so it locks.
class ReadKeys {
 public:
  ReadKeys() = default;
  ReadKeys(const ReadKeys& other) : keys_(other.copy()) {}
  ReadKeys& operator=(const ReadKeys&) = delete;

  void add(std::string_view key) {
    const std::lock_guard lock(mutex_);
    if (!keys_.contains(key)) keys_.emplace(key);
  }
  bool contains(std::string_view key) const {
    const std::lock_guard lock(mutex_);
    return keys_.contains(key);
  }

 private:
  using Set = std::set<std::string, std::less<>>;
  Set copy() const {
    const std::lock_guard lock(mutex_);
    return keys_;
  }
  mutable std::mutex mutex_;
  Set keys_;
};

}  // namespace

struct HfConfig::Document {
  std::string source;
  json::Value::Object object;
  std::map<std::string, std::size_t, std::less<>>
      places;  // of the members: some objects are asked for every key they have
  mutable ReadKeys read;

  /// f(), as callers see it.
  template <class F>
  auto run(const F& f) const {
    return with_memory_errors(source, f);
  }

  void assign(json::Value::Object members) {
    object = std::move(members);
    places.clear();
    for (std::size_t i = 0; i < object.size(); ++i) places.emplace(object[i].key, i);
  }

  /// Null when the key is absent.
  const json::Value* find_any(std::string_view key) const {
    return run([&]() -> const json::Value* {
      read.add(key);
      const auto place = places.find(key);
      return place == places.end() ? nullptr : &object[place->second].value;
    });
  }
  /// Null when the key is absent or null.
  const json::Value* find(std::string_view key) const {
    const json::Value* value = find_any(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }

  [[noreturn]] void fail_type(std::string_view name, const json::Value& value,
                              std::string_view expected) const {
    fail<FormatError>(source, name, " is ", json::describe(value), ", expected ", expected);
  }

  template <class T>
  const T& require(const json::Value& value, std::string_view name, std::string_view expected) const {
    const T* found = value.get_if<T>();
    if (found == nullptr) fail_type(name, value, expected);
    return *found;
  }

  template <class T>
  T convert(const json::Value& value, std::string_view name) const {
    if constexpr (std::is_same_v<T, bool>) {
      return require<bool>(value, name, "true or false");
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
      return require<std::int64_t>(value, name,
                                   value.is<std::uint64_t>() ? "an integer that fits 64 bits" : "an integer");
    } else if constexpr (std::is_same_v<T, double>) {
      const std::optional<double> number = value.to_double();
      if (!number) fail_type(name, value, "a number");
      return *number;
    } else {
      return require<std::string>(value, name, "a string");
    }
  }

  template <class T>
  std::optional<T> scalar(std::string_view key) const {
    return run([&]() -> std::optional<T> {
      const json::Value* value = find(key);
      if (value == nullptr) return std::nullopt;
      return convert<T>(*value, key);
    });
  }

  template <class T>
  std::vector<T> items(const json::Value& value, std::string_view key) const {
    std::vector<T> out;
    for (const json::Value& item : require<json::Value::Array>(value, key, "a list"))
      out.push_back(convert<T>(item, concat(key, "[", out.size(), "]")));
    return out;
  }

  template <class T>
  std::optional<std::vector<T>> list(std::string_view key) const {
    return run([&]() -> std::optional<std::vector<T>> {
      const json::Value* value = find(key);
      if (value == nullptr) return std::nullopt;
      return items<T>(*value, key);
    });
  }

  template <class T>
  std::optional<MapOf<T>> map(std::string_view key) const {
    return run([&]() -> std::optional<MapOf<T>> {
      const json::Value* value = find(key);
      if (value == nullptr) return std::nullopt;
      MapOf<T> out;
      for (const auto& [name, item] : require<json::Value::Object>(*value, key, "an object"))
        out.emplace_back(name, convert<T>(item, concat(key, "[", quote(name), "]")));
      return out;
    });
  }

  template <class T>
  void set_scalar(std::string_view key, const T& value) {
    run([&] { set(key, value); });
  }

  void set(std::string_view key, json::Value value) {
    try {
      static_cast<void>(json::dump(json::object_of(key, value)));
    } catch (const ArgumentError&) {
      fail<ArgumentError>(source, "cannot set ", quote(key), " to ",
                          value.is<std::string>() ? "text" : "a value", " that is not UTF-8");
    }
    read.add(key);
    if (const auto place = places.find(key); place != places.end()) {
      object[place->second].value = std::move(value);
      return;
    }
    object.push_back({std::string(key), std::move(value)});
    try {
      places.emplace(key, object.size() - 1);
    } catch (...) {
      object.pop_back();
      throw;
    }
  }

  void erase(std::string_view key) noexcept {
    const auto place = places.find(key);
    if (place == places.end()) return;
    const std::size_t at = place->second;
    object.erase(object.begin() + static_cast<std::ptrdiff_t>(at));
    places.erase(place);
    for (auto& [name, other] : places)
      if (other > at) --other;
  }

  template <class Values>
  void set_list(std::string_view key, const Values& values) {
    run([&] { set(key, json::Value::Array(values.begin(), values.end())); });
  }

  template <class T>
  void set_map(std::string_view key, const MapOf<T>& values) {
    run([&] {
      json::Value::Object members;
      for (const auto& [name, value] : values) members.push_back({name, value});
      set(key, std::move(members));
    });
  }
};

HfConfig::HfConfig(std::string source)
    : document_(with_memory_errors(source, [] { return std::make_unique<Document>(); })) {
  document_->source = std::move(source);
}

HfConfig HfConfig::load(const std::filesystem::path& path) {
  return with_memory_errors(path.native(), [&] { return parse(read_text_file(path), path.string()); });
}

HfConfig HfConfig::parse(std::string_view text, std::string source) {
  HfConfig config(std::move(source));
  config.document_->run([&] { config.document_->assign(json::parse_object(text, config.source())); });
  return config;
}

HfConfig::HfConfig(const HfConfig& other) : document_(std::make_unique<Document>(*other.document_)) {}
HfConfig& HfConfig::operator=(const HfConfig& other) { return *this = HfConfig(other); }
HfConfig::HfConfig(HfConfig&&) noexcept = default;
HfConfig& HfConfig::operator=(HfConfig&&) noexcept = default;
HfConfig::~HfConfig() = default;

const std::string& HfConfig::source() const noexcept { return document_->source; }

std::vector<std::string> HfConfig::keys() const {
  return document_->run([&] {
    std::vector<std::string> out;
    for (const auto& member : document_->object) out.push_back(member.key);
    return out;
  });
}

std::vector<std::string> HfConfig::unread_keys() const {
  return document_->run([&] {
    std::vector<std::string> out;
    for (const auto& [key, value] : document_->object)
      if (!value.is_null() && !document_->read.contains(key)) out.push_back(key);
    return out;
  });
}

bool HfConfig::has(std::string_view key) const { return document_->find_any(key) != nullptr; }
bool HfConfig::is_null(std::string_view key) const { return document_->find(key) == nullptr; }
bool HfConfig::is_list(std::string_view key) const {
  const json::Value* value = document_->find(key);
  return value != nullptr && value->is<json::Value::Array>();
}

void HfConfig::refuse_null(std::string_view key, std::string_view expected) const {
  if (has(key) && is_null(key)) fail<FormatError>(source(), key, " is null, expected ", expected);
}

std::optional<bool> HfConfig::get_bool(std::string_view key) const { return document_->scalar<bool>(key); }
std::optional<std::int64_t> HfConfig::get_int(std::string_view key) const {
  return document_->scalar<std::int64_t>(key);
}
std::optional<double> HfConfig::get_float(std::string_view key) const {
  return document_->scalar<double>(key);
}
std::optional<std::string> HfConfig::get_string(std::string_view key) const {
  return document_->scalar<std::string>(key);
}

std::optional<std::vector<std::int64_t>> HfConfig::get_int_list(std::string_view key) const {
  return document_->run([&]() -> std::optional<std::vector<std::int64_t>> {
    const json::Value* value = document_->find(key);
    if (value == nullptr) return std::nullopt;
    if (value->is<json::Value::Array>()) return document_->items<std::int64_t>(*value, key);
    if (!value->to_double()) document_->fail_type(key, *value, "an integer or a list of integers");
    return std::vector{document_->convert<std::int64_t>(*value, key)};
  });
}

std::optional<std::vector<std::string>> HfConfig::get_string_list(std::string_view key) const {
  return document_->list<std::string>(key);
}

std::optional<std::vector<bool>> HfConfig::get_bool_list(std::string_view key) const {
  return document_->list<bool>(key);
}

std::optional<HfConfig::MapOf<std::string>> HfConfig::get_string_map(std::string_view key) const {
  return document_->map<std::string>(key);
}
std::optional<HfConfig::MapOf<std::int64_t>> HfConfig::get_int_map(std::string_view key) const {
  return document_->map<std::int64_t>(key);
}

std::optional<std::string> HfConfig::get_json(std::string_view key) const {
  return document_->run([&]() -> std::optional<std::string> {
    const json::Value* value = document_->find(key);
    if (value == nullptr) return std::nullopt;
    return json::dump(*value);
  });
}

std::optional<HfConfig> HfConfig::get_object(std::string_view key) const {
  return document_->run([&]() -> std::optional<HfConfig> {
    const json::Value* value = document_->find(key);
    if (value == nullptr) return std::nullopt;
    HfConfig inner(concat(source(), ": ", key));
    inner.document_->assign(document_->require<json::Value::Object>(*value, key, "an object"));
    return inner;
  });
}

void HfConfig::set_null(std::string_view key) { document_->set_scalar(key, nullptr); }
void HfConfig::set_bool(std::string_view key, bool value) { document_->set_scalar(key, value); }
void HfConfig::set_int(std::string_view key, std::int64_t value) { document_->set_scalar(key, value); }
void HfConfig::set_float(std::string_view key, double value) {
  if (!std::isfinite(value)) fail<ArgumentError>(source(), "cannot set ", quote(key), " to ", value);
  document_->set_scalar(key, value);
}
void HfConfig::set_string(std::string_view key, std::string_view value) { document_->set_scalar(key, value); }

void HfConfig::set_int_list(std::string_view key, std::span<const std::int64_t> values) {
  document_->set_list(key, values);
}
void HfConfig::set_string_list(std::string_view key, std::span<const std::string> values) {
  document_->set_list(key, values);
}
void HfConfig::set_string_map(std::string_view key, const MapOf<std::string>& values) {
  document_->set_map(key, values);
}
void HfConfig::set_int_map(std::string_view key, const MapOf<std::int64_t>& values) {
  document_->set_map(key, values);
}
void HfConfig::set_object(std::string_view key, const HfConfig& value) {
  document_->set_scalar(key, value.document_->object);
}
void HfConfig::set_json(std::string_view key, std::string_view text) {
  document_->run([&] { document_->set_scalar(key, json::parse(text, source())); });
}
void HfConfig::erase(std::string_view key) { document_->erase(key); }

std::string HfConfig::dump() const {
  return document_->run([&] { return json::dump(document_->object, 2) + "\n"; });
}
void HfConfig::save(const std::filesystem::path& path) const { write_file_atomically(path, dump()); }

}  // namespace gpt
