#include "gpt/core/error.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <locale>
#include <string>

#include "core/quote.h"
#include "gpt/core/shape.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;

// Writes numbers as no program could read them back.
class StrangeNumbers : public std::numpunct<char> {
 protected:
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

class StrangeLocale {
 public:
  StrangeLocale() : outer_(std::locale::global(std::locale(std::locale::classic(), new StrangeNumbers))) {}
  ~StrangeLocale() { std::locale::global(outer_); }
  StrangeLocale(const StrangeLocale&) = delete;
  StrangeLocale& operator=(const StrangeLocale&) = delete;

 private:
  std::locale outer_;
};

TEST(Error, MessageNamesThePlaceThenTheParts) {
  expect_error<ShapeError>(
      [] { fail<ShapeError>("layer_norm", "gamma has ", 767, " elements, expected C = ", 768u); },
      {"[layer_norm] gamma has 767 elements, expected C = 768"});
  expect_error<IoError>([] { fail<IoError>("", "no such directory"); }, {"[\"\"] no such directory"});
}

TEST(Error, EveryKindIsAnError) {
  EXPECT_THROW(fail<ArgumentError>("t", ""), Error);
  EXPECT_THROW(fail<ShapeError>("t", ""), Error);
  EXPECT_THROW(fail<FormatError>("t", ""), Error);
  EXPECT_THROW(fail<IoError>("t", ""), Error);
  EXPECT_THROW(fail<UnsupportedError>("t", ""), Error);
  EXPECT_THROW(fail<MemoryError>("t", ""), Error);
  EXPECT_THROW(fail<NumericError>("t", ""), Error);
  EXPECT_THROW(fail<CancelledError>("t", ""), Error);
}

TEST(Error, NumbersAreTheSameInEveryLocale) {
  const StrangeLocale strange;
  EXPECT_EQ(concat(1234567, " ", 1234.5, " ", 0.1f, " ", std::uint64_t{18446744073709551615u}, " ",
                   std::numeric_limits<std::int64_t>::min(), " ", 'c', " ", true, " ", std::int8_t{-5}, " ",
                   1e-300),
            "1234567 1234.5 0.1 18446744073709551615 -9223372036854775808 c true -5 1e-300");
  EXPECT_EQ(Shape({1234567}).to_string(), "[1234567]");
}

TEST(Quote, CutsLongTextAndShowsControlCharacters) {
  EXPECT_EQ(quote("wte.weight"), "\"wte.weight\"");
  EXPECT_EQ(quote(std::string("a\0\n\x7f", 4)), "\"a\\x00\\x0a\\x7f\"");
  const std::string x99(99, 'x');
  EXPECT_EQ(quote(x99 + "x"), concat("\"", x99, "x\""));
  EXPECT_EQ(quote(x99 + "xx"), concat("\"", x99, "x...\""));
  EXPECT_EQ(quote(x99 + "\xc3\xa9"), concat("\"", x99, "...\""));  // no half a character
}

}  // namespace
}  // namespace gpt
