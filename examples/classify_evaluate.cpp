#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>
#include <span>
#include <utility>

#include <gpt/gpt.h>

#include "classification.h"
#include "classify.h"
#include "judgement.h"
#include "output_place.h"

namespace classify {

const char* const kEvaluateFooter = R"(Examples:
  gpt-classify evaluate --model sentiment --test-file test.csv
  gpt-classify evaluate --model sentiment --test-file test.csv --text-column review --label-column stars --json

Beside the classifier's scores stand those of the class that was most frequent in training, of logistic regression on words and
pairs of words that learned from the same rows, and of the network without it, where gpt-classify train made the classifier.)";

const char* const kPredictFooter = R"(Examples:
  gpt-classify predict --model sentiment --file new.csv
  gpt-classify predict --model sentiment --text "What a waste of time."
  gpt-classify predict --model gpt2 --zero-shot --labels "about sports,about politics" --text "The match ended 2:1."

Each text becomes one JSON object on a line: its label, and the probability of each, where equal labels have their numbers: x (0),
x (2). With --zero-shot a plain language model ranks the labels by how likely they are to follow the text (--prompt): by the
log-probability of a label's bytes, of which the probabilities are a softmax.)";

namespace {

namespace fs = std::filesystem;
constexpr const char* kDefaultPrompt = "{text} This is";

using program::Json;
using Clock = std::chrono::steady_clock;

Json scores_of_objective(gpt::Classifier& classifier, const gpt::ClassificationDataset& data,
                         std::stop_token stop) {
  const auto objective = std::make_shared<gpt::ClassificationObjective>(classifier);
  const gpt::EvaluationLog log = gpt::Trainer(classifier.model(), {}, objective).evaluate(data, stop);
  Json object = {{"count", data.size()}, {"loss", log.eval_loss}};
  for (const auto& [name, value] : log.metrics) object[name] = value;
  return object;
}

/// The logits of every member for the rows of a file; `data` are the samples of the first.
std::vector<gpt::Tensor> logits_of(const std::vector<program::Member>& members,
                                   const gpt::ClassificationDataset& data, const gpt::LabelledRows& rows,
                                   const EvaluateRequest& r, std::stop_token stop) {
  std::vector<gpt::Tensor> logits;
  logits.push_back(program::logits_of(members.front().classifier, data, stop));
  for (std::size_t i = 1; i < members.size(); ++i) {
    const auto own = program::make_dataset(members[i].classifier, rows, r.test_file,
                                           members[i].settings.max_length, r.strict);
    if (own.rows() != data.rows())
      gpt::fail<gpt::ArgumentError>(r.ensemble[i - 1], "cannot judge the same rows of ", r.test_file, " as ",
                                    r.model);
    logits.push_back(program::logits_of(members[i].classifier, own, stop));
  }
  return logits;
}

/// What several classifiers score together where more than one label, or a number, is the answer.
Json scores_of_logits(gpt::Classifier& classifier, const gpt::ClassificationDataset& data,
                      const gpt::Tensor& logits) {
  const std::unique_ptr<gpt::Metrics> metrics = gpt::ClassificationObjective(classifier).metrics();
  const auto width = static_cast<std::size_t>(classifier.num_labels());
  for (std::int64_t i = 0; i < data.size(); ++i)
    metrics->add(data.at(i), logits.span<float>().subspan(static_cast<std::size_t>(i) * width, width));
  Json object = {{"count", data.size()}};
  for (const auto& [name, value] : metrics->values()) object[name] = value;
  return object;
}

std::vector<std::string> split_labels(std::string_view list) {
  std::vector<std::string> labels;
  if (!gpt::is_valid_utf8(list)) throw program::UsageError("--labels is not UTF-8");
  while (true) {
    const std::size_t comma = list.find(',');
    std::string_view one = list.substr(0, comma);
    while (one.starts_with(' ')) one.remove_prefix(1);
    while (one.ends_with(' ')) one.remove_suffix(1);
    if (one.empty()) throw program::UsageError("--labels has an empty label");
    if (std::ranges::find(labels, one) != labels.end())
      throw program::UsageError(gpt::concat("--labels has ", program::in_quotes(one), " twice"));
    labels.emplace_back(one);
    if (comma == list.npos) break;
    list.remove_prefix(comma + 1);
  }
  if (labels.size() < 2)
    throw program::UsageError("--labels: one label, expected two or more with commas between them");
  return labels;
}

/// Texts to be classified.
std::vector<gpt::LabelledRow> texts_of(const PredictRequest& r) {
  std::vector<gpt::LabelledRow> rows;
  for (const std::string& text : r.texts) rows.push_back({text, {}, 0});
  if (!r.file) return rows;
  gpt::RowOptions options = r.rows;
  options.text_column = r.text_column.value_or(options.text_column);
  options.label_column.reset();
  options.skip_bad_rows = !r.strict;
  gpt::LabelledRows read = program::read_rows(*r.file, options);
  rows.insert(rows.end(), std::make_move_iterator(read.rows.begin()),
              std::make_move_iterator(read.rows.end()));
  return rows;
}

/// `keys` are keys_of(labels).
bool write_prediction(program::Output& out, const gpt::LabelledRow& row,
                      const std::vector<std::string>& labels, const std::vector<std::string>& keys,
                      std::span<const double> p, gpt::ProblemType type) {
  Json object = Json::object();
  if (row.line > 0) object["line"] = row.line;
  object["text"] = gpt::replace_invalid_utf8(row.text);
  if (type == gpt::ProblemType::kSingleLabel) {
    object["label"] = labels[static_cast<std::size_t>(gpt::most_likely(p))];
  } else if (type == gpt::ProblemType::kMultiLabel) {
    object["labels"] = Json::array();
    for (std::size_t i = 0; i < labels.size(); ++i)
      if (p[i] > 0.5) object["labels"].push_back(labels[i]);
  }
  Json& numbers = object[type == gpt::ProblemType::kRegression ? "values" : "probabilities"] = Json::object();
  for (std::size_t i = 0; i < labels.size(); ++i) numbers[keys[i]] = p[i];
  return out.write(object.dump() + "\n");
}

int predict_zero_shot(const PredictRequest& r, const std::vector<std::string>& labels,
                      const std::vector<gpt::LabelledRow>& rows, std::stop_token stop) {
  const std::string prompt = r.prompt.value_or(kDefaultPrompt);
  const std::size_t place = prompt.find("{text}");
  const gpt::Model model =
      gpt::Model::load(r.model, {.pack = true, .on_warning = program::warn, .stop = stop});
  const std::vector<std::string> keys = program::keys_of(labels);
  program::Output out;
  constexpr std::size_t kAtOnce = 64;
  for (std::size_t begin = 0; begin < rows.size(); begin += kAtOnce) {
    std::vector<gpt::ChoiceQuestion> questions;
    const std::size_t end = std::min(rows.size(), begin + kAtOnce);
    for (std::size_t i = begin; i < end; ++i) {
      std::string context = prompt;
      context.replace(place, 6, rows[i].text);
      questions.push_back({std::move(context), labels, 0});
    }
    const auto rankings = gpt::rank_choices(model.network(), model.tokenizer(), questions, {.stop = stop});
    for (std::size_t i = begin; i < end; ++i) {
      std::vector<float> scores;
      for (const gpt::ChoiceScore& score : rankings[i - begin].scores)
        scores.push_back(static_cast<float>(score.log_prob));
      const auto p = gpt::probabilities(gpt::ProblemType::kSingleLabel, scores);
      if (!write_prediction(out, rows[i], labels, keys, p, gpt::ProblemType::kSingleLabel))
        return program::kDone;
    }
  }
  return program::kDone;
}

}  // namespace

