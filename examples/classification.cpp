#include "classification.h"

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <limits>
#include <locale>
#include <sstream>

#include <gpt/core/atomic_file.h>
#include <gpt/core/error.h>
#include <gpt/core/mapped_file.h>
#include <gpt/core/math.h>
#include <gpt/io/hf_config.h>

#include "program.h"

namespace program {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSettings = "classification.json";
constexpr const char* kBaseline = "bag_of_words.safetensors";

/// The number of characters of UTF-8.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string padded_left(const std::string& text, std::size_t width) {
  return std::string(width - std::min(width, width_of(text)), ' ') + text;
}

Json scores_json(const gpt::ClassScores& s) {
  return {{"precision", s.precision}, {"recall", s.recall}, {"f1", s.f1}, {"support", s.support}};
}

Json short_json(const gpt::ClassificationScores& s) {
  return {{"accuracy", s.accuracy}, {"macro_f1", s.macro.f1}, {"weighted_f1", s.weighted.f1}};
}

std::vector<std::string> cells(std::string name, const gpt::ClassScores& s) {
  return {std::move(name), fixed_text(s.precision, 4), fixed_text(s.recall, 4), fixed_text(s.f1, 4),
          gpt::concat(s.support)};
}

}  // namespace

std::string fixed_text(double value, int digits) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

