#include <filesystem>
#include <iostream>
#include <stop_token>
#include <string>
#include <vector>

#include <gpt/gpt.h>

#include "classification.h"
#include "classify.h"
#include "output_place.h"

namespace classify {

const char* const kAverageFooter = R"(Examples:
  gpt-classify average --model run-1 --with run-2 --with run-3 --output-dir soup

  gpt-classify average --model run-1 --with run-2 --validation-file dev.csv --output-dir soup

The classifiers have the same labels, and began with the same model: runs with other seeds or options, say. The result costs what one of them
costs. Its temperature and the weight of its words, which are those of --model, are fitted on the rows of --validation-file; without it they
are the mean of what the classifiers have.)";

namespace {

/// The mean of what they do before the softmax: of 1 / temperature, and of the weight.
gpt::Blend mean_blend(const std::vector<program::Member>& members) {
  double scale = 0, weight = 0;
  for (const program::Member& member : members) {
    scale += 1 / member.settings.blend.temperature;
    weight += member.settings.blend.weight;
  }
  const auto count = static_cast<double>(members.size());
  return {.temperature = count / scale, .weight = members.front().words ? weight / count : 0};
}

gpt::Blend fitted_blend(const program::Member& member, const AverageRequest& r, std::stop_token stop) {
  gpt::RowOptions options = r.rows;
  options.skip_bad_rows = !r.strict;
  options.stop = stop;
  const gpt::LabelledRows rows = program::read_rows(*r.validation_file, options);
  const auto data = program::make_dataset(member.classifier, rows, *r.validation_file,
                                          member.settings.max_length, r.strict);
  const gpt::Tensor logits = program::logits_of(member.classifier, data, stop);
  if (!member.words) return {.temperature = gpt::fit_temperature(logits, data.classes())};
  return gpt::fit_blend(logits, program::answers_of(member.words, program::texts_of(data, rows)),
                        data.classes());
}

}  // namespace

void add_options(program::App& app, AverageRequest& r) {
  app.add_text("--model", r.model, "DIR", "Directory of a classifier").required();
  app.add_texts("--with", r.with, "DIR", "Another one; may be repeated").required();
  app.add_text("--output-dir", r.output_dir, "DIR", "Where the result goes; must not hold a model")
      .required();
  app.add_text("--validation-file", r.validation_file, "FILE", "Rows on which the result is calibrated");
  add_column_options(app, r);
  add_common_options(app, r);
}

int run(AverageRequest& r) {
  check_columns(r);
  const auto path_of = [](const std::string& directory) {
    return (std::filesystem::path(directory) / "").lexically_normal();
  };
  for (const std::string& directory : r.with)
    if (path_of(directory) == path_of(r.model))
      throw program::UsageError(
          gpt::concat("--with ", directory, " is --model, expected another classifier"));
  const gpt::DirectoryLock lock(r.output_dir);
  program::require_no_other_model("--output-dir", r.output_dir);
  gpt::set_num_threads(r.threads);
  const program::Interrupt interrupt;
  std::vector<program::Member> members =
      program::load_members(r.model, r.with, {.on_warning = program::warn, .stop = interrupt.token()});
  std::vector<const gpt::Classifier*> others;
  for (std::size_t i = 1; i < members.size(); ++i) others.push_back(&members[i].classifier);
  gpt::Classifier& classifier = members.front().classifier;
  const bool single = classifier.problem_type() == gpt::ProblemType::kSingleLabel;
  if (r.validation_file && !single)
    gpt::fail<gpt::ArgumentError>("--validation-file", "is for single_label_classification, and ", r.model,
                                  " is of ", name_of(classifier.problem_type()));
  gpt::average_weights(classifier, others);
  program::ClassifierSettings& settings = members.front().settings;
  settings.blend =
      r.validation_file ? fitted_blend(members.front(), r, interrupt.token()) : mean_blend(members);
  classifier.save(r.output_dir);
  settings.save(r.output_dir);
  if (members.front().words) program::save_words(*members.front().words, r.output_dir);
  std::cerr << r.output_dir << ": the mean of " << members.size() << " classifiers\n";
  return program::kDone;
}

}  // namespace classify