void add_options(program::App& app, EvaluateRequest& r) {
  app.add_text("--model", r.model, "DIR", "Directory of a classifier").required();
  app.add_texts(
      "--ensemble", r.ensemble, "DIR",
      "A further classifier with the same labels: the mean of the probabilities counts; may be repeated");
  app.add_text("--test-file", r.test_file, "FILE", "Rows with their labels").required();
  add_column_options(app, r);
  app.add_text("--report", r.report, "FILE",
               "Write the scores as a page of HTML, too: of single_label_classification");
  add_common_options(app, r);
  add_json_option(app, r);
}

void add_options(program::App& app, PredictRequest& r) {
  app.add_text("--model", r.model, "DIR",
               "Directory of a classifier; with --zero-shot of any GPT-2 checkpoint")
      .required();
  app.add_texts(
      "--ensemble", r.ensemble, "DIR",
      "A further classifier with the same labels: the mean of the probabilities counts; may be repeated");
  app.add_text("--file", r.file, "FILE", "Rows with texts");
  app.add_texts("--text", r.texts, "TEXT", "A text; may be repeated");
  app.add_text("--text-column", r.text_column, "NAME", "Where the text of --file is (text)");
  app.add_flag("--zero-shot", r.zero_shot, "Ask a language model that has learned no classes");
  app.add_text("--labels", r.labels, "LIST", "What it may answer, with commas between");
  app.add_text("--prompt", r.prompt, "TEXT",
               "What a label follows, {text} being the text (\"{text} This is\")");
  add_common_options(app, r);
}

