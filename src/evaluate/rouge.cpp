#include <algorithm>

#include "core/float_environment.h"
#include "core/memory.h"
#include "evaluate/words.h"
#include "gpt/core/error.h"
#include "gpt/evaluate/text_metrics.h"

namespace gpt {
namespace {

constexpr std::string_view kRouge = "rouge";

using Words = std::vector<std::string>;

/// Runs of a to z and 0 to 9 of the text in lower case.
Words words_of(std::string_view text) {
  Words words;
  bool inside = false;
  while (!text.empty()) {
    const Utf8Prefix c = read_utf8(text);
    text.remove_prefix(c.length);
    char32_t letter = c.kind == Utf8Prefix::Kind::kCharacter ? c.code_point : 0;
    if (letter >= U'A' && letter <= U'Z') letter += U'a' - U'A';
    // Two characters beyond ASCII become ASCII in lower case: the Kelvin sign, and I with a dot (which goes on with a dot).
    const bool ends = letter == 0x130;
    if (letter == 0x212A) letter = U'k';
    if (ends) letter = U'i';
    const bool counts = (letter >= U'a' && letter <= U'z') || (letter >= U'0' && letter <= U'9');
    if (counts && !inside) words.emplace_back();
    if (counts) words.back() += static_cast<char>(letter);
    inside = counts && !ends;
  }
  return words;
}

RougeScore score_of(std::int64_t matches, std::int64_t in_text, std::int64_t in_reference) {
  RougeScore s;
  if (matches == 0) return s;
  s.precision = static_cast<double>(matches) / static_cast<double>(in_text);
  s.recall = static_cast<double>(matches) / static_cast<double>(in_reference);
  s.fmeasure = 2 * s.precision * s.recall / (s.precision + s.recall);
  return s;
}

RougeScore of_ngrams(const Words& text, const Words& reference, std::size_t n) {
  const evaluate::NGramCounts allowed = evaluate::count_ngrams(reference, n);
  std::int64_t matches = 0;
  for (const auto& [ngram, count] : evaluate::count_ngrams(text, n))
    if (const auto found = allowed.find(ngram); found != allowed.end())
      matches += std::min(count, found->second);
  return score_of(matches, evaluate::ngrams_of(text.size(), n), evaluate::ngrams_of(reference.size(), n));
}

RougeScore of_longest(const Words& text, const Words& reference) {
  // longest[j]: of the words of `text` so far and the first j of the reference.
  std::vector<std::int64_t> longest(reference.size() + 1);
  for (const std::string& word : text) {
    std::int64_t diagonal = 0;  // longest[j - 1] before this word
    for (std::size_t j = 1; j <= reference.size(); ++j) {
      const std::int64_t above = longest[j];
      longest[j] = word == reference[j - 1] ? diagonal + 1 : std::max(above, longest[j - 1]);
      diagonal = above;
    }
  }
  return score_of(longest.back(), static_cast<std::int64_t>(text.size()),
                  static_cast<std::int64_t>(reference.size()));
}

void keep_better(const RougeScore& score, RougeScore& best) {
  if (score.fmeasure > best.fmeasure) best = score;
}

Rouge rouge_of(const ReferencedText& text) {
  Rouge best;
  const Words words = words_of(text.text);
  for (const std::string& reference : text.references) {
    const Words expected = words_of(reference);
    keep_better(of_ngrams(words, expected, 1), best.rouge1);
    keep_better(of_ngrams(words, expected, 2), best.rouge2);
    keep_better(of_longest(words, expected), best.rouge_l);
  }
  return best;
}

void add(const RougeScore& score, RougeScore& sum) {
  sum.precision += score.precision;
  sum.recall += score.recall;
  sum.fmeasure += score.fmeasure;
}

void divide(RougeScore& sum, std::size_t count) {
  const auto n = static_cast<double>(count);
  sum.precision /= n;
  sum.recall /= n;
  sum.fmeasure /= n;
}

}  // namespace

Rouge rouge(const ReferencedText& text) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kRouge, [&] {
    if (text.references.empty()) fail<ArgumentError>(kRouge, "the text has no references");
    return rouge_of(text);
  });
}

Rouge rouge(std::span<const ReferencedText> texts) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kRouge, [&] {
    if (texts.empty()) fail<ArgumentError>(kRouge, "there are no texts");
    Rouge mean;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (texts[i].references.empty()) fail<ArgumentError>(kRouge, "text ", i, " has no references");
      const Rouge one = rouge_of(texts[i]);
      add(one.rouge1, mean.rouge1);
      add(one.rouge2, mean.rouge2);
      add(one.rouge_l, mean.rouge_l);
    }
    for (RougeScore* score : {&mean.rouge1, &mean.rouge2, &mean.rouge_l}) divide(*score, texts.size());
    return mean;
  });
}

}  // namespace gpt
