// The commands of classify.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <gpt/train/labelled_rows.h>
#include <gpt/train/trainer.h>

#include "classify_data.h"
#include "program.h"
#include "robust_options.h"

namespace classify {

/// What all commands take.
struct CommonRequest {
  std::string model;
  gpt::RowOptions rows;
  bool strict = false;
  int threads = 0;
  bool json = false;
};

struct TrainRequest : CommonRequest {
  std::string train_file, output_dir;
  std::optional<std::string> validation_file;
  std::optional<double> validation_fraction;  // unset: 0.1
  std::string problem_type = "single_label_classification";
  std::string method;                  // empty: the default
  std::optional<std::int64_t> lora_r;  // these three unset: as LoraConfig
  std::optional<double> lora_alpha, lora_dropout;
  std::int64_t max_length = 0;
  std::optional<double> learning_rate;
  std::optional<std::string> metric;  // unset: what suits the problem_type
  bool balanced = false;
  double label_smoothing_factor = 0;
  program::RobustRequest robust;
  MoreRowsRequest more;
  std::int64_t folds = 0;
  std::optional<double> num_train_epochs;
  gpt::TrainingArguments arguments;
  std::optional<bool> calibrate_flag;  // unset: yes
  std::optional<bool> words_flag;      // unset: as calibrate_flag, without which there are none
};

struct EvaluateRequest : CommonRequest {
  std::vector<std::string> ensemble;  // further classifiers
  std::string test_file;
  std::optional<std::string> report;
};

struct PredictRequest : CommonRequest {
  std::vector<std::string> ensemble;
  std::optional<std::string> file;
  std::vector<std::string> texts;
  std::optional<std::string> text_column;  // unset: as rows
  bool zero_shot = false;
  std::string labels;                 // with commas between them
  std::optional<std::string> prompt;  // unset: kDefaultPrompt
};

/// Makes one classifier of several.
struct AverageRequest : CommonRequest {
  std::vector<std::string> with;
  std::string output_dir;
  std::optional<std::string> validation_file;
};

void add_options(program::App& app, TrainRequest& request);
void add_options(program::App& app, EvaluateRequest& request);
void add_options(program::App& app, PredictRequest& request);
void add_options(program::App& app, AverageRequest& request);

int run(TrainRequest& request);
int run(EvaluateRequest& request);
int run(PredictRequest& request);
int run(AverageRequest& request);

extern const char* const kTrainFooter;
extern const char* const kEvaluateFooter;
extern const char* const kPredictFooter;
extern const char* const kAverageFooter;

/// The options of CommonRequest, but for the columns.
void add_common_options(program::App& app, CommonRequest& request);
void add_json_option(program::App& app, CommonRequest& request);
void add_column_options(program::App& app, CommonRequest& request);
/// Throws UsageError where text and label are to be in one column.
void check_columns(const CommonRequest& request);

}  // namespace classify
