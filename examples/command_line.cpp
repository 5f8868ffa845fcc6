#include "command_line.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <deque>
#include <map>
#include <system_error>
#include <utility>

#include <CLI/CLI.hpp>

namespace program {

struct Option::Impl {
  CLI::Option* option;
  bool is_input = false;
  std::string setting = {};
};

namespace {

/// Without CLI11's word for what a negated flag means: --pack,--no-pack{false}.
class Formatter : public CLI::Formatter {
 public:
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    std::string name = CLI::Formatter::make_option_name(option, is_positional);
    constexpr std::string_view kMark = "{false}";
    for (std::size_t at; (at = name.find(kMark)) != name.npos;) name.erase(at, kMark.size());
    return name;
  }
};

}  // namespace

struct App::Impl {
  Impl(const std::string& description, const std::string& name) : app(description, name) {
    app.formatter(std::make_shared<Formatter>());
  }

  CLI::App app;
  std::deque<Option::Impl> options;  // which stay where they are

  bool is_input(const CLI::Option* option) const {
    return std::ranges::any_of(options,
                               [option](const Option::Impl& o) { return o.option == option && o.is_input; });
  }

  Option::Impl& add(CLI::Option* option) {
    options.push_back({.option = option});
    return options.back();
  }
  /// Each time with one text, also where it looks like CLI11's form of several: [a,b].
  Option::Impl& add_repeatable(CLI::Option* option) {
    return add(option->take_all()->allow_extra_args(false));
  }
  Option::Impl& add_flag(CLI::Option* option) { return add(option->disable_flag_override()); }
};

namespace {

/// The arguments as CLI11 is to get them: names and values apart, since "--name=" would make it take the next argument for
/// the value.
std::vector<std::string> split_arguments(const CLI::App& app,
                                         const std::function<bool(const CLI::Option*)>& is_input, int argc,
                                         const char* const* argv) {
  std::vector<std::string> arguments;
  std::string reader;  // of standard input
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
    const std::string type = option->get_type_name();
    const bool names_path = type == "DIR" || type == "FILE" || type == "PATH";
    if (arguments.back().empty() && names_path) throw UsageError(name + ": the path is empty");
    if (arguments.back() == "-" && names_path && !is_input(option))  // no file of that name was meant
      throw UsageError(name + ": - would be standard input or output, expected a path (./- is such a file)");
    if (arguments.back() == "-" && is_input(option)) {
      if (!reader.empty())  // would find nothing left
        throw UsageError(gpt::concat(reader == name ? gpt::concat(name, " is - twice")
                                                    : gpt::concat(reader, " and ", name, " are both -"),
                                     ": standard input is read once"));
      reader = name;
    }
  }
  return arguments;
}

}  // namespace

std::string in_quotes(std::string_view text) { return gpt::concat("\"", text, "\""); }

std::string listed(const std::vector<std::string_view>& names) {
  std::string list;
  for (const std::string_view name : names) list += gpt::concat(list.empty() ? "" : ", ", name);
  return list;
}

std::string counted(std::int64_t count, std::string_view noun) {
  return gpt::concat(count, " ", noun, count == 1 ? "" : "s");
}

template <class T>
T parse_number(std::string_view option, std::string_view text, T least) {
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

template int parse_number(std::string_view, std::string_view, int);
template std::int64_t parse_number(std::string_view, std::string_view, std::int64_t);
template std::uint64_t parse_number(std::string_view, std::string_view, std::uint64_t);
template float parse_number(std::string_view, std::string_view, float);
template double parse_number(std::string_view, std::string_view, double);

template <class T>
T parse_setting(std::string_view option, std::string_view text, Range<T> range) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && stop == end) return value;
  throw UsageError(gpt::concat(option, ": ", in_quotes(text), " is not an integer from ", range.least, " to ",
                               range.most));
}

template int parse_setting(std::string_view, std::string_view, Range<int>);
template std::int64_t parse_setting(std::string_view, std::string_view, Range<std::int64_t>);

Option& Option::required() {
  impl_->option->required();
  return *this;
}

Option& Option::group(const std::string& heading) {
  impl_->option->group(heading);
  return *this;
}

Option& Option::excludes(const Option& other) {
  impl_->option->excludes(other.impl_->option);
  return *this;
}

Option& Option::is_input() {
  impl_->is_input = true;
  return *this;
}

Option& Option::sets(const std::string& setting) {
  impl_->setting = setting;
  return *this;
}

