#include <set>

#include "core/float_environment.h"
#include "core/memory.h"
#include "evaluate/words.h"
#include "gpt/core/error.h"
#include "gpt/evaluate/text_metrics.h"

namespace gpt {
namespace {

void require_order(std::string_view where, std::size_t n) {
  if (n < 1) fail<ArgumentError>(where, "n is ", n, ", expected at least 1");
}

}  // namespace

double distinct_n(std::span<const std::string> texts, std::size_t n, WordRule rule) {
  constexpr std::string_view where = "distinct_n";
  require_order(where, n);
  const DefaultFloatEnvironment environment;
  return with_memory_errors(where, [&] {
    std::vector<std::vector<std::string>> words;  // which the n-grams point into
    words.reserve(texts.size());
    std::set<evaluate::NGram, evaluate::NGramLess> different;
    std::int64_t total = 0;
    for (const std::string& text : texts) {
      const std::vector<std::string>& of_text = words.emplace_back(split_words(text, rule));
      total += evaluate::ngrams_of(of_text.size(), n);
      for (std::size_t i = 0; i + n <= of_text.size(); ++i)
        different.insert(evaluate::NGram(of_text).subspan(i, n));
    }
    return static_cast<double>(different.size()) / static_cast<double>(total);
  });
}

double repetition_n(std::span<const std::string> texts, std::size_t n, WordRule rule) {
  constexpr std::string_view where = "repetition_n";
  require_order(where, n);
  const DefaultFloatEnvironment environment;
  return with_memory_errors(where, [&] {
    double sum = 0;
    std::int64_t counted = 0;
    for (const std::string& text : texts) {
      const std::vector<std::string> words = split_words(text, rule);
      const std::int64_t total = evaluate::ngrams_of(words.size(), n);
      if (total == 0) continue;
      const auto different = static_cast<std::int64_t>(evaluate::count_ngrams(words, n).size());
      sum += static_cast<double>(total - different) / static_cast<double>(total);
      ++counted;
    }
    return sum / static_cast<double>(counted);
  });
}

}  // namespace gpt
