// More texts from those that there are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/train/labelled_rows.h"

namespace gpt {

/// Makes another text of the same meaning, EdaAugmenter's or one's own: a translation there and back, say. A function of its arguments
/// alone; another seed may make another text.
using TextAugmenter = std::function<std::string(std::string_view text, std::uint64_t seed)>;

/// Words that may stand in the place of others.
class Thesaurus {
 public:
  Thesaurus() = default;
  /// Lines of a word and what may stand for it, with tabs, or else commas, between them; "good<TAB>fine<TAB>nice". Blank lines and those that
  /// begin with # are left out. Throws IoError; FormatError naming file and line: a word without others, what is not UTF-8; a file
  /// without a word.
  static Thesaurus from_file(const std::filesystem::path& path);

  /// More for a word. Throws ArgumentError for an empty text, MemoryError.
  void add(std::string word, std::span<const std::string> synonyms);
  /// Those of a word, or else of it in small letters (ASCII); none where there are none. Throws MemoryError.
  std::span<const std::string> synonyms(std::string_view word) const;
  /// The longest word that a text begins with, which may be empty: for scripts without blanks.
  std::string_view longest_prefix(std::string_view text) const noexcept;
  std::size_t size() const noexcept { return words_.size(); }

 private:
  std::map<std::string, std::vector<std::string>, std::less<>> words_;
  std::size_t longest_ = 0;  // bytes of a word
};

/// How much each operation changes: a part of a text's words (at least one word), or the probability that a word is deleted. 0 to 1; 0: the
/// operation is not used.
struct EdaOptions {
  double alpha_sr = 0.1;  // words replaced by one of their synonyms
  double alpha_ri = 0.1;  // synonyms of words of the text put in at random places
  double alpha_rs = 0.1;  // pairs of words that change places
  double p_rd = 0.1;      // deleted; one stays
};

/// Easy data augmentation (Wei and Zou, arXiv 1901.11196): one of the four operations, each equally likely of those that are used and can
/// change the text. Words are letters, digits and marks (with apostrophes and hyphens between them); of scripts without blanks between words
/// (Han, kana) the longest word that the thesaurus has there, or else a character. What stands between words stays, and so do bytes that are
/// no UTF-8. A text in which nothing can be changed comes back as it is.
class EdaAugmenter {
 public:
  /// Throws ArgumentError for an option out of its range, or where none is used.
  explicit EdaAugmenter(Thesaurus thesaurus, const EdaOptions& options = {});

  std::string operator()(std::string_view text, std::uint64_t seed) const;

 private:
  Thesaurus thesaurus_;
  EdaOptions options_;
};

inline constexpr std::int64_t kMostCopies = 1000;  // of a row: all are held at once

/// The rows, and behind them so many further ones of each, whose texts the augmenter makes from seeds of their own; those that are equal to
/// the row's own text are left out. Throws ArgumentError for a number that is not 0 to kMostCopies, CancelledError, and what the
/// augmenter throws.
std::vector<LabelledRow> augmented(std::span<const LabelledRow> rows, const TextAugmenter& augmenter,
                                   std::int64_t copies, std::uint64_t seed, const std::stop_token& stop = {});

}  // namespace gpt
