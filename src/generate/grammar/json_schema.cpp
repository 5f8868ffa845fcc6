#include "generate/grammar/json_schema.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/quote.h"
#include "generate/grammar/json_text.h"
#include "generate/grammar/regex.h"
#include "generate/grammar/schema.h"
#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

using Node = Rules::Node;

constexpr std::size_t kMaxRules = 20000;
constexpr std::uint64_t kMaxCount = 100000;                    // of characters or elements
constexpr std::int64_t kLargestInteger = 999'999'999'999'999;  // JsonText::kMaxDigits
constexpr std::size_t kMaxNames = 5000;                        // of members
constexpr std::size_t kMaxNameLength = 200;                    // of names that other members must not have

// What RFC 3339, 4122, 5321, 1123 and 2673 write so, as far as it is right in every case: no 29 February, no second 60. None
// for a format that is not known.
std::optional<std::string> pattern_of(std::string_view format) {
  constexpr std::string_view kDate =
      "(000[1-9]|00[1-9]\\d|0[1-9]\\d{2}|[1-9]\\d{3})-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|"
      "(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))";
  constexpr std::string_view kTime =
      "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
  constexpr std::string_view kLabel =
      "[a-z0-9]{1,15}(-[a-z0-9]{1,15}){0,2}";  // xn-- would be an encoded name
  constexpr std::string_view kAtom = "[A-Za-z0-9_+-]{1,20}";
  constexpr std::string_view kByte = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
  if (format == "date") return std::string(kDate);
  if (format == "time") return std::string(kTime);
  if (format == "date-time") return concat(kDate, "T", kTime);
  if (format == "uuid") return "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";
  if (format == "email") return concat(kAtom, "(\\.", kAtom, "){0,2}@[a-z0-9]{1,30}(\\.[a-z]{2,10}){1,3}");
  if (format == "hostname") return concat(kLabel, "(\\.", kLabel, "){0,3}");
  if (format == "ipv4") return concat("(", kByte, "\\.){3}", kByte);
  return std::nullopt;
}

class SchemaGrammar {
 public:
  explicit SchemaGrammar(std::string_view text)
      : root_(json::parse(text, kSchemaSource)), reader_(root_), rules_(kSchemaSource), json_(rules_) {}

  Rules build() {
    rules_.set_root(rule_of({{&root_, "#"}}));
    for (std::size_t i = 0; i < to_do_.size(); ++i) {  // grows
      const auto [rule, schemas] = to_do_[i];
      rules_.define(rule, alternatives(schemas));
    }
    return std::move(rules_);
  }

 private:
  [[noreturn]] static void refuse(const std::string& pointer, std::string_view what) {
    fail<UnsupportedError>(kSchemaSource, quote(pointer), ": ", what, " is not supported");
  }

  // Every set of schemas is a rule of its own, so that schemas may lead back to themselves.
  Rules::Rule rule_of(Schemas schemas) {
    const auto by_address = [](const SchemaRef& a, const SchemaRef& b) { return a.schema < b.schema; };
    std::vector<const json::Value*> key;
    Schemas sorted = schemas;
    std::sort(sorted.begin(), sorted.end(), by_address);
    for (const SchemaRef& schema : sorted)
      if (key.empty() || key.back() != schema.schema) key.push_back(schema.schema);
    const auto [place, is_new] = known_.try_emplace(std::move(key), 0);
    if (is_new) {
      if (to_do_.size() == kMaxRules)
        fail<ArgumentError>(kSchemaSource, "has more than ", kMaxRules, " schemas, which is the limit");
      place->second = rules_.declare(schemas.front().pointer);
      to_do_.emplace_back(place->second, std::move(schemas));
    }
    return place->second;
  }

  Node value_of(const Schemas& schemas) {
    const bool all_true = std::all_of(schemas.begin(), schemas.end(), [](const SchemaRef& schema) {
      return *schema.schema == json::Value(true) || *schema.schema == json::Value(json::Value::Object());
    });
    return all_true ? json_.value() : rules_.call(rule_of(schemas));
  }

  Node alternatives(const Schemas& schemas) {
    std::vector<Node> all;
    for (const Demands& demands : reader_.read(schemas)) {
      if (demands.values)
        add_values(demands, all);
      else
        add_types(demands, all);
    }
    return rules_.choice(std::move(all));
  }

  void add_types(const Demands& demands, std::vector<Node>& all) {
    const unsigned types = demands.chosen_types();
    if ((types & kNull) != 0) all.push_back(rules_.text("null"));
    if ((types & kBoolean) != 0) all.push_back(json_.boolean());
    if ((types & (kInteger | kFraction)) != 0) all.push_back(number(demands, (types & kFraction) == 0));
    if ((types & kString) != 0) all.push_back(string(demands));
    if ((types & kArray) != 0) all.push_back(array(demands));
    if ((types & kObject) != 0) all.push_back(object(demands));
  }

