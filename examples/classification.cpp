#include "classification.h"

#include <algorithm>
#include <iostream>
#include <map>
#include <utility>

#include <gpt/core/error.h>
#include <gpt/io/hf_config.h>

#include "program.h"

namespace program {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSettings = "classification.json";
constexpr const char* kWords = "bag_of_words.safetensors";

/// The bag of words beside a classifier, if there is one for its labels.
std::optional<gpt::BagOfWords> load_words(const fs::path& directory, const gpt::Classifier& classifier) {
  std::error_code error;
  if (!fs::exists(directory / kWords, error)) return std::nullopt;
  gpt::BagOfWords words = gpt::BagOfWords::load(directory / kWords);
  if (words.class_count() != classifier.num_labels()) return std::nullopt;
  return words;
}

}  // namespace

std::vector<std::string> keys_of(const std::vector<std::string>& labels) {
  std::map<std::string_view, int> times;
  for (const std::string& label : labels) ++times[label];
  std::vector<std::string> keys = labels;
  for (std::size_t i = 0; i < keys.size(); ++i)
    if (times[labels[i]] > 1) do
        keys[i] += gpt::concat(" (", i, ")");
      while (times.contains(keys[i]));
  return keys;
}

ClassifierSettings ClassifierSettings::load(const fs::path& directory) {
  ClassifierSettings settings;
  std::error_code error;
  if (!fs::exists(directory / kSettings, error)) return settings;
  const gpt::HfConfig file = gpt::HfConfig::load(directory / kSettings);
  for (const char* key : {"temperature", "words_weight", "max_length"}) file.refuse_null(key, "a number");
  file.refuse_null("majority_label", "a label");
  settings.blend.temperature = file.get_float("temperature").value_or(1);
  settings.blend.weight = file.get_float("words_weight").value_or(0);
  settings.max_length = file.get_int("max_length").value_or(0);
  settings.majority_label = file.get_string("majority_label").value_or("");
  if (!(settings.blend.temperature > 0))
    gpt::fail<gpt::FormatError>(file.source(), "temperature is ", settings.blend.temperature,
                                ", expected more than 0");
  if (!(settings.blend.weight >= 0))
    gpt::fail<gpt::FormatError>(file.source(), "words_weight is ", settings.blend.weight,
                                ", expected 0 or more");
  return settings;
}

void ClassifierSettings::save(const fs::path& directory) const {
  gpt::HfConfig file(kSettings);
  file.set_float("temperature", blend.temperature);
  file.set_float("words_weight", blend.weight);
  file.set_int("max_length", max_length);
  file.set_string("majority_label", majority_label);
  file.save(directory / kSettings);
}

std::vector<Member> load_members(const std::string& first, const std::vector<std::string>& others,
                                 const gpt::LoadOptions& options) {
  std::vector<Member> members;
  const auto add = [&](const std::string& directory) {
    Member member{gpt::Classifier::load(directory, options), ClassifierSettings::load(directory)};
    if (member.classifier.problem_type() == gpt::ProblemType::kSingleLabel) {
      member.words = load_words(directory, member.classifier);
      if (!member.words && member.settings.blend.weight > 0)
        gpt::fail<gpt::FormatError>(directory, "has no ", kWords, " of ", member.classifier.num_labels(),
                                    " classes, with which ", kSettings, "'s words_weight is ",
                                    member.settings.blend.weight);
    }
    members.push_back(std::move(member));
  };
  add(first);
  for (const std::string& directory : others) {
    add(directory);
    const gpt::Classifier &one = members.front().classifier, &other = members.back().classifier;
    if (other.labels() != one.labels() || other.problem_type() != one.problem_type())
      gpt::fail<gpt::ArgumentError>(directory, "is a ", name_of(other.problem_type()), " of ",
                                    other.num_labels(), " labels, expected the labels and the type of ",
                                    first);
  }
  return members;
}

void save_words(const gpt::BagOfWords& words, const fs::path& directory) { words.save(directory / kWords); }

gpt::LabelledRows read_rows(const std::string& file, const gpt::RowOptions& options) {
  gpt::LabelledRows rows = gpt::read_labelled_rows(file, options);
  if (rows.bad > 0)
    warn(gpt::concat(file, ": ", rows.bad, " of ",
                     counted(rows.bad + static_cast<std::int64_t>(rows.rows.size()), "row"),
                     " left out; the first: ", rows.first_bad));
  return rows;
}

