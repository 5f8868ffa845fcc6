// What the commands of classify share: the classifier's directory, its texts, and what is said of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <gpt/evaluate/bag_of_words.h>
#include <gpt/evaluate/classification.h>
#include <gpt/models/classifier.h>
#include <gpt/train/classification_dataset.h>
#include <gpt/train/labelled_rows.h>

namespace program {

/// The labels as keys of one JSON object: several of one name, which a config.json may have, get their numbers behind it.
std::vector<std::string> keys_of(const std::vector<std::string>& labels);

/// classification.json beside a classifier: how it was made, as far as its answers to other texts depend on it, and what they are
/// measured against.
struct ClassifierSettings {
  gpt::Blend blend = {};            // of the network's logits and the bag of words
  std::int64_t max_length = 0;      // ids of a text
  std::string majority_label = {};  // of the training data; empty: not known

  static ClassifierSettings load(const std::filesystem::path& directory);  // the defaults where there is none
  void save(const std::filesystem::path& directory) const;
};

/// A classifier with what its directory says of it.
struct Member {
  gpt::Classifier classifier;
  ClassifierSettings settings = {};
  std::optional<gpt::BagOfWords> words = {};  // of kSingleLabel, where there is one for its labels
};

/// The classifiers in directories, the first one's labels being those of all. Throws ArgumentError naming another one's directory, and
/// FormatError where the words are missing that a blend cannot do without.
std::vector<Member> load_members(const std::string& first, const std::vector<std::string>& others,
                                 const gpt::LoadOptions& options);
/// Beside the classifier in a directory.
void save_words(const gpt::BagOfWords& words, const std::filesystem::path& directory);

/// Rows of a file. Says on standard error how many were left out, and why the first.
gpt::LabelledRows read_rows(const std::string& file, const gpt::RowOptions& options);
/// Their samples. Says likewise how many were left out, and how many texts were cut.
gpt::ClassificationDataset make_dataset(const gpt::Classifier& classifier, const gpt::LabelledRows& rows,
                                        const std::string& file, std::int64_t max_length, bool strict);

/// "2 of 9 texts are longer than 128 tokens, of which the first are used", as a line. `max_length` is that of the settings.
std::string truncation_text(std::int64_t truncated, std::int64_t count, const gpt::Classifier& classifier,
                            std::int64_t max_length);

/// The texts of rows, and of samples of rows.
std::vector<std::string_view> texts_of(std::span<const gpt::LabelledRow> rows);
std::vector<std::string_view> texts_of(const gpt::ClassificationDataset& data, const gpt::LabelledRows& rows);

/// A row for each sample. Of many samples, says on standard error how far it is.
gpt::Tensor logits_of(const gpt::Classifier& classifier, const gpt::ClassificationDataset& data,
                      std::stop_token stop);
/// What the words say of each text, row by row; nothing where there are none.
std::vector<double> answers_of(const std::optional<gpt::BagOfWords>& words,
                               std::span<const std::string_view> texts);
/// What a classifier says, row by row: of one class the probabilities of its logits and the words' together, as the blend says; of other
/// types what the logits say.
std::vector<double> answers_of(const gpt::Classifier& classifier, const gpt::Tensor& logits,
                               std::span<const double> of_words, const gpt::Blend& blend);
/// The mean of what several say of the same texts.
std::vector<double> mean_of(std::span<const std::vector<double>> answers);

}  // namespace program
