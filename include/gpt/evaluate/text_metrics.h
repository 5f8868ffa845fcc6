// Numbers for generated text: how much of its references it has, and how varied it is.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gpt {

/// How a text is cut into words, by the names of sacrebleu's tokenizers. Texts are UTF-8; a byte that is not is a letter.
enum class WordRule {
  k13a,   // mteval-v13a.pl: punctuation apart, but for points and commas between digits
  kZh,    // each Chinese character (sacrebleu's ranges) alone, the rest as k13a
  kNone,  // at white space
};

/// The words of a text, as sacrebleu 2 makes them for BLEU. Throws MemoryError.
std::vector<std::string> split_words(std::string_view text, WordRule rule);

/// A text with those that it should be like.
struct ReferencedText {
  std::string text;
  std::vector<std::string> references;  // 1 or more
};

/// BLEU (Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", 2002) over all texts together.
struct Bleu {
  double score = 0;                          // 0 to 100
  std::array<std::int64_t, 4> matches = {};  // of n-grams of 1 to 4 words
  std::array<std::int64_t, 4> totals = {};   // n-grams of the texts
  std::array<double, 4> precisions = {};     // in percent, smoothed
  double brevity_penalty = 1;
  std::int64_t length = 0;  // words of the texts
  std::int64_t reference_length =
      0;  // of the reference that is nearest in length to each, of two the shorter
};

/// As sacrebleu 2 computes corpus BLEU by default: case counts, n-grams of up to 4 words, exponential smoothing (the k-th order
/// without a match, of those that have n-grams, counts 1 / 2^k matches), no effective order. Throws ArgumentError (no texts,
/// one without references), MemoryError.
Bleu bleu(std::span<const ReferencedText> texts, WordRule rule = WordRule::k13a);

struct RougeScore {
  double precision = 0, recall = 0, fmeasure = 0;  // 0 to 1
};

struct Rouge {
  RougeScore rouge1, rouge2;  // of words, and of pairs of them
  RougeScore rouge_l;         // of the longest common subsequence of words
};

/// ROUGE (Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004) as the package rouge-score computes it with
/// use_stemmer=False: words are runs of a to z and 0 to 9 after lower-casing (other scripts have none). Of several references
/// the one of the best fmeasure counts, for each kind of score. Throws ArgumentError for none, MemoryError.
Rouge rouge(const ReferencedText& text);

/// The means over the texts. Throws as above, and ArgumentError for no texts.
Rouge rouge(std::span<const ReferencedText> texts);

/// The share of different ones among the n-grams of all texts together (Li et al., "A Diversity-Promoting Objective Function
/// for Neural Conversation Models", 2016); NaN when there are none. Throws ArgumentError for n = 0, MemoryError.
double distinct_n(std::span<const std::string> texts, std::size_t n, WordRule rule = WordRule::k13a);

/// The mean over texts of the share of n-grams that occurred in the same text before (seq-rep-n of Welleck et al., "Neural Text
/// Generation with Unlikelihood Training", 2020); texts without n-grams are left out, NaN when there are no others. Throws
/// as distinct_n.
double repetition_n(std::span<const std::string> texts, std::size_t n, WordRule rule = WordRule::k13a);

}  // namespace gpt
