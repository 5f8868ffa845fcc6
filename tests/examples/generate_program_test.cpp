// gpt-generate as its user meets it: output, exit status and messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <iostream>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "examples/machine_options.h"
#include "examples/process.h"
#include "examples/program.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/random_model.h"
#include "support/temp_dir.h"

namespace gpt::test::generate_program {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

std::vector<std::string> command(const std::string& model, const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {GPT_GENERATE, "--model", model};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

ProcessResult run(const std::string& model, const std::vector<std::string>& arguments) {
  return Process(command(model, arguments)).wait();
}

Json run_json(const std::string& model, std::vector<std::string> arguments) {
  arguments.push_back("--json");
  const ProcessResult result = run(model, arguments);
  EXPECT_EQ(result.status, 0) << result.err;
  return parse_json(result.out);
}

/// A checkpoint without a tokenizer, saved into the directory.
void save_random(const std::filesystem::path& directory, const Gpt2Config& config) {
  HfConfig file;
  config.to_hf(file);
  Model(random_network(config, 1), file).save(directory);
}

TEST(GenerateProgram, StreamsWhatTheLibraryGenerates) {
  const Model model = Model::load(kDemo);
  const GenerateResult expected = Generator(model).generate("ROMEO:", {.max_new_tokens = 12});
  const ProcessResult result = run(kDemo, {"--prompt", "ROMEO:", "--max-new-tokens", "12"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, expected.text + "\n");
  EXPECT_THAT(result.err, HasSubstr("prompt: "));
}

TEST(GenerateProgram, PrintsOneJsonObjectWhoseNumbersReadBackExactly) {
  const Model model = Model::load(kDemo);
  const GenerateResult expected = Generator(model).generate("ROMEO:", {.max_new_tokens = 9,
                                                                       .do_sample = true,
                                                                       .temperature = 0.7,
                                                                       .top_k = 20,
                                                                       .top_p = 0.9,
                                                                       .min_p = 0.01,
                                                                       .repetition_penalty = 1.2,
                                                                       .seed = 42,
                                                                       .logprobs = 2});
  const Json object =
      run_json(kDemo, {"--prompt", "ROMEO:", "--max-new-tokens", "9", "--do-sample", "--temperature", "0.7",
                       "--top-k", "20", "--top-p", "0.9", "--min-p", "0.01", "--repetition-penalty", "1.2",
                       "--seed", "42", "--logprobs", "2"});
  EXPECT_EQ(object.at("prompt_ids"), Json(expected.prompt_ids));
  EXPECT_EQ(object.at("ids"), Json(expected.ids));
  EXPECT_EQ(object.at("text"), Json(expected.text));
  EXPECT_EQ(object.at("finish_reason"), "length");
  EXPECT_EQ(object.at("timing").at("prefill_tokens"), expected.timing.prefill_tokens);
  EXPECT_EQ(object.at("timing").at("decode_tokens"), 8);
  for (const char* key : {"load_s", "prefill_s", "decode_s"}) EXPECT_GT(object.at("timing").at(key), 0.0);
  EXPECT_GT(object.at("peak_rss_bytes"), 1 << 20);
  const Json& logprobs = object.at("logprobs");
  ASSERT_EQ(logprobs.size(), 9u);
  for (std::size_t i = 0; i < logprobs.size(); ++i) {
    EXPECT_EQ(logprobs[i].at("id"), expected.ids[i]);
    EXPECT_EQ(logprobs[i].at("logprob").get<double>(), expected.logprobs[i]);
    ASSERT_EQ(logprobs[i].at("top").size(), 2u);
    EXPECT_EQ(logprobs[i].at("top")[1].at("logprob").get<double>(), expected.top_logprobs[i][1].logprob);
  }
}

// Runs the program and the library with the same options, given to both.
void expect_same(const std::vector<std::string>& arguments, GenerateOptions options) {
  const Model model = Model::load(kDemo);
  options.max_new_tokens = 14;
  const GenerateResult expected = Generator(model).generate("ROMEO:", options);
  std::vector<std::string> all = {"--prompt", "ROMEO:", "--max-new-tokens", "14"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  EXPECT_EQ(run_json(kDemo, all).at("ids"), Json(expected.ids)) << testing::PrintToString(arguments);
  options = {.max_new_tokens = 14, .do_sample = options.do_sample};
  EXPECT_NE(Generator(model).generate("ROMEO:", options).ids, expected.ids)
      << "the options change nothing: " << testing::PrintToString(arguments);
}

TEST(GenerateProgram, TakesEverySamplingOption) {
  const auto sample = [](const std::vector<std::string>& arguments, GenerateOptions options) {
    std::vector<std::string> all = {"--do-sample"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    options.do_sample = true;
    expect_same(all, std::move(options));
  };
  sample({"--temperature", "1.5", "--dynatemp-range", "0.5", "--dynatemp-exponent", "2"},
         {.temperature = 1.5, .dynatemp_range = 0.5, .dynatemp_exponent = 2.0});
  sample({"--top-n-sigma", "0.3"}, {.top_n_sigma = 0.3});
  sample({"--typical-p", "0.3"}, {.typical_p = 0.3});
  sample({"--epsilon-cutoff", "0.1"}, {.epsilon_cutoff = 0.1});
  sample({"--eta-cutoff", "0.3"}, {.eta_cutoff = 0.3});
  sample({"--xtc-probability", "0.9", "--xtc-threshold", "0.05"},
         {.xtc_probability = 0.9, .xtc_threshold = 0.05});
  sample({"--mirostat", "2", "--mirostat-tau", "2", "--mirostat-eta", "0.2"},
         {.mirostat = 2, .mirostat_tau = 2.0, .mirostat_eta = 0.2});
}

TEST(GenerateProgram, TakesEveryPenaltyAndConstraint) {
  using Ids = std::vector<TokenId>;
  const Model model = Model::load(kDemo);
  const Ids greedy = Generator(model).generate("ROMEO:", {.max_new_tokens = 3}).ids;
  const std::string third = std::to_string(greedy[2]), first = std::to_string(greedy[0]);
  expect_same({"--penalty-alpha", "0.6", "--top-k", "4"}, {.top_k = 4, .penalty_alpha = 0.6});
  expect_same({"--frequency-penalty", "1.5"}, {.frequency_penalty = 1.5});
  expect_same({"--presence-penalty", "2"}, {.presence_penalty = 2.0});
  expect_same({"--dry-multiplier", "4", "--dry-base", "2", "--dry-allowed-length", "0",
               "--dry-penalty-last-n", "20", "--dry-sequence-breakers", "x", "--dry-sequence-breakers", "y"},
              {.dry_multiplier = 4.0,
               .dry_base = 2.0,
               .dry_allowed_length = 0,
               .dry_penalty_last_n = 20,
               .dry_sequence_breakers = std::vector<std::string>{"x", "y"}});
  expect_same(
      {"--dry-multiplier", "4", "--dry-allowed-length", "0", "--dry-sequence-breakers", "none"},
      {.dry_multiplier = 4.0, .dry_allowed_length = 0, .dry_sequence_breakers = std::vector<std::string>()});
  GenerateOptions biased;
  biased.logit_bias = std::map<TokenId, double>{{greedy[2], -50.0}, {7, 0.5}};
  expect_same({"--logit-bias", "{\"" + third + "\": -50, \"7\": 0.5}"}, biased);
  biased = {};
  biased.sequence_bias = std::vector<BiasedSequence>{{{greedy[1], greedy[2]}, -50.0}};
  expect_same({"--sequence-bias", concat("\xef\xbb\xbf[[[", greedy[1], ", ", greedy[2], "], -50]]")}, biased);
  GenerateOptions banned;
  banned.bad_words_ids = std::vector<Ids>{{greedy[1], greedy[2]}};
  expect_same({"--bad-words-ids", concat("[[", greedy[1], ", ", greedy[2], "]]")}, banned);
  expect_same({"--exponential-decay-length-penalty", "3,4.5", "--eos-token-id", "7"},
              {.exponential_decay_length_penalty = ExponentialDecay{3, 4.5}, .eos_token_id = Ids{7}});
  expect_same({"--guidance-scale", "4", "--negative-prompt-ids", "1,2,3"},
              {.guidance_scale = 4.0, .negative_prompt_ids = Ids{1, 2, 3}});
  expect_same({"--guidance-scale", "4", "--negative-prompt", "JULIET:"},
              {.guidance_scale = 4.0, .negative_prompt_ids = model.tokenizer().encode("JULIET:")});
  expect_same({"--no-repeat-ngram-size", "1"}, {.no_repeat_ngram_size = 1});
  expect_same({"--suppress-tokens", third + ",5"}, {.suppress_tokens = Ids{greedy[2], 5}});
  expect_same({"--begin-suppress-tokens", first}, {.begin_suppress_tokens = Ids{greedy[0]}});
  expect_same({"--forced-eos-token-id", "7", "--renormalize-logits"},
              {.forced_eos_token_id = Ids{7}, .renormalize_logits = true});
  expect_same({"--eos-token-id", first, "--min-new-tokens", "4"},
              {.min_new_tokens = 4, .eos_token_id = Ids{greedy[0]}});
  expect_same({"--eos-token-id", first, "--min-length", "12"},
              {.min_length = 12, .eos_token_id = Ids{greedy[0]}});
  EXPECT_EQ(run_json(kDemo, {"--input-ids", "5", "--forced-bos-token-id", "33", "--max-new-tokens", "2"})
                .at("ids")
                .at(0),
            33);
}

TEST(GenerateProgram, GoesOnBehindTheContextWithASlidingWindow) {
  const Model model = Model::load(kDemo);
  const std::vector<std::string> arguments = {"--prompt", "ROMEO:", "--max-new-tokens", "270"};
  expect_failure(1, command(kDemo, arguments), "n_positions");
  std::vector<std::string> slides = arguments;
  slides.insert(slides.end(), {"--sliding-window", "--n-keep", "3"});
  const GenerateResult expected =
      Generator(model).generate("ROMEO:", {.max_new_tokens = 270, .sliding_window = true, .n_keep = 3});
  EXPECT_EQ(run_json(kDemo, slides).at("ids"), Json(expected.ids));
}

// The program's sequences against the library's results for the same options.
void expect_same_sequences(const std::vector<std::string>& arguments, GenerateOptions options) {
  const Model model = Model::load(kDemo);
  options.max_new_tokens = 10;
  options.logprobs = 1;
  const std::vector<TokenId> prompt = model.tokenizer().encode("ROMEO:");
  const auto expected = Generator(model).generate(std::span(&prompt, 1), options);
  std::vector<std::string> all = {"--prompt", "ROMEO:", "--max-new-tokens", "10", "--logprobs", "1"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const Json object = run_json(kDemo, all);
  const Json& sequences = object.at("sequences");
  ASSERT_EQ(sequences.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(sequences[i].at("ids"), Json(expected[i].ids)) << i;
    EXPECT_EQ(sequences[i].at("text"), Json(expected[i].text));
    EXPECT_EQ(sequences[i].at("finish_reason"), name_of(expected[i].finish_reason));
    EXPECT_EQ(sequences[i].at("score"), expected[i].score ? Json(*expected[i].score) : Json(nullptr));
    EXPECT_EQ(sequences[i].at("logprobs").size(), expected[i].ids.size());
  }
  EXPECT_EQ(object.at("ids"), sequences[0].at("ids"));
  EXPECT_EQ(object.at("text"), sequences[0].at("text"));
}

TEST(GenerateProgram, PrintsAllSequencesAndTheirScores) {
  for (const auto& [name, early] : {std::pair("true", EarlyStopping::kTrue),
                                    {"false", EarlyStopping::kFalse},
                                    {"never", EarlyStopping::kNever}})
    expect_same_sequences({"--num-beams", "4", "--num-return-sequences", "3", "--length-penalty", "-1",
                           "--eos-token-id", "198,11", "--early-stopping", name},
                          {.num_return_sequences = 3,
                           .num_beams = 4,
                           .length_penalty = -1.0,
                           .early_stopping = early,
                           .eos_token_id = std::vector<TokenId>{198, 11}});
  expect_same_sequences({"--num-beams", "2"}, {.num_beams = 2});
  expect_same_sequences({"--num-beams", "4", "--num-beam-groups", "2", "--diversity-penalty", "1.5"},
                        {.num_beams = 4, .num_beam_groups = 2, .diversity_penalty = 1.5});
  expect_same_sequences({"--do-sample", "--num-return-sequences", "2", "--seed", "5", "--stream", "7"},
                        {.do_sample = true, .num_return_sequences = 2, .seed = 5, .stream = 7});
  expect_same_sequences({"--do-sample", "--num-beams", "3"}, {.do_sample = true, .num_beams = 3});

  const Model model = Model::load(kDemo);
  const std::vector<TokenId> prompt = model.tokenizer().encode("ROMEO:");
  const auto expected = Generator(model).generate(
      std::span(&prompt, 1), {.max_new_tokens = 10, .num_return_sequences = 2, .num_beams = 2});
  const ProcessResult text = run(kDemo, {"--prompt", "ROMEO:", "--max-new-tokens", "10", "--num-beams", "2",
                                         "--num-return-sequences", "2"});
  EXPECT_EQ(text.out, expected[0].text + "\n----\n" + expected[1].text + "\n");
  const Json one = run_json(kDemo, {"--prompt", "ROMEO:", "--max-new-tokens", "2"});
  EXPECT_FALSE(one.contains("sequences"));
}

TEST(GenerateProgram, SpeculatesToTheSameText) {
  const auto ids = [](std::vector<std::string> more) {
    more.insert(more.end(), {"--prompt", "ROMEO:", "--max-new-tokens", "24", "--do-sample", "--seed", "3"});
    return run_json(kDemo, more).at("ids");
  };
  const Json expected = ids({});
  EXPECT_EQ(ids({"--prompt-lookup-num-tokens", "5", "--max-matching-ngram-size", "1"}), expected);
  EXPECT_EQ(ids({"--assistant-model", kDemo, "--num-assistant-tokens", "3",
                 "--assistant-confidence-threshold", "0"}),
            expected);
  expect_failure(1, command(kDemo, {"--prompt", "A", "--assistant-model", "/nonexistent"}), "/nonexistent");
}

TEST(GenerateProgram, ReportsLogprobsOfTheChosenTokensAloneOrNone) {
  const Json zero = run_json(kDemo, {"--prompt", "A", "--max-new-tokens", "2", "--logprobs", "0"});
  EXPECT_EQ(zero.at("logprobs").at(0).at("top"), Json::array());
  EXPECT_TRUE(run_json(kDemo, {"--prompt", "A", "--max-new-tokens", "2"}).at("logprobs").is_null());
  const ProcessResult text = run(kDemo, {"--prompt", "A", "--max-new-tokens", "2", "--logprobs", "1"});
  EXPECT_THAT(text.err, HasSubstr(std::to_string(zero.at("ids").at(0).get<int>())));
}

TEST(GenerateProgram, TakesThePromptFromAFileOrFromIds) {
  const TempDir directory;
  write_file(directory / "prompt", "ROMEO:\nBut {} \xff");
  const Json file = run_json(kDemo, {"--prompt-file", directory / "prompt", "--max-new-tokens", "3"});
  std::string ids;
  for (const Json& id : file.at("prompt_ids")) ids += concat(ids.empty() ? "" : ",", id.get<TokenId>());
  EXPECT_EQ(run_json(kDemo, {"--input-ids", ids, "--max-new-tokens", "3"}).at("ids"), file.at("ids"));
  EXPECT_EQ(run_json(kDemo, {"--prompt", "ROMEO:\nBut {} \xff", "--max-new-tokens", "3"}).at("ids"),
            file.at("ids"));
  write_file(directory / "prompt", "\xEF\xBB\xBFROMEO:\nBut {} \xff");
  EXPECT_EQ(run_json(kDemo, {"--prompt-file", directory / "prompt", "--max-new-tokens", "3"}).at("ids"),
            file.at("ids"));
  const Model model = Model::load(kDemo);
  for (const std::string prompt : {"{}", "[a,b]", "--seed", "--seed=", "-1", "\"q\" 'r'", "a=b"})
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"--prompt", prompt}, {"--prompt=" + prompt}}) {
      std::vector<std::string> all = arguments;
      all.insert(all.end(), {"--max-new-tokens", "1"});
      EXPECT_EQ(run_json(kDemo, all).at("prompt_ids"), Json(model.tokenizer().encode(prompt)));
    }
}

TEST(GenerateProgram, TakesThePromptFromAPipeAndFromFilesWithoutASize) {
  const Model model = Model::load(kDemo);
  const auto through_pipe = [](const std::string& writer, const std::string& file = "/dev/stdin") {
    std::vector<std::string> argv = {"/bin/sh", "-c", writer + " | \"$@\"", "sh"};
    const auto program = command(kDemo, {"--prompt-file", file, "--max-new-tokens", "1", "--json"});
    argv.insert(argv.end(), program.begin(), program.end());
    return Process(argv).wait();
  };
  const ProcessResult slow = through_pipe("{ printf ROM; sleep 0.1; printf EO:; }");
  EXPECT_EQ(parse_json(slow.out).at("prompt_ids"), Json(model.tokenizer().encode("ROMEO:"))) << slow.err;
  EXPECT_EQ(parse_json(through_pipe("printf ROMEO:", "-").out).at("prompt_ids"),
            Json(model.tokenizer().encode("ROMEO:")));
  const ProcessResult large = through_pipe("head -c 100000 /dev/zero");  // more than a pipe holds
  EXPECT_THAT(large.err, HasSubstr("the prompt has 100000 tokens"));
  EXPECT_EQ(
      run_json(kDemo, {"--prompt-file", "/proc/sys/kernel/ostype", "--max-new-tokens", "1"}).at("prompt_ids"),
      Json(model.tokenizer().encode("Linux\n")));
}

TEST(GenerateProgram, StopsAtStringsAndTokens) {
  const Json whole = run_json(kDemo, {"--prompt", "ROMEO:", "--max-new-tokens", "30"});
  const auto text = whole.at("text").get<std::string>();
  const std::string stop = text.substr(text.size() / 2, 4);
  const Json at_string = run_json(kDemo, {"--prompt", "ROMEO:", "--max-new-tokens", "30", "--stop-strings",
                                          "never seen", "--stop", stop});
  EXPECT_EQ(at_string.at("finish_reason"), "stop");
  EXPECT_THAT(at_string.at("text").get<std::string>(), HasSubstr(stop));
  const Json at_token = run_json(kDemo, {"--prompt", "ROMEO:", "--max-new-tokens", "30", "--eos-token-id",
                                         concat("1,", whole.at("ids").at(0).get<TokenId>())});
  EXPECT_EQ(at_token.at("finish_reason"), "eos");
  EXPECT_EQ(at_token.at("ids").size(), 1u);
}

TEST(GenerateProgram, WorksWithoutATokenizerOnIds) {
  const TempDir directory;
  Gpt2Config config = tiny_config();
  config.eos_token_id.clear();
  save_random(directory.path(), config);
  const Json object =
      run_json(directory.path(), {"--input-ids", "3,1,4", "--max-length", "8", "--logprobs", "1"});
  EXPECT_TRUE(object.at("text").is_null());
  EXPECT_EQ(object.at("ids").size(), 5u);
  EXPECT_TRUE(object.at("logprobs").at(0).at("token").is_null());
  std::string ids;
  for (const Json& id : object.at("ids")) ids += concat(ids.empty() ? "" : ",", id.get<TokenId>());
  EXPECT_EQ(run(directory.path(), {"--input-ids", "3,1,4", "--max-length", "8"}).out, ids + "\n");
  expect_failure(1, command(directory.path(), {"--prompt", "abc"}), "tokenizer");
  expect_failure(1, command(directory.path(), {"--input-ids", "3", "--stop", "x"}), "tokenizer");
}

TEST(GenerateProgram, ThreadsAndMappingDoNotChangeTheResultAndTypesAreConverted) {
  const std::vector<std::string> base = {"--prompt", "ROMEO:", "--max-new-tokens", "8", "--logprobs", "1"};
  const auto with = [&base](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_json(kDemo, arguments).at("logprobs");
  };
  const Json expected = with({});
  EXPECT_EQ(with({"--threads", "1"}), expected);
  EXPECT_EQ(with({"--threads", "2", "--no-mmap"}), expected);
  EXPECT_EQ(with({"--dtype", "float32"}), expected);  // widening is exact
  EXPECT_EQ(with({"--dtype", "bf16"}), with({"--dtype", "auto"}));
  EXPECT_EQ(with({"--kv-dtype", "f32"}), expected);
  EXPECT_NE(with({"--kv-dtype", "int8"}), expected);
}

TEST(GenerateProgram, RefusesAWrongCommandLineWithStatusTwo) {
  const auto refuse = [](const std::vector<std::string>& arguments, const std::string& part) {
    expect_failure(2, command(kDemo, arguments), part);
  };
  refuse({}, "--prompt");
  refuse({"--prompt", "A", "--input-ids", "1"}, "--input-ids");
  refuse({"--prompt", "A", "--what"}, "\"--what\" is no option");
  refuse({"--prompt", "A", "--what=1"}, "\"--what\" is no option");
  refuse({"--prompt", "A", "-x"}, "\"-x\" is no option");
  refuse({"--prompt", "A", "stray"}, "\"stray\" follows no option");
  refuse({"--prompt", "A", "--", "stray"}, "\"--\" is no option");
  refuse({"--prompt"}, "--prompt: its value is missing, expected TEXT");
  refuse({"--prompt", "A", "--seed", "1", "--seed", "2"}, "--seed is given twice");
  refuse({"--prompt", "A", "--seed=1", "--seed", "1"}, "--seed is given twice");
  refuse({"--prompt", "A", "--json", "--json"}, "--json is given twice");
  refuse({"--prompt", "A", "--json=1"}, "--json takes no value, found \"1\"");
  refuse({"--prompt", "A", "--do-sample", "--no-do-sample"}, "--do-sample and --no-do-sample are both given");
  refuse({"--prompt", "A", "--no-pack", "--pack"}, "--no-pack and --pack are both given");
  refuse({"--prompt", "A", "--seed", "-1"},
         "--seed: \"-1\" is not an integer from 0 to 18446744073709551615");
  refuse({"--prompt", "A", "--seed", "18446744073709551616"},
         "--seed: \"18446744073709551616\" is not an integer from 0 to 18446744073709551615");
  refuse({"--prompt", "A", "--seed="}, "--seed: \"\" is not an integer");
  refuse({"--prompt", "A", "--max-new-tokens", "5x"}, "--max-new-tokens: \"5x\"");
  refuse({"--prompt", "A", "--max-new-tokens", "x"}, "\"x\" is not an integer from 1 to 9223372036854775807");
  refuse({"--prompt", "A", "--top-k", "x"}, "\"x\" is not an integer from 0 to 9223372036854775807");
  refuse({"--prompt", "A", "--num-beams", "x"}, "\"x\" is not an integer from 1 to 65536");
  refuse({"--prompt", "A", "--max-new-tokens", ""}, "--max-new-tokens: \"\"");
  refuse({"--prompt", "A", "--max-new-tokens="}, "--max-new-tokens: \"\"");
  refuse({"--prompt", "A", "--max-new-tokens", "0"}, "error: --max-new-tokens is 0");
  refuse({"--prompt", "A", "--max-new-tokens", "5", "--max-length", "9"},
         "error: --max-new-tokens = 5 and --max-length = 9 are both set");
  refuse({"--prompt", "A", "--no-do-sample", "--top-k", "5"}, "error: --top-k is set but --do-sample is off");
  refuse({"--prompt", "A", "--do-sample", "--temperature", "0"}, "error: --temperature is 0");
  refuse({"--prompt", "A", "--do-sample", "--temperature", "0,5"}, "--temperature: \"0,5\" is not a number");
  refuse({"--prompt", "A", "--do-sample", "--temperature", "1e999"}, "--temperature: \"1e999\" is too large");
  refuse({"--prompt", "A", "--do-sample", "--top-p", "nan"}, "error: --top-p is nan");
  refuse({"--prompt", "A", "--logprobs", "-1"}, "error: --logprobs is -1");
  refuse({"--prompt", "A", "--threads", "-1"}, "--threads: \"-1\" is not an integer from 0 to 2147483647");
  refuse({"--prompt", "A", "--dtype", "int8"}, "--dtype: \"int8\"");
  refuse({"--prompt", "A", "--dtype="}, "--dtype: \"\"");
  refuse({"--prompt", "A", "--kv-dtype", "float64"}, "--kv-dtype: \"float64\"");
  refuse({"--prompt", "A", "--stop", ""}, "error: --stop-strings holds an empty string");
  refuse({"--prompt", "A", "--logit-bias", "[1]"}, "error: --logit-bias is or holds a list, expected");
  refuse({"--prompt", "A", "--logit-bias", "{\"1\": 1}, \"top_k\": 3"},
         "error: --logit-bias is not valid JSON: line 1, column 9: ");
  refuse({"--prompt", "A", "--logit-bias", "{\"1\": 1e999}"},
         "column 11: number overflow parsing '1e999', after the key \"1\"");
  refuse({"--prompt", "A", "--sequence-bias", "[[["}, "--sequence-bias is not valid JSON");
  refuse({"--prompt", "A", "--bad-words-ids", "[[]]"}, "error: --bad-words-ids holds an empty list");
  refuse({"--prompt", "A", "--exponential-decay-length-penalty", "3"}, "expected START,FACTOR");
  refuse({"--prompt", "A", "--exponential-decay-length-penalty", "3,0"},
         "error: --exponential-decay-length-penalty has the factor 0");
  refuse({"--prompt", "A", "--suppress-tokens", "1,x"}, "--suppress-tokens: \"x\"");
  refuse({"--prompt", "A", "--do-sample", "--mirostat", "1"}, "error: --mirostat is 1");
  refuse({"--prompt", "A", "--do-sample", "--mirostat", "2", "--top-k", "3"},
         "error: --top-k is set but --mirostat is on");
  refuse({"--prompt", "A", "--min-length", "3", "--min-new-tokens", "3"},
         "error: --min-new-tokens = 3 and --min-length = 3 are both set");
  refuse({"--prompt", "A", "--negative-prompt", "B", "--negative-prompt-ids", "1"}, "--negative-prompt-ids");
  refuse({"--prompt", "A", "--early-stopping", "maybe"},
         "--early-stopping: \"maybe\" is none of true, false, never");
  refuse({"--prompt", "A", "--num-beams", "0"}, "error: --num-beams is 0");
  // Whatever the checkpoint says.
  const auto exclude = [](std::vector<std::string> arguments, const std::string& message) {
    arguments.insert(arguments.begin(), {"--prompt", "A"});
    expect_failure(2, command("/nonexistent", arguments), "error: " + message);
  };
  exclude({"--num-beams", "4", "--stop", "x"}, "--stop-strings together with --num-beams is not supported");
  exclude({"--num-beams", "4", "--guidance-scale", "2"},
          "--guidance-scale together with --num-beams is not supported");
  exclude({"--num-beams", "2", "--num-return-sequences", "3"},
          "--num-return-sequences is 3, --num-beams 2: expected no more than that");
  exclude({"--num-beams", "4", "--num-beam-groups", "3"},
          "--num-beam-groups is 3, expected a divisor of --num-beams = 4");
  exclude({"--num-beams", "4", "--num-beam-groups", "2", "--do-sample"},
          "--num-beam-groups is 2 and --do-sample is on");
  exclude({"--penalty-alpha", "0.5", "--do-sample"}, "--penalty-alpha is 0.5, which needs");
  exclude({"--sliding-window", "--num-beams", "2"}, "--num-beams together with --sliding-window is not");
  exclude({"--guidance-scale", "2", "--prompt-lookup-num-tokens", "3"},
          "--prompt-lookup-num-tokens together with --guidance-scale is not supported");
  refuse({"--prompt", "A", "--json-object", "--stop", "x"}, "--stop-strings together with grammar is not");
  refuse({"--prompt", "A", "--assistant-model", kDemo, "--num-beams", "2"},
         "--assistant-model together with --num-beams is not supported");
  refuse({"--help=3"}, "--help takes no value, found \"3\"");
  refuse({"--version="}, "--version takes no value, found \"\"");
  refuse({"--prompt-file", ""}, "--prompt-file: the path is empty");
  refuse({"--input-ids", "1,,2"}, "--input-ids");
  refuse({"--input-ids", "99999999999"}, "\"99999999999\" is not an integer from 0 to 2147483647");
  refuse({"--input-ids", "-1"}, "\"-1\" is not an integer from 0 to 2147483647");
}

TEST(GenerateProgram, ReportsWorkThatFailsWithStatusOne) {
  const TempDir directory;
  write_file(directory / "empty", "");
  expect_failure(1, command(kDemo, {"--prompt-file", directory / "empty"}),
                 concat("[", (directory / "empty").string(), "] is empty"));
  expect_failure(1, command("/nonexistent", {"--prompt", "A"}), "/nonexistent");
  expect_failure(
      1, command((directory / "empty").string(), {"--prompt", "A"}),
      "is not a directory, expected a Hugging Face checkpoint's or a GGUF file: gpt-convert makes one");
  expect_failure(1, command(kDemo, {"--prompt", "A", "--min-new-tokens", "25"}),
                 "error: --min-new-tokens is 25, but there are at most 20 new tokens by default");
  expect_failure(1, command(kDemo, {"--prompt", "A", "--do-sample", "--mirostat-tau", "2"}),
                 "error: --mirostat-tau is set but --mirostat is off");
  expect_failure(1, command(kDemo, {"--prompt", ""}), "empty");
  expect_failure(1, command(kDemo, {"--prompt=", "--json"}), "empty");
  expect_failure(1, command(kDemo, {"--prompt-file", "/nonexistent"}),
                 "[/nonexistent] cannot open: No such file");
  expect_failure(1, command(kDemo, {"--prompt-file", "/tmp"}), "[/tmp] is a directory, expected a file");
  expect_failure(1, command(kDemo, {"--input-ids", "1,999999"}), "999999");
  expect_failure(1, command(kDemo, {"--prompt", "A", "--max-new-tokens", "100000"}), "n_positions");
  // Another checkpoint might take these.
  expect_failure(1, command(kDemo, {"--prompt", "A", "--eos-token-id", "999999"}),
                 "error: --eos-token-id 999999 is");
  expect_failure(1, command(kDemo, {"--prompt", "ROMEO:", "--max-length", "1"}), "error: --max-length is 1");
  expect_failure(1, command(kDemo, {"--prompt", "A", "--temperature", "0.5"}),
                 "error: --temperature is set but --do-sample is off: a sampling option needs --do-sample");
  expect_failure(1, command(kDemo, {"--prompt", "A", "--negative-prompt", "B"}), "guidance_scale is off");
  expect_failure(1, command(kDemo, {"--prompt", "A", "--do-sample", "--xtc-threshold", "0.2"}),
                 "error: --xtc-threshold is set but --xtc-probability is off");
}

TEST(GenerateProgram, NamesAnOptionOnlyWhereItWasGiven) {
  const TempDir directory;
  save_random(directory.path(), tiny_config());
  write_file(directory / "generation_config.json", R"({"max_length": 3})");
  expect_failure(1, command(directory.path(), {"--input-ids", "1,2,3,4", "--seed", "1"}),
                 "[generate] max_length of ");
}

// Where memory lacks is not for a test to arrange: the work is what the library says then.
TEST(GenerateProgram, NamesNoPackWherePackingFindsNoMemory) {
  const auto errors_of = [](const std::string& message, bool packs) {
    program::App app("gpt-test", "", "");
    program::MachineRequest request;
    GenerateOptions options;
    if (packs) program::add_machine_options(app, request, options, "always");
    const char* argv[] = {"gpt-test"};
    std::ostringstream errors;
    std::streambuf* const before = std::cerr.rdbuf(errors.rdbuf());
    const int status =
        program::run(app, 1, const_cast<char**>(argv), [&]() -> int { throw MemoryError(message); });
    std::cerr.rdbuf(before);
    EXPECT_EQ(status, program::kFailed);
    return errors.str();
  };
  const std::string message = "[pack] cannot allocate 5 bytes";
  EXPECT_EQ(errors_of(message, true), "error: " + message + ": --no-pack does without\n");
  EXPECT_EQ(errors_of(message, false), "error: " + message + "\n");
  EXPECT_EQ(errors_of("[arena] cannot allocate 5 bytes", true), "error: [arena] cannot allocate 5 bytes\n");
}

TEST(GenerateProgram, NamesTheOptionOfASettingThatIsOnAndNotOfAWord) {
  program::App app("gpt-test", "", "");
  std::string top_k, mirostat;
  app.add_text("--top-k", top_k, "N", "");
  app.add_text("--mirostat", mirostat, "N", "");
  const char* argv[] = {"gpt-test", "--top-k", "1"};
  app.parse(3, argv);
  EXPECT_EQ(app.in_options("[generate] top_k is 1, mirostat is on"), "--top-k is 1, --mirostat is on");
  EXPECT_EQ(app.in_options("[generate] top_k is 1, mirostat is one"), "--top-k is 1, mirostat is one");
}

TEST(GenerateProgram, HelpsOnRequest) {
  const ProcessResult result = Process({GPT_GENERATE, "--help"}).wait();
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.out, HasSubstr("--max-new-tokens"));
  EXPECT_THAT(result.out, HasSubstr("gpt-generate --model gpt2 --prompt"));
  EXPECT_THAT(result.out, HasSubstr("--pack,--no-pack "));
  EXPECT_EQ(result.err, "");
}

TEST(GenerateProgram, TellsItsVersion) {
  const ProcessResult result = Process({GPT_GENERATE, "--version"}).wait();
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "gpt-generate " GPT_TEST_VERSION "\n");
}

TEST(GenerateProgram, EndsQuietlyWhenNobodyReadsAndLoudlyWhenTheDiskIsFull) {
  Process process(command(kDemo, {"--prompt", "A", "--max-new-tokens", "200"}));
  process.close_stdout();
  const ProcessResult result = process.wait();
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr("error")));
  const ProcessResult full = Process(command(kDemo, {"--prompt", "A"}), "/dev/full").wait();
  EXPECT_EQ(full.status, 1);
  EXPECT_THAT(full.err, StartsWith("error: cannot write to standard output"));
}

