// What a JSON schema admits as a grammar, and what it may not say.
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "gpt/core/error.h"
#include "gpt/generate/grammar.h"
#include "support/expect_error.h"
#include "support/isa.h"

namespace gpt {
namespace {

using test::expect_error;

void expect_texts(std::string_view schema, std::initializer_list<std::string_view> in,
                  std::initializer_list<std::string_view> out) {
  const Grammar grammar = Grammar::from_json_schema(schema);
  for (const std::string_view text : in) EXPECT_TRUE(grammar.accepts(text)) << schema << "\n" << text;
  for (const std::string_view text : out) EXPECT_FALSE(grammar.accepts(text)) << schema << "\n" << text;
}

TEST(GrammarFromJsonSchema, KnowsTheTypes) {
  expect_texts(R"({"type": "null"})", {"null"}, {"nul", "\"null\"", " null"});
  expect_texts(R"({"type": "boolean"})", {"true", "false"}, {"True", "1"});
  expect_texts(R"({"type": "integer"})", {"0", "-7", "999999999999999"},
               {"-0", "01", "1.0", "1e3", "1000000000000000", ""});
  expect_texts(R"({"type": "number"})", {"0", "-0.5", "12.25e-3", "1E+5"},
               {".5", "1.", "1e", "+1", "NaN", "1e400"});
  expect_texts(R"({"type": "string"})", {"\"\"", "\"a\\\"\\\\\\n\xc3\xa9\""},
               {"\"\n\"", "\"\\x\"", "\"\xff\"", "\"", "\"\"\""});
  expect_texts(R"({"type": ["integer", "null"]})", {"1", "null"}, {"true"});
  expect_texts(R"({"type": "integer", "nullable": true})", {"1"},
               {"null", "true"});  // OpenAPI's, not the draft's
  expect_texts("{}", {"{\"a\":[1,2,{\"b\": null}]}", "\"x\"", "[[],{}]"}, {"[1,]", "{\"a\"}", "tru"});
  expect_texts("true", {"1"}, {""});
  expect_error<ArgumentError>([] { Grammar::from_json_schema("false"); }, {"no text at all"});
  expect_texts(R"({"title": "t", "description": "d", "default": 3, "examples": [1], "type": "null"})",
               {"null"}, {"3"});
}

TEST(GrammarFromJsonSchema, WritesMembersInOrder) {
  constexpr std::string_view kSchema =
      R"({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}, "c": {"type": "null"}}, "required": ["b"]})";
  expect_texts(kSchema,
               {R"({"b":null})", R"({"a":null,"b":null})", R"({"b": null, "c": null})",
                R"({"a":null, "b":null,"c":null})"},
               {"{}", R"({"a":null})", R"({"b":null,"a":null})", R"({"b":null,})", R"({,"b":null})",
                R"({"b":null "c":null})", R"({"b" :null})", R"({ "b":null})", R"({"b":null,"d":null})",
                R"({"b":null,"b":null})"});
  expect_texts(R"({"properties": {"a": true}, "required": ["z"]})", {R"({"z":1})", R"({"a":1,"z":[]})"},
               {R"({"a":1})"});
  expect_texts(R"({"type": "object", "properties": {"x": false, "y": true}})", {"{}", R"({"y":1})"},
               {R"({"x":1})"});
  expect_texts(R"({"type": "object"})", {"{}", R"({"a":1,"b":{}})"}, {"[]"});
  expect_texts(R"({"type": "object", "additionalProperties": false})", {"{}"}, {R"({"a":1})"});
}

TEST(GrammarFromJsonSchema, KeepsAdditionalMembersFromTheNamesOfOthers) {
  expect_texts(
      R"({"type": "object", "properties": {"aa": {"type": "integer"}, "a\"": {"type": "integer"}}, "additionalProperties": {"type": "null"}})",
      {R"({"aa":1,"ab":null})", R"({"a":null})", R"({"aaa":null,"":null})", R"({"a\"":1})",
       R"({"a\"\"":null})", "{}"},
      {R"({"aa":null})", R"({"ab":1})", R"({"a\"":null})", R"({"a":null,"aa":1})"});
  expect_texts(R"({"properties": {"a": {"type": "null"}}, "additionalProperties": true})",
               {R"({"a":null,"b":3})", R"({"b":3})"}, {R"({"a":3})"});
}

