// What a classifier is to be measured against: logistic regression on the words of a text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace gpt {

struct BagOfWordsOptions {
  std::int64_t min_frequency = 2;  // texts that a word or pair must be in
  double inverse_penalty = 10;     // scikit-learn's C
  std::int64_t max_iterations = 100;
  std::stop_token stop = {};  // checked before every pass over the texts
};

/// Multinomial logistic regression on the words of a text and its pairs of neighbouring words:
///   words     runs of ASCII letters and digits, in lower case, and of other letters; each character of Chinese, Japanese and Korean, and each byte that is not UTF-8, for itself
///   features  (1 + log count) log((1 + texts) / (1 + texts with it)) + 1, each text's divided by their L2 norm (scikit-learn's
///             TfidfVectorizer with ngram_range (1, 2) and sublinear_tf)
///   training  minimizes C sum(-log p(class)) + |W|^2 / 2, biases unpunished, by L-BFGS (Liu and Nocedal, 1989)
/// The same bits for the same texts. Copying shares the weights.
class BagOfWords {
 public:
  /// Throws ArgumentError: no texts, not as many classes, a class outside [0, class_count), an option out of range; CancelledError;
  /// MemoryError.
  static BagOfWords train(std::span<const std::string_view> texts, std::span<const std::int32_t> classes,
                          std::int64_t class_count, const BagOfWordsOptions& options = {});

  /// A safetensors file: words (u8, the features with a line feed between them, pairs with a blank), rarity and weights (float64).
  /// Throws IoError.
  void save(const std::filesystem::path& path) const;
  /// Throws IoError; FormatError naming what is not as save() writes it.
  static BagOfWords load(const std::filesystem::path& path);

  /// Of a text: one for each class.
  std::vector<double> probabilities(std::string_view text) const;

  std::int64_t feature_count() const noexcept;
  std::int64_t class_count() const noexcept;

 private:
  struct Data;
  explicit BagOfWords(std::shared_ptr<const Data> data) noexcept : data_(std::move(data)) {}

  std::shared_ptr<const Data> data_;
};

}  // namespace gpt