// A checkpoint whose text takes long enough to be interrupted, and the command that generates it.
std::vector<std::string> long_work(const TempDir& directory, int tokens) {
  Gpt2Config config = tiny_config();
  config.n_positions = 4096;
  config.n_embd = 128;
  config.n_layer = 8;
  config.eos_token_id.clear();
  save_random(directory.path(), config);
  return command(directory.path(), {"--input-ids", "1", "--max-new-tokens", std::to_string(tokens)});
}

TEST(GenerateProgram, CtrlCAndSigtermPrintWhatThereIs) {
  const TempDir directory;
  const auto argv = long_work(directory, 4000);
  for (const int signal : {SIGINT, SIGTERM}) {
    Process text(argv);
    EXPECT_FALSE(text.read_some().empty());
    text.send(signal);
    const ProcessResult result = text.wait();
    EXPECT_EQ(result.status, 130);
    EXPECT_THAT(result.out, ::testing::EndsWith("\n"));
    EXPECT_LT(std::count(result.out.begin(), result.out.end(), ','), 3999);
    EXPECT_THAT(result.err, HasSubstr("cancelled"));
  }
}

TEST(GenerateProgram, KeepsIgnoringCtrlCWhereItWasStartedSo) {
  const TempDir directory;
  const auto argv = long_work(directory, 300);
  const auto before = ::signal(SIGINT, SIG_IGN);  // as nohup; a started program inherits it
  Process text(argv);
  ::signal(SIGINT, before);
  EXPECT_FALSE(text.read_some().empty());
  text.send(SIGINT);
  const ProcessResult result = text.wait();
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), ','), 299);
}

TEST(GenerateProgram, SaysThatItsThreadCannotBeStarted) {
#if defined(GPT_TEST_THREAD_SANITIZER)
  GTEST_SKIP() << "ThreadSanitizer does not start with such a limit";
#endif
  // No address space holds a stack of 2^50 bytes, the size that threads get by default.
  const std::string script = "ulimit -s 1099511627776 || exit 77; exec \"$@\"";
  std::vector<std::string> argv = {"/bin/sh", "-c", script, "sh"};
  const auto program = command(kDemo, {"--prompt", "A", "--threads", "1"});
  argv.insert(argv.end(), program.begin(), program.end());
  const ProcessResult result = Process(argv).wait();
  if (result.status == 77) GTEST_SKIP() << "the limit of the stack cannot be raised here";
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot start the thread that waits for Ctrl-C: "));
}

}  // namespace
}  // namespace gpt::test::generate_program