TEST(GrammarFromJsonSchema, CountsElementsAndCharacters) {
  expect_texts(R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})",
               {"[1]", "[1,2, 3]"}, {"[]", "[1,2,3,4]", "[1 ,2]"});
  expect_texts(R"({"type": "array", "items": {"type": "integer"}, "minItems": 2})", {"[1,2]", "[1,2,3,4,5]"},
               {"[1]"});
  expect_texts(R"({"prefixItems": [{"type": "integer"}, {"type": "null"}], "items": {"type": "boolean"}})",
               {"[]", "[1]", "[1,null]", "[1,null,true,false]"}, {"[null]", "[1,true]", "[1,null,1]"});
  expect_texts(R"({"prefixItems": [{"type": "integer"}, {"type": "null"}], "items": false, "minItems": 1})",
               {"[1]", "[1,null]"}, {"[]", "[1,null,1]"});
  expect_texts(R"({"items": [{"type": "integer"}], "additionalItems": {"type": "null"}, "maxItems": 2})",
               {"[]", "[1]", "[1,null]"}, {"[1,1]", "[1,null,null]"});
  expect_texts(R"({"type": "string", "minLength": 2, "maxLength": 3})",
               {"\"ab\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "\"\\n\\n\""},
               {"\"a\"", "\"abcd\"", "\"\xc3\xa9\""});
  expect_error<ArgumentError>(
      [] { Grammar::from_json_schema(R"({"type": "string", "minLength": 2, "maxLength": 1})"); },
      {"no text at all"});
  expect_error<ArgumentError>([] { Grammar::from_json_schema(R"({"maxLength": 100001})"); },
                              {"100001 characters", "100000"});
}

