#include "gpt/io/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::TempDir;
using testing::ElementsAreArray;
using testing::IsEmpty;
using testing::Pair;

HfConfig config(std::string_view text) { return HfConfig::parse(text, "config.json"); }

TEST(HfConfig, ReadsEveryType) {
  const HfConfig c = config(R"({"b": true, "i": -7, "big": 9223372036854775807, "f": 1e-05, "s": "gelu_new",
      "il": [1, 2], "sl": ["a", "b"], "sm": {"1": "POS", "0": "NEG"}, "im": {"NEG": 0}, "o": {"x": 1}})");
  EXPECT_EQ(c.get_bool("b"), true);
  EXPECT_EQ(c.get_int("i"), -7);
  EXPECT_EQ(c.get_int("big"), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(c.get_float("f"), 1e-5);
  EXPECT_EQ(c.get_float("i"), -7.0);
  EXPECT_EQ(c.get_string("s"), "gelu_new");
  EXPECT_THAT(*c.get_int_list("il"), ElementsAreArray({1, 2}));
  EXPECT_THAT(*c.get_int_list("i"), ElementsAreArray({-7}));
  EXPECT_THAT(*c.get_string_list("sl"), ElementsAreArray({"a", "b"}));
  EXPECT_THAT(*c.get_string_map("sm"), ElementsAreArray({Pair("1", "POS"), Pair("0", "NEG")}));
  EXPECT_THAT(*c.get_int_map("im"), ElementsAreArray({Pair("NEG", 0)}));
  EXPECT_EQ(c.get_object("o")->get_int("x"), 1);
  EXPECT_EQ(c.get_json("sm"), R"({"1":"POS","0":"NEG"})");
  EXPECT_EQ(c.get_json("i"), "-7");
}

TEST(HfConfig, AbsentAndNullAreEmpty) {
  const HfConfig c = config(R"({"n_inner": null})");
  for (const char* key : {"n_inner", "missing"}) {
    EXPECT_TRUE(c.is_null(key));
    EXPECT_FALSE(c.is_list(key));
    EXPECT_EQ(c.get_bool(key), std::nullopt);
    EXPECT_EQ(c.get_int(key), std::nullopt);
    EXPECT_EQ(c.get_float(key), std::nullopt);
    EXPECT_EQ(c.get_string(key), std::nullopt);
    EXPECT_EQ(c.get_int_list(key), std::nullopt);
    EXPECT_EQ(c.get_string_list(key), std::nullopt);
    EXPECT_EQ(c.get_string_map(key), std::nullopt);
    EXPECT_EQ(c.get_int_map(key), std::nullopt);
    EXPECT_EQ(c.get_json(key), std::nullopt);
    EXPECT_FALSE(c.get_object(key).has_value());
  }
  EXPECT_TRUE(c.has("n_inner"));
  EXPECT_FALSE(c.has("missing"));
}

TEST(HfConfig, NamesFileKeyValueAndTypeOfAMismatch) {
  const HfConfig c =
      config(R"({"k": "3", "list": [1, 2.5], "texts": ["a", null], "map": {"0": 1}, "o": {"x": "y"}})");
  expect_error<FormatError>([&] { (void)c.get_int("k"); },
                            {"[config.json]", "k is \"3\"", "expected an integer"});
  expect_error<FormatError>([&] { (void)c.get_float("k"); }, {"k is \"3\"", "expected a number"});
  expect_error<FormatError>([&] { (void)c.get_bool("k"); }, {"k is \"3\"", "expected true or false"});
  expect_error<FormatError>([&] { (void)c.get_int_list("k"); }, {"k is \"3\"", "list of integers"});
  expect_error<FormatError>([&] { (void)c.get_string_list("k"); }, {"k is \"3\"", "expected a list"});
  expect_error<FormatError>([&] { (void)c.get_string_map("k"); }, {"k is \"3\"", "expected an object"});
  expect_error<FormatError>([&] { (void)c.get_object("k"); }, {"k is \"3\"", "expected an object"});
  expect_error<FormatError>([&] { (void)c.get_string("list"); }, {"list is a list", "expected a string"});
  expect_error<FormatError>([&] { (void)c.get_int_list("list"); }, {"list[1] is 2.5", "expected an integer"});
  expect_error<FormatError>([&] { (void)c.get_string_list("texts"); },
                            {"texts[1] is null", "expected a string"});
  expect_error<FormatError>([&] { (void)c.get_string_map("map"); }, {"map[\"0\"] is 1", "expected a string"});
  expect_error<FormatError>([&] { (void)c.get_object("o")->get_int("x"); },
                            {"[config.json: o]", "x is \"y\""});
}

