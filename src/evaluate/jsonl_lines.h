// The lines of a JSONL text.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "text/json_object.h"

namespace gpt::evaluate {

/// Calls f(JsonObject) for every line that is not blank, behind a byte order mark; its source is "<source>:<number of the line, from 1>". Throws
/// FormatError of that name for a line that is no JSON object, and what utf8_text() throws.
template <class F>
void for_each_json_line(std::string_view text, std::string_view source, F&& f) {
  std::int64_t number = 0;
  text = utf8_text(text, source);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const std::string where = concat(source, ":", number);
    const json::Value::Object object = json::parse_object(line, where);
    f(JsonObject(object, where));
  }
}

/// The one of the keys that the line has, or nothing. Throws FormatError where it has more than one: which is meant is not known.
inline std::optional<std::string_view> only_key(const JsonObject& line,
                                                std::initializer_list<std::string_view> keys) {
  std::optional<std::string_view> only;
  for (const std::string_view key : keys) {
    if (line.find(key) == nullptr) continue;
    if (only) {
      std::string names;
      for (const std::string_view& name : keys)
        names += concat(&name == keys.begin() ? "" : &name == keys.end() - 1 ? " and " : ", ", name);
      fail<FormatError>(line.source(), "has more than one of the keys ", names);
    }
    only = key;
  }
  return only;
}

/// The texts of a list, as the member `key` of a line must be.
inline std::vector<std::string> required_texts(const JsonObject& line, std::string_view key) {
  const json::Value::Array* const list = line.array(key);
  if (list == nullptr)
    fail<FormatError>(line.source(), line.path_of(key), " is missing, expected a list of texts");
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < list->size(); ++i) {
    const auto* text = (*list)[i].get_if<std::string>();
    if (text == nullptr)
      fail<FormatError>(line.source(), line.path_of(key), "[", i, "] is ", json::describe((*list)[i]),
                        ", expected text");
    texts.push_back(*text);
  }
  return texts;
}

}  // namespace gpt::evaluate
