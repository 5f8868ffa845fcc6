// gpt-evaluate as its user meets it: files, output, exit status and messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/random_model.h"
#include "support/temp_dir.h"

namespace gpt::test::evaluate_program {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

std::vector<std::string> command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), GPT_EVALUATE);
  return arguments;
}
ProcessResult run(std::vector<std::string> arguments) {
  return Process(command(std::move(arguments))).wait();
}

constexpr const char* kText =
    "ROMEO:\nBut soft, what light through yonder window breaks?\nIt is the east, and Juliet is the sun.\n"
    "Arise, fair sun, and kill the envious moon,\nWho is already sick and pale with grief.\n";

TEST(EvaluateProgram, GivesThePerplexityThatTheLibraryComputes) {
  const TempDir directory;
  write_file(directory / "text", kText);
  const ProcessResult result = run({"perplexity", "--model", kDemo, "--file", directory / "text",
                                    "--max-length", "16", "--stride", "5", "--json", "--threads", "1"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Model model = Model::load(kDemo);
  const auto ids = model.tokenizer().encode(kText);
  const Perplexity expected = perplexity(model.network(), ids, {.max_length = 16, .stride = 5});
  const Json object = parse_json(result.out);
  EXPECT_EQ(object.at("perplexity").get<double>(), expected.value());
  EXPECT_EQ(object.at("mean_nll").get<double>(), expected.mean_nll());
  EXPECT_EQ(object.at("nll").get<double>(), expected.nll);
  EXPECT_EQ(object.at("tokens"), ids.size());
  EXPECT_EQ(object.at("scored"), ids.size() - 1);
  EXPECT_EQ(object.at("windows"), expected.windows);
  EXPECT_EQ(object.at("bytes"), std::string(kText).size());
  EXPECT_GT(object.at("peak_rss_bytes"), 0);
  for (const char* key : {"load_s", "encode_s", "score_s"}) EXPECT_GT(object.at("timing").at(key), 0.0);
  EXPECT_EQ(result.err, concat("tokens scored: ", ids.size(), " of ", ids.size(), "\n"));
}

TEST(EvaluateProgram, SaysThePerplexityToPeople) {
  const TempDir directory;
  write_file(directory / "text", kText);
  const ProcessResult result = run({"perplexity", "--model", kDemo, "--file", directory / "text"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("\nperplexity "));
  EXPECT_THAT(result.err, HasSubstr(" tokens in 1 window)\n"));
}

TEST(EvaluateProgram, CountsTheQuestionsAnsweredRightly) {
  const TempDir directory;
  const std::string lines =
      R"({"ctx": "ROMEO:\nBut soft,", "endings": ["what light", "zebra quiz"], "label": 0}
{"question": "O Romeo, Romeo! wherefore art thou", "choices": ["Xanadu", "Romeo"], "answer": "B"}
)";
  write_file(directory / "q.jsonl", lines);
  const ProcessResult result = run({"choices", "--model", kDemo, "--file", directory / "q.jsonl", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Model model = Model::load(kDemo);
  const auto questions = parse_choice_questions(lines, "q");
  const auto rankings = rank_choices(model.network(), model.tokenizer(), questions);
  const ChoiceCounts counts = count_right(questions, rankings);
  const Json object = parse_json(result.out);
  EXPECT_EQ(object.at("questions"), 2);
  EXPECT_EQ(object.at("accuracy"), static_cast<double>(counts.right) / 2);
  EXPECT_EQ(object.at("normalized_accuracy"), static_cast<double>(counts.right_per_byte) / 2);
  EXPECT_EQ(object.at("accuracy_per_token"), static_cast<double>(counts.right_per_token) / 2);
  for (std::size_t i = 0; i < 2; ++i) {
    const Json& answer = object.at("answers").at(i);
    EXPECT_EQ(answer.at("answer"), questions[i].answer);
    EXPECT_EQ(answer.at("best"), rankings[i].best);
    EXPECT_EQ(answer.at("best_per_byte"), rankings[i].best_per_byte);
    EXPECT_EQ(answer.at("best_per_token"), rankings[i].best_per_token);
    for (std::size_t c = 0; c < 2; ++c) {
      EXPECT_EQ(answer.at("choices").at(c).at("log_prob").get<double>(), rankings[i].scores[c].log_prob);
      EXPECT_EQ(answer.at("choices").at(c).at("tokens"), rankings[i].scores[c].tokens);
      EXPECT_EQ(answer.at("choices").at(c).at("bytes"), rankings[i].scores[c].bytes);
    }
  }
  EXPECT_EQ(result.err, "questions scored: 2 of 2\n");
  const ProcessResult people = run({"choices", "--model", kDemo, "--file", directory / "q.jsonl"});
  EXPECT_EQ(people.out, "");
  EXPECT_THAT(people.err, HasSubstr("(2 questions)\n"));
}

TEST(EvaluateProgram, MeasuresGeneratedTexts) {
  const TempDir directory;
  const std::string lines =
      R"({"prediction": " the cat sat on the mat\nthe cat", "reference": "the cat sat on a mat"}
{"prediction": "a b c d e\na b c d e", "references": ["a b c d e", "a b"]}
)";
  write_file(directory / "p.jsonl", lines);
  const ProcessResult result =
      run({"generation", "--predictions", directory / "p.jsonl", "--references", directory / "p.jsonl",
           "--replace", "(?m)\\nthe cat$=", "--dedupe-lines", "--trim", "--tokenize", "none", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const std::vector<ReferencedText> texts = {{"the cat sat on the mat", {"the cat sat on a mat"}},
                                             {"a b c d e", {"a b c d e", "a b"}}};
  const std::vector<std::string> predictions = {texts[0].text, texts[1].text};
  const Json object = parse_json(result.out);
  const Bleu b = bleu(texts);
  EXPECT_EQ(object.at("bleu").at("score").get<double>(), b.score);
  EXPECT_EQ(object.at("bleu").at("precisions").at(2).get<double>(), b.precisions[2]);
  EXPECT_EQ(object.at("bleu").at("length"), 11);
  EXPECT_EQ(object.at("bleu").at("reference_length"), 11);
  const Rouge r = rouge(texts);
  EXPECT_EQ(object.at("rouge1").at("fmeasure").get<double>(), r.rouge1.fmeasure);
  EXPECT_EQ(object.at("rouge2").at("recall").get<double>(), r.rouge2.recall);
  EXPECT_EQ(object.at("rougeL").at("precision").get<double>(), r.rouge_l.precision);
  EXPECT_EQ(object.at("distinct_1").get<double>(), distinct_n(predictions, 1));
  EXPECT_EQ(object.at("distinct_2").get<double>(), distinct_n(predictions, 2));
  EXPECT_EQ(object.at("repetition_4").get<double>(), 0);
  EXPECT_EQ(object.at("predictions"), 2);
  EXPECT_EQ(object.at("tokenize"), "none");

  const ProcessResult people = run({"generation", "--predictions", directory / "p.jsonl"});
  EXPECT_EQ(people.out, "");
  EXPECT_THAT(people.err, StartsWith("distinct-1 0."));
  EXPECT_THAT(people.err, ::testing::Not(HasSubstr("BLEU")));
  write_file(directory / "r.jsonl", "{\"text\": \"a\"}\n");
  expect_failure(
      1,
      command({"generation", "--predictions", directory / "p.jsonl", "--references", directory / "r.jsonl"}),
      "r.jsonl] has 1 lines, expected 2, one for each prediction");
  write_file(directory / "r.jsonl", "{\"text\": \"a\"}\n{}\n");
  expect_failure(1, command({"generation", "--predictions", directory / "r.jsonl"}), "r.jsonl:2] has none");
  expect_failure(2, command({"generation", "--predictions", "x", "--tokenize", "char"}),
                 "--tokenize: \"char\" is unknown, expected 13a, zh or none");
  expect_failure(2, command({"generation", "--predictions", "x", "--replace", "a"}), "is not REGEX=TEXT");
  expect_failure(2, command({"generation", "--predictions", "x", "--replace", "(="}),
                 "is no regular expression");
}

TEST(EvaluateProgram, SaysWhereThereIsNothingToMeasure) {
  const TempDir directory;
  write_file(directory / "short.jsonl", "{\"text\": \"\"}\n");
  EXPECT_EQ(run({"generation", "--predictions", directory / "short.jsonl"}).err,
            "distinct-1 -\ndistinct-2 -\nrepetition-4 -\n");
  write_file(directory / "short.jsonl", "{\"text\": \"a b\"}\n");
  EXPECT_EQ(run({"generation", "--predictions", directory / "short.jsonl"}).err,
            "distinct-1 1.0000\ndistinct-2 1.0000\nrepetition-4 -\n");
}

TEST(EvaluateProgram, RefusesAWrongCommandLineWithStatusTwo) {
  const auto refuse = [](std::vector<std::string> arguments, const std::string& part) {
    expect_failure(2, command(std::move(arguments)), part);
  };
  refuse({}, "a command is missing, expected perplexity");
  refuse({"generate"}, "\"generate\" is no command, expected perplexity");
  refuse({"--model", kDemo}, "\"--model\" is no option");
  refuse({"perplexity"}, "required");
  refuse({"perplexity", "--model", kDemo}, "--file");
  refuse({"choices", "--file", "x"}, "--model");
  const std::vector<std::string> perplexity = {"perplexity", "--model", kDemo, "--file", "/proc/nowhere"};
  for (const auto& [argument, part] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--stride", "0"}, "--stride: \"0\" is not an integer from 1"},
           {{"--max-length", "1"}, "--max-length: \"1\" is not an integer from 2"},
           {{"--max-length", "16", "--stride", "17"}, "--stride is 17, expected 1 to --max-length = 16"},
           {{"--json", "--json"}, "--json is given twice"},
           {{"stray"}, "stray"}}) {
    std::vector<std::string> arguments = perplexity;
    arguments.insert(arguments.end(), argument.begin(), argument.end());
    refuse(arguments, part);
  }
}

TEST(EvaluateProgram, ReportsWorkThatFailsWithStatusOne) {
  const TempDir directory;
  write_file(directory / "empty", "");
  write_file(directory / "text", kText);
  write_file(directory / "bad.jsonl", "{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": 0}\nx\n");
  const auto refuse = [&](const std::string& name, const std::string& file, const std::string& part,
                          std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {name, "--model", kDemo, "--file", file};
    arguments.insert(arguments.end(), more.begin(), more.end());
    expect_failure(1, command(arguments), part);
  };
  refuse("perplexity", directory / "empty", "empty] has 0 tokens, expected 2 or more");
  refuse("perplexity", "/nonexistent", "[/nonexistent] cannot open");
  refuse("perplexity", directory / "text", "--max-length is 1000000, expected 2 to n_positions",
         {"--max-length", "1000000"});
  for (const std::string mark : {"\xFF\xFE", "\xFE\xFF"}) {
    write_file(directory / "wide", mark + std::string("a\0b\0", 4));
    refuse("perplexity", directory / "wide", "wide] begins as text in UTF-16 does, expected UTF-8");
  }
  refuse("choices", directory / "empty", "has no question");
  refuse("choices", directory / "bad.jsonl", "bad.jsonl:2] is not valid JSON");
  expect_failure(1, command({"perplexity", "--model", "/nonexistent", "--file", directory / "text"}),
                 "/nonexistent");
}

TEST(EvaluateProgram, HelpsOnRequest) {
  const ProcessResult all = run({"--help"});
  EXPECT_EQ(all.status, 0);
  EXPECT_THAT(all.out, HasSubstr("gpt-evaluate choices --model PATH --file FILE"));
  for (const char* name : {"perplexity", "choices"}) {
    const ProcessResult one = run({name, "--help"});
    EXPECT_EQ(one.status, 0);
    EXPECT_THAT(one.out, HasSubstr(concat("gpt-evaluate ", name, " --model gpt2 --file ")));
    EXPECT_EQ(one.err, "");
  }
  EXPECT_THAT(run({"generation", "--help"}).out,
              HasSubstr("gpt-evaluate generation --predictions out.jsonl"));
  EXPECT_THAT(run({"--version"}).out, StartsWith("gpt-evaluate "));
}

}  // namespace
}  // namespace gpt::test::evaluate_program
