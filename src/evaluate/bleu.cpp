#include <algorithm>
#include <cstdlib>

#include "core/float_environment.h"
#include "core/memory.h"
#include "evaluate/words.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/evaluate/text_metrics.h"

namespace gpt {
namespace {

constexpr std::string_view kBleu = "bleu";

void add(const ReferencedText& text, WordRule rule, Bleu& total) {
  const std::vector<std::string> words = split_words(text.text, rule);
  std::vector<std::vector<std::string>> references;
  for (const std::string& reference : text.references) references.push_back(split_words(reference, rule));
  const auto length = static_cast<std::int64_t>(words.size());
  auto nearest = static_cast<std::int64_t>(references.front().size());
  for (const std::vector<std::string>& reference : references) {
    const auto size = static_cast<std::int64_t>(reference.size());
    const std::int64_t distance = std::abs(size - length), least = std::abs(nearest - length);
    if (distance < least || (distance == least && size < nearest)) nearest = size;
  }
  total.length += length;
  total.reference_length += nearest;
  for (std::size_t n = 1; n <= total.totals.size(); ++n) {
    std::vector<evaluate::NGramCounts> allowed;
    for (const std::vector<std::string>& reference : references)
      allowed.push_back(evaluate::count_ngrams(reference, n));
    total.totals[n - 1] += evaluate::ngrams_of(words.size(), n);
    for (const auto& [ngram, count] : evaluate::count_ngrams(words, n)) {
      std::int64_t most = 0;
      for (const evaluate::NGramCounts& of_reference : allowed)
        if (const auto found = of_reference.find(ngram); found != of_reference.end())
          most = std::max(most, found->second);
      total.matches[n - 1] += std::min(count, most);
    }
  }
}

void finish(Bleu& b) {
  const auto length = static_cast<double>(b.length), reference = static_cast<double>(b.reference_length);
  if (b.length < b.reference_length) b.brevity_penalty = b.length > 0 ? math::exp(1 - reference / length) : 0;
  if (std::all_of(b.matches.begin(), b.matches.end(), [](std::int64_t m) { return m == 0; })) return;
  double smooth = 1, log_sum = 0;
  for (std::size_t i = 0; i < b.totals.size(); ++i) {
    if (b.totals[i] == 0) return;  // no n-grams of an order: the score is 0
    const auto total = static_cast<double>(b.totals[i]);
    if (b.matches[i] == 0) smooth *= 2;
    b.precisions[i] =
        b.matches[i] == 0 ? 100 / (smooth * total) : 100 * static_cast<double>(b.matches[i]) / total;
    log_sum += math::log(b.precisions[i]);
  }
  b.score = b.brevity_penalty * math::exp(log_sum / static_cast<double>(b.totals.size()));
}

}  // namespace

Bleu bleu(std::span<const ReferencedText> texts, WordRule rule) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kBleu, [&] {
    if (texts.empty()) fail<ArgumentError>(kBleu, "there are no texts");
    Bleu result;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (texts[i].references.empty()) fail<ArgumentError>(kBleu, "text ", i, " has no references");
      add(texts[i], rule, result);
    }
    finish(result);
    return result;
  });
}

}  // namespace gpt
