// Multiple choice: which of several endings of a text a model thinks likeliest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/evaluate/score.h"
#include "gpt/models/gpt2.h"
#include "gpt/text/tokenizer.h"

namespace gpt {

/// A text, the texts that may follow it, and which one is right.
struct ChoiceQuestion {
  std::string context;
  std::vector<std::string> choices;  // 2 or more, none empty
  std::size_t answer = 0;            // index of the right one
};

/// The questions of a JSONL text, one object a line, blank lines left out:
///   {"ctx": text, "endings": [text, ...], "label": answer}                               HellaSwag
///   {"question" or "prompt": text, "choices": [text, ...], "answer" or "label": answer}
/// Other keys are not looked at. The answer is an index from 0 (2 or "2"), or a letter from A ("C"). Throws FormatError naming
/// `source` and the line, also for a line with two keys of which one would do, and when there is no question.
std::vector<ChoiceQuestion> parse_choice_questions(std::string_view text, std::string_view source);

/// What one choice scored.
struct ChoiceScore {
  double log_prob = 0;      // of its tokens together, in nats
  std::int64_t tokens = 0;  // that it has
  std::int64_t bytes = 0;   // of its text, without the space that was put before it

  double per_token() const noexcept { return log_prob / static_cast<double>(tokens); }
  double per_byte() const noexcept { return log_prob / static_cast<double>(bytes); }
};

/// The scores of a question's choices, and the best of them by each measure; of equal ones the first.
struct ChoiceRanking {
  std::vector<ChoiceScore> scores;
  std::size_t best = 0;
  std::size_t best_per_token = 0;
  std::size_t best_per_byte = 0;
};

struct ChoicesOptions {
  EvaluationProgressCallback on_progress = {};  // counts questions
  std::stop_token stop = {};
};

/// Ranks the choices of each question. Context and choice are joined by a space, unless there is white space already, and
/// encoded as one text; the tokens beyond as many as the context alone has are scored, and white space at the context's end
/// belongs to the choices: as lm-evaluation-harness does it. The tokenizer's bos token, or its eos token, takes the place of an
/// empty context. Of what is longer than the network takes, the beginning is cut off. Special tokens in a text are
/// ordinary text. The answers are not looked at. Throws as continuation_log_probs, and ArgumentError naming the question
/// (from 0) that has fewer than two choices, an empty one, or an empty context without such a token.
std::vector<ChoiceRanking> rank_choices(const Gpt2& network, const Tokenizer& tokenizer,
                                        std::span<const ChoiceQuestion> questions,
                                        const ChoicesOptions& options = {});

/// How many questions were answered rightly, by each measure.
struct ChoiceCounts {
  std::int64_t questions = 0;
  std::int64_t right = 0;  // by the sum: lm-evaluation-harness' acc
  std::int64_t right_per_token = 0;
  std::int64_t right_per_byte = 0;  // acc_norm, which counts characters in some versions, bytes in others
};

/// Throws ArgumentError unless there is a ranking for each question.
ChoiceCounts count_right(std::span<const ChoiceQuestion> questions, std::span<const ChoiceRanking> rankings);

}  // namespace gpt