ClassifierSettings ClassifierSettings::load(const fs::path& directory) {
  ClassifierSettings settings;
  std::error_code error;
  if (!fs::exists(directory / kSettings, error)) return settings;
  const gpt::HfConfig file = gpt::HfConfig::load(directory / kSettings);
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

void Member::blend(gpt::Tensor& logits, const std::vector<double>& of_words) const {
  if (classifier.problem_type() != gpt::ProblemType::kSingleLabel) return;
  const auto width = static_cast<std::size_t>(classifier.num_labels());
  const std::span<float> all = logits.span<float>();
  const std::span<const double> words_of_all = of_words;
  for (std::size_t begin = 0; begin < all.size(); begin += width) {
    const std::span<float> row = all.subspan(begin, width);
    const auto p =
        gpt::blended(row, of_words.empty() ? std::span<const double>() : words_of_all.subspan(begin, width),
                     settings.blend);
    for (std::size_t i = 0; i < width; ++i)
      row[i] = static_cast<float>(gpt::math::log(std::max(p[i], std::numeric_limits<double>::min())));
  }
}

std::vector<Member> load_members(const std::string& first, const std::vector<std::string>& others,
                                 const gpt::LoadOptions& options) {
  std::vector<Member> members;
  const auto add = [&](const std::string& directory) {
    Member member{gpt::Classifier::load(directory, options), ClassifierSettings::load(directory)};
    if (member.classifier.problem_type() == gpt::ProblemType::kSingleLabel) {
      member.words = load_baseline(directory, member.classifier);
      if (!member.words && member.settings.blend.weight > 0)
        gpt::fail<gpt::FormatError>(directory, "has no ", kBaseline, " of ", member.classifier.num_labels(),
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

std::optional<gpt::BagOfWords> load_baseline(const fs::path& directory, const gpt::Classifier& classifier) {
  std::error_code error;
  if (!fs::exists(directory / kBaseline, error)) return std::nullopt;
  gpt::BagOfWords words = gpt::BagOfWords::load(directory / kBaseline);
  if (words.class_count() != classifier.num_labels()) return std::nullopt;
  return words;
}

void save_baseline(const gpt::BagOfWords& baseline, const fs::path& directory) {
  baseline.save(directory / kBaseline);
}

gpt::LabelledRows read_rows(const std::string& file, const gpt::RowOptions& options) {
  gpt::LabelledRows rows = gpt::read_labelled_rows(file, options);
  if (rows.bad > 0)
    warn(gpt::concat(file, ": ", rows.bad, " of ", rows.bad + static_cast<std::int64_t>(rows.rows.size()),
                     " rows left out; the first: ", rows.first_bad));
  return rows;
}

gpt::ClassificationDataset make_dataset(const gpt::Classifier& classifier, const gpt::LabelledRows& rows,
                                        const std::string& file, std::int64_t max_length, bool strict) {
  gpt::ClassificationDataset data(classifier, rows.rows,
                                  {.max_length = max_length, .skip_bad_rows = !strict, .source = file});
  if (data.bad() > 0)
    warn(gpt::concat(file, ": ", data.bad(), " of ", rows.rows.size(),
                     " rows left out; the first: ", data.first_bad()));
  if (data.truncated() > 0)
    std::cerr << file << ": " << data.truncated() << " of " << data.size() << " texts are longer than "
              << (max_length > 0 ? max_length : classifier.model().config().n_positions)
              << " tokens, of which the first are used\n";
  return data;
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

std::vector<double> word_probabilities(const std::optional<gpt::BagOfWords>& words,
                                       const gpt::ClassificationDataset& data,
                                       const gpt::LabelledRows& rows) {
  std::vector<double> all;
  if (!words) return all;
  for (const std::int64_t row : data.rows()) {
    const std::vector<double> p = words->probabilities(rows.rows[static_cast<std::size_t>(row)].text);
    all.insert(all.end(), p.begin(), p.end());
  }
  return all;
}

Judgement judge(const gpt::Classifier& classifier, const gpt::Tensor& logits,
                const std::vector<double>& of_words, const gpt::ClassificationDataset& data,
                const gpt::Blend& blend) {
  const std::vector<std::int32_t> truth = data.classes();
  const std::int64_t classes = classifier.num_labels();
  const auto width = static_cast<std::size_t>(classes);
  std::vector<double> all;
  std::vector<std::int32_t> answers;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const std::span<const double> words(of_words);
    const std::vector<double> p =
        gpt::blended(logits.span<float>().subspan(i * width, width),
                     words.empty() ? words : words.subspan(i * width, width), blend);
    answers.push_back(gpt::most_likely(p));
    all.insert(all.end(), p.begin(), p.end());
  }
  return {.scores = gpt::classification_scores(truth, answers, classes),
          .log_loss = gpt::log_loss(truth, all, classes),
          .calibration_error = gpt::calibration_error(truth, all, classes),
          .roc_auc = gpt::roc_auc(truth, all, classes),
          .baselines = {}};
}

void add_baselines(Judgement& judgement, const gpt::Classifier& classifier, const gpt::Tensor& logits,
                   const std::vector<double>& of_words, const gpt::ClassificationDataset& data,
                   const ClassifierSettings& settings) {
  const std::vector<std::int32_t> truth = data.classes();
  const std::int64_t classes = classifier.num_labels();
  if (settings.blend.weight > 0)
    judgement.baselines.push_back({"network_alone", judge(classifier, logits, {}, data, {}).scores});
  const auto& labels = classifier.labels();
  if (const auto found = std::ranges::find(labels, settings.majority_label); found != labels.end()) {
    const std::vector<std::int32_t> one(truth.size(), static_cast<std::int32_t>(found - labels.begin()));
    judgement.baselines.push_back({"majority_class", gpt::classification_scores(truth, one, classes)});
  }
  if (of_words.empty()) return;
  const auto width = static_cast<std::size_t>(classes);
  std::vector<std::int32_t> answers;
  for (std::size_t i = 0; i < truth.size(); ++i)
    answers.push_back(gpt::most_likely(std::span(of_words).subspan(i * width, width)));
  judgement.baselines.push_back({"bag_of_words", gpt::classification_scores(truth, answers, classes)});
}

Json to_json(const Judgement& j, const std::vector<std::string>& labels) {
  Json object = {{"count", j.scores.count},
                 {"accuracy", j.scores.accuracy},
                 {"macro_f1", j.scores.macro.f1},
                 {"weighted_f1", j.scores.weighted.f1},
                 {"roc_auc", j.roc_auc ? Json(*j.roc_auc) : Json()},
                 {"log_loss", j.log_loss},
                 {"calibration_error", j.calibration_error}};
  Json per_class = Json::object();
  for (std::size_t i = 0; i < labels.size(); ++i) per_class[labels[i]] = scores_json(j.scores.per_class[i]);
  object["per_class"] = std::move(per_class);
  object["macro"] = scores_json(j.scores.macro);
  object["weighted"] = scores_json(j.scores.weighted);
  object["labels"] = labels;
  object["confusion_matrix"] = j.scores.confusion;
  Json baselines = Json::object();
  for (const Judgement::Baseline& baseline : j.baselines)
    baselines[baseline.name] = short_json(baseline.scores);
  object["baselines"] = std::move(baselines);
  return object;
}

std::string to_text(const Judgement& j, const std::vector<std::string>& labels) {
  std::size_t width = std::string_view("majority_class").size();
  for (const std::string& label : labels) width = std::max(width, width_of(label));
  std::string text;
  const auto line = [&](const std::vector<std::string>& row) {
    for (std::size_t i = 0; i < row.size(); ++i) text += padded_left(row[i], i == 0 ? width : 11);
    text += '\n';
  };
  line({"", "precision", "recall", "f1", "support"});
  for (std::size_t i = 0; i < labels.size(); ++i) line(cells(labels[i], j.scores.per_class[i]));
  line(cells("macro", j.scores.macro));
  line(cells("weighted", j.scores.weighted));
  text += '\n';
  line({"", "accuracy", "macro_f1"});
  line({"this model", fixed_text(j.scores.accuracy, 4), fixed_text(j.scores.macro.f1, 4)});
  for (const auto& [name, scores] : j.baselines)
    line({name, fixed_text(scores.accuracy, 4), fixed_text(scores.macro.f1, 4)});
  text += gpt::concat("\nlog loss ", fixed_text(j.log_loss, 4), ", calibration error ",
                      fixed_text(j.calibration_error, 4));
  if (j.roc_auc) text += ", ROC-AUC " + fixed_text(*j.roc_auc, 4);
  return text + '\n';
}

std::vector<gpt::TrainingReport::Grid> to_grids(const Judgement& j, const std::vector<std::string>& labels) {
  gpt::TrainingReport::Grid compared{"Beside simpler ways", {"", "Accuracy", "Macro F1", "Weighted F1"}, {}};
  const auto compare = [&](const std::string& name, const gpt::ClassificationScores& s) {
    compared.rows.push_back(
        {name, fixed_text(s.accuracy, 4), fixed_text(s.macro.f1, 4), fixed_text(s.weighted.f1, 4)});
  };
  compare("This model", j.scores);
  for (const auto& [name, scores] : j.baselines)
    compare(name == "bag_of_words"    ? "Logistic regression on words and pairs"
            : name == "network_alone" ? "The network alone"
                                      : "Majority class",
            scores);
  gpt::TrainingReport::Grid classes{"Classes", {"", "Precision", "Recall", "F1", "Support"}, {}};
  gpt::TrainingReport::Grid confusion{"Confusion matrix (rows: truth)", {""}, {}};
  for (std::size_t i = 0; i < labels.size(); ++i) {
    classes.rows.push_back(cells(labels[i], j.scores.per_class[i]));
    confusion.header.push_back(labels[i]);
    std::vector<std::string>& row = confusion.rows.emplace_back(1, labels[i]);
    for (const std::int64_t n : j.scores.confusion[i]) row.push_back(gpt::concat(n));
  }
  classes.rows.push_back(cells("macro", j.scores.macro));
  classes.rows.push_back(cells("weighted", j.scores.weighted));
  return {std::move(compared), std::move(classes), std::move(confusion)};
}

std::vector<gpt::TrainingReport::Fact> highlights_of(const Judgement& j) {
  std::vector<gpt::TrainingReport::Fact> facts = {{"Accuracy", fixed_text(j.scores.accuracy, 4)},
                                                  {"Macro F1", fixed_text(j.scores.macro.f1, 4)}};
  if (j.roc_auc) facts.push_back({"ROC-AUC", fixed_text(*j.roc_auc, 4)});
  facts.push_back({"Calibration error", fixed_text(j.calibration_error, 4)});
  return facts;
}

}  // namespace program