gpt::ClassificationDataset make_dataset(const gpt::Classifier& classifier, const gpt::LabelledRows& rows,
                                        const std::string& file, std::int64_t max_length, bool strict) {
  gpt::ClassificationDataset data(classifier, rows.rows,
                                  {.max_length = max_length, .skip_bad_rows = !strict, .source = file});
  if (data.bad() > 0)
    warn(gpt::concat(file, ": ", data.bad(), " of ", counted(std::ssize(rows.rows), "row"),
                     " left out; the first: ", data.first_bad()));
  if (data.truncated() > 0)
    std::cerr << file << ": " << truncation_text(data.truncated(), data.size(), classifier, max_length);
  return data;
}

std::string truncation_text(std::int64_t truncated, std::int64_t count, const gpt::Classifier& classifier,
                            std::int64_t max_length) {
  const std::int64_t used = max_length > 0 ? max_length : classifier.model().config().n_positions;
  return gpt::concat(truncated, " of ", counted(count, "text"), truncated == 1 ? " is" : " are",
                     " longer than ", counted(used, "token"), ", of which the first ",
                     used == 1 ? "is" : "are", " used\n");
}

std::vector<std::string_view> texts_of(std::span<const gpt::LabelledRow> rows) {
  std::vector<std::string_view> texts;
  for (const gpt::LabelledRow& row : rows) texts.push_back(row.text);
  return texts;
}

std::vector<std::string_view> texts_of(const gpt::ClassificationDataset& data,
                                       const gpt::LabelledRows& rows) {
  std::vector<std::string_view> texts;
  for (const std::int64_t row : data.rows()) texts.push_back(rows.rows[static_cast<std::size_t>(row)].text);
  return texts;
}

gpt::Tensor logits_of(const gpt::Classifier& classifier, const gpt::ClassificationDataset& data,
                      std::stop_token stop) {
  constexpr std::int64_t kAtOnce = 512;  // so that there is something to say of how far it is
  constexpr std::int64_t kMany = 2000;
  gpt::Tensor all = gpt::Tensor::empty({data.size(), classifier.num_labels()});
  for (std::int64_t begin = 0; begin < data.size(); begin += kAtOnce) {
    const std::int64_t end = std::min(data.size(), begin + kAtOnce);
    std::vector<std::vector<gpt::TokenId>> sequences;
    for (std::int64_t i = begin; i < end; ++i) sequences.push_back(data.at(i).ids);
    const gpt::Tensor part = classifier.logits(sequences, stop);
    std::ranges::copy(part.span<float>(), all.data<float>() + begin * classifier.num_labels());
    if (data.size() >= kMany && (end == data.size() || end * 10 / data.size() > begin * 10 / data.size()))
      std::cerr << "texts classified: " << end << " of " << data.size() << '\n';
  }
  return all;
}

std::vector<double> answers_of(const std::optional<gpt::BagOfWords>& words,
                               std::span<const std::string_view> texts) {
  std::vector<double> all;
  if (!words) return all;
  for (const std::string_view text : texts) {
    const std::vector<double> p = words->probabilities(text);
    all.insert(all.end(), p.begin(), p.end());
  }
  return all;
}

std::vector<double> answers_of(const gpt::Classifier& classifier, const gpt::Tensor& logits,
                               std::span<const double> of_words, const gpt::Blend& blend) {
  const auto width = static_cast<std::size_t>(classifier.num_labels());
  const std::span<const float> all_logits = logits.span<float>();
  std::vector<double> all;
  for (std::size_t begin = 0; begin < all_logits.size(); begin += width) {
    const std::span<const float> row = all_logits.subspan(begin, width);
    const std::vector<double> p =
        classifier.problem_type() == gpt::ProblemType::kSingleLabel
            ? gpt::blended(row, of_words.empty() ? of_words : of_words.subspan(begin, width), blend)
            : gpt::probabilities(classifier.problem_type(), row);
    all.insert(all.end(), p.begin(), p.end());
  }
  return all;
}

std::vector<double> mean_of(std::span<const std::vector<double>> answers) {
  std::vector<double> mean(answers.front().size());
  for (const std::vector<double>& one : answers) {
    if (one.size() != mean.size())
      gpt::fail<gpt::ArgumentError>("ensemble", "has ", one.size(), " numbers of one classifier and ",
                                    mean.size(), " of another: they are not of the same texts");
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += one[i] / static_cast<double>(answers.size());
  }
  return mean;
}

}  // namespace program
