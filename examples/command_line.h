// What the programs share in reading their command lines, more strictly than CLI11 does and with messages that say what was
// found and what was expected. CLI11 takes seconds to compile, and command_line.cpp alone includes it.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <gpt/core/error.h>

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
  } catch (const gpt::UnsupportedError& error) {
    throw UsageError(error.what());
  }
}

std::string in_quotes(std::string_view text);
/// "a, b, c"
std::string listed(const std::vector<std::string_view>& names);
/// "1 token", "2 tokens"
std::string counted(std::int64_t count, std::string_view noun);

/// All of `text` as a number of at least `least`, the same in every locale; T is int, std::int64_t, std::uint64_t, float or
/// double. Throws UsageError naming the option.
template <class T>
T parse_number(std::string_view option, std::string_view text, T least = std::numeric_limits<T>::lowest());

/// What a setting of the library may be.
template <class T>
struct Range {
  T least = std::numeric_limits<T>::lowest();
  T most = std::numeric_limits<T>::max();
};

/// All of `text` as an integer, int or std::int64_t. Throws UsageError naming the option and the range for what is none; an
/// integer outside the range is the library's to refuse, which says what its values mean.
template <class T>
T parse_setting(std::string_view option, std::string_view text, Range<T> range);

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

/// The type of a number, or of what a std::optional holds.
template <class Value>
struct NumberOf {
  using Type = Value;
};
template <class Value>
struct NumberOf<std::optional<Value>> {
  using Type = Value;
};

/// An option of an App, to say more about it.
class Option {
 public:
  Option& required();
  /// The heading of --help under which it stands.
  Option& group(const std::string& heading);
  /// Not together with `other`.
  Option& excludes(const Option& other);
  /// Its value is read by read_all: "-" is standard input, which has one reader.
  Option& is_input();
  /// What the library's messages call it where that is not its own name: "[r_drop] alpha" of --r-drop-alpha.
  Option& sets(const std::string& setting);

 private:
  friend class App;
  struct Impl;
  explicit Option(Impl& impl) : impl_(&impl) {}

  Impl* impl_;  // the App's
};

/// A program as its command line sees it: the options that it takes, and what --help says. What they fill or call must outlive
/// the parsing. `type` names an option's value in --help; a value of type DIR, FILE or PATH may not be
/// empty, nor "-" unless Option::is_input.
class App {
 public:
  App(const std::string& name, const std::string& description, const std::string& footer);
  ~App();
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  Option add_text(const std::string& name, std::string& value, const std::string& type,
                  const std::string& description);
  Option add_text(const std::string& name, std::optional<std::string>& value, const std::string& type,
                  const std::string& description);
  /// `read` gets the text.
  Option add_text_function(const std::string& name, std::function<void(const std::string&)> read,
                           const std::string& type, const std::string& description);

  /// May be repeated, each time with one text.
  Option add_texts(const std::string& name, std::vector<std::string>& values, const std::string& type,
                   const std::string& description);
  Option add_texts(const std::string& name, std::optional<std::vector<std::string>>& values,
                   const std::string& type, const std::string& description);
  Option add_texts_function(const std::string& name,
                            std::function<void(const std::vector<std::string>&)> read,
                            const std::string& type, const std::string& description);

  /// The value is a number, read by parse_number, or a std::optional of one.
  template <class Value>
  Option add_number(
      const std::string& name, Value& value, const std::string& description,
      typename NumberOf<Value>::Type least = std::numeric_limits<typename NumberOf<Value>::Type>::lowest()) {
    using T = typename NumberOf<Value>::Type;
    const auto read = [name, &value, least](const std::string& text) {
      value = parse_number<T>(name, text, least);
    };
    return add_text_function(name, read, std::is_floating_point_v<T> ? "NUMBER" : "N", description);
  }

  /// The value is an integer, read by parse_setting, or a std::optional of one.
  template <class Value>
  Option add_setting(const std::string& name, Value& value, const std::string& description,
                     Range<typename NumberOf<Value>::Type> range) {
    const auto read = [name, &value, range](const std::string& text) {
      value = parse_setting(name, text, range);
    };
    return add_text_function(name, read, "N", description);
  }

  Option add_flag(const std::string& name, bool& value, const std::string& description);
  /// Unset where it is not given; "--pack,!--no-pack" sets it to true or false.
  Option add_flag(const std::string& name, std::optional<bool>& value, const std::string& description);
  /// `set` is called where it is given.
  Option add_flag_function(const std::string& name, std::function<void(bool)> set,
                           const std::string& description);

  /// Whether there is such an option: "--pack".
  bool has(const std::string& option) const;

  /// For run(): --version, and what stands below the footer.
  void add_version(const std::string& version);
  void add_to_footer(const std::string& text);

  /// Reads the command line into what the options fill. All that follows an option that wants a value is that value, whatever
  /// it looks like. Returns the text that --help or --version asks for instead of the work. Throws UsageError for anything
  /// that is no option, a value that is missing, empty where it is a path, or that a flag does not take, for what is given
  /// twice unless it may be repeated, and what the options' functions throw.
  std::optional<std::string> parse(int argc, const char* const* argv);

  /// The library's message about a setting, with the options in place of the settings' names where it begins with one whose
  /// option was given: "[generate] top_k is -1, expected ..." as "--top-k is -1, expected ...". Settings of a file keep its
  /// name. Option::sets says which others an option stands for.
  std::string in_options(std::string_view message) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace program
