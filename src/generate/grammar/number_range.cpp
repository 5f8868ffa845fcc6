// Numbers between bounds, as rules over their digits.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "generate/grammar/json_text.h"

namespace gpt::generate {
namespace {

using Node = Rules::Node;

/// Magnitudes: numbers from zero on, as digits before and behind a point.
class Magnitudes {
 public:
  Magnitudes(Rules& rules, std::uint32_t fraction_digits)
      : rules_(rules), fraction_digits_(fraction_digits) {}

  /// From low to high; no fraction where there are no digits for it.
  Node between(const DecimalBound& low, const DecimalBound& high) {
    if (is_less(high.whole, low.whole)) return rules_.choice({});
    if (low.whole == high.whole) return join(rules_.text(low.whole), fraction(&low, &high));
    std::vector<Node> all;
    all.push_back(join(rules_.text(low.whole), fraction(&low, nullptr)));
    const std::string after = plus_one(low.whole), before = minus_one(high.whole);
    if (!is_less(before, after)) all.push_back(join(whole(after, before), fraction(nullptr, nullptr)));
    all.push_back(join(rules_.text(high.whole), fraction(nullptr, &high)));
    return rules_.choice(std::move(all));
  }

 private:
  static bool is_less(std::string_view a, std::string_view b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  }
  static std::string plus_one(std::string digits) {
    for (std::size_t i = digits.size(); i-- > 0;) {
      if (digits[i] != '9') {
        ++digits[i];
        return digits;
      }
      digits[i] = '0';
    }
    return "1" + digits;
  }
  static std::string minus_one(std::string digits) {  // of a number above 0
    for (std::size_t i = digits.size(); i-- > 0;) {
      if (digits[i] != '0') {
        --digits[i];
        break;
      }
      digits[i] = '9';
    }
    return digits.size() > 1 && digits[0] == '0' ? digits.substr(1) : digits;
  }

  Node join(Node a, Node b) {
    std::vector<Node> parts;
    parts.push_back(a);
    parts.push_back(b);
    return rules_.sequence(std::move(parts));
  }
  Node digit(int first, int last) {
    return rules_.set(CharSet::of(static_cast<char32_t>('0' + first), static_cast<char32_t>('0' + last)));
  }
  Node any_digits(std::size_t least, std::size_t most) {
    return rules_.repeat(digit(0, 9), static_cast<std::uint32_t>(least), static_cast<std::uint32_t>(most));
  }

  Node whole(const std::string& low, const std::string& high) {
    std::vector<Node> all;
    for (std::size_t length = low.size(); length <= high.size(); ++length) {
      std::string first = low, last = high;
      if (length > low.size()) {
        first.assign(length, '0');
        first[0] = '1';
      }
      if (length < high.size()) last.assign(length, '9');
      all.push_back(same_length(first, last, true, true));
    }
    return rules_.choice(std::move(all));
  }

  // Of as many digits as both bounds have; a bound counts as long as the digits so far are its own.
  Node same_length(std::string_view low, std::string_view high, bool at_low, bool at_high) {
    if (low.empty()) return rules_.text("");
    if (!at_low && !at_high) return any_digits(low.size(), low.size());
    const int first = at_low ? low[0] - '0' : 0, last = at_high ? high[0] - '0' : 9;
    std::vector<Node> all;
    const auto put = [&](int from, int to, bool low_goes_on, bool high_goes_on) {
      if (from <= to)
        all.push_back(
            join(digit(from, to), same_length(low.substr(1), high.substr(1), low_goes_on, high_goes_on)));
    };
    if (first == last) {
      put(first, first, at_low, at_high);
    } else {
      if (at_low) put(first, first, true, false);
      put(first + (at_low ? 1 : 0), last - (at_high ? 1 : 0), false, false);
      if (at_high) put(last, last, false, true);
    }
    return rules_.choice(std::move(all));
  }

