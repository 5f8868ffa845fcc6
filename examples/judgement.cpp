#include "judgement.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <locale>
#include <sstream>
#include <string_view>
#include <utility>

#include <gpt/core/error.h>

namespace program {
namespace {

// The names of reports.
constexpr const char *kThisModel = "this model", *kNetwork = "network_alone", *kMajority = "majority_class",
                     *kWordsAlone = "bag_of_words";

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

Json baselines_json(const Judgement& j) {
  Json baselines = Json::object();
  for (const Judgement::Baseline& baseline : j.baselines)
    baselines[baseline.name] = short_json(baseline.scores);
  return baselines;
}

/// What a name of reports is called on a page.
std::string title_of(const std::string& name) {
  return name == kThisModel    ? "This model"
         : name == kNetwork    ? "The network alone"
         : name == kWordsAlone ? "Logistic regression on words and pairs"
                               : "Majority class";
}

struct Spread {
  double mean = 0, deviation = 0;
};

std::string text_of(const Spread& s) {
  return fixed_text(s.mean, 4) + " \u00B1 " + fixed_text(s.deviation, 4);
}

Spread spread_of(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  Spread spread;
  double squares = 0;
  for (const double v : values) spread.mean += v / count;
  for (const double v : values) squares += (v - spread.mean) * (v - spread.mean);
  spread.deviation = std::sqrt(squares / count);
  return spread;
}

/// What all parts say of one way of answering.
struct Summary {
  std::string name;
  Spread accuracy, macro_f1;
};

/// Of a part's baseline; of a network that had no words beside it, the answers are its own.
const gpt::ClassificationScores& scores_of(const Judgement& j, const std::string& name) {
  const auto found = std::ranges::find(j.baselines, name, &Judgement::Baseline::name);
  return found == j.baselines.end() ? j.scores : found->scores;
}

std::vector<Summary> summaries_of(const std::vector<Judgement>& folds) {
  std::vector<Summary> summaries;
  for (const char* name : {kThisModel, kNetwork, kMajority, kWordsAlone}) {
    const bool known = std::ranges::any_of(folds, [name](const Judgement& j) {
      return std::ranges::find(j.baselines, name, &Judgement::Baseline::name) != j.baselines.end();
    });
    if (!known && name != kThisModel) continue;
    std::vector<double> accuracies, f1s;
    for (const Judgement& j : folds) {
      accuracies.push_back(scores_of(j, name).accuracy);
      f1s.push_back(scores_of(j, name).macro.f1);
    }
    summaries.push_back({name, spread_of(accuracies), spread_of(f1s)});
  }
  return summaries;
}

}  // namespace

std::string fixed_text(double value, int digits) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

std::string numbers_text(const Json& object) {
  std::string text;
  for (const auto& [name, value] : object.items())
    if (value.is_number())
      text +=
          name + "  " + (value.is_number_float() ? fixed_text(value.get<double>(), 4) : value.dump()) + '\n';
  return text;
}

Answers answers_of(std::span<const Member> members, std::span<const gpt::Tensor> logits,
                   std::span<const std::string_view> texts) {
  std::vector<std::vector<double>> together, networks, words;
  bool blended = false, all_have_words = true;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const Member& member = members[i];
    words.push_back(answers_of(member.words, texts));
    together.push_back(answers_of(member.classifier, logits[i], words.back(), member.settings.blend));
    networks.push_back(member.settings.blend.weight > 0
                           ? answers_of(member.classifier, logits[i], {}, {})
                           : together.back());  // its network's own, as calibrated
    blended = blended || member.settings.blend.weight > 0;
    all_have_words = all_have_words && member.words;
  }
  Answers answers{mean_of(together)};
  if (blended) answers.network = mean_of(networks);
  if (all_have_words) answers.words = mean_of(words);
  return answers;
}

Judgement judge(const Answers& answers, std::span<const std::int32_t> truth,
                const std::vector<std::string>& labels, const std::string& majority_label) {
  const auto classes = static_cast<std::int64_t>(labels.size());
  const auto scores = [&](std::span<const double> p) {
    std::vector<std::int32_t> said;
    for (std::size_t i = 0; i < truth.size(); ++i)
      said.push_back(gpt::most_likely(p.subspan(i * labels.size(), labels.size())));
    return gpt::classification_scores(truth, said, classes);
  };
  Judgement judgement{.scores = scores(answers.together),
                      .log_loss = gpt::log_loss(truth, answers.together, classes),
                      .calibration_error = gpt::calibration_error(truth, answers.together, classes),
                      .roc_auc = gpt::roc_auc(truth, answers.together, classes),
                      .baselines = {}};
  if (!answers.network.empty()) judgement.baselines.push_back({kNetwork, scores(answers.network)});
  if (const auto found = std::ranges::find(labels, majority_label); found != labels.end()) {
    const std::vector<std::int32_t> one(truth.size(), static_cast<std::int32_t>(found - labels.begin()));
    judgement.baselines.push_back({kMajority, gpt::classification_scores(truth, one, classes)});
  }
  if (!answers.words.empty()) judgement.baselines.push_back({kWordsAlone, scores(answers.words)});
  return judgement;
}