  void add_values(const Demands& demands, std::vector<Node>& all) {
    const unsigned types = demands.chosen_types();
    reader_.count_work(demands.values->size(), demands.pointer);
    for (const json::Value& value : *demands.values) {
      const unsigned type = type_of(value);
      if ((type & types) == 0) continue;
      if ((type & demands.spoken_of) != 0 && !is_allowed(demands, value)) continue;
      all.push_back(json_.literal(value));
    }
  }

  // Keywords beside enum or const.
  bool is_allowed(const Demands& demands, const json::Value& value) {
    if (const auto* text = value.get_if<std::string>()) {
      if (!demands.patterns.empty()) refuse(demands.patterns[0].pointer, "together with enum or const it");
      if (!demands.formats.empty()) refuse(demands.formats[0].pointer, "together with enum or const it");
      const auto is_first_byte = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
      const auto length =
          static_cast<std::uint64_t>(std::count_if(text->begin(), text->end(), is_first_byte));
      return length >= demands.min_length && length <= demands.max_length.value_or(length);
    }
    if (const auto number = value.to_double()) {
      const auto holds = [&](const std::vector<Demands::Bound>& bounds, double sign) {
        return std::all_of(bounds.begin(), bounds.end(), [&](const Demands::Bound& bound) {
          const double gap = sign * (*number - *bound.value.to_double());
          return bound.is_inclusive ? gap >= 0 : gap > 0;
        });
      };
      return holds(demands.low, 1) && holds(demands.high, -1);
    }
    refuse(demands.pointer, "a list or an object in enum or const, beside keywords for its parts,");
  }

  Node number(const Demands& demands, bool integers) {
    if (demands.low.empty() && demands.high.empty()) return integers ? json_.integer() : json_.number();
    return add_number_range(rules_, tightest(demands.low, false, integers),
                            tightest(demands.high, true, integers), integers);
  }

  // The bound that leaves the fewest numbers. One that no number of 15 digits reaches says nothing, or too much.
  static std::optional<DecimalBound> tightest(const std::vector<Demands::Bound>& bounds, bool is_high,
                                              bool integers) {
    const double sign = is_high ? -1 : 1;
    const Demands::Bound* best = nullptr;
    for (const Demands::Bound& bound : bounds) {
      const double gap = best == nullptr ? 1 : sign * (*bound.value.to_double() - *best->value.to_double());
      if (gap > 0 || (gap == 0 && !bound.is_inclusive)) best = &bound;
    }
    if (best == nullptr) return std::nullopt;
    const double value = *best->value.to_double();
    if (std::abs(value) > static_cast<double>(kLargestInteger)) {
      if (sign * value > 0) refuse(best->pointer, "a bound that leaves only numbers of more than 15 digits");
      return std::nullopt;
    }
    if (!integers) return decimal(concat(value), best->is_inclusive, best->pointer);
    double whole = is_high ? std::floor(value) : std::ceil(value);
    if (whole == value && !best->is_inclusive) whole += sign;
    return decimal(concat(static_cast<std::int64_t>(whole)), true, best->pointer);
  }

  // Of the shortest text that is read as the number, which may have an exponent.
  static DecimalBound decimal(std::string_view text, bool is_inclusive, const std::string& pointer) {
    DecimalBound bound{.is_inclusive = is_inclusive};
    bound.is_negative = text.starts_with('-');
    text = text.substr(bound.is_negative ? 1 : 0);
    const auto exponent = static_cast<std::size_t>(std::ranges::find(text, 'e') - text.begin());
    std::string_view digits = text.substr(0, exponent);
    const std::size_t point = std::min(digits.find('.'), digits.size());
    std::string all(digits.substr(0, point));
    if (point < digits.size()) all += digits.substr(point + 1);
    auto places = static_cast<std::int64_t>(point);  // before the point
    if (exponent < text.size()) places += exponent_of(text.substr(exponent + 1));
    if (places < -30) refuse(pointer, "a bound that is not 0 and closer to it than 1e-30");
    if (places <= 0) {
      all.insert(0, static_cast<std::size_t>(1 - places), '0');
      places = 1;
    }
    if (all.size() < static_cast<std::size_t>(places)) all.resize(static_cast<std::size_t>(places), '0');
    bound.whole = all.substr(0, static_cast<std::size_t>(places));
    bound.whole.erase(0, std::min(bound.whole.find_first_not_of('0'), bound.whole.size() - 1));
    bound.fraction = all.substr(static_cast<std::size_t>(places));
    bound.fraction.erase(bound.fraction.find_last_not_of('0') + 1);
    if (bound.whole == "0" && bound.fraction.empty()) bound.is_negative = false;
    return bound;
  }

  static std::int64_t exponent_of(std::string_view text) {
    std::int64_t value = 0;
    const bool is_negative = text.starts_with('-');
    for (const char c : text)
      if (c >= '0' && c <= '9') value = value * 10 + (c - '0');
    return is_negative ? -value : value;
  }