TEST(GrammarFromJsonSchema, SearchesPatternsInTheStringThatIsWritten) {
  expect_texts(R"({"type": "string", "pattern": "^[0-9]{2}$"})", {"\"12\""}, {"\"123\"", "\"1\""});
  expect_texts(R"({"type": "string", "pattern": "b+"})", {"\"b\"", "\"abbc\\n\""}, {"\"a\"", "\"\""});
  expect_texts(R"({"type": "string", "pattern": "^a|b$"})", {"\"ax\"", "\"xb\""}, {"\"xa\"", "\"bx\""});
  expect_texts(R"({"type": "string", "pattern": "^[\"\\\\\\n\\u0001]$"})",
               {R"("\"")", R"("\\")", R"("\n")", R"("\u0001")"}, {R"(""")", "\"\x01\""});
  expect_error<UnsupportedError>(
      [] { Grammar::from_json_schema("{\"properties\": {\"p\": {\"pattern\": \"(?=a)\"}}}"); },
      {"#/properties/p/pattern", "look-ahead"});
}

TEST(GrammarFromJsonSchema, KnowsFormats) {
  const auto expect = [](std::string format, std::initializer_list<std::string_view> in,
                         std::initializer_list<std::string_view> out) {
    const Grammar grammar = Grammar::from_json_schema(R"({"type": "string", "format": ")" + format + "\"}");
    for (const auto text : in)
      EXPECT_TRUE(grammar.accepts("\"" + std::string(text) + "\"")) << format << " " << text;
    for (const auto text : out)
      EXPECT_FALSE(grammar.accepts("\"" + std::string(text) + "\"")) << format << " " << text;
  };
  expect("date", {"2024-02-28", "1999-12-31"},
         {"2023-02-29", "2024-13-01", "2024-04-31", "0000-01-01", "24-01-01"});
  expect("time", {"23:59:59Z", "00:00:00.5+01:30"}, {"24:00:00Z", "12:00:00", "12:60:00Z"});
  expect("date-time", {"2024-02-28T12:00:00Z"}, {"2024-02-28 12:00:00Z", "2024-02-28"});
  expect("uuid", {"123e4567-e89b-12d3-a456-426614174000"}, {"123e4567e89b12d3a456426614174000"});
  expect("email", {"a.b+c@example.co.uk"}, {"a@b", "@b.com", "a..b@c.com"});
  expect("ipv4", {"0.10.200.255"}, {"256.1.1.1", "1.1.1", "01.1.1.1"});
  expect("hostname", {"a-1.example", "a-b-c"}, {"-a.b", "a..b", "xn--a", "a.xn--b", "a-"});
  expect_error<UnsupportedError>([] { Grammar::from_json_schema(R"({"format": "iri"})"); },
                                 {"#/format", "\"iri\""});
}

// Every number of a range, of some digits before and behind the point, against the comparison itself.
TEST(GrammarFromJsonSchema, BoundsNumbers) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  struct Case {
    const char* schema;
    double low, high;
    bool low_in, high_in;
  };
  for (const Case& c : {Case{R"("minimum": -12, "maximum": 107)", -12, 107, true, true},
                        Case{R"("exclusiveMinimum": 9.5, "exclusiveMaximum": 100)", 9.5, 100, false, false},
                        Case{R"("minimum": -0.25, "exclusiveMaximum": 0.75)", -0.25, 0.75, true, false},
                        Case{R"("exclusiveMinimum": -99.9, "maximum": -1.05)", -99.9, -1.05, false, true},
                        Case{R"("minimum": 3.14, "maximum": 3.15)", 3.14, 3.15, true, true},
                        Case{R"("minimum": 99)", 99, 1e300, true, true},
                        Case{R"("exclusiveMaximum": 0)", -1e300, 0, true, false},
                        Case{R"("minimum": 5, "maximum": 9, "exclusiveMinimum": 5, "exclusiveMaximum": 8.5)",
                             5, 8.5, false, false}}) {
    const std::string schema = c.schema;
    const auto inside = [&](double x) {
      return (c.low_in ? x >= c.low : x > c.low) && (c.high_in ? x <= c.high : x < c.high);
    };
    const Grammar integers = Grammar::from_json_schema(std::string(R"({"type": ["boolean", "integer"], )") +
                                                       schema + "}"),
                  numbers = Grammar::from_json_schema(std::string(R"({"type": "number", )") + schema + "}");
    for (int i = -1200; i <= 1200; ++i) {
      EXPECT_EQ(integers.accepts(std::to_string(i)), inside(i)) << schema << " " << i;
      EXPECT_EQ(numbers.accepts(std::to_string(i)), inside(i)) << schema << " " << i;
    }
    for (int i = -12000; i <= 12000; ++i) {
      if (i == 0) continue;  // -0 is left out
      const std::string digits = std::to_string(1000 + std::abs(i) % 100).substr(2);
      const std::string text = (i < 0 ? "-" : "") + std::to_string(std::abs(i) / 100) + "." + digits;
      EXPECT_EQ(numbers.accepts(text), inside(i / 100.0)) << schema << " " << text;
      EXPECT_FALSE(integers.accepts(text));
    }
  }
  expect_texts(R"({"type": "integer", "minimum": -9223372036854775808, "maximum": 1e300})",
               {"-5", "0", "7", "999999999999999", "-999999999999999"}, {"1000000000000000", "1e3", "-0"});
  // A bound beyond 15 digits keeps exponents away like any other.
  for (const char* bound : {R"("maximum": 9007199254740991)", R"("minimum": -9007199254740991)",
                            R"("exclusiveMaximum": 1e15)", R"("minimum": -1e15, "maximum": 1e300)"})
    expect_texts(std::string(R"({"type": "number", )") + bound + "}",
                 {"-5.25", "0", "0.5", "-7", "123456789.5"},
                 {"1e99", "-1e99", "1E1", "9007199254740992", "-1e15"});
  expect_texts(R"({"type": "number", "minimum": 1e-7, "maximum": 1.5e-7})", {"0.0000001", "0.00000012"},
               {"0", "0.0000002", "0.00000009"});
  expect_error<UnsupportedError>([] { Grammar::from_json_schema(R"({"minimum": 1e16})"); },
                                 {"#/minimum", "15 digits"});
}

TEST(GrammarFromJsonSchema, CombinesSchemas) {
  expect_texts(R"({"enum": ["a", 1, null, {"b": [1.5]}]})", {"\"a\"", "1", "null", R"({"b":[1.5]})"},
               {"\"b\"", "2"});
  expect_texts(R"({"type": "string", "enum": ["a", 1, "abc"], "maxLength": 2})", {"\"a\""}, {"1", "\"abc\""});
  expect_texts(R"({"const": 5, "minimum": 3})", {"5"}, {"4"});
  expect_texts(R"({"enum": [{"a": 1, "b": [2.0]}, 3, [1, 2], 1e2], "allOf": [
                   {"enum": [{"b": [2], "a": 1.0}, 3.0, [2, 1], 100]}]})",
               {R"({"a":1,"b":[2.0]})", "3", "100.0"}, {"[1,2]", "[2,1]"});
  expect_error<UnsupportedError>(
      [] {
        Grammar::from_json_schema(R"({"oneOf": [{"const": {"a": 1, "b": 2}}, {"const": {"b": 2, "a": 1}}]})");
      },
      {"#/oneOf"});
  expect_error<UnsupportedError>(
      [] { Grammar::from_json_schema(R"({"oneOf": [{"const": 1e19}, {"const": 10000000000000000000}]})"); },
      {"#/oneOf"});
  expect_texts(R"({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 5}]})", {"null", "5"}, {"4"});
  expect_texts(
      R"({"type": "integer", "anyOf": [{"maximum": 2}, {"minimum": 8}], "minimum": 1, "maximum": 9})",
      {"1", "2", "8", "9"}, {"0", "5", "10"});
  expect_texts(
      R"({"allOf": [{"properties": {"a": {"minimum": 1}}}, {"properties": {"a": {"type": "integer", "maximum": 2}, "b": true}, "required": ["a"]}]})",
      {R"({"a":1})", R"({"a":2,"b":[]})"}, {R"({"a":3})", "{}", R"({"b":1})"});
  expect_texts(
      R"({"allOf": [{"additionalProperties": {"type": "integer"}}, {"properties": {"a": {"maximum": 1}}}]})",
      {R"({"a":1,"b":7})", "{}"}, {R"({"a":2})", R"({"b":"x"})"});
  expect_texts(
      R"({"oneOf": [{"properties": {"k": {"const": "x"}, "v": {"type": "integer"}}, "required": ["k"]}, {"properties": {"k": {"const": "y"}}, "required": ["k"]}]})",
      {R"({"k":"x","v":1})", R"({"k":"y"})"}, {R"({"k":"z"})", R"({"k":"y","v":1})"});
  expect_error<UnsupportedError>(
      [] { Grammar::from_json_schema(R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})"); },
      {"#/oneOf", "0 and 1", "anyOf"});
  expect_error<UnsupportedError>(
      [] {
        Grammar::from_json_schema(
            R"({"oneOf": [{"properties": {"k": {"const": "x"}}}, {"properties": {"k": {"const": "y"}}}]})");
      },
      {"#/oneOf"});
}

// What a schema without "type" admits beyond the texts it gives is a second branch's, too.
TEST(GrammarFromJsonSchema, TakesNoOneOfWhoseTextsMeetTwoBranches) {
  for (const char* schema :
       {R"({"oneOf": [{"type": "null"}, {"properties": {"a": {"type": "integer"}}, "required": ["a"]}]})",
        R"({"oneOf": [{"minimum": 3}, {"const": "a"}]})", R"({"oneOf": [{"minimum": 3}, {"minLength": 2}]})",
        R"({"oneOf": [{"properties": {"a": {"minimum": 3}}, "required": ["a"]},
                      {"properties": {"a": {"type": "null"}}, "required": ["a"]}]})",
        // The later schema chooses null, of which the branches' members say nothing.
        R"({"allOf": [{"oneOf": [
              {"properties": {"k": {"properties": {"t": {"const": 1}}, "required": ["t"]}}, "required": ["k"]},
              {"properties": {"k": {"properties": {"t": {"const": 2}}, "required": ["t"]}}, "required": ["k"]}]},
            {"properties": {"k": {"type": ["object", "null"]}}}]})",
        // The inner one holds for null, though it gives objects only.
        R"({"oneOf": [{"oneOf": [{"required": ["a"]}]}, {"type": "null"}]})"})
    expect_error<UnsupportedError>([&] { Grammar::from_json_schema(schema); }, {"oneOf", "0 and 1"});
  expect_texts(
      R"({"oneOf": [{"type": "null"}, {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}]})",
      {"null", R"({"a":1})"}, {"{}", "1"});
  expect_texts(R"({"allOf": [{"oneOf": [{"properties": {"k": {"const": 1}}, "required": ["k"]},
                                        {"properties": {"k": {"const": 2}}, "required": ["k"]}]},
                             {"type": ["object", "null"]}]})",
               {R"({"k":1})", R"({"k":2})"}, {"null", R"({"k":3})"});
}

TEST(GrammarFromJsonSchema, FollowsReferences) {
  expect_texts(R"({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}})", {"null"}, {"1"});
  expect_texts(
      R"({"type": "object", "properties": {"v": {"type": "integer"}, "next": {"$ref": "#"}}, "required": ["v"]})",
      {R"({"v":1})", R"({"v":1,"next":{"v":2,"next":{"v":3}}})"},
      {R"({"v":1,"next":{}})", R"({"v":1,"next":null})"});
  expect_texts(
      R"({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}}}})",
      {"[]", "[null,[[],[null]]]"}, {"[1]", "[["});
  expect_texts(R"({"$ref": "#/$defs/n", "minimum": 3, "$defs": {"n": {"type": "integer", "maximum": 5}}})",
               {"3", "5"}, {"2", "6"});
  expect_error<FormatError>([] { Grammar::from_json_schema(R"({"$ref": "#/$defs/x"})"); },
                            {"#/$ref", "leads nowhere"});
  expect_error<FormatError>([] { Grammar::from_json_schema(R"({"$ref": "#"})"); }, {"refers to itself"});
  expect_error<UnsupportedError>([] { Grammar::from_json_schema(R"({"$ref": "other.json"})"); },
                                 {"#/$ref", "other.json"});
  expect_error<ArgumentError>(
      [] {
        Grammar::from_json_schema(
            R"({"properties": {"a": {"$ref": "#"}}, "required": ["a"], "type": "object"})");
      },
      {"no text at all"});
}

TEST(GrammarFromJsonSchema, RefusesAnotherBaseForReferences) {
  expect_texts(R"({"$id": "https://example.com/a", "id": "b", "properties": {"id": {"$ref": "#/$defs/n"}},
                   "required": ["id"], "$defs": {"n": {"type": "null"}}})",
               {R"({"id":null})"}, {R"({"id":1})"});
  expect_texts(R"({"$ref": "#/properties/$id/items", "properties": {"$id": {"items": {"type": "null"}}}})",
               {"null"}, {"1"});
  const auto expect = [](std::string_view schema, std::string_view pointer) {
    expect_error<UnsupportedError>([&] { Grammar::from_json_schema(schema); }, {pointer, "base"});
  };
  expect(R"({"properties": {"a": {"$id": "b", "$ref": "#/$defs/n"}}, "$defs": {"n": {}}})",
         "#/properties/a/$id");
  expect(R"({"items": {"id": "b"}})", "#/items/id");
  expect(R"({"$ref": "#/$defs/n/items", "$defs": {"n": {"$id": "b", "items": {"$ref": "#/x"}}}})", "#/$ref");
}

TEST(GrammarFromJsonSchema, RefusesEveryOtherKeywordByItsPointer) {
  for (const std::string keyword : {"not",
                                    "if",
                                    "then",
                                    "else",
                                    "contains",
                                    "minContains",
                                    "maxContains",
                                    "uniqueItems",
                                    "multipleOf",
                                    "patternProperties",
                                    "propertyNames",
                                    "minProperties",
                                    "maxProperties",
                                    "dependentRequired",
                                    "dependentSchemas",
                                    "dependencies",
                                    "unevaluatedProperties",
                                    "unevaluatedItems",
                                    "$dynamicRef",
                                    "$recursiveRef",
                                    "$vocabulary",
                                    "nonsense"}) {
    const std::string schema = R"({"items": {"properties": {"a/b": {")" + keyword + R"(": true}}}})";
    expect_error<UnsupportedError>(
        [&] { Grammar::from_json_schema(schema); },
        {"[json_schema]", "\"#/items/properties/a~1b/" + keyword + "\"", "not supported"});
  }
  expect_error<UnsupportedError>([] { Grammar::from_json_schema(R"({"pattern": "a", "minLength": 3})"); },
                                 {"#/pattern", "more than one of"});
  expect_error<UnsupportedError>(
      [] { Grammar::from_json_schema(R"({"prefixItems": [true], "items": [true]})"); },
      {"#/prefixItems", "items as a list"});
  expect_error<UnsupportedError>([] { Grammar::from_json_schema(R"({"enum": ["a"], "pattern": "a"})"); },
                                 {"#/pattern", "enum"});
}

TEST(GrammarFromJsonSchema, NamesWhatIsNoSchema) {
  const auto expect = [](std::string_view schema, std::initializer_list<std::string_view> parts) {
    expect_error<FormatError>([&] { Grammar::from_json_schema(schema); }, parts);
  };
  expect("{", {"[json_schema]", "not valid JSON"});
  expect("3", {"\"#\" is 3", "an object, true or false"});
  expect(R"({"type": "text"})", {"#/type", "\"text\""});
  expect(R"({"type": 3})", {"#/type"});
  expect(R"({"properties": []})", {"#/properties", "expected an object"});
  expect(R"({"properties": {"a": 1}})", {"#/properties/a"});
  expect(R"({"required": [1]})", {"#/required", "expected a text"});
  expect(R"({"minLength": -1})", {"#/minLength", "-1"});
  expect(R"({"anyOf": []})", {"#/anyOf", "at least one"});
  expect(R"({"minimum": "1"})", {"#/minimum", "expected a number"});
  expect(R"({"exclusiveMinimum": true})", {"#/exclusiveMinimum", "expected a number"});
  expect(R"({"enum": 1})", {"#/enum", "expected a list"});
}

TEST(GrammarFromJsonSchema, SaysWhichSchemaLeavesNoText) {
  const auto refused = [](const char* schema, std::string_view reason) {
    try {
      Grammar::from_json_schema(schema);
      ADD_FAILURE() << schema;
    } catch (const ArgumentError& error) {
      EXPECT_EQ(error.what(), concat("[json_schema] admits no text at all", reason)) << schema;
    }
  };
  for (const char* schema :
       {"false", R"({"enum": []})", R"({"type": "string", "const": 5})", R"({"enum": ["a"], "minLength": 2})",
        R"({"type": "string", "minLength": 5, "maxLength": 2})",
        R"({"type": "array", "minItems": 3, "maxItems": 1})",
        R"({"type": "integer", "minimum": 1.2, "maximum": 1.8})",
        R"({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2})",
        R"({"type": "number", "minimum": 1, "exclusiveMaximum": 1})",
        R"({"type": "number", "minimum": 3, "exclusiveMaximum": 3.0000000000000000001})"})
    refused(schema, R"(: nothing is left for "#")");
  refused(R"({"properties": {"age": {"type": "integer", "minimum": 5, "maximum": 2}}, "required": ["age"]})",
          R"(: nothing is left for "#/properties/age")");
  refused(R"({"type": "object", "required": ["a"], "properties": {"b": {}}, "additionalProperties": false})",
          R"(: nothing is left for "#/additionalProperties")");
  refused(R"({"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1, "$defs": {"a": false}})",
          R"(: nothing is left for "#/items")");
  const char* const endless = ": every way through it is without an end";
  refused(
      R"({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}}})",
      endless);
  // What may be left out is no cause.
  refused(R"({"type": "object", "required": ["b"], "properties":
              {"a": {"type": "string", "minLength": 5, "maxLength": 2}, "b": {"$ref": "#"}}})",
          endless);
  // Both are, each of one alternative.
  refused(R"({"anyOf": [false, {"type": "array", "items": {"$ref": "#"}, "minItems": 1}]})", endless);
  refused(R"({"anyOf": [{"$ref": "#/$defs/a"}, {"type": "array", "items": {"$ref": "#"}, "minItems": 1}],
              "$defs": {"a": {"type": "array", "items": false, "minItems": 1}}})",
          "");
}

TEST(GrammarFromJsonSchema, BoundsWhatASchemaCosts) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  std::string branches = R"({"type": "integer"})", nested;
  for (int i = 0; i < 12; ++i)
    nested += (i > 0 ? "," : "") + std::string(R"({"anyOf": [{"minimum": 1}, {"maximum": 5}]})");
  expect_error<ArgumentError>([&] { Grammar::from_json_schema(R"({"allOf": [)" + nested + "]}"); },
                              {"more than 512 alternatives"});
  expect_error<ArgumentError>([] { Grammar::from_json_schema(R"({"type": "string", "maxLength": 100000})"); },
                              {"[json_schema]", "limit"});
  // Each of the references leads to the next one twice.
  std::string links, members;
  for (int i = 0; i < 40; ++i) {
    const std::string next = R"({"$ref": "#/$defs/)" + std::to_string(i + 1) + "\"}";
    links += "\"" + std::to_string(i) + R"(": {"allOf": [)" + next + ", " + next + "]},";
  }
  for (int i = 0; i < 1000; ++i)
    members += (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(": {"type": "null"})";
  expect_texts(R"({"$ref": "#/$defs/0", "$defs": {)" + links + R"("40": {"properties": {)" + members + "}}}}",
               {R"({"3":null,"997":null})"}, {R"({"3":1})"});
  // One that holds in some alternatives already is still put to the others.
  expect_texts(R"({"allOf": [{"anyOf": [{"$ref": "#/$defs/n"}, {"type": "string"}]}, {"$ref": "#/$defs/n"}],
                   "$defs": {"n": {"enum": [1, "a"]}}})",
               {"1", "\"a\""}, {"\"b\"", "2"});
  // Alternatives beside alternatives, each with all members.
  std::string many;
  for (int i = 0; i < 500; ++i)
    many += (i > 0 ? "," : "") + std::string(R"({"required": [")") + std::to_string(i) + "\"]}";
  expect_error<ArgumentError>(
      [&] { Grammar::from_json_schema(R"({"properties": {)" + members + R"(}, "anyOf": [)" + many + "]}"); },
      {"[json_schema]"});
  // So many nodes as a pattern has characters, for each alternative.
  expect_error<ArgumentError>(
      [&] {
        Grammar::from_json_schema(R"({"pattern": ")" + std::string(60000, 'a') + R"(", "anyOf": [)" + many +
                                  "]}");
      },
      {"[json_schema]", "262144 parts"});
  expect_texts(R"({"items": {"items": {"type": "string"}, "maxItems": 300}, "maxItems": 300})",
               {R"([["a"],[]])"}, {"[[1]]"});
}

TEST(GrammarJsonObject, IsAnyObject) {
  const Grammar grammar = Grammar::json_object();
  for (const auto text : {"{}", R"({"a": [1, {"b": "c"}], "d":null})"})
    EXPECT_TRUE(grammar.accepts(text)) << text;
  for (const auto text : {"[]", "1", "{", R"({"a":})"}) EXPECT_FALSE(grammar.accepts(text)) << text;
}

}  // namespace
}  // namespace gpt
