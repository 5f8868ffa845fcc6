// gpt-tokenizer as its user meets it: files, output, exit status and messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/temp_dir.h"

namespace gpt::test::tokenizer_program {
namespace {

using ::testing::HasSubstr;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";
const std::string kCorpus = std::string(GPT_SOURCE_DIR) + "/tests/golden/training/corpus.txt";

std::vector<std::string> command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), GPT_TOKENIZER);
  return arguments;
}
ProcessResult run(std::vector<std::string> arguments) {
  return Process(command(std::move(arguments))).wait();
}
void expect_usage_error(std::vector<std::string> arguments, const std::string& part) {
  expect_failure(2, command(std::move(arguments)), part);
}

TEST(TokenizerProgram, TrainsWhatTheLibraryTrains) {
  const TempDir dir;
  const ProcessResult result =
      run({"train", "--train-file", kCorpus, "--train-file", kCorpus, "--vocab-size", "600",
           "--min-frequency", "3", "--special-token", "<pad>", "--special-token", "<|endoftext|>",
           "--output-dir", dir / "new/tokenizer", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const std::string text = read_file(kCorpus);
  const std::string_view texts[] = {text, text};
  const ByteBpe expected(train_byte_bpe(
      texts, {.vocab_size = 600, .min_frequency = 3, .special_tokens = {"<pad>", "<|endoftext|>"}}));
  for (const TokenizerFile& file : expected.files())
    EXPECT_EQ(read_file(dir / "new/tokenizer" / file.name), file.text) << file.name;
  const Json object = parse_json(result.out);
  EXPECT_EQ(object.at("vocab_size"), 600);
  EXPECT_EQ(object.at("merges"), 342);
  EXPECT_EQ(object.at("bytes"), 2 * text.size());
  EXPECT_EQ(load_tokenizer(dir / "new/tokenizer")->eos_token_id(), 1);
}

TEST(TokenizerProgram, EncodesAndDecodes) {
  const auto tokenizer = load_tokenizer(kDemo);
  const std::string text = "ROMEO:\nIs it so?<|endoftext|>";
  const auto ids = tokenizer->encode(text);
  std::string line;
  for (const TokenId id : ids) line += concat(line.empty() ? "" : " ", id);
  EXPECT_EQ(run({"encode", "--tokenizer", kDemo, "--text", text}).out, line + "\n");
  EXPECT_EQ(run({"decode", "--tokenizer", kDemo, "--ids", line}).out, text);
  EXPECT_EQ(run({"decode", "--tokenizer", kDemo, "--ids", line, "--skip-special-tokens"}).out,
            "ROMEO:\nIs it so?");
  const Json object = parse_json(run({"encode", "--tokenizer", kDemo, "--text", text, "--json"}).out);
  EXPECT_EQ(object.at("ids").get<std::vector<TokenId>>(), ids);
  EXPECT_EQ(object.at("tokens").at(0), tokenizer->token_of(ids[0]));
  const Json split = parse_json(
      run({"encode", "--tokenizer", kDemo, "--text", text, "--json", "--split-special-tokens"}).out);
  EXPECT_EQ(split.at("ids").get<std::vector<TokenId>>(),
            tokenizer->encode(text, {.parse_special_tokens = false}));
}

TEST(TokenizerProgram, ReadsFilesLineByLine) {
  const TempDir dir;
  write_file(dir / "text", "first\n\nthird\xFF");
  const ProcessResult encoded =
      run({"encode", "--tokenizer", kDemo, "--input-file", dir / "text", "--lines", "--threads", "2"});
  ASSERT_EQ(encoded.status, 0) << encoded.err;
  write_file(dir / "ids", encoded.out);
  EXPECT_EQ(run({"decode", "--tokenizer", kDemo, "--input-file", dir / "ids", "--lines"}).out,
            "first\n\nthird\xFF\n");
  const Json object =
      parse_json(run({"decode", "--tokenizer", kDemo, "--input-file", dir / "ids", "--lines", "--json"}).out);
  EXPECT_EQ(object.at("text"), Json({"first", "", "third\uFFFD"}));
  const Json whole =
      parse_json(run({"encode", "--tokenizer", kDemo, "--input-file", dir / "text", "--json"}).out);
  EXPECT_EQ(whole.at("ids").get<std::vector<TokenId>>(), load_tokenizer(kDemo)->encode("first\n\nthird\xFF"));
}

TEST(TokenizerProgram, RefusesWrongCommandLines) {
  expect_usage_error({}, "a command is missing, expected train, encode or decode");
  expect_usage_error({"learn"}, "\"learn\" is no command, expected train, encode or decode");
  expect_usage_error({"--frob"}, "\"--frob\" is no option");
  expect_usage_error({"train", "--train-file", "x"}, "--output-dir");
  expect_usage_error({"train", "--train-file", "absent", "--output-dir", "x", "--vocab-size", "100"},
                     "--vocab-size is 100, expected 257");
  expect_usage_error(
      {"train", "--train-file", "absent", "--output-dir", "x", "--no-special-tokens", "--special-token", "y"},
      "both given");
  expect_usage_error({"encode", "--text", "x"}, "--tokenizer");
  expect_usage_error({"encode", "--tokenizer", kDemo, "--text", "x", "--input-file", "y"}, "--input-file");
  for (const char* ids : {"1.5", "1 x2", "-1.5"})
    expect_usage_error({"decode", "--tokenizer", "/nonexistent", "--ids", ids}, "error: --ids: \"");
  expect_usage_error({"decode", "--tokenizer", kDemo, "--text", "x"}, "\"--text\" is no option");
}

TEST(TokenizerProgram, SaysWhatIsWrongWithItsInput) {
  const TempDir dir;
  expect_failure(1, command({"train", "--train-file", dir / "absent", "--output-dir", dir / "out"}),
                 "absent");
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
  expect_failure(1, command({"encode", "--tokenizer", dir.path().string(), "--text", "x"}),
                 "has no tokenizer");
  write_file(dir / "ids", "1 x2");
  expect_failure(1, command({"decode", "--tokenizer", kDemo, "--input-file", dir / "ids"}),
                 "ids] \"x2\" is no token id");
  write_file(dir / "empty", "");
  expect_failure(1, command({"train", "--train-file", dir / "empty", "--output-dir", dir / "out"}),
                 "empty] is empty: there is nothing to learn from");
  write_file(dir / "large ids", "1 99999");
  expect_failure(1, command({"decode", "--tokenizer", kDemo, "--input-file", dir / "large ids"}),
                 "large ids] token id 99999 is out of range, expected 0 to 2047");
  expect_failure(1, command({"train", "--train-file", "-", "--output-dir", dir / "out"}),
                 "[standard input] is empty: there is nothing to learn from");
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
  expect_failure(1, command({"decode", "--tokenizer", kDemo, "--ids", "99999999"}),
                 "error: --ids 99999999 is out of range");
  write_file(dir / "file", "");
  expect_failure(
      1, command({"train", "--train-file", kCorpus, "--vocab-size", "300", "--output-dir", dir / "file/sub"}),
      "file/sub");
}

// Nothing is there to merge, and nothing was to be.
TEST(TokenizerProgram, NeedsNoTextForATokenizerOfBytes) {
  const TempDir dir;
  write_file(dir / "empty", "");
  const std::vector<std::string> train = {"train",     "--train-file", dir / "empty", "--output-dir",
                                          dir / "out", "--vocab-size", "257"};
  const ProcessResult result = run(train);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(load_tokenizer(dir / "out")->vocab_size(), 257);
  std::vector<std::string> more = train;
  more[4] = dir / "more";
  more[6] = "258";
  expect_failure(1, command(more), "empty] is empty: there is nothing to learn from");
}

TEST(TokenizerProgram, WritesOverNoOtherTokenizer) {
  const TempDir dir;
  const std::vector<std::string> train = {"train", "--train-file", kCorpus,    "--vocab-size",
                                          "300",   "--output-dir", dir / "out"};
  write_file(dir / "config.json", "{}");  // of a network that is to be
  std::filesystem::create_directory(dir / "out");
  std::filesystem::rename(dir / "config.json", dir / "out/config.json");
  ASSERT_EQ(run(train).status, 0);
  const std::string before = read_file(dir / "out/tokenizer.json");
  std::vector<std::string> again = train;
  again[4] = "400";
  expect_failure(1, command(again),
                 "out] holds merges.txt: choose another --output-dir, or remove the tokenizer there first");
  EXPECT_EQ(read_file(dir / "out/tokenizer.json"), before);
  for (const char* file :
       {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"}) {
    std::filesystem::remove_all(dir / "out");
    std::filesystem::create_directory(dir / "out");
    write_file(dir / "out" / file, "another's");
    expect_failure(1, command(train), concat("out] holds ", file, ": choose another --output-dir"));
    EXPECT_EQ(read_file(dir / "out" / file), "another's");
  }
}

TEST(TokenizerProgram, HelpsForEachCommand) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"--help"},
                                                {"train", "--help"},
                                                {"encode", "--help"},
                                                {"decode", "--help"}}) {
    const ProcessResult result = run(words);
    EXPECT_EQ(result.status, 0);
    EXPECT_THAT(result.out, HasSubstr("gpt-tokenizer"));
    EXPECT_THAT(result.out, HasSubstr("Exit status"));
  }
}

}  // namespace
}  // namespace gpt::test::tokenizer_program