  static std::uint32_t limit(std::optional<std::uint64_t> count, const Demands& demands,
                             std::string_view what) {
    if (!count) return Rules::kNoLimit;
    if (*count > kMaxCount)
      fail<ArgumentError>(kSchemaSource, quote(demands.pointer), " counts ", *count, " ", what,
                          ", more than the limit of ", kMaxCount);
    return static_cast<std::uint32_t>(*count);
  }

  Node string(const Demands& demands) {
    const bool is_counted = demands.min_length > 0 || demands.max_length;
    if (demands.patterns.size() + demands.formats.size() + (is_counted ? 1 : 0) > 1)
      refuse((demands.patterns.empty() ? demands.formats : demands.patterns)[0].pointer,
             "more than one of pattern, format and a length");
    if (!demands.patterns.empty()) {
      const Demands::Text& pattern = demands.patterns[0];
      RegexOptions options{.is_search = true,
                           .encode = [this](Rules&, const CharSet& set) { return json_.character(set); }};
      return json_.quoted(
          add_regex(rules_, pattern.text, concat(kSchemaSource, " ", pattern.pointer), options));
    }
    if (!demands.formats.empty()) {
      const Demands::Text& format = demands.formats[0];
      if (const auto pattern = pattern_of(format.text))
        return json_.quoted(add_regex(rules_, *pattern, kSchemaSource));
      refuse(format.pointer, concat("the format ", quote(format.text)));
    }
    const std::uint32_t most = limit(demands.max_length, demands, "characters");
    if (demands.min_length > most) return rules_.choice({});
    return json_.string(limit(demands.min_length, demands, "characters"), most);
  }

  Node array(const Demands& demands) {
    std::size_t prefix = 0;
    for (const auto& part : demands.items) prefix = std::max(prefix, part->prefix.size());
    const std::uint32_t least = limit(demands.min_items, demands, "elements"),
                        most = limit(demands.max_items, demands, "elements");
    if (most < least) return rules_.choice({});
    Rules::List list;
    list.is_prefix = true;
    // Those that are counted one by one; behind them only the others' schema is left.
    const std::size_t counted = most != Rules::kNoLimit ? most : std::max<std::size_t>(prefix, least);
    reader_.count_work(counted + std::min(counted, prefix) * demands.items.size(), demands.pointer);
    const Node others = value_of(demands.element(prefix));
    for (std::size_t i = 0; i < counted; ++i) {
      list.items.push_back(i < prefix ? value_of(demands.element(i)) : others);
      list.required.push_back(i < least);
    }
    if (most == Rules::kNoLimit) list.more = others;
    return json_.array(std::move(list));
  }

  Node object(const Demands& demands) {
    std::vector<std::string> names;
    for (const auto& part : demands.members) {
      reader_.count_work(part->named.size() * demands.members.size(), demands.pointer);
      for (const auto& [name, schema] : part->named) names.push_back(name);
    }
    names.insert(names.end(), demands.required.begin(), demands.required.end());
    if (names.size() > kMaxNames)
      fail<ArgumentError>(kSchemaSource, quote(demands.pointer), " names ", names.size(),
                          " members, more than the limit of ", kMaxNames);
    const std::set<std::string_view> required(demands.required.begin(), demands.required.end());
    Rules::List list;
    std::vector<std::string> done;
    for (const std::string& name : names) {
      const auto place = std::lower_bound(done.begin(), done.end(), name);
      if (place != done.end() && *place == name) continue;
      done.insert(place, name);
      list.items.push_back(member(json_.key(name), demands.member(name)));
      list.required.push_back(required.contains(name));
    }
    // Others come only where the schema says what they are, or names none.
    Schemas others;
    for (const auto& part : demands.members)
      if (part->others) others.push_back(*part->others);
    if (!others.empty() || names.empty()) {
      for (const std::string& name : done)
        if (name.size() > kMaxNameLength)
          fail<UnsupportedError>(kSchemaSource, quote(demands.pointer),
                                 " has additionalProperties and the name ", quote(name), ": more than ",
                                 kMaxNameLength, " bytes are not supported then");
      list.more = member(json_.key_but(done), others);
    }
    return json_.object(std::move(list));
  }

  Node member(Node key, const Schemas& schemas) {
    std::vector<Node> parts;
    parts.push_back(key);
    parts.push_back(value_of(schemas));
    return rules_.sequence(std::move(parts));
  }

  const json::Value root_;
  SchemaReader reader_;
  Rules rules_;
  JsonText json_;
  std::map<std::vector<const json::Value*>, Rules::Rule> known_;
  std::vector<std::pair<Rules::Rule, Schemas>> to_do_;
};

}  // namespace

Rules parse_json_schema(std::string_view text) { return SchemaGrammar(text).build(); }

}  // namespace gpt::generate
