// What the options of gpt-classify train say, as far as more than one part of it asks.
#pragma once

#include <filesystem>
#include <string_view>

#include <gpt/models/classifier.h>

#include "classify.h"

namespace classify {

/// What a method learns, and how fast.
struct Method {
  std::string_view name;
  double learning_rate;
};

/// How often all rows are learned where neither an option nor their number says something else.
constexpr double kDefaultEpochs = 4;

/// Throw UsageError for names that there are not.
const Method& method_of(const TrainRequest& request);
gpt::ProblemType problem_type_of(const TrainRequest& request);

/// Where the training keeps its checkpoints.
std::filesystem::path run_directory(const TrainRequest& request);

/// Checks what needs no file, and completes the arguments. Throws UsageError.
void prepare(TrainRequest& request);

}  // namespace classify
