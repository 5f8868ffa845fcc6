// The parts of a report that finetune finds out: what the data are, and what the model writes.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <gpt/models/model.h>
#include <gpt/train/dataset.h>
#include <gpt/train/jsonl_dataset.h>
#include <gpt/train/report.h>

namespace program {

/// Prompts, and how far the model goes on from them.
struct SampleTask {
  std::vector<std::vector<gpt::TokenId>> prompts;
  std::int64_t new_tokens = 0;
  std::uint64_t seed = 0;
};

/// The given texts, or without one the beginnings of three samples of the data: what is not learned of them, or else their
/// first tokens. They are cut at their front so that the new tokens fit the context.
SampleTask make_sample_task(const gpt::Model& model, const std::vector<std::string>& texts,
                            const gpt::Dataset& data, std::int64_t new_tokens, std::uint64_t seed);

/// How much there is, and which part of `all_learned` tokens with labels; and what became of the lines of a .jsonl file.
gpt::TrainingReport::Table data_table(std::string title, std::string_view file,
                                      const gpt::DatasetCounts& counts, std::int64_t all_learned,
                                      const std::optional<gpt::JsonlCounts>& lines);

/// The file of a run's report, begun before the run and written after it.
class ReportFile {
 public:
  /// `page` has what is known before: title and tables. Has the untrained model write its samples, drawn at temperature 0.8
  /// from the 50 likeliest tokens. A stop ends them early, and what keeps the model from writing is a warning. The model must
  /// outlive this.
  ReportFile(std::filesystem::path path, gpt::TrainingReport page, const gpt::Model& model, SampleTask task,
             std::stop_token stop);

  /// Adds the records and how it ended, and what the model writes now if it is `trained`; replaces the file. Throws
  /// IoError.
  void write(gpt::TrainingHistory history, std::string how_it_ended, bool trained);

 private:
  std::filesystem::path path_;
  gpt::TrainingReport page_;
  const gpt::Model& model_;
  SampleTask task_;
  std::stop_token stop_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace program
