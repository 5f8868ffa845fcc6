#include <filesystem>
#include <iostream>
#include <vector>

#include <gpt/gpt.h>

#include "classification.h"
#include "classify.h"

namespace classify {

const char* const kAverageFooter = R"(Examples:
  gpt-classify average --model run-1 --with run-2 --with run-3 --output-dir soup

The classifiers have the same labels, and began with the same model: runs with other seeds or options, say. The result costs what one of them
costs; its temperature is 1, and so it is to be calibrated anew.)";

void add_options(program::App& app, AverageRequest& r) {
  app.add_text("--model", r.model, "DIR", "Directory of a classifier").required();
  app.add_texts("--with", r.with, "DIR", "Another one; may be repeated").required();
  app.add_text("--output-dir", r.output_dir, "DIR", "Where the result goes").required();
  app.add_number("--threads", r.threads, "Threads at most, 0 = one per CPU (0)", 0);
}

int run(AverageRequest& r) {
  std::error_code error;
  if (std::filesystem::exists(std::filesystem::path(r.output_dir) / "model.safetensors", error))
    gpt::fail<gpt::ArgumentError>(r.output_dir, "holds a model: choose another --output-dir");
  gpt::set_num_threads(r.threads);
  const program::Interrupt interrupt;
  std::vector<program::Member> members =
      program::load_members(r.model, r.with, {.on_warning = program::warn, .stop = interrupt.token()});
  std::vector<const gpt::Classifier*> others;
  for (std::size_t i = 1; i < members.size(); ++i) others.push_back(&members[i].classifier);
  gpt::Classifier& classifier = members.front().classifier;
  gpt::average_weights(classifier, others);
  std::filesystem::create_directories(r.output_dir, error);
  if (error) gpt::fail<gpt::IoError>(r.output_dir, "cannot be made: ", error.message());
  classifier.save(r.output_dir);
  program::ClassifierSettings settings = members.front().settings;
  settings.blend = {};
  settings.save(r.output_dir);
  if (members.front().words) program::save_words(*members.front().words, r.output_dir);
  std::cerr << r.output_dir << ": the mean of " << members.size() << " classifiers\n";
  return program::kDone;
}

}  // namespace classify
