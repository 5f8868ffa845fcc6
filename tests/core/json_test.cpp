// What HfConfig's tests do not reach: the other users of the parser rely on it too.
#include "core/json.h"

#include <gtest/gtest.h>

#include <string>

#include "gpt/core/error.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;

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

TEST(Json, DescribesValuesShortly) {
  EXPECT_EQ(json::describe(json::parse("[1]", "t")), "a list");
  EXPECT_EQ(json::describe(json::parse("{}", "t")), "an object");
  EXPECT_EQ(json::describe(json::parse("\"x\"", "t")), "\"x\"");
  EXPECT_EQ(json::describe(json::parse("1.5", "t")), "1.5");
  EXPECT_EQ(json::describe(json::parse("null", "t")), "null");
}

}  // namespace
}  // namespace gpt
