#include "classify_data.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <utility>

#include <gpt/gpt.h>

#include "classification.h"
#include "classify.h"

namespace classify {
namespace {

gpt::EdaOptions eda_options(const MoreRowsRequest& r) {
  gpt::EdaOptions options;
  options.alpha_sr = r.alpha_sr.value_or(options.alpha_sr);
  options.alpha_ri = r.alpha_ri.value_or(options.alpha_ri);
  options.alpha_rs = r.alpha_rs.value_or(options.alpha_rs);
  options.p_rd = r.p_rd.value_or(options.p_rd);
  return options;
}

/// Throws FormatError where it is the choice of the validation rows that leaves too few labels to learn.
void require_learned_labels(const Data& data, std::size_t labels, const std::string& source) {
  const std::vector<std::string> learned = gpt::labels_of(data.train.rows);
  const auto is_learned = [&](const gpt::LabelledRow& row) {
    return !row.labels.empty() && std::ranges::find(learned, row.labels.front()) != learned.end();
  };
  const bool can_judge = std::ranges::any_of(data.validation.rows, is_learned);
  if (learned.size() > 1 && can_judge) return;
  gpt::fail<gpt::FormatError>(
      source, "has ", labels, " labels, and ", data.validation.rows.size(), " of its ",
      data.validation.rows.size() + data.train.rows.size(),
      " rows are kept for the validation, which leaves ",
      learned.size() > 1 ? "none of theirs to learn from"
                         : gpt::concat("only ", learned.empty() ? "rows without one" : learned.front()),
      ": give --validation-file, more rows of each label, or another --validation-fraction");
}

/// Takes a share of every class away for the validation.
Data split_rows(gpt::LabelledRows all, double fraction, bool single, std::uint64_t seed,
                const std::string& source) {
  std::vector<std::int32_t> classes(all.rows.size());
  std::size_t labels = 0;
  if (single) {
    std::map<std::string, std::int32_t> numbers;
    for (const std::string& label : gpt::labels_of(all.rows))
      numbers.emplace(label, static_cast<std::int32_t>(numbers.size()));
    labels = numbers.size();
    for (std::size_t i = 0; i < classes.size(); ++i) {
      // A row that has not one label, which JSON allows, is left out later.
      const std::vector<std::string>& own = all.rows[i].labels;
      classes[i] = own.empty() ? static_cast<std::int32_t>(numbers.size()) : numbers.at(own.front());
    }
  }
  const Parts parts = split(classes, fraction, seed, source);
  Data data;
  for (const std::int64_t i : parts.train)
    data.train.rows.push_back(std::move(all.rows[static_cast<std::size_t>(i)]));
  for (const std::int64_t i : parts.validation)
    data.validation.rows.push_back(std::move(all.rows[static_cast<std::size_t>(i)]));
  if (labels > 1) require_learned_labels(data, labels, source);
  return data;
}

bool is_single(const TrainRequest& r) { return r.problem_type == name_of(gpt::ProblemType::kSingleLabel); }

}  // namespace

void add_options(program::App& app, MoreRowsRequest& r) {
  app.add_number("--augment-copies", r.augment_copies,
                 "Changed copies of every row to learn from, too, made by EDA's operations, 1000 at most (0)",
                 0)
      .sets("[augmentation] copies");
  app.add_text("--synonyms-file", r.synonyms_file, "FILE",
               "Lines of a word and what may stand for it, with tabs or commas between them");
  app.add_number("--alpha-sr", r.alpha_sr, "Part of the words that synonyms replace (0.1)");
  app.add_number("--alpha-ri", r.alpha_ri, "Synonyms that are put in, as a part of the words (0.1)");
  app.add_number("--alpha-rs", r.alpha_rs, "Pairs that change places, as a part of the words (0.1)");
  app.add_number("--p-rd", r.p_rd, "Probability that a word is deleted (0.1)");
  app.add_text("--unlabelled-file", r.unlabelled_file, "FILE",
               "Texts without labels: those that the classifier is sure of are learned in a second training");
  app.add_number("--pseudo-label-threshold", r.pseudo_label_threshold,
                 "The probability that is sure enough (0.9)");
  app.add_number("--pseudo-label-rounds", r.pseudo_label_rounds, "How often that is done (1)", 1);
  app.add_text("--replay-file", r.replay_file, "FILE", "Rows of what was learned before, to be mixed in");
  app.add_number("--replay-fraction", r.replay_fraction, "Of them for each new row (0.25)");
}

void check(const TrainRequest& request) {
  const MoreRowsRequest& r = request.more;
  const auto needs = [](const char* option, bool given, const char* other, bool there) {
    if (given && !there) throw program::UsageError(gpt::concat(option, " needs ", other));
  };
  const bool copies = r.augment_copies > 0;
  needs("--synonyms-file", r.synonyms_file.has_value(), "--augment-copies", copies);
  needs("--alpha-sr", r.alpha_sr.has_value(), "--synonyms-file", r.synonyms_file.has_value());
  needs("--alpha-ri", r.alpha_ri.has_value(), "--synonyms-file", r.synonyms_file.has_value());
  needs("--alpha-rs", r.alpha_rs.has_value(), "--augment-copies", copies);
  needs("--p-rd", r.p_rd.has_value(), "--augment-copies", copies);
  needs("--pseudo-label-threshold", r.pseudo_label_threshold.has_value(), "--unlabelled-file",
        r.unlabelled_file.has_value());
  needs("--pseudo-label-rounds", r.pseudo_label_rounds.has_value(), "--unlabelled-file",
        r.unlabelled_file.has_value());
  needs("--replay-fraction", r.replay_fraction.has_value(), "--replay-file", r.replay_file.has_value());
  if (const double t = r.pseudo_label_threshold.value_or(0.9); !(t > 0 && t <= 1))
    throw program::UsageError(
        gpt::concat("--pseudo-label-threshold is ", t, ", expected more than 0, at most 1"));
  if (const double f = r.replay_fraction.value_or(0.25); !(f > 0 && f <= 100))
    throw program::UsageError(gpt::concat("--replay-fraction is ", f, ", expected more than 0, at most 100"));
  if (r.unlabelled_file && !is_single(request))
    throw program::UsageError("--unlabelled-file is for single_label_classification");
  if (copies) {
    const gpt::EdaOptions eda = eda_options(r);
    program::check_usage([&] { gpt::augmented({}, gpt::EdaAugmenter({}, eda), r.augment_copies, 0); });
    if (!r.synonyms_file && eda.alpha_rs == 0 && eda.p_rd == 0)
      throw program::UsageError(
          "--augment-copies has nothing to change rows by: --alpha-rs and --p-rd are 0, and there is no "
          "--synonyms-file");
  }
  for (const auto& [option, given] : {std::pair("--augment-copies", copies),
                                      {"--unlabelled-file", r.unlabelled_file.has_value()},
                                      {"--replay-file", r.replay_file.has_value()}})
    if (given && request.folds > 0)
      throw program::UsageError(gpt::concat("--folds and ", option, " are both given: expected one"));
}

std::vector<gpt::LabelledRow> Data::labelled() const {
  std::vector<gpt::LabelledRow> all;
  all.reserve(train.rows.size() + replay.rows.size());
  for (const gpt::LabelledRows* part : {&train, &replay})
    for (const gpt::LabelledRow& row : part->rows)
      all.push_back({.text = {}, .labels = row.labels, .line = row.line});
  return all;
}

Parts split(std::span<const std::int32_t> classes, double fraction, std::uint64_t seed,
            const std::string& source) {
  const auto n = static_cast<std::int64_t>(classes.size());
  if (n < 2)
    gpt::fail<gpt::FormatError>(source, "has ", program::counted(n, "row"),
                                ", too few to keep some for the validation: give --validation-file");
  // Every row alone, class after class, of which each one is held where the part of those so far grows by one.
  const auto singles = gpt::stratified_folds(classes, n, seed);
  std::vector<bool> held(classes.size());
  for (std::size_t i = 0; i < singles.size(); ++i) {
    const double before = static_cast<double>(i) - 1;
    held[static_cast<std::size_t>(singles[i].front())] =
        i == 0 || std::floor(fraction * static_cast<double>(i)) > std::floor(fraction * before);
  }
  Parts parts;
  for (std::int64_t i = 0; i < n; ++i)
    (held[static_cast<std::size_t>(i)] ? parts.validation : parts.train).push_back(i);
  return parts;
}

Data read_data(const TrainRequest& request, const gpt::RowOptions& options) {
  const MoreRowsRequest& r = request.more;
  gpt::LabelledRows train = program::read_rows(request.train_file, options);
  Data data;
  if (request.validation_file) {
    data.train = std::move(train);
    data.validation = program::read_rows(*request.validation_file, options);
  } else {
    data = split_rows(std::move(train), request.validation_fraction.value_or(kDefaultValidationFraction),
                      is_single(request), request.arguments.seed, request.train_file);
  }
  if (r.augment_copies > 0) {
    gpt::Thesaurus thesaurus;
    if (r.synonyms_file) thesaurus = gpt::Thesaurus::from_file(*r.synonyms_file);
    const gpt::EdaAugmenter eda(std::move(thesaurus), eda_options(r));
    data.augmented =
        gpt::augmented(data.train.rows, eda, r.augment_copies, request.arguments.seed, options.stop);
    const std::int64_t made = std::ssize(data.augmented) - std::ssize(data.train.rows);
    std::cerr << made << (made == 1 ? " changed copy of " : " changed copies of ")
              << program::counted(std::ssize(data.train.rows), "row") << '\n';
  }
  if (r.unlabelled_file) {
    gpt::RowOptions texts = options;
    texts.label_column.reset();
    data.unlabelled = program::read_rows(*r.unlabelled_file, texts).rows;
  }
  if (r.replay_file) data.replay = program::read_rows(*r.replay_file, options);
  return data;
}

}  // namespace classify