  // What may follow the digits before the point: a fraction, or nothing where 0 is one that fits.
  Node fraction(const DecimalBound* low, const DecimalBound* high) {
    low_ = low;
    high_ = high;
    std::vector<Node> all;
    if (may_end(0, low != nullptr, high != nullptr)) all.push_back(rules_.text(""));
    if (fraction_digits_ > 0) {
      std::vector<Node> digits = next_digits(0, low != nullptr, high != nullptr);
      all.push_back(join(rules_.text("."), rules_.choice(std::move(digits))));
    }
    return rules_.choice(std::move(all));
  }

  static int digit_at(const DecimalBound& bound, std::size_t i) {
    return i < bound.fraction.size() ? bound.fraction[i] - '0' : 0;
  }

  // Whether zeros alone may follow the first i digits.
  bool may_end(std::size_t i, bool at_low, bool at_high) const {
    const auto is_zero = [i](const DecimalBound& bound) {
      return i >= bound.fraction.size() || bound.fraction.find_first_not_of('0', i) == std::string::npos;
    };
    if (at_low && !(is_zero(*low_) && low_->is_inclusive)) return false;
    return !at_high || high_->is_inclusive || !is_zero(*high_);
  }

  // The alternatives for digit i and all behind it.
  std::vector<Node> next_digits(std::size_t i, bool at_low, bool at_high) {
    std::vector<Node> all;
    if (i == fraction_digits_) return all;
    if (!at_low && !at_high) {
      all.push_back(any_digits(1, fraction_digits_ - i));
      return all;
    }
    const int first = at_low ? digit_at(*low_, i) : 0, last = at_high ? digit_at(*high_, i) : 9;
    const auto put = [&](int from, int to, bool low_goes_on, bool high_goes_on) {
      if (from > to) return;
      std::vector<Node> rest = next_digits(i + 1, low_goes_on, high_goes_on);
      if (may_end(i + 1, low_goes_on, high_goes_on)) rest.push_back(rules_.text(""));
      if (!rest.empty()) all.push_back(join(digit(from, to), rules_.choice(std::move(rest))));
    };
    if (first == last) {
      put(first, first, at_low, at_high);
    } else if (first < last) {
      if (at_low) put(first, first, true, false);
      put(first + (at_low ? 1 : 0), last - (at_high ? 1 : 0), false, false);
      if (at_high) put(last, last, false, true);
    }
    return all;
  }

  Rules& rules_;
  std::uint32_t fraction_digits_;
  const DecimalBound* low_ = nullptr;
  const DecimalBound* high_ = nullptr;
};

bool is_zero(const DecimalBound& bound) { return bound.whole == "0" && bound.fraction.empty(); }

}  // namespace

Node add_number_range(Rules& rules, const std::optional<DecimalBound>& low,
                      const std::optional<DecimalBound>& high, bool integers) {
  // Digits before the point: those of the bounds, or some more where a side has none.
  std::size_t digits = low && high ? 1 : integers ? JsonText::kMaxDigits : 9;
  for (const auto* bound : {&low, &high})
    if (*bound) digits = std::max(digits, (*bound)->whole.size());
  const auto fraction_digits =
      static_cast<std::uint32_t>(integers ? 0 : JsonText::kMaxDigits - std::min<std::size_t>(digits, 15));
  const DecimalBound largest{.whole = std::string(digits, '9')};
  const DecimalBound zero, above_zero{.is_inclusive = false};
  Magnitudes magnitudes(rules, fraction_digits);
  std::vector<Node> all;
  if (!high || !high->is_negative) {
    const bool from_low = low && !low->is_negative;
    all.push_back(magnitudes.between(from_low ? *low : zero, high ? *high : largest));
  }
  if (!low || low->is_negative) {
    const bool to_high = high && high->is_negative && !is_zero(*high);
    std::vector<Node> parts;
    parts.push_back(rules.text("-"));
    parts.push_back(magnitudes.between(to_high ? *high : above_zero, low ? *low : largest));
    all.push_back(rules.sequence(std::move(parts)));
  }
  return rules.choice(std::move(all));
}

}  // namespace gpt::generate
