// What a run reports, kept in a file of lines.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "gpt/train/trainer.h"

namespace gpt {

class AppendFile;

/// The records of a run in their order.
struct TrainingHistory {
  std::vector<TrainingLog> training;
  std::vector<EvaluationLog> evaluations;
};

/// metrics.jsonl: one JSON object a line, in the words of transformers' log history.
///   {"step": 10, "total_steps": 50, "epoch": 0.2, "loss": 3.1, "grad_norm": 0.9, "learning_rate": 5e-05, "tokens_per_s": 1024}
///   {"step": 10, "epoch": 0.2, "eval_loss": 3.2, "perplexity": 24.5}
/// An objective's metrics stand in the place of the perplexity, and whether they are the best so far, 1 or 0:
///   {"step": 10, "epoch": 0.2, "eval_loss": 0.4, "eval_accuracy": 0.8, "eval_macro_f1": 0.79, "best": 1}
/// A number that JSON does not have (the perplexity of a huge loss) is null.
///
///   gpt::MetricsFile metrics("tuned/metrics.jsonl");
///   trainer.fit(data, &validation, {.on_log = [&](const auto& log) { metrics.add(log); },
///                                   .on_evaluate = [&](const auto& log) { metrics.add(log); }});
class MetricsFile {
 public:
  /// Touches nothing: a run that is refused leaves the file of another as it was. With the first record the file is begun anew;
  /// or, when `resumes`, loses what a run that was killed recorded after the checkpoint that the new one goes on from.
  explicit MetricsFile(std::filesystem::path path, bool resumes = false);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  /// Throw IoError naming the file, which then ends with the record before.
  void add(const TrainingLog& log);
  void add(const EvaluationLog& log);

  const std::filesystem::path& path() const noexcept { return path_; }

  /// All records of a file; none when it does not exist. A last line without its end, as a killed process leaves it, is passed over.
  /// `best` is found anew where it is not there, `tokens` is 0. Throws IoError; FormatError naming file and line.
  static TrainingHistory read(const std::filesystem::path& path);

 private:
  void begin(std::int64_t step, bool evaluation);

  std::filesystem::path path_;
  bool resumes_;
  std::unique_ptr<AppendFile> file_;  // once there was a record
};

}  // namespace gpt
