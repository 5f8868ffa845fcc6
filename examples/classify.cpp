// gpt-classify: teaches a GPT-2 checkpoint to tell classes of text apart, measures how well it does, and asks it.
#include "classify.h"

#include <array>
#include <string_view>

#include <gpt/core/error.h>

namespace classify {

void add_common_options(program::App& app, CommonRequest& r) {
  app.add_flag("--strict", r.strict, "Fail at the first row that cannot be used, instead of leaving it out");
  app.add_number("--threads", r.threads, "Threads at most, 0 = one per CPU (0)", 0);
}

void add_json_option(program::App& app, CommonRequest& r) {
  app.add_flag("--json", r.json, "Print one JSON object instead of text");
}

void add_column_options(program::App& app, CommonRequest& r) {
  app.add_text("--text-column", r.rows.text_column, "NAME", "Where the text is (text)");
  app.add_text_function(
      "--label-column", [&r](const std::string& name) { r.rows.label_column = name; }, "NAME",
      "Where the label is (label)");
  app.add_text("--label-separator", r.rows.label_separator, "TEXT",
               "What stands between several labels of a text");
}

void check_columns(const CommonRequest& r) {
  if (r.rows.label_column == r.rows.text_column)
    throw program::UsageError(gpt::concat("--text-column and --label-column are both ", r.rows.text_column,
                                          ", expected two columns"));
}

namespace {

template <class Request>
int run_command(const char* name, const char* description, const char* footer, int argc, char** argv) {
  Request request;
  program::App app(name, description, footer);
  add_options(app, request);
  return program::run(app, argc, argv, [&request] { return run(request); });
}

int run_train(int argc, char** argv) {
  return run_command<TrainRequest>("gpt-classify train", "Teaches a model to tell classes of text apart.",
                                   kTrainFooter, argc, argv);
}

int run_evaluate(int argc, char** argv) {
  return run_command<EvaluateRequest>("gpt-classify evaluate", "Measures how well a classifier does.",
                                      kEvaluateFooter, argc, argv);
}

int run_predict(int argc, char** argv) {
  return run_command<PredictRequest>("gpt-classify predict", "Says which class each text is of.",
                                     kPredictFooter, argc, argv);
}

int run_average(int argc, char** argv) {
  return run_command<AverageRequest>("gpt-classify average",
                                     "Makes one classifier of several: the mean of their weights.",
                                     kAverageFooter, argc, argv);
}

struct Command {
  std::string_view name;
  int (*run)(int argc, char** argv);
};

constexpr std::array kCommands = {Command{"train", run_train}, Command{"evaluate", run_evaluate},
                                  Command{"predict", run_predict}, Command{"average", run_average}};

constexpr const char* kFooter = R"(Commands:
  gpt-classify train --model DIR --train-file FILE --output-dir DIR    teaches a model
  gpt-classify evaluate --model DIR --test-file FILE                   measures how well it does
  gpt-classify predict --model DIR --file FILE                         says which class each text is of
  gpt-classify average --model DIR --with DIR --output-dir DIR         makes one classifier of several

gpt-classify COMMAND --help says more.)";

}  // namespace
}  // namespace classify

int main(int argc, char** argv) {
  const std::string_view first = argc > 1 ? argv[1] : "";
  for (const classify::Command& command : classify::kCommands)
    if (first == command.name) return command.run(argc - 1, argv + 1);
  program::App app("gpt-classify", "Tells classes of text apart.", classify::kFooter);
  const bool is_option = first.starts_with('-');
  return program::run(app, is_option ? argc : 1, argv, [&]() -> int {
    constexpr std::string_view kNames = "train, evaluate, predict or average";
    throw program::UsageError(
        argc > 1 ? gpt::concat(program::in_quotes(first), " is no command, expected ", kNames)
                 : gpt::concat("a command is missing, expected ", kNames));
  });
}
