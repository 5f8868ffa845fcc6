#include "gpt/evaluate/choices.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "core/parallel_try.h"
#include "evaluate/jsonl_lines.h"
#include "evaluate/words.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

constexpr std::string_view kRankChoices = "rank_choices";

std::optional<std::size_t> answer_of(const json::Value& value) {
  if (const auto number = value.to_unsigned()) return static_cast<std::size_t>(*number);
  const auto* text = value.get_if<std::string>();
  if (text == nullptr) return std::nullopt;
  if (text->size() == 1 && text->front() >= 'A' && text->front() <= 'Z')
    return static_cast<std::size_t>(text->front() - 'A');
  std::size_t number = 0;
  const char* const end = text->data() + text->size();
  const auto read = std::from_chars(text->data(), end, number);
  if (read.ec != std::errc() || read.ptr != end) return std::nullopt;
  return number;
}

ChoiceQuestion question_of(const JsonObject& line) {
  const auto context = evaluate::only_key(line, {"ctx", "question", "prompt"}),
             list = evaluate::only_key(line, {"endings", "choices"}),
             given = evaluate::only_key(line, {"answer", "label"});
  const bool hellaswag = context == "ctx" || list == "endings";
  if (!hellaswag && !context)
    fail<FormatError>(line.source(), "has none of the keys ctx, question and prompt");
  const std::string_view choices = hellaswag ? "endings" : "choices";
  const std::string_view answer = hellaswag ? "label" : given.value_or("answer");
  ChoiceQuestion question{line.required_string(hellaswag ? "ctx" : *context),
                          evaluate::required_texts(line, choices)};
  const std::size_t count = question.choices.size();
  if (count < 2)
    fail<FormatError>(line.source(), line.path_of(choices), " has ", count, " texts, expected 2 or more");
  for (std::size_t i = 0; i < count; ++i)
    if (question.choices[i].empty())
      fail<FormatError>(line.source(), line.path_of(choices), "[", i, "] is empty, expected text");
  const json::Value* const value = line.find(answer);
  const std::size_t index = value != nullptr ? answer_of(*value).value_or(count) : count;
  if (index >= count)
    fail<FormatError>(line.source(), line.path_of(answer), " is ",
                      value != nullptr ? json::describe(*value) : "missing",
                      ", expected the index of one of ", count, " ", choices, " or its letter");
  question.answer = index;
  return question;
}

/// A question as tokens.
struct EncodedQuestion {
  std::vector<std::vector<TokenId>> contexts;  // of each choice, which may change the context's last tokens
  std::vector<std::vector<TokenId>> choices;
};

TokenId first_token(const Tokenizer& tokenizer, std::size_t question) {
  if (const auto bos = tokenizer.bos_token_id()) return *bos;
  if (const auto eos = tokenizer.eos_token_id()) return *eos;
  fail<ArgumentError>(kRankChoices, "the context of question ", question,
                      " is empty, and the tokenizer has no bos or eos token to stand for it");
}

EncodedQuestion encode(const Tokenizer& tokenizer, const ChoiceQuestion& question, std::size_t index) {
  if (question.choices.size() < 2)
    fail<ArgumentError>(kRankChoices, "question ", index, " has ", question.choices.size(),
                        " choices, expected 2 or more");
  const std::string_view context = evaluate::without_space_at_end(question.context);
  const std::string between = question.context.substr(context.size());
  const EncodeOptions plain{.parse_special_tokens = false, .add_special_tokens = false};
  const std::size_t context_size = tokenizer.encode(context, plain).size();
  EncodedQuestion encoded;
  for (std::size_t i = 0; i < question.choices.size(); ++i) {
    const std::string& choice = question.choices[i];
    if (choice.empty()) fail<ArgumentError>(kRankChoices, "choice ", i, " of question ", index, " is empty");
    const bool joined = context.empty() || !between.empty() || evaluate::is_space(read_utf8(choice));
    const std::vector<TokenId> whole =
        tokenizer.encode(concat(context, between, joined ? "" : " ", choice), plain);
    const std::size_t cut = std::min(context_size, whole.size());
    const auto middle = whole.begin() + static_cast<std::ptrdiff_t>(cut);
    encoded.contexts.emplace_back(whole.begin(), middle);
    encoded.choices.emplace_back(middle, whole.end());
    if (encoded.contexts.back().empty()) encoded.contexts.back().push_back(first_token(tokenizer, index));
    if (encoded.choices.back().empty())
      fail<ArgumentError>(kRankChoices, "choice ", i, " of question ", index,
                          " has no tokens of its own after the context");
  }
  return encoded;
}