Json to_json(const Judgement& j, const std::vector<std::string>& labels) {
  Json object = {{"count", j.scores.count},
                 {"accuracy", j.scores.accuracy},
                 {"macro_f1", j.scores.macro.f1},
                 {"weighted_f1", j.scores.weighted.f1},
                 {"roc_auc", j.roc_auc ? Json(*j.roc_auc) : Json()},
                 {"log_loss", j.log_loss},
                 {"calibration_error", j.calibration_error}};
  const std::vector<std::string> keys = keys_of(labels);
  Json per_class = Json::object();
  for (std::size_t i = 0; i < labels.size(); ++i) per_class[keys[i]] = scores_json(j.scores.per_class[i]);
  object["per_class"] = std::move(per_class);
  object["macro"] = scores_json(j.scores.macro);
  object["weighted"] = scores_json(j.scores.weighted);
  object["labels"] = labels;
  object["confusion_matrix"] = j.scores.confusion;
  object["baselines"] = baselines_json(j);
  return object;
}

std::string to_text(const Judgement& j, const std::vector<std::string>& labels) {
  std::size_t width = std::string_view(kMajority).size();
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
  line({kThisModel, fixed_text(j.scores.accuracy, 4), fixed_text(j.scores.macro.f1, 4)});
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
  compare(title_of(kThisModel), j.scores);
  for (const auto& [name, scores] : j.baselines) compare(title_of(name), scores);
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

Json part_to_json(const Judgement& j) {
  return {{"count", j.scores.count},
          {"accuracy", j.scores.accuracy},
          {"macro_f1", j.scores.macro.f1},
          {"baselines", baselines_json(j)}};
}

Judgement part_from_json(const Json& part, const std::string& where) {
  try {
    Judgement j;
    j.scores.count = part.at("count").get<std::int64_t>();
    j.scores.accuracy = part.at("accuracy").get<double>();
    j.scores.macro.f1 = part.at("macro_f1").get<double>();
    for (const auto& [name, scores] : part.at("baselines").items()) {
      gpt::ClassificationScores& own = j.baselines.emplace_back(Judgement::Baseline{name, {}}).scores;
      own.accuracy = scores.at("accuracy").get<double>();
      own.macro.f1 = scores.at("macro_f1").get<double>();
      own.weighted.f1 = scores.at("weighted_f1").get<double>();
    }
    return j;
  } catch (const Json::exception& error) {
    gpt::fail<gpt::FormatError>(where, "is no judgement of a part: ", error.what());
  }
}

Json to_json(const std::vector<Judgement>& folds) {
  Json list = Json::array();
  for (const Judgement& fold : folds) list.push_back(part_to_json(fold));
  Json object = {{"folds", std::move(list)}};
  Json baselines = Json::object();
  for (const Summary& summary : summaries_of(folds)) {
    Json& place = summary.name == kThisModel ? object : baselines[summary.name];
    for (const auto& [name, spread] :
         {std::pair("accuracy", summary.accuracy), std::pair("macro_f1", summary.macro_f1)})
      place[name] = {{"mean", spread.mean}, {"std", spread.deviation}};
  }
  object["baselines"] = std::move(baselines);
  return object;
}

std::string to_text(const std::vector<Judgement>& folds) {
  constexpr std::size_t kName = 14, kNumber = 18;
  const std::vector<Summary> summaries = summaries_of(folds);
  const bool blended = std::ranges::find(summaries, kNetwork, &Summary::name) != summaries.end();
  std::string text = gpt::concat("mean and standard deviation over ", folds.size(), " parts",
                                 blended ? "; this model is its network and the bag of words together" : "",
                                 ":\n", padded_left("", kName), padded_left("accuracy", kNumber),
                                 padded_left("macro_f1", kNumber), '\n');
  for (const Summary& summary : summaries)
    text += gpt::concat(padded_left(summary.name, kName), padded_left(text_of(summary.accuracy), kNumber),
                        padded_left(text_of(summary.macro_f1), kNumber), '\n');
  return text;
}

gpt::TrainingReport::Grid to_grid(const std::vector<Judgement>& folds) {
  gpt::TrainingReport::Grid grid{
      gpt::concat("Cross-validation: mean and standard deviation over ", folds.size(), " parts"),
      {"", "Accuracy", "Macro F1"},
      {}};
  for (const Summary& summary : summaries_of(folds))
    grid.rows.push_back({title_of(summary.name), text_of(summary.accuracy), text_of(summary.macro_f1)});
  return grid;
}

std::string line_of(const Judgement& j) {
  std::string text = gpt::concat("accuracy ", fixed_text(j.scores.accuracy, 4));
  for (const auto& [name, scores] : j.baselines)
    text += gpt::concat(", ", name, ' ', fixed_text(scores.accuracy, 4));
  return text;
}

std::vector<gpt::TrainingReport::Fact> highlights_of(const Judgement& j) {
  std::vector<gpt::TrainingReport::Fact> facts = {{"Accuracy", fixed_text(j.scores.accuracy, 4)},
                                                  {"Macro F1", fixed_text(j.scores.macro.f1, 4)}};
  if (j.roc_auc) facts.push_back({"ROC-AUC", fixed_text(*j.roc_auc, 4)});
  facts.push_back({"Calibration error", fixed_text(j.calibration_error, 4)});
  return facts;
}

}  // namespace program