App::App(const std::string& name, const std::string& description, const std::string& footer)
    : impl_(std::make_unique<Impl>(description, name)) {
  impl_->app.footer(footer);
}

App::~App() = default;

Option App::add_text(const std::string& name, std::string& value, const std::string& type,
                     const std::string& description) {
  return Option(impl_->add(impl_->app.add_option(name, value, description)->type_name(type)));
}

Option App::add_text(const std::string& name, std::optional<std::string>& value, const std::string& type,
                     const std::string& description) {
  return Option(impl_->add(impl_->app.add_option(name, value, description)->type_name(type)));
}

Option App::add_text_function(const std::string& name, std::function<void(const std::string&)> read,
                              const std::string& type, const std::string& description) {
  CLI::Option* const option = impl_->app.add_option_function<std::string>(name, std::move(read), description);
  return Option(impl_->add(option->type_name(type)));
}

Option App::add_texts(const std::string& name, std::vector<std::string>& values, const std::string& type,
                      const std::string& description) {
  CLI::Option* const option = impl_->app.add_option(name, values, description);
  return Option(impl_->add_repeatable(option->type_name(type)));
}

Option App::add_texts(const std::string& name, std::optional<std::vector<std::string>>& values,
                      const std::string& type, const std::string& description) {
  // As CLI11 got them: its conversion to a std::optional loses an empty text.
  const auto read = [&values](const std::vector<std::string>& texts) { values = texts; };
  return add_texts_function(name, read, type, description);
}

Option App::add_texts_function(const std::string& name,
                               std::function<void(const std::vector<std::string>&)> read,
                               const std::string& type, const std::string& description) {
  const auto take = [read = std::move(read)](const CLI::results_t& texts) {
    read(texts);
    return true;
  };
  CLI::Option* const option = impl_->app.add_option(name, take, description);
  return Option(impl_->add_repeatable(option->type_name(type)));
}

Option App::add_flag(const std::string& name, bool& value, const std::string& description) {
  return Option(impl_->add_flag(impl_->app.add_flag(name, value, description)));
}

Option App::add_flag(const std::string& name, std::optional<bool>& value, const std::string& description) {
  return add_flag_function(
      name, [&value](bool given) { value = given; }, description);
}

Option App::add_flag_function(const std::string& name, std::function<void(bool)> set,
                              const std::string& description) {
  const auto take = [set = std::move(set)](std::int64_t count) { set(count > 0); };
  return Option(impl_->add_flag(impl_->app.add_flag_function(name, take, description)));
}

bool App::has(const std::string& option) const {
  return std::as_const(impl_->app).get_option_no_throw(option) != nullptr;
}

void App::add_version(const std::string& version) {
  impl_->app.set_version_flag("--version", gpt::concat(impl_->app.get_name(), " ", version),
                              "Print the version and exit");
}

void App::add_to_footer(const std::string& text) { impl_->app.footer(impl_->app.get_footer() + text); }

std::optional<std::string> App::parse(int argc, const char* const* argv) {
  try {
    std::vector<std::string> arguments = split_arguments(
        impl_->app, [this](const CLI::Option* option) { return impl_->is_input(option); }, argc, argv);
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    impl_->app.parse(std::move(arguments));
    return std::nullopt;
  } catch (const CLI::CallForHelp&) {
    return impl_->app.help();
  } catch (const CLI::CallForVersion& version) {
    return gpt::concat(version.what(), "\n");
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }
}

std::string App::in_options(std::string_view message) const {
  for (const Option::Impl& o : impl_->options)
    if (!o.setting.empty() && o.option->count() > 0 && message.starts_with(o.setting + ' '))
      return gpt::concat(o.option->get_name(), message.substr(o.setting.size()));
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789_";
  const auto option_of = [&app = std::as_const(impl_->app)](std::string_view setting) {
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
    const auto is = [&](std::string_view state) {  // and not "is one"
      return after.starts_with(state) && after.substr(state.size(), 1).find_first_of(kLetters) == after.npos;
    };
    // A word without an underscore may be a word, and within others it may be part of a path.
    const bool names_setting =
        stands_alone && (word == first || word.find('_') != word.npos || is(" is on") || is(" is off"));
    const CLI::Option* const option = names_setting ? option_of(word) : nullptr;
    out += option != nullptr ? option->get_name() : word;
    rest.remove_prefix(word.size());
    const std::string_view between = rest.substr(0, rest.find_first_of(kLetters));
    out += between;
    rest.remove_prefix(between.size());
  }
  return out;
}

}  // namespace program