template <class Measure>
std::size_t best_of(const std::vector<ChoiceScore>& scores, Measure&& measure) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < scores.size(); ++i)
    if (measure(scores[i]) > measure(scores[best])) best = i;
  return best;
}

ChoiceRanking rank(std::vector<ChoiceScore> scores) {
  ChoiceRanking ranking;
  ranking.best = best_of(scores, [](const ChoiceScore& s) { return s.log_prob; });
  ranking.best_per_token = best_of(scores, [](const ChoiceScore& s) { return s.per_token(); });
  ranking.best_per_byte = best_of(scores, [](const ChoiceScore& s) { return s.per_byte(); });
  ranking.scores = std::move(scores);
  return ranking;
}

std::vector<ChoiceRanking> rank_all(const Gpt2& network, const Tokenizer& tokenizer,
                                    std::span<const ChoiceQuestion> questions,
                                    const ChoicesOptions& options) {
  constexpr std::size_t kAtOnce = 64;  // questions whose tokens are held
  std::vector<ChoiceRanking> rankings;
  for (std::size_t begin = 0; begin < questions.size(); begin += kAtOnce) {
    const std::size_t count = std::min(kAtOnce, questions.size() - begin);
    if (options.stop.stop_requested()) fail<CancelledError>(kRankChoices, "was cancelled");
    std::vector<EncodedQuestion> encoded(count);
    parallel_try(static_cast<std::int64_t>(count), 1, [&](std::int64_t i) {
      const auto q = static_cast<std::size_t>(i);
      encoded[q] = encode(tokenizer, questions[begin + q], begin + q);
    });
    std::vector<ScoredContinuation> pairs;
    for (const EncodedQuestion& question : encoded)
      for (std::size_t i = 0; i < question.choices.size(); ++i)
        pairs.push_back({question.contexts[i], question.choices[i]});
    const std::vector<double> sums = continuation_log_probs(network, pairs, {.stop = options.stop});
    std::size_t pair = 0;
    for (std::size_t q = 0; q < count; ++q) {
      std::vector<ChoiceScore> scores;
      for (std::size_t i = 0; i < encoded[q].choices.size(); ++i, ++pair)
        scores.push_back({sums[pair], static_cast<std::int64_t>(encoded[q].choices[i].size()),
                          static_cast<std::int64_t>(questions[begin + q].choices[i].size())});
      rankings.push_back(rank(std::move(scores)));
    }
    if (options.on_progress)
      options.on_progress(
          {static_cast<std::int64_t>(begin + count), static_cast<std::int64_t>(questions.size())});
  }
  return rankings;
}

}  // namespace

std::vector<ChoiceQuestion> parse_choice_questions(std::string_view text, std::string_view source) {
  return with_memory_errors(source, [&] {
    std::vector<ChoiceQuestion> questions;
    evaluate::for_each_json_line(text, source,
                                 [&](const JsonObject& line) { questions.push_back(question_of(line)); });
    if (questions.empty()) fail<FormatError>(source, "has no question, expected one on each line");
    return questions;
  });
}

std::vector<ChoiceRanking> rank_choices(const Gpt2& network, const Tokenizer& tokenizer,
                                        std::span<const ChoiceQuestion> questions,
                                        const ChoicesOptions& options) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kRankChoices, [&] { return rank_all(network, tokenizer, questions, options); });
}

ChoiceCounts count_right(std::span<const ChoiceQuestion> questions, std::span<const ChoiceRanking> rankings) {
  if (questions.size() != rankings.size())
    fail<ArgumentError>("count_right", rankings.size(), " rankings for ", questions.size(), " questions");
  ChoiceCounts counts;
  counts.questions = static_cast<std::int64_t>(questions.size());
  for (std::size_t i = 0; i < questions.size(); ++i) {
    counts.right += rankings[i].best == questions[i].answer;
    counts.right_per_token += rankings[i].best_per_token == questions[i].answer;
    counts.right_per_byte += rankings[i].best_per_byte == questions[i].answer;
  }
  return counts;
}

}  // namespace gpt