TEST(HfConfig, ConvertsNothingIntoAnInteger) {
  for (const char* value : {"3.5", "3.0", "1e3", "\"3\"", "true", "[3]", "{}", "9223372036854775808",
                            "18446744073709551616", "-9223372036854775809", "1e300"}) {
    SCOPED_TRACE(value);
    const HfConfig c = config(concat("{\"n_layer\": ", value, "}"));
    expect_error<FormatError>([&] { (void)c.get_int("n_layer"); },
                              {"[config.json]", "n_layer is ", "integer"});
  }
  EXPECT_EQ(config("{\"n\": -9223372036854775808}").get_int("n"), std::numeric_limits<std::int64_t>::min());
}

TEST(HfConfig, ConvertsNothingIntoANumberOrATruthValue) {
  for (const char* value : {"true", "\"1\"", "[1]", "{}"}) {
    const HfConfig c = config(concat("{\"k\": ", value, "}"));
    expect_error<FormatError>([&] { (void)c.get_float("k"); }, {"k is ", "expected a number"});
  }
  for (const char* value : {"0", "1", "\"true\"", "[]"}) {
    const HfConfig c = config(concat("{\"k\": ", value, "}"));
    expect_error<FormatError>([&] { (void)c.get_bool("k"); }, {"k is ", "expected true or false"});
  }
}

TEST(HfConfig, RefusesWhatIsNotAJsonObject) {
  const std::pair<std::string, std::string_view> cases[] = {
      {"", "not valid JSON"},
      {"{", "not valid JSON"},
      {"{\"a\": 1,}", "not valid JSON"},
      {"{'a': 1}", "not valid JSON"},
      {"{\"a\": NaN}", "not valid JSON"},
      {"{\"a\": Infinity}", "not valid JSON"},
      {"{\"a\": 01}", "not valid JSON"},
      {"{\"a\": 1} {}", "not valid JSON"},
      {"// comment\n{}", "not valid JSON"},
      {"{\"n_layer\": 1e400}", "1e400"},
      {"{\"n_layer\": 1e400}", "\"n_layer\""},
      {"{\"a\": \"\xff\"}", "UTF-8"},
      {"{\"a\": \"\\ud800\"}", "surrogate"},
      {std::string("{}\0", 3), "NUL"},
      {std::string("{\"a\0\": 1}", 9), "NUL"},
      {"[1]", "a list, expected a JSON object"},
      {"3", "3, expected a JSON object"},
      {"null", "null, expected a JSON object"},
      {"{\"a\": 1, \"b\": 2, \"a\": 1}", "\"a\" twice"},
      {"{\"o\": {\"x\": 1, \"x\": 1}}", "\"x\" twice"},
      {"{\"a\": " + std::string(100, '[') + std::string(100, ']') + "}", "nested deeper than 100"},
      {"{\"a\": " + std::string(1'000'000, '['), "nested deeper than 100"}};
  for (const auto& [text, part] : cases) {
    SCOPED_TRACE(text.substr(0, 100));
    expect_error<FormatError>([&, t = text] { config(t); }, {"[config.json]", part});
  }
  EXPECT_NO_THROW(config("{\"a\": " + std::string(99, '[') + std::string(99, ']') + "}"));
  EXPECT_NO_THROW(config("{\"a\": {\"x\": 1}, \"b\": {\"x\": 1}, \"x\": 1}"));
}