int run(EvaluateRequest& r) {
  check_columns(r);
  if (r.report) {
    std::vector<std::string> read{r.test_file, r.model};
    read.insert(read.end(), r.ensemble.begin(), r.ensemble.end());
    program::require_not_read("--report", *r.report, read);
  }
  gpt::set_num_threads(r.threads);
  const program::Interrupt interrupt;
  const std::stop_token stop = interrupt.token();
  gpt::RowOptions options = r.rows;
  options.skip_bad_rows = !r.strict;
  options.stop = stop;
  const gpt::LabelledRows rows = program::read_rows(r.test_file, options);
  std::vector<program::Member> members =
      program::load_members(r.model, r.ensemble, {.on_warning = program::warn, .stop = stop});
  gpt::Classifier& classifier = members.front().classifier;
  if (r.report && classifier.problem_type() != gpt::ProblemType::kSingleLabel)
    gpt::fail<gpt::ArgumentError>("--report", "is for single_label_classification, and ", r.model, " is of ",
                                  name_of(classifier.problem_type()));
  const gpt::ClassificationDataset data =
      program::make_dataset(classifier, rows, r.test_file, members.front().settings.max_length, r.strict);
  const auto start = Clock::now();
  Json object;
  std::string text;
  if (classifier.problem_type() == gpt::ProblemType::kSingleLabel) {
    const program::Answers answers =
        program::answers_of(members, logits_of(members, data, rows, r, stop), program::texts_of(data, rows));
    const program::Judgement judgement =
        program::judge(answers, data.classes(), classifier.labels(), members.front().settings.majority_label);
    object = program::to_json(judgement, classifier.labels());
    text = program::to_text(judgement, classifier.labels());
    if (r.report)
      gpt::write_file_atomically(
          *r.report, gpt::to_html({.title = gpt::concat(fs::path(r.model).filename().string(), " on ",
                                                        fs::path(r.test_file).filename().string()),
                                   .highlights = program::highlights_of(judgement),
                                   .scores = program::to_grids(judgement, classifier.labels())}));
  } else {
    object = members.size() == 1
                 ? scores_of_objective(classifier, data, stop)
                 : scores_of_logits(classifier, data,
                                    gpt::mean_of_probabilities(classifier.problem_type(),
                                                               logits_of(members, data, rows, r, stop)));
    text = program::numbers_text(object);
  }
  object["skipped"] = rows.bad + data.bad();
  object["truncated"] = data.truncated();
  object["evaluate_s"] = std::chrono::duration<double>(Clock::now() - start).count();
  if (r.json) {
    object["peak_rss_bytes"] = program::peak_rss_bytes();
    program::Output().write(object.dump() + "\n");
  } else {
    std::cerr << text;
  }
  return program::kDone;
}

int run(PredictRequest& r) {
  if (!r.file && r.texts.empty()) throw program::UsageError("--file or --text is missing");
  if (r.zero_shot && r.labels.empty()) throw program::UsageError("--zero-shot needs --labels");
  if (r.zero_shot && !r.ensemble.empty()) throw program::UsageError("--ensemble is not for --zero-shot");
  if (!r.zero_shot && !r.labels.empty()) throw program::UsageError("--labels is for --zero-shot");
  if (!r.zero_shot && r.prompt) throw program::UsageError("--prompt is for --zero-shot");
  if (r.prompt && r.prompt->find("{text}") == std::string::npos)
    throw program::UsageError("--prompt has no {text}");
  if (!r.file && r.strict) throw program::UsageError("--strict is for --file");
  if (!r.file && r.text_column) throw program::UsageError("--text-column is for --file");
  const std::vector<std::string> labels = r.zero_shot ? split_labels(r.labels) : std::vector<std::string>();
  gpt::set_num_threads(r.threads);
  const program::Interrupt interrupt;
  const std::stop_token stop = interrupt.token();
  const std::vector<gpt::LabelledRow> rows = texts_of(r);
  if (r.zero_shot) return predict_zero_shot(r, labels, rows, stop);
  const std::vector<program::Member> members =
      program::load_members(r.model, r.ensemble, {.pack = true, .on_warning = program::warn, .stop = stop});
  const gpt::Classifier& classifier = members.front().classifier;
  const std::vector<std::string> keys = program::keys_of(classifier.labels());
  program::Output out;
  std::int64_t cut = 0;
  constexpr std::size_t kAtOnce = 64;  // so that answers come as they are made
  for (std::size_t begin = 0; begin < rows.size(); begin += kAtOnce) {
    const std::size_t end = std::min(rows.size(), begin + kAtOnce);
    const auto some = std::span<const gpt::LabelledRow>(rows).subspan(begin, end - begin);
    std::vector<std::vector<double>> answers;
    for (const program::Member& member : members) {
      std::vector<std::vector<gpt::TokenId>> sequences;
      for (const gpt::LabelledRow& row : some) {
        bool truncated = false;
        sequences.push_back(member.classifier.encode(row.text, member.settings.max_length, &truncated));
        if (&member == &members.front()) cut += truncated;
      }
      std::vector<double> of_words;  // where they are asked
      if (member.settings.blend.weight > 0)
        of_words = program::answers_of(member.words, program::texts_of(some));
      answers.push_back(program::answers_of(member.classifier, member.classifier.logits(sequences, stop),
                                            of_words, member.settings.blend));
    }
    const std::vector<double> mean = program::mean_of(answers);
    const auto width = static_cast<std::size_t>(classifier.num_labels());
    for (std::size_t i = 0; i < some.size(); ++i)
      if (!write_prediction(out, some[i], classifier.labels(), keys,
                            std::span(mean).subspan(i * width, width), classifier.problem_type()))
        return program::kDone;
  }
  if (cut > 0)
    std::cerr << program::truncation_text(cut, std::ssize(rows), classifier,
                                          members.front().settings.max_length);
  return program::kDone;
}

}  // namespace classify
