// What the programs share in reading their command lines, more strictly than CLI11 does and with messages that say what was
// found and what was expected.
#pragma once

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include <gpt/core/error.h>
#include <CLI/CLI.hpp>

namespace program {

/// The command line is wrong.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Runs a check that needs no file: what it refuses, the command line is to blame for.
template <class Check>
void check_usage(Check&& check) {
  try {
    check();
  } catch (const gpt::ArgumentError& error) {
    throw UsageError(error.what());
  }
}

/// The library's message about a setting, with the options in place of the settings' names where it begins with one whose option
/// was given: "[generate] top_k is -1, expected ..." as "--top-k is -1, expected ...". Settings of a file keep its name.
inline std::string in_options(const CLI::App& app, std::string_view message) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789_";
  const auto option_of = [&app](std::string_view setting) {
    std::string name = gpt::concat("--", setting);
    std::replace(name.begin(), name.end(), '_', '-');
    return setting.empty() ? nullptr : app.get_option_no_throw(name);
  };
  const std::size_t place = message.starts_with('[') ? message.find("] ") : message.npos;
  if (place == message.npos || message.substr(1, place - 1).find_first_not_of(kLetters) != message.npos)
    return std::string(message);
  std::string_view rest = message.substr(place + 2);
  const std::string_view first = rest.substr(0, rest.find_first_not_of(kLetters));
  if (const CLI::Option* const option = option_of(first); option == nullptr || option->count() == 0)
    return std::string(message);
  std::string out;
  while (!rest.empty()) {
    const std::string_view word = rest.substr(0, rest.find_first_not_of(kLetters));
    const std::string_view after = rest.substr(word.size());
    const bool stands_alone =
        (out.empty() || out.back() == ' ') && (after.empty() || after.find_first_of(" ,:;") == 0);
    // A word without an underscore may be a word, and within others it may be part of a path.
    const bool names_setting = stands_alone && (word == first || word.find('_') != word.npos);
    const CLI::Option* const option = names_setting ? option_of(word) : nullptr;
    out += option != nullptr ? option->get_name() : word;
    rest.remove_prefix(word.size());
    const std::string_view between = rest.substr(0, rest.find_first_of(kLetters));
    out += between;
    rest.remove_prefix(between.size());
  }
  return out;
}

inline std::string in_quotes(std::string_view text) { return gpt::concat("\"", text, "\""); }

/// All of `text` as a number of at least `least`, the same in every locale. Throws UsageError naming the option.
template <class T>
T parse_number(std::string_view option, std::string_view text, T least = std::numeric_limits<T>::lowest()) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && stop == end && !(value < least)) return value;
  if constexpr (std::is_floating_point_v<T>)
    throw UsageError(gpt::concat(
        option, ": ", in_quotes(text),
        error == std::errc::result_out_of_range ? " is too large or too small" : " is not a number"));
  else
    throw UsageError(gpt::concat(option, ": ", in_quotes(text), " is not an integer from ", least, " to ",
                                 std::numeric_limits<T>::max()));
}

/// Numbers with commas between them. Throws UsageError naming the option.
template <class T>
std::vector<T> parse_numbers(std::string_view option, std::string_view text, T least) {
  std::vector<T> values;
  for (;;) {
    const std::size_t comma = text.find(',');
    values.push_back(parse_number<T>(option, text.substr(0, comma), least));
    if (comma == text.npos) return values;
    text.remove_prefix(comma + 1);
  }
}

/// Adds an option whose value is a number, read by parse_number; `value` may be a std::optional.
template <class T, class Value>
CLI::Option* add_number(CLI::App& app, const std::string& name, Value& value, const std::string& description,
                        T least = std::numeric_limits<T>::lowest()) {
  const auto read = [name, &value, least](const std::string& text) {
    value = parse_number<T>(name, text, least);
  };
  return app.add_option_function<std::string>(name, read, description)
      ->type_name(std::is_floating_point_v<T> ? "NUMBER" : "N");
}

/// The arguments as CLI11 is to get them: names and values apart, since "--name=" would make it take the next argument for
/// the value. All that follows an option that wants a value is that value, whatever it looks like. Throws UsageError for
/// anything that is no option, a value that is missing, empty where it is a path, or that a flag does not take, and for what is
/// given twice unless it may be repeated.
inline std::vector<std::string> split_arguments(const CLI::App& app, int argc, const char* const* argv) {
  std::vector<std::string> arguments;
  std::map<const CLI::Option*, std::string> given;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::size_t equals = argument.starts_with("--") ? argument.find('=') : argument.npos;
    const std::string name(argument.substr(0, equals));
    const CLI::Option* const option = name.starts_with("-") ? app.get_option_no_throw(name) : nullptr;
    if (option == nullptr)
      throw UsageError(gpt::concat(in_quotes(name), name.starts_with("-")
                                                        ? " is no option: see --help"
                                                        : " follows no option that takes it: see --help"));
    const bool is_flag = option->get_expected_max() == 0;
    if (is_flag && equals != argument.npos)
      throw UsageError(gpt::concat(name, " takes no value, found ", in_quotes(argument.substr(equals + 1))));
    if (option == app.get_help_ptr() || option == app.get_version_ptr()) return {name};
    const bool repeats = !is_flag && option->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
    if (const auto [first, is_new] = given.emplace(option, name); !is_new && !repeats)
      throw UsageError(first->second == name
                           ? gpt::concat(name, " is given twice")
                           : gpt::concat(first->second, " and ", name, " are both given: expected one"));
    arguments.push_back(name);
    if (is_flag) continue;
    if (equals != argument.npos)
      arguments.emplace_back(argument.substr(equals + 1));
    else if (++i < argc)
      arguments.emplace_back(argv[i]);
    else
      throw UsageError(gpt::concat(name, ": its value is missing, expected ", option->get_type_name()));
    if (const std::string type = option->get_type_name();
        arguments.back().empty() && (type == "DIR" || type == "FILE"))
      throw UsageError(name + ": the path is empty");
  }
  return arguments;
}

}  // namespace program