// This many would then take minutes, which CMakeLists.txt does not grant.
TEST(HfConfig, GivesAllOfALargeObjectWithoutLookingThroughItForEachKey) {
  std::string text = "{\"k\": {";
  for (int i = 0; i < 300'000; ++i) text += concat("\"", i, "\":", i, ",");
  text.back() = '}';
  const HfConfig c = *config(text + "}").get_object("k");
  std::int64_t sum = 0;
  for (const std::string& key : c.keys()) sum += *c.get_int(key);
  EXPECT_EQ(sum, std::int64_t{300'000} * 299'999 / 2);
}

TEST(HfConfig, SyntaxErrorTellsLineAndColumn) {
  expect_error<FormatError>([] { config("{\n  \"a\": 1,\n  \"b\" 2\n}"); }, {"line 3, column 7", "\"b\""});
}

TEST(HfConfig, NamesTheKeysNobodyAskedFor) {
  const HfConfig c = config(R"({"z": 1, "asked": 1, "a": {}, "unset": null, "probed": 1, "checked": [1]})");
  EXPECT_THAT(c.keys(), ElementsAreArray({"z", "asked", "a", "unset", "probed", "checked"}));
  (void)c.get_int("asked");
  (void)c.has("probed");
  (void)c.is_null("checked");
  EXPECT_THAT(c.unread_keys(), ElementsAreArray({"z", "a"}));
  const HfConfig copy = c;
  (void)copy.get_int("z");
  EXPECT_THAT(copy.unread_keys(), ElementsAreArray({"a"}));
  EXPECT_THAT(c.unread_keys(), ElementsAreArray({"z", "a"}));
}

TEST(HfConfig, AFailedGetterCountsAsAsked) {
  const HfConfig c = config(R"({"k": 1})");
  EXPECT_THROW((void)c.get_string("k"), FormatError);
  EXPECT_THAT(c.unread_keys(), IsEmpty());
}

TEST(HfConfig, ConstAccessFromSeveralThreads) {
  const HfConfig c = config(R"({"a": 1, "b": 2})");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&c] {
      for (int i = 0; i < 200; ++i) {
        EXPECT_EQ(c.get_int(i % 2 == 0 ? "a" : "b"), 1 + i % 2);
        const HfConfig copy = c;
        EXPECT_LE(copy.unread_keys().size(), 2u);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_THAT(c.unread_keys(), IsEmpty());
}

TEST(HfConfig, SetsAnyValueFromItsText) {
  HfConfig c{"made.json"};
  c.set_json("bias", "\xef\xbb\xbf [[[1, 2], -0.5]]");  // after a byte order mark
  EXPECT_EQ(c.get_json("bias"), "[[[1,2],-0.5]]");
  c.set_json("bias", "3");
  EXPECT_EQ(c.get_int("bias"), 3);
  expect_error<FormatError>([&] { c.set_json("bias", "{\"1\": 1}, 2"); },
                            {"[made.json] is not valid JSON: line 1, column 9"});
  EXPECT_EQ(c.get_int("bias"), 3);
}

TEST(HfConfig, EditsInPlaceAndAppends) {
  HfConfig c = config(R"({"first": 1, "second": "x"})");
  c.set_string("first", "text");
  c.set_int("third", 3);
  c.erase("second");
  c.erase("never there");
  EXPECT_THAT(c.keys(), ElementsAreArray({"first", "third"}));
  EXPECT_EQ(c.get_string("first"), "text");
  EXPECT_EQ(c.dump(), "{\n  \"first\": \"text\",\n  \"third\": 3\n}\n");
  EXPECT_EQ(HfConfig().dump(), "{}\n");
}

TEST(HfConfig, RoundTripsWhatItIsGiven) {
  const std::vector<std::int64_t> ints = {std::numeric_limits<std::int64_t>::min(), 0, 7};
  const std::vector<std::string> texts = {"", "quote\" \\ \n", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
                                          std::string("\0", 1)};
  const HfConfig::MapOf<std::string> labels = {{"10", "ten"}, {"2", "two"}};
  const HfConfig::MapOf<std::int64_t> ids = {{"ten", 10}, {"two", 2}};
  HfConfig c("made.json");
  c.set_null("null");
  c.set_bool("bool", true);
  c.set_int("int", 1);
  c.set_string("text", texts[2]);
  c.set_int_list("ints", ints);
  c.set_string_list("texts", texts);
  c.set_string_map("labels", labels);
  c.set_int_map("ids", ids);
  const TempDir dir;
  c.save(dir / "config.json");
  const HfConfig read = HfConfig::load(dir / "config.json");
  EXPECT_EQ(read.source(), (dir / "config.json").string());
  EXPECT_EQ(read.keys(), c.keys());
  EXPECT_TRUE(read.has("null") && read.is_null("null"));
  EXPECT_EQ(read.get_bool("bool"), true);
  EXPECT_EQ(read.get_int("int"), 1);
  EXPECT_EQ(read.get_string("text"), texts[2]);
  EXPECT_EQ(read.get_int_list("ints"), ints);
  EXPECT_EQ(read.get_string_list("texts"), texts);
  EXPECT_EQ(read.get_string_map("labels"), labels);
  EXPECT_EQ(read.get_int_map("ids"), ids);
  EXPECT_EQ(read.dump(), c.dump());
}

TEST(HfConfig, DoublesReadBackExactlyAndStayDoubles) {
  std::vector<double> values = {
      0.0, -0.0, 1.0, 0.1, 1e-5, 0.02, 1e300, 5e-324, std::numeric_limits<double>::max(), 1e22};
  std::mt19937_64 bits(1);
  for (int i = 0; i < 2000; ++i)
    if (const auto v = std::bit_cast<double>(bits()); std::isfinite(v)) values.push_back(v);
  for (const double v : values) {
    HfConfig c;
    c.set_float("v", v);
    const HfConfig read = config(c.dump());
    EXPECT_EQ(std::bit_cast<std::uint64_t>(*read.get_float("v")), std::bit_cast<std::uint64_t>(v))
        << c.dump();
    EXPECT_THROW((void)read.get_int("v"), FormatError) << c.dump();
  }
}

TEST(HfConfig, RefusesToHoldWhatJsonCannot) {
  HfConfig c("made.json");
  for (const double v : {HUGE_VAL, -HUGE_VAL, std::nan("")})
    expect_error<ArgumentError>([&] { c.set_float("lr", v); }, {"[made.json]", "\"lr\""});
  expect_error<ArgumentError>([&] { c.set_string("k", "\xff"); }, {"[made.json]", "\"k\"", "UTF-8"});
  expect_error<ArgumentError>([&] { c.set_string_list("k", std::vector<std::string>{"\xc3"}); },
                              {"\"k\"", "UTF-8"});
  expect_error<ArgumentError>([&] { c.set_int("\xff", 1); }, {"[made.json]", "UTF-8"});
  EXPECT_THAT(c.keys(), IsEmpty());
}

TEST(HfConfig, NamesAFileThatCannotBeReadOrWritten) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "folder.json");
  test::write_file(dir / "bad.json", "{");
  expect_error<IoError>([&] { HfConfig::load(dir / "missing.json"); }, {"missing.json]"});
  expect_error<IoError>([&] { HfConfig::load(dir / "folder.json"); }, {"folder.json]", "directory"});
  expect_error<FormatError>([&] { HfConfig::load(dir / "bad.json"); }, {"bad.json]"});
  expect_error<IoError>([&] { HfConfig().save(dir / "folder.json"); }, {"folder.json]", "directory"});
  expect_error<IoError>([&] { HfConfig().save(dir / "no/such/config.json"); }, {"config.json]"});
}

}  // namespace
}  // namespace gpt
