// What the commands of classify share: the classifier's directory, what is found out about its answers, and how that is told.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gpt/evaluate/bag_of_words.h>
#include <gpt/evaluate/classification.h>
#include <gpt/models/classifier.h>
#include <gpt/train/classification_dataset.h>
#include <gpt/train/labelled_rows.h>
#include <gpt/train/report.h>

namespace program {

using Json = nlohmann::ordered_json;

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
  ClassifierSettings settings;
  std::optional<gpt::BagOfWords> words = {};  // of kSingleLabel, where there is one for its labels

  /// Makes of the network's logits those of its answers, log p: with its temperature and the words' probabilities, row by row. Of other
  /// types than kSingleLabel they are that already.
  void blend(gpt::Tensor& logits, const std::vector<double>& of_words) const;
};

/// The classifiers in directories, the first one's labels being those of all. Throws ArgumentError naming another one's directory, and
/// FormatError where the words are missing that a blend cannot do without.
std::vector<Member> load_members(const std::string& first, const std::vector<std::string>& others,
                                 const gpt::LoadOptions& options);
/// The bag of words beside a classifier, if there is one for its labels.
std::optional<gpt::BagOfWords> load_baseline(const std::filesystem::path& directory,
                                             const gpt::Classifier& classifier);
void save_baseline(const gpt::BagOfWords& baseline, const std::filesystem::path& directory);

/// Rows of a file. Says on standard error how many were left out, and why the first.
gpt::LabelledRows read_rows(const std::string& file, const gpt::RowOptions& options);
/// Their samples. Says likewise how many were left out, and how many texts were cut.
gpt::ClassificationDataset make_dataset(const gpt::Classifier& classifier, const gpt::LabelledRows& rows,
                                        const std::string& file, std::int64_t max_length, bool strict);

/// A row for each sample. Of many samples, says on standard error how far it is.
gpt::Tensor logits_of(const gpt::Classifier& classifier, const gpt::ClassificationDataset& data,
                      std::stop_token stop);

/// Scores of one-class answers, with those of simpler ways beside them.
struct Judgement {
  gpt::ClassificationScores scores;
  double log_loss = 0, calibration_error = 0;
  std::optional<double> roc_auc;
  struct Baseline {
    std::string name;
    gpt::ClassificationScores scores;
  };
  std::vector<Baseline> baselines;
};

/// What the words say of each sample, row by row; nothing where there are none.
std::vector<double> word_probabilities(const std::optional<gpt::BagOfWords>& words,
                                       const gpt::ClassificationDataset& data, const gpt::LabelledRows& rows);

/// Of the network's logits and the words' probabilities, together as the blend says.
Judgement judge(const gpt::Classifier& classifier, const gpt::Tensor& logits,
                const std::vector<double>& of_words, const gpt::ClassificationDataset& data,
                const gpt::Blend& blend);
/// Adds the scores of one answer for all, and of what the blend is made of, each alone.
void add_baselines(Judgement& judgement, const gpt::Classifier& classifier, const gpt::Tensor& logits,
                   const std::vector<double>& of_words, const gpt::ClassificationDataset& data,
                   const ClassifierSettings& settings);

Json to_json(const Judgement& judgement, const std::vector<std::string>& labels);
/// As scikit-learn's classification_report, with the rest below.
std::string to_text(const Judgement& judgement, const std::vector<std::string>& labels);
std::vector<gpt::TrainingReport::Grid> to_grids(const Judgement& judgement,
                                                const std::vector<std::string>& labels);
std::vector<gpt::TrainingReport::Fact> highlights_of(const Judgement& judgement);

/// With so many digits behind the point, the same in every locale.
std::string fixed_text(double value, int digits);

}  // namespace program
