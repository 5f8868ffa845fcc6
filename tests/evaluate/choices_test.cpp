// Multiple choice: lines of foreign files, and the ranking of choices.
#include "gpt/evaluate/choices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpt/models/model.h"
#include "support/expect_error.h"
#include "support/isa.h"

namespace gpt {
namespace {

using test::expect_error;
using ::testing::ElementsAreArray;
using ::testing::SizeIs;

const Model& demo() {
  static const Model model = Model::load(std::string(GPT_SOURCE_DIR) + "/examples/models/demo");
  return model;
}

TEST(ParseChoiceQuestions, ReadsTheCommonFormats) {
  const auto questions = parse_choice_questions(
      R"({"ind": 24, "ctx": "Roof shingle removal: A man", "endings": ["sits.", "is using."], "label": 1}
{"ctx": "B", "endings": ["a", "b", "c"], "label": "2", "activity_label": null}

{"question": "Q?", "choices": ["x", "y"], "answer": "B", "subject": "law"}
{"prompt": "", "choices": ["x", "y", "z"], "label": 0}
)",
      "f.jsonl");
  ASSERT_THAT(questions, SizeIs(4));
  EXPECT_EQ(questions[0].context, "Roof shingle removal: A man");
  EXPECT_THAT(questions[0].choices, ElementsAreArray({"sits.", "is using."}));
  EXPECT_EQ(questions[0].answer, 1u);
  EXPECT_EQ(questions[1].answer, 2u);
  EXPECT_EQ(questions[2].context, "Q?");
  EXPECT_EQ(questions[2].answer, 1u);
  EXPECT_EQ(questions[3].context, "");
  EXPECT_EQ(questions[3].answer, 0u);
}

TEST(ParseChoiceQuestions, NamesTheFileAndTheLineOfWhatIsBad) {
  const auto refuse = [](const std::string& line, std::string_view part) {
    const std::string text = "{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": 0}\n\n" + line + "\n";
    expect_error<FormatError>([&] { parse_choice_questions(text, "dir/f.jsonl"); },
                              {"[dir/f.jsonl:3] ", part});
  };
  refuse("{", "is not valid JSON");
  refuse("[1]", "is a list, expected a JSON object");
  refuse(R"({"text": "a"})", "has none of the keys ctx, question and prompt");
  refuse(R"({"prompt": "a", "question": "b", "choices": ["b", "c"], "label": 0})",
         "has more than one of the keys ctx, question and prompt");
  refuse(R"({"ctx": "a", "question": "b", "endings": ["b", "c"], "label": 0})",
         "has more than one of the keys ctx, question and prompt");
  refuse(R"({"prompt": "a", "choices": ["b", "c"], "label": 1, "answer": "A"})",
         "has more than one of the keys answer and label");
  refuse(R"({"ctx": "a", "endings": ["b", "c"], "label": 1, "answer": "A"})",
         "has more than one of the keys answer and label");
  refuse(R"({"ctx": "a", "endings": ["b", "c"], "choices": ["d", "e"], "label": 1})",
         "has more than one of the keys endings and choices");
  refuse(R"({"ctx": 1, "endings": ["b", "c"], "label": 0})", "ctx");
  refuse(R"({"endings": ["b", "c"], "label": 0})", "ctx");
  refuse(R"({"ctx": "a", "label": 0})", "endings is missing, expected a list of texts");
  refuse(R"({"ctx": "a", "endings": "b", "label": 0})", "endings");
  refuse(R"({"ctx": "a", "endings": ["b"], "label": 0})", "endings has 1 texts, expected 2 or more");
  refuse(R"({"ctx": "a", "endings": ["b", 2], "label": 0})", "endings[1] is 2, expected text");
  refuse(R"({"ctx": "a", "endings": ["b", ""], "label": 0})", "endings[1] is empty, expected text");
  for (const char* label : {"2", "-1", "\"\"", "\"C\"", "\"1x\"", "true", "0.5", "[0]"})
    refuse(concat(R"({"ctx": "a", "endings": ["b", "c"], "label": )", label, "}"),
           "expected the index of one of 2 endings or its letter");
  refuse(R"({"question": "a", "choices": ["b", "c"]})", "answer is missing");
  expect_error<FormatError>([] { parse_choice_questions(" \n", "f"); }, {"[f] has no question"});
}

