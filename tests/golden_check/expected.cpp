#include "expected.h"

#include <algorithm>
#include <limits>

namespace gpt::golden {

namespace {

bool matches(std::string_view pattern, std::string_view name) {
  const auto star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  if (!name.starts_with(pattern.substr(0, star))) return false;
  const std::string_view rest = pattern.substr(star + 1);
  for (std::size_t i = star; i <= name.size(); ++i)
    if (matches(rest, name.substr(i))) return true;
  return false;
}

const Rule* find_rule(std::span<const Rule> rules, std::string_view name) {
  const auto it = std::ranges::find_if(rules, [&](const Rule& rule) { return matches(rule.pattern, name); });
  return it == rules.end() ? nullptr : &*it;
}

bool is_composite(const Json& value) {
  return value.is_object() || (value.is_array() && !value.empty() &&
                               std::ranges::all_of(value, [](const Json& x) { return x.is_object(); }));
}

void judge_value(Report& report, const std::string& folder, const std::string& path, const Json& value,
                 const Json& parent, std::span<const Rule> rules) {
  const Rule* rule = find_rule(rules, path);
  if (rule == nullptr && value.is_object()) {
    for (const auto& [key, child] : value.items())
      judge_value(report, folder, concat(path, ".", key), child, value, rules);
  } else if (rule == nullptr && is_composite(value)) {
    for (std::size_t i = 0; i < value.size(); ++i)
      judge_value(report, folder, concat(path, "[", i, "]"), value[i], value, rules);
  } else {
    judge(report, folder, path, [&] {
      return rule == nullptr ? Outcome::skip() : rule->check({path, &value, &parent});
    });
  }
}

}  // namespace

std::string read_text(const std::filesystem::path& path) {
  try {
    return read_text_file(path);
  } catch (const Error& e) {
    throw Unreadable(e.what());
  }
}

Json read_json(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    throw Unreadable(concat(path.string(), ": ", e.what()));
  }
}

std::vector<Json> read_rows(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  std::vector<Json> rows;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    try {
      rows.push_back(Json::parse(std::string_view(text).substr(begin, end - begin)));
    } catch (const Json::exception& e) {
      throw Unreadable(concat(path.string(), ":", rows.size() + 1, ": ", e.what()));
    }
    begin = end + 1;
  }
  if (rows.empty()) throw Unreadable(concat(path.string(), " has no rows"));
  return rows;
}

std::vector<TokenId> token_ids(std::span<const std::int64_t> numbers, std::string_view where) {
  std::vector<TokenId> ids;
  for (const std::int64_t number : numbers) {
    if (number < 0 || number > std::numeric_limits<TokenId>::max())
      throw Unreadable(concat(where, " holds ", number, ", which is no token id"));
    ids.push_back(static_cast<TokenId>(number));
  }
  return ids;
}

std::vector<TokenId> token_ids(const Json& list, std::string_view where) {
  const bool integers =
      list.is_array() && std::ranges::all_of(list, [](const Json& x) { return x.is_number_integer(); });
  if (!integers) throw Unreadable(concat(where, " is no list of token ids"));
  const auto numbers = list.get<std::vector<std::int64_t>>();
  return token_ids(std::span<const std::int64_t>(numbers), where);
}

ExpectedTensors::ExpectedTensors(const std::filesystem::path& file, const Json& tolerances)
    : source_(file.string()) {
  try {
    const SafetensorsFile tensors(file);
    for (const std::string& name : tensors.names()) tensors_.emplace(name, tensors.tensor(name));
  } catch (const Error& e) {
    throw Unreadable(e.what());
  }
  for (const auto& [name, entry] : tolerances.items()) {
    if (!contains(name))
      throw Unreadable(concat(source_, " has no tensor ", name, ", whose tolerance is given"));
    max_abs_.emplace(name, entry.at("max_abs").get<double>());
  }
}

std::vector<std::string> ExpectedTensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

const Tensor& ExpectedTensors::find(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) throw Unreadable(concat(source_, " has no tensor ", name));
  return it->second;
}

template <class T>
std::span<const T> ExpectedTensors::elements(const std::string& name, std::string_view type) const {
  const Tensor& tensor = find(name);
  if (tensor.dtype() != dtype_of<T>)
    throw Unreadable(concat(source_, ": ", name, " holds ", name_of(tensor.dtype()), ", expected ", type));
  return tensor.span<T>();
}

void ExpectedTensors::require_shape(const std::string& name, const Shape& shape) const {
  const Shape& found = find(name).shape();
  if (found != shape)
    throw Unreadable(
        concat(source_, ": ", name, " has shape ", found.to_string(), ", expected ", shape.to_string()));
}

std::span<const std::int64_t> ExpectedTensors::ints(const std::string& name) const {
  return elements<std::int64_t>(name, "int64");
}

std::span<const std::int64_t> ExpectedTensors::ints(const std::string& name, const Shape& shape) const {
  require_shape(name, shape);
  return ints(name);
}

std::span<const float> ExpectedTensors::reals(const std::string& name, const Shape& shape) const {
  require_shape(name, shape);
  return elements<float>(name, "float32");
}

double ExpectedTensors::scale(const std::string& name) const {
  const auto it = max_abs_.find(name);
  if (it == max_abs_.end()) throw Unreadable(concat(source_, ": no tolerance is given for ", name));
  return std::max(1.0, it->second);
}

void report_unknown_keys(Report& report, const std::string& folder, const std::string& path,
                         const Json& object, std::span<const std::string_view> known) {
  if (!object.is_object()) return;
  for (const auto& [key, value] : object.items())
    if (std::ranges::find(known, key) == known.end())
      report.add(folder, concat(path, ".", key), Outcome::skip());
}

void report_unknown_fields(Report& report, const std::string& folder, const std::string& file,
                           std::span<const Json> rows, std::span<const std::string_view> known) {
  Json fields = Json::object();
  for (const Json& row : rows)
    if (row.is_object()) fields.update(row);
  report_unknown_keys(report, folder, file + "[*]", fields, known);
}

void judge(Report& report, const std::string& folder, const std::string& quantity,
           const std::function<Outcome()>& check) {
  Outcome outcome;
  try {
    outcome = check();
  } catch (const Unreadable&) {
    throw;
  } catch (const Json::exception& e) {  // only expected values are JSON here
    throw Unreadable(concat(folder, ": ", quantity, ": ", e.what()));
  } catch (const std::exception& e) {
    outcome = Outcome::thrown(e.what());
  }
  report.add(folder, quantity, outcome);
}

void judge_tensors(Report& report, const std::string& folder, const ExpectedTensors& tensors,
                   std::span<const Rule> rules) {
  for (const std::string& name : tensors.names())
    judge(report, folder, name, [&] {
      const Rule* rule = find_rule(rules, name);
      return rule == nullptr ? Outcome::skip() : rule->check({name});
    });
}

void judge_json(Report& report, const std::string& folder, const Json& document,
                std::span<const Rule> rules) {
  for (const auto& [key, value] : document.items()) judge_value(report, folder, key, value, document, rules);
}

}  // namespace gpt::golden
