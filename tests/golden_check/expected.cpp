#include "expected.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tolerances.h"

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

// A value as a message shows it.
std::string excerpt(const Json& value) {
  constexpr std::size_t kLongest = 40;
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

bool is_composite(const Json& value) {
  return value.is_object() || (value.is_array() && !value.empty() &&
                               std::ranges::all_of(value, [](const Json& x) { return x.is_object(); }));
}

void judge_value(Report& report, const std::string& folder, const std::string& file, const std::string& path,
                 const Json& value, const Json& parent, std::span<const Rule> rules) {
  const Rule* rule = find_rule(rules, path);
  if (rule == nullptr && value.is_object()) {
    for (const auto& [key, child] : value.items())
      judge_value(report, folder, file, concat(path, ".", key), child, value, rules);
  } else if (rule == nullptr && is_composite(value)) {
    for (std::size_t i = 0; i < value.size(); ++i)
      judge_value(report, folder, file, concat(path, "[", i, "]"), value[i], value, rules);
  } else {
    judge(report, folder, file, path, [&] {
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
    throw Unreadable(concat(path.string(), ": ", text_of(e)));
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
      throw Unreadable(concat(path.string(), ":", rows.size() + 1, ": ", text_of(e)));
    }
    if (!rows.back().is_object())
      throw Unreadable(concat(path.string(), ":", rows.size(), ": is no JSON object"));
    begin = end + 1;
  }
  if (rows.empty()) throw Unreadable(concat(path.string(), " has no rows"));
  return rows;
}

const Json& member(const Json& object, const std::string& key, std::string_view where) {
  if (!object.is_object()) throw Unreadable(concat(where, " is no object, expected one with ", key));
  const auto it = object.find(key);
  if (it == object.end()) throw Unreadable(concat(where, " has no ", key));
  return *it;
}

double number_of(const Json& value, std::string_view where) {
  if (!value.is_number()) throw Unreadable(concat(where, " is ", excerpt(value), ", expected a number"));
  return value.get<double>();
}

std::int64_t integer_of(const Json& value, std::string_view where) {
  const bool fits =
      value.is_number_integer() &&
      (!value.is_number_unsigned() ||
       value.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
  if (!fits) throw Unreadable(concat(where, " is ", excerpt(value), ", expected an integer"));
  return value.get<std::int64_t>();
}

std::string string_of(const Json& value, std::string_view where) {
  if (!value.is_string()) throw Unreadable(concat(where, " is ", excerpt(value), ", expected a string"));
  return value.get<std::string>();
}

bool truth_of(const Json& value, std::string_view where) {
  if (!value.is_boolean())
    throw Unreadable(concat(where, " is ", excerpt(value), ", expected true or false"));
  return value.get<bool>();
}

std::vector<double> numbers_of(const Json& value, std::string_view where) {
  if (!value.is_array())
    throw Unreadable(concat(where, " is ", excerpt(value), ", expected a list of numbers"));
  std::vector<double> numbers;
  for (const Json& number : value) numbers.push_back(number_of(number, where));
  return numbers;
}

std::string text_of(const Json::exception& e) {
  const std::string_view text = e.what();  // "[json.exception.type_error.302] type must be ..."
  const auto end = text.starts_with('[') ? text.find("] ") : std::string_view::npos;
  return std::string(end == std::string_view::npos ? text : text.substr(end + 2));
}

std::string parent_path_of(std::string_view path) {
  const auto dot = path.rfind('.');
  return std::string(dot == std::string_view::npos ? "it" : path.substr(0, dot));
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
  std::vector<std::int64_t> numbers;
  for (const Json& number : list) numbers.push_back(integer_of(number, where));
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
  if (!tolerances.is_object()) throw Unreadable(concat(source_, ": its tolerances are no object"));
  for (const auto& [name, entry] : tolerances.items()) {
    if (!contains(name))
      throw Unreadable(concat(source_, " has no tensor ", name, ", whose tolerance is given"));
    const std::string where = concat(source_, ": tolerances.", name);
    max_abs_.emplace(name, number_of(member(entry, "max_abs", where), where + ".max_abs"));
    if (find(name).dtype() != DType::f32) continue;
    double& largest = largest_[name];
    for (const float x : find(name).span<float>())
      largest = std::fmax(largest, std::abs(static_cast<double>(x)));
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

std::span<const std::int64_t> ExpectedTensors::labels(const std::string& name, const Shape& shape) const {
  constexpr std::int64_t kIgnored = -100;
  const auto all = ints(name, shape);
  for (const std::int64_t label : all)
    if (label != kIgnored && (label < 0 || label > std::numeric_limits<TokenId>::max()))
      throw Unreadable(concat(source_, ": ", name, " holds ", label, ", which is no label"));
  return all;
}

double ExpectedTensors::scale(const std::string& name) const {
  const auto it = max_abs_.find(name);
  if (it == max_abs_.end()) throw Unreadable(concat(source_, ": no tolerance is given for ", name));
  const auto largest = largest_.find(name);
  return std::max(1.0, largest == largest_.end() ? it->second : std::min(it->second, largest->second));
}

std::optional<Outcome> ExpectedTensors::wrong_magnitude(const std::string& name) const {
  const auto largest = largest_.find(name);
  if (largest == largest_.end()) return {};
  const double given = max_abs_.at(name);
  const Outcome outcome = Outcome::compared(
      std::abs(given - largest->second), kMagnitudeTolerance * std::max(1.0, largest->second),
      concat("is ", given, ", the largest magnitude of the tensor is ", largest->second));
  if (holds(outcome)) return {};
  return outcome;
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

std::string with_place(const std::string& place, const std::string& message) {
  const bool begins = message.starts_with(place) && message.size() > place.size() &&
                      std::string_view(":/ ").find(message[place.size()]) != std::string_view::npos;
  return begins ? message : concat(place, ": ", message);
}

bool judge(Report& report, const std::string& folder, const std::string& file, const std::string& quantity,
           const std::function<Outcome()>& check) {
  Outcome outcome;
  try {
    outcome = check();
  } catch (const Unreadable& e) {
    const bool has_file =
        std::string_view(e.what()).starts_with(std::filesystem::path(file).parent_path().string() + "/");
    if (has_file) throw;
    const bool has_path = std::string_view(e.what()).starts_with(parent_path_of(quantity));
    throw Unreadable(concat(file, ": ", has_path ? e.what() : with_place(quantity, e.what())));
  } catch (const Json::exception& e) {  // only expected values are JSON here
    throw Unreadable(concat(file, ": ", quantity, ": ", text_of(e)));
  } catch (const std::exception& e) {
    outcome = Outcome::thrown(e.what());
  }
  report.add(folder, quantity, outcome);
  return holds(outcome) || outcome.kind == Outcome::Kind::kInput || outcome.kind == Outcome::Kind::kSkip;
}

void judge_tensors(Report& report, const std::string& folder, const ExpectedTensors& tensors,
                   std::span<const Rule> rules) {
  for (const std::string& name : tensors.names()) {
    const bool is_well = judge(report, folder, tensors.source(), name, [&] {
      const Rule* rule = find_rule(rules, name);
      return rule == nullptr ? Outcome::skip() : rule->check({name});
    });
    const std::optional<Outcome> wrong = is_well ? tensors.wrong_magnitude(name) : std::nullopt;
    if (wrong) report.add(folder, concat("tolerances.", name, ".max_abs"), *wrong);
  }
}

void judge_json(Report& report, const std::string& folder, const std::string& file, const Json& document,
                std::span<const Rule> rules) {
  if (!document.is_object()) throw Unreadable(file + ": is no JSON object");
  for (const auto& [key, value] : document.items())
    judge_value(report, folder, file, key, value, document, rules);
}

}  // namespace gpt::golden
