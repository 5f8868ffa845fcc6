// What HfConfig's tests do not reach: the other users of the parser rely on it too.
#include "core/json.h"

#include <gtest/gtest.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace {
const char* g_point_of_another_thread = nullptr;
}

// What the parser asks for. All threads share the answer, and one in another locale may have changed it meanwhile.
extern "C" lconv* localeconv() noexcept {
  static char nothing[] = "";
  static lconv answer{};
  answer.thousands_sep = answer.grouping = nothing;
  answer.decimal_point = const_cast<char*>(g_point_of_another_thread != nullptr ? g_point_of_another_thread
                                                                                : ::nl_langinfo(RADIXCHAR));
  return &answer;
}

namespace gpt {
namespace {

using test::expect_error;
using test::message_of;

TEST(Json, KeepsTheOrderOfMembers) {
  const json::Value v = json::parse(R"({"z":1,"a":[true,null,{"k":"v"}],"m":-2.5})", "t");
  EXPECT_EQ(json::dump(v), R"({"z":1,"a":[true,null,{"k":"v"}],"m":-2.5})");
}

TEST(Json, TakesAnyValueAtTheTopUnlessAnObjectIsAskedFor) {
  EXPECT_EQ(json::parse("[1]", "t"), json::Value::Array{1});
  EXPECT_EQ(json::parse(" 3 ", "t"), 3);
  expect_error<FormatError>([] { json::parse_object("[1]", "vocab.json"); }, {"[vocab.json]", "a list"});
}

TEST(Json, LargeObjectsTakeNoQuadraticTime) {  // this many would then take minutes
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += concat("\"", i, "\":", i, ",");
  text.back() = '}';
  EXPECT_EQ(json::parse_object(text, "t").size(), 200'000u);
  text.back() = ',';
  text += "\"777\":0}";
  expect_error<FormatError>([&] { json::parse(text, "vocab.json"); }, {"[vocab.json]", "\"777\" twice"});
}

TEST(Json, ErrorGivesThePlace) {
  expect_error<FormatError>([] { json::parse("", "t"); }, {"[t] is not valid JSON: line 1, column 1: "});
  expect_error<FormatError>([] { json::parse("[1,\n 2,\n\n  x]", "t"); }, {"line 4, column 3: "});
  expect_error<FormatError>([] { json::parse("{\"a\":1,\n\"b\":1e999}", "t"); },
                            {"line 2", "1e999", "\"b\""});
}

TEST(Json, ReadsNumbersToTheNearest) {
  const json::Value v = json::parse("[0.1,-0.0,1E+2,5e-324,2.4e-324,-1e-400,1.7976931348623157e308]", "t");
  EXPECT_EQ(json::dump(v), "[0.1,-0.0,100.0,5e-324,0.0,-0.0,1.7976931348623157e+308]");
}

TEST(Json, DescribesValuesShortly) {
  EXPECT_EQ(json::describe(json::parse("[1]", "t")), "a list");
  EXPECT_EQ(json::describe(json::parse("{}", "t")), "an object");
  EXPECT_EQ(json::describe(json::parse("\"x\"", "t")), "\"x\"");
  EXPECT_EQ(json::describe(json::parse("1.5", "t")), "1.5");
  EXPECT_EQ(json::describe(json::parse("null", "t")), "null");
}

// A locale of the C library whose decimal point is two bytes, as that of ps_AF is. It is written here, as localedef would for
// glibc, since machines have few.
class TwoBytePoint : public testing::Test {
 protected:
  void SetUp() override {
    std::string file;
    const auto put = [&](std::uint32_t word) {
      const auto bytes = std::bit_cast<std::array<char, 4>>(word);
      file.append(bytes.data(), bytes.size());
    };
    put(0x20031115 ^ LC_NUMERIC);
    put(6);
    for (const std::uint32_t offset : {32u, 35u, 36u, 40u, 44u, 48u}) put(offset);
    file += std::string_view("\u066B\0\0\xFF\0\0\0", 8);  // the point, no separator of thousands, no groups
    put(0x066B);
    put(0);
    file += std::string_view("UTF-8\0", 6);
    std::filesystem::create_directory(dir_ / "two_byte_point");
    test::write_file(dir_ / "two_byte_point/LC_NUMERIC", file);
    const char* const path = ::getenv("LOCPATH");
    const std::string before = path != nullptr ? path : "";
    ::setenv("LOCPATH", dir_.path().c_str(), 1);
    ::setlocale(LC_NUMERIC, "two_byte_point");
    locale_ = ::duplocale(LC_GLOBAL_LOCALE);  // glibc's newlocale does not release the paths of LOCPATH
    if (path != nullptr)
      ::setenv("LOCPATH", before.c_str(), 1);
    else
      ::unsetenv("LOCPATH");
    if (std::string_view(::nl_langinfo(RADIXCHAR)) != "\u066B")
      GTEST_SKIP() << "this C library reads other files of locales";
  }
  void TearDown() override {
    ::setlocale(LC_NUMERIC, "C");
    if (locale_ != nullptr) ::freelocale(locale_);
  }

  const test::TempDir dir_;
  locale_t locale_ = nullptr;
};

constexpr std::string_view kNumbers = "[0.02,-1.5e-05,25.0,1e-07,3]";

TEST_F(TwoBytePoint, OfTheHostChangesNoNumber) {
  const json::Value v = json::parse(kNumbers, "t");
  EXPECT_EQ(v, (json::Value::Array{0.02, -1.5e-05, 25.0, 1e-07, 3}));
  EXPECT_EQ(json::dump(v), kNumbers);
  EXPECT_STREQ(::nl_langinfo(RADIXCHAR), "\u066B");
}

TEST_F(TwoBytePoint, OfTheThreadChangesNoNumberAndIsKept) {
  ::setlocale(LC_NUMERIC, "C");
  const locale_t outer = ::uselocale(locale_);
  const json::Value v = json::parse(kNumbers, "t");
  const std::string text = json::dump(v);
  expect_error<FormatError>([] { json::parse("[0.5,", "t"); }, {"line 1"});
  EXPECT_EQ(::uselocale(outer), locale_);
  EXPECT_EQ(v, (json::Value::Array{0.02, -1.5e-05, 25.0, 1e-07, 3}));
  EXPECT_EQ(text, kNumbers);
}

TEST(Json, ReadsNumbersBesideAThreadInAnotherLocale) {
#ifndef NDEBUG
  GTEST_SKIP() << "the parser's assertions are on";
#endif
  for (const char* const point : {",", "\u066B"}) {
    g_point_of_another_thread = point;
    const json::Value v = json::parse(kNumbers, "t");
    g_point_of_another_thread = nullptr;
    EXPECT_EQ(v, (json::Value::Array{0.02, -1.5e-05, 25.0, 1e-07, 3}));
  }
}

TEST(Json, ReadsNumbersOutOfRangeBesideAThreadInAnotherLocale) {
#ifndef NDEBUG
  GTEST_SKIP() << "the parser's assertions are on";
#endif
  const std::string zeros(400, '0');
  for (const char* const point : {",", "\u066B"}) {
    g_point_of_another_thread = point;
    const json::Value small = json::parse(
        concat("[3.5e-400, -7.25e-330, 0.", zeros, "1, 2.5e-324, 1.5e-99999999999999999999]"), "t");
    const std::string large = message_of<FormatError>([] { json::parse("{\"b\": 1.5e999}", "t"); });
    EXPECT_THROW(json::parse("[-1.5e999]", "t"), FormatError);
    EXPECT_THROW(json::parse(concat("[1", zeros, ".5]"), "t"), FormatError);
    g_point_of_another_thread = nullptr;
    EXPECT_EQ(small, (json::Value::Array{0.0, -0.0, 0.0, 0x1p-1074, 0.0}));
    EXPECT_TRUE(std::signbit(*small.get_if<json::Value::Array>()->at(1).to_double()));
    for (const std::string_view part : {"[t] ", "1.5e999", "after the key \"b\""})
      EXPECT_NE(large.find(part), large.npos) << large;
  }
}

}  // namespace
}  // namespace gpt
