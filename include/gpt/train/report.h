// A training run on one page.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gpt/models/gpt2_config.h"
#include "gpt/train/metrics.h"
#include "gpt/train/trainer.h"

namespace gpt {

/// What the page shows, from top to bottom. All text may be any bytes: it is escaped, and what is not UTF-8 is replaced.
struct TrainingReport {
  struct Fact {
    std::string name, value;
  };
  struct Table {
    std::string title;
    std::vector<Fact> facts;
  };
  /// Rows under a header, the first column being their names: scores of classes, a confusion matrix.
  struct Grid {
    std::string title;
    std::vector<std::string> header;
    std::vector<std::vector<std::string>> rows;
  };
  /// What a prompt was continued with.
  struct Sample {
    std::string prompt;
    std::optional<std::string> before = {}, after = {};  // training
  };

  std::string title;
  std::string status = {};            // the line below: how it ended
  std::vector<Fact> highlights = {};  // few short ones, shown large
  std::vector<Grid> scores = {};
  TrainingHistory history = {};  // the curves
  std::vector<Sample> samples = {};
  std::vector<Table> tables = {};
};

/// A HTML page of its own, with curves in SVG, for light and dark screens: no scripts, and no reference to anything outside.
/// Write it with write_file_atomically.
std::string to_html(const TrainingReport& report);

/// All of them under their names.
TrainingReport::Table table_of(const TrainingArguments& arguments);
TrainingReport::Table table_of(const Gpt2Config& config);

}  // namespace gpt