TEST(RankChoices, ScoresTheTokensThatEachChoiceAdds) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Tokenizer& tokenizer = demo().tokenizer();
  const std::vector<ChoiceQuestion> questions = {
      {"ROMEO:\nBut soft, what light through yonder window", {"breaks?", " zebra zebra zebra", "is"}, 0},
      {"O Romeo, ", {"Romeo", "that"}, 1}};
  std::int64_t done = 0;
  const auto rankings =
      rank_choices(demo().network(), tokenizer, questions,
                   {.on_progress = [&done](const EvaluationProgress& p) { done = p.done; }});
  EXPECT_EQ(done, 2);
  ASSERT_THAT(rankings, SizeIs(2));
  const auto expect_score = [&](const ChoiceScore& score, const std::string& context, const std::string& rest,
                                std::int64_t bytes) {
    const auto a = tokenizer.encode(context), b = tokenizer.encode(rest);
    const ScoredContinuation pair{a, b};
    EXPECT_EQ(score.log_prob, continuation_log_probs(demo().network(), {&pair, 1})[0]);
    EXPECT_EQ(score.tokens, static_cast<std::int64_t>(b.size()));
    EXPECT_EQ(score.bytes, bytes);
    EXPECT_EQ(score.per_token(), score.log_prob / static_cast<double>(b.size()));
    EXPECT_EQ(score.per_byte(), score.log_prob / static_cast<double>(bytes));
  };
  const std::string& context = questions[0].context;
  ASSERT_THAT(rankings[0].scores, SizeIs(3));
  expect_score(rankings[0].scores[0], context, " breaks?", 7);
  expect_score(rankings[0].scores[1], context, " zebra zebra zebra", 18);
  expect_score(rankings[0].scores[2], context, " is", 2);
  // White space at the end of the context is the choices'.
  ASSERT_THAT(rankings[1].scores, SizeIs(2));
  expect_score(rankings[1].scores[0], "O Romeo,", " Romeo", 5);
  expect_score(rankings[1].scores[1], "O Romeo,", " that", 4);
  for (const ChoiceRanking& r : rankings)
    for (const ChoiceScore& s : r.scores) {
      EXPECT_GE(r.scores[r.best].log_prob, s.log_prob);
      EXPECT_GE(r.scores[r.best_per_token].per_token(), s.per_token());
      EXPECT_GE(r.scores[r.best_per_byte].per_byte(), s.per_byte());
    }
  EXPECT_NE(rankings[0].best, 1u);  // words that Shakespeare did not use
}

TEST(RankChoices, PutsTheFirstTokenInThePlaceOfAnEmptyContext) {
  const std::vector<ChoiceQuestion> questions = {{"", {"ROMEO", "JULIET"}, 0}};
  const auto ranking = rank_choices(demo().network(), demo().tokenizer(), questions)[0];
  const std::vector<TokenId> bos = {demo().tokenizer().bos_token_id().value()};
  const auto rest = demo().tokenizer().encode("JULIET");
  const ScoredContinuation pair{bos, rest};
  EXPECT_EQ(ranking.scores[1].log_prob, continuation_log_probs(demo().network(), {&pair, 1})[0]);
}

TEST(RankChoices, GivesEqualChoicesToTheFirst) {
  const std::vector<ChoiceQuestion> questions = {{"ROMEO", {"x", "x", "x"}, 0}};
  const auto ranking = rank_choices(demo().network(), demo().tokenizer(), questions)[0];
  EXPECT_EQ(ranking.best, 0u);
  EXPECT_EQ(ranking.best_per_token, 0u);
  EXPECT_EQ(ranking.best_per_byte, 0u);
}

TEST(RankChoices, RefusesQuestionsWithoutAChoiceAndStopsWhenAsked) {
  const auto refuse = [](ChoiceQuestion question, std::string_view part) {
    const std::vector<ChoiceQuestion> questions = {{"a", {"b", "c"}, 0}, std::move(question)};
    expect_error<ArgumentError>([&] { rank_choices(demo().network(), demo().tokenizer(), questions); },
                                {part});
  };
  refuse({"a", {"b"}, 0}, "question 1 has 1 choices, expected 2 or more");
  refuse({"a", {"b", ""}, 0}, "choice 1 of question 1 is empty");
  std::stop_source stop;
  stop.request_stop();
  const std::vector<ChoiceQuestion> questions = {{"a", {"b", "c"}, 0}};
  EXPECT_THROW(rank_choices(demo().network(), demo().tokenizer(), questions, {.stop = stop.get_token()}),
               CancelledError);
}

TEST(CountRight, CountsByEachMeasure) {
  const std::vector<ChoiceQuestion> questions = {{"", {}, 0}, {"", {}, 1}, {"", {}, 2}};
  const std::vector<ChoiceRanking> rankings = {{{}, 0, 0, 1}, {{}, 1, 0, 0}, {{}, 2, 2, 0}};
  const ChoiceCounts counts = count_right(questions, rankings);
  EXPECT_EQ(counts.questions, 3);
  EXPECT_EQ(counts.right, 3);
  EXPECT_EQ(counts.right_per_token, 2);
  EXPECT_EQ(counts.right_per_byte, 0);
  expect_error<ArgumentError>([&] { count_right(questions, std::span(rankings).first(2)); },
                              {"[count_right] 2 rankings for 3 questions"});
}

}  // namespace
}  // namespace gpt
