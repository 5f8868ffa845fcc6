// The options of gpt-generate that give the text a grammar.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/json_schema.h"
#include "support/temp_dir.h"

namespace gpt::test::grammar_options {
namespace {

using ::testing::HasSubstr;

const std::string kDemoModel = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";
constexpr const char* kSchema =
    R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["name", "age"]})";

ProcessResult run(const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {GPT_GENERATE,       "--model", kDemoModel,    "--prompt",      "ROMEO:",
                                   "--max-new-tokens", "40",      "--do-sample", "--temperature", "2"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return Process(argv).wait();
}

std::string write(const TempDir& directory, const std::string& name, const std::string& text) {
  const std::string path = (directory.path() / name).string();
  std::ofstream(path) << text;
  return path;
}

void expect_valid(const ProcessResult& result) {
  ASSERT_EQ(result.status, 0) << result.err;
  const Json schema = parse_json(kSchema);
  EXPECT_EQ(why_invalid(parse_json(result.out), schema, schema), "") << result.out;
}

TEST(GrammarOptions, MakeTheTextOneOfTheGrammar) {
  const TempDir directory;
  expect_valid(run({"--json-schema", kSchema}));
  expect_valid(run({"--json-schema-file", write(directory, "schema.json", kSchema)}));
  const ProcessResult object = run({"--json-object"});
  EXPECT_TRUE(parse_json(object.out).is_object()) << object.out;
  const ProcessResult date = run({"--regex", "\\d{4}-\\d{2}"});
  EXPECT_THAT(date.out, ::testing::MatchesRegex("[0-9]{4}-[0-9]{2}\n"));
  EXPECT_THAT(date.err, HasSubstr("ended by eos"));
  const std::string gbnf = "root ::= \"yes\" | \"no\"";
  for (const auto& result :
       {run({"--grammar", gbnf}), run({"--grammar-file", write(directory, "g.gbnf", gbnf)})})
    EXPECT_TRUE(result.out == "yes\n" || result.out == "no\n") << result.out;
}

TEST(GrammarOptions, BlameTheCommandLineOrTheFile) {
  const TempDir directory;
  const auto expect = [](const std::vector<std::string>& arguments, int status, const std::string& message) {
    const ProcessResult result = run(arguments);
    EXPECT_EQ(result.status, status);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(message));
  };
  expect({"--regex", "a", "--json-object"}, 2, "at most one of --regex");
  expect({"--regex", "(a"}, 2, "--regex: [regex] in the pattern");
  expect({"--json-schema", R"({"not": {}})"}, 2, "--json-schema: [json_schema] \"#/not\"");
  const std::string bad = write(directory, "bad.gbnf", "root ::= x");
  expect({"--grammar-file", bad}, 1, bad + ": [grammar] line 1");
  expect({"--json-schema-file", (directory.path() / "none").string()}, 1, "none");
  expect({"--regex", "[a-z]{600}"}, 1, "room for 40 new tokens");
}

}  // namespace
}  // namespace gpt::test::grammar_options
