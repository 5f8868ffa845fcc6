// Curves for TensorBoard.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string_view>
#include <utility>

#include "gpt/train/trainer.h"

namespace gpt {

class AppendFile;

/// Writes an event file, which TensorBoard shows while it grows: `tensorboard --logdir <directory>`. The file is
/// <directory>/events.out.tfevents.<unix time>.<host>.<process>.<n>, made with the first record; so is the directory. Its format is
/// TensorFlow's: records (tensorflow/core/lib/io/record_writer.h) of Event messages (tensorflow/core/util/event.proto).
class TensorBoardWriter {
 public:
  /// `resumes`: the directory has files of the run that goes on; TensorBoard then leaves out what they have from the first
  /// record's step on, which a run that was killed wrote after its last checkpoint.
  explicit TensorBoardWriter(std::filesystem::path directory, bool resumes = false);
  ~TensorBoardWriter();
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

  /// One number for each tag, as float32. Throws IoError naming the file or the directory; the file then ends with the record
  /// before.
  void add(std::int64_t step, std::initializer_list<std::pair<std::string_view, double>> scalars);

  /// train/loss, train/grad_norm, train/learning_rate, train/epoch (the tags of transformers' TensorBoardCallback) and
  /// train/tokens_per_s. Throws as above.
  void add(const TrainingLog& log);
  /// eval/loss and eval/perplexity, or the objective's metrics (eval/accuracy), and train/epoch. Throws as above.
  void add(const EvaluationLog& log);

 private:
  // Makes the file, unless it is there. When the run resumes, the directory's other files count up to before `step`.
  void begin(std::int64_t step);

  std::filesystem::path directory_;
  bool resumes_;
  std::unique_ptr<AppendFile> file_;
};

}  // namespace gpt
